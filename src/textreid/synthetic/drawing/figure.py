"""What the drawing functions share about one person: the particulars of an identity, the pose, what the arms do."""

from dataclasses import dataclass, replace

from textreid.seeding import Chance
from textreid.synthetic.attributes import Held, Person
from textreid.synthetic.drawing.canvas import Canvas, Material, Part, Point, Texture
from textreid.synthetic.drawing.pose import ArmPose, Body, Joint, Projection, cosine, sine
from textreid.synthetic.palette import RGB, garment_colour, hair_colour, mix, scale, skin_colour

_UPPER_TEXTURE: dict[str, tuple[Texture, float]] = {
    "t-shirt": ("folds", 0.7),
    "shirt": ("folds", 0.9),
    "polo shirt": ("folds", 0.6),
    "sweater": ("knit", 0.6),
    "hoodie": ("folds", 0.8),
    "jacket": ("folds", 1.0),
    "padded jacket": ("quilt", 1.0),
    "blazer": ("folds", 0.55),
    "coat": ("drape", 0.6),
    "vest": ("folds", 0.6),
    "dress": ("drape", 0.8),
}
_LOWER_TEXTURE: dict[str, tuple[Texture, float]] = {
    "jeans": ("denim", 0.9),
    "trousers": ("drape", 0.6),
    "sweatpants": ("folds", 0.9),
    "leggings": ("smooth", 0.0),
    "shorts": ("folds", 0.7),
    "skirt": ("drape", 0.8),
    "long skirt": ("drape", 1.0),
    "dress": ("drape", 0.8),
}


@dataclass(frozen=True)
class Appearance:
    """Particulars of one identity that words leave open: exact shades, sizes and cuts, the same in every picture.

    ``cut`` numbers are in [0, 1) and mean what the drawing makes of them."""

    skin: Material
    hair: Material
    upper: Material
    second: Material
    blend: Material  # of a check where one band lies; where two cross it is ``second``
    inner: Material
    lower: Material
    shoes: Material
    sole: Material
    bag: Material
    headwear: Material
    scarf: Material
    held: Material
    dark: Material
    cut: tuple[float, ...]


def appearance_of(person: Person, identity: int) -> Appearance:
    """Draw the particulars of ``person``; equal for equal ``identity``, whatever the camera."""
    chance = Chance.of("appearance", identity)
    upper_texture, upper_relief = _UPPER_TEXTURE[person.upper]
    lower_texture, lower_relief = _LOWER_TEXTURE[person.lower]
    # Whatever can be worn gets its shade here, worn or not: another hat must not change the shade of the shoes.
    skin = skin_colour(person.skin, chance)
    hair = hair_colour(person.hair_colour, chance)
    upper = garment_colour(person.upper_colour, chance)
    second = garment_colour(person.upper_second_colour, chance)
    inner = garment_colour(person.inner_colour or "white", chance)
    lower = garment_colour(person.lower_colour, chance, denim=person.lower == "jeans")
    if person.lower == "dress" and person.upper == "dress":
        lower = upper
    shoes = garment_colour(person.shoes_colour, chance)
    bag = garment_colour(person.bag_colour, chance)
    headwear = garment_colour(person.headwear_colour, chance)
    if person.headwear == "hood":
        headwear = upper
    scarf = garment_colour(person.scarf_colour or "grey", chance)
    held = garment_colour(person.held_colour, chance)
    sole: RGB = (205.0, 205.0, 205.0) if chance.happens(0.55) and person.shoes == "trainers" else scale(shoes, 0.6)
    return Appearance(
        skin=Material(skin, "thing"),
        hair=Material(hair, "head", "hair", 0.9),
        upper=Material(upper, "upper", upper_texture, upper_relief),
        second=Material(second, "upper", upper_texture, upper_relief * 0.9),
        blend=Material(mix(upper, second, 0.5), "upper", upper_texture, upper_relief * 0.95),
        inner=Material(inner, "upper", "folds", 0.45),
        lower=Material(lower, "legs", lower_texture, lower_relief),
        shoes=Material(shoes, "feet"),
        sole=Material(sole, "feet"),
        bag=Material(bag, "bag", "folds", 0.35),
        headwear=Material(headwear, "head", "knit", 0.5),
        scarf=Material(scarf, "upper", "folds", 1.1),
        held=Material(held, "thing"),
        dark=Material((26.0, 26.0, 30.0), "thing"),
        # 0, 1: hem and width of the upper garment. 2–4: skirt, legs. 5: stockings. 6: boots. 7: opening. 8, 9: pattern.
        # 10: short sleeves. 11: hood, dark lenses. 12: scarf, beard. 13: hair, belt, bag. 14, 15: bags, neckline.
        cut=tuple(chance.unit() for _ in range(16)),
    )


@dataclass
class Figure:
    """State that the drawing functions share: who is drawn, in which pose, seen from where, on what."""

    person: Person
    look: Appearance
    body: Body
    view: Projection
    canvas: Canvas
    chance: Chance  # of this picture
    walking: bool
    modes: tuple[ArmPose, ArmPose]  # of the right and the left arm

    @property
    def size(self) -> float:
        """Return the pixels of one stature."""
        return self.view.size

    @property
    def facing(self) -> float:
        """Tell how far the camera is faced: 1 from the front, -1 from behind, 0 from the side."""
        return self.view.cos

    def at(self, lateral: float, forward: float, up: float) -> Point:
        """Return the pixel of a body point."""
        return self.view.place((lateral, forward, up))

    def skin(self, part: Part) -> Material:
        """Return the skin that counts as ``part``."""
        return replace(self.look.skin, part=part)

    def surface(self, up: float, angle: float, pad: float = 0.0) -> Point:
        """Return the pixel of the torso's surface at a height and an angle from straight ahead (positive: to the left).

        Angles that the camera cannot see slide to the nearest edge of the torso.
        """
        turned = (angle + self.view.yaw + 180) % 360 - 180
        angle += max(-90.0, min(90.0, turned)) - turned
        a, b = self.body.slice(up)
        return self.view.place(((a + pad) * sine(angle), (b + pad) * cosine(angle), up))

    def seen(self, angle: float) -> bool:
        """Tell whether the torso's surface at ``angle`` is turned to the camera."""
        return cosine(angle + self.view.yaw) > 0

    def pixels(self, joints: tuple[Joint, ...]) -> list[Point]:
        """Return the pixels of body points."""
        return [self.view.place(joint) for joint in joints]


def arm_poses(person: Person, walking: bool, chance: Chance) -> tuple[ArmPose, ArmPose]:
    """Return what the right and the left arm do: what is carried decides first."""
    # Standing, "hang" is there twice and the later weight counts: 29 % hang, 41 % have a hand in the pocket. The pixels
    # of the bundled model's people are drawn so, and pinned by a test.
    free: ArmPose = chance.weighted(
        {"swing" if walking else "hang": 0.68, "pocket": 0.14, "hang": 0.1, "chest": 0.05 if walking else 0.1}
    )
    right, left = free, free if chance.happens(0.6) else "swing" if walking else "hang"
    swap = chance.happens(0.5)
    ear = chance.happens(0.45)
    # Held in the right hand, carried in the left one, and then perhaps the other way round: they never share a hand.
    modes: dict[Held, ArmPose] = {
        "phone": "ear" if ear else "chest",
        "papers": "chest",
        "bottle": "chest" if ear else "hang",
        "umbrella": "raise",
    }
    right = modes.get(person.held, right)
    if person.bag in ("handbag", "carrier bag"):
        left = "hang"
    elif person.bag == "suitcase":
        left = "pull"
    return (left, right) if swap else (right, left)
