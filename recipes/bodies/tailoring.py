"""How the clothes of one person are cut: lengths, widths, openings, by the attributes and the identity's numbers."""

from dataclasses import dataclass

from bodies.drape import Fall
from textreid.synthetic.attributes import LowerKind, Person, ShoesKind, UpperKind

# Metres outside the skin, and how far down the hem may hang: thighs below the hips' joints (1 is the knee).
_UPPER: dict[UpperKind, tuple[float, tuple[float, float]]] = {
    "t-shirt": (0.010, (0.08, 0.30)),
    "shirt": (0.013, (0.12, 0.36)),
    "polo shirt": (0.010, (0.08, 0.26)),
    "sweater": (0.018, (0.04, 0.26)),
    "hoodie": (0.024, (0.10, 0.30)),
    "jacket": (0.024, (0.02, 0.30)),
    "padded jacket": (0.048, (0.05, 0.50)),
    "blazer": (0.018, (0.26, 0.42)),
    "coat": (0.028, (0.70, 1.30)),
    "vest": (0.008, (0.04, 0.26)),
    "dress": (0.009, (0.55, 1.65)),
}
# Metres outside the skin at the thigh and at the shin, and where the leg ends: 1 is the knee, 2 the ankle.
_LOWER: dict[LowerKind, tuple[float, float, tuple[float, float]]] = {
    "jeans": (0.009, 0.020, (1.92, 2.02)),
    "trousers": (0.014, 0.032, (1.95, 2.05)),
    "sweatpants": (0.020, 0.030, (1.88, 1.97)),
    "leggings": (0.003, 0.003, (1.72, 1.92)),
    "shorts": (0.018, 0.03, (0.42, 1.02)),
    "skirt": (0.003, 0.003, (0.0, 0.0)),
    "long skirt": (0.003, 0.003, (0.0, 0.0)),
    "dress": (0.003, 0.003, (0.0, 0.0)),
}
_SHOES: dict[ShoesKind, tuple[float, float]] = {  # metres outside the skin, and where they begin on the leg
    "trainers": (0.016, 1.93),
    "boots": (0.018, 1.45),
    "sandals": (0.004, 1.95),
    "dress shoes": (0.010, 1.96),
    "heels": (0.006, 2.02),
}


@dataclass(frozen=True)
class Cut:
    """Cut of one person's clothes; lengths on limbs are in bones, thicknesses in metres."""

    ease: float  # of the upper garment
    sleeve: float  # where it ends on the arm; below 0: no sleeve
    hem: float  # where the upper garment ends, in thighs below the hips' joints
    fall: Fall  # how it hangs
    waist: float  # height on the torso where it begins to hang
    opening: float  # degrees to each side of straight ahead that an open garment leaves; 0: closed
    neck: float  # how deep the neckline is in front
    thigh: float
    shin: float
    trousers: float  # where the legs end; 0: there are none
    skirt: float  # where a skirt ends, in bones of the leg; 0: there is none
    skirt_fall: Fall
    stockings: bool
    shoe: float
    shaft: float  # where the shoes begin on the leg


def cut_of(person: Person, numbers: tuple[float, ...]) -> Cut:
    """Cut the clothes of ``person``; ``numbers`` are the identity's, in [0, 1) (`Appearance.cut`)."""
    ease, hems = _UPPER[person.upper]
    thigh, shin, ends = _LOWER[person.lower]
    shoe, shaft = _SHOES[person.shoes]
    sleeve = {"sleeveless": -0.02, "short": 0.48 + 0.42 * numbers[10], "long": 1.97}[person.sleeve]
    dress, coat = person.upper == "dress", person.upper == "coat"
    skirted = person.lower in ("skirt", "long skirt") or (person.lower == "dress" and not dress)
    skirt = {"skirt": 0.45 + 0.55 * numbers[2], "long skirt": 1.45 + 0.4 * numbers[2], "dress": 0.8 + 0.8 * numbers[2]}
    wide = numbers[3]
    flared = dress or coat
    # Women's clothes follow the waist more often than men's do.
    fitted = person.gender == "woman" and not flared and numbers[1] < 0.7
    loose = 0.55 if fitted else 1.0
    return Cut(
        ease=ease * (0.8 + 0.5 * numbers[1]) * (0.8 if fitted else 1.0),
        sleeve=sleeve,
        hem=hems[0] + (hems[1] - hems[0]) * numbers[0],
        fall=Fall(
            ease=ease * (0.9 + 0.6 * numbers[1]) * loose,
            keep=0.99 if flared else 0.90 if fitted else 0.98,
            flare=(0.02 + 0.30 * wide * wide if dress else 0.03 + 0.1 * wide) if flared else 0.0,
            pleats=9 if dress and wide > 0.5 else 0,
            depth=0.014,
        ),
        waist=0.42 if dress else 0.71,
        opening=10 + 26 * numbers[7] if person.inner_colour else 0.0,
        neck=(0.10 + 0.16 * numbers[15]) if person.upper in ("t-shirt", "vest", "dress", "sweater") else 0.09,
        thigh=thigh * (0.7 + 0.7 * wide),
        shin=shin * (0.4 + 1.1 * wide),
        trousers=ends[0] + (ends[1] - ends[0]) * numbers[2],
        skirt=skirt.get(person.lower, 0.0) if skirted else 0.0,
        skirt_fall=Fall(
            ease=0.012,
            keep=0.99,
            flare=0.01 + (0.16 if person.lower == "long skirt" else 0.30) * wide * wide,
            pleats=9 if wide > 0.45 else 0,
            depth=0.006 + 0.02 * wide,
        ),
        stockings=numbers[5] > 0.6,
        shoe=shoe,
        shaft=shaft - (0.25 * numbers[6] if person.shoes == "boots" else 0.0),
    )
