"""Camera sets: places that differ in resolution, light, background and in what people wear there."""

from collections.abc import Mapping
from dataclasses import dataclass

from textreid.seeding import Chance
from textreid.synthetic.drawing.background import Behind, Ground, make_place
from textreid.synthetic.drawing.camera import Camera


@dataclass(frozen=True)
class Domain:
    """A named set of cameras and the people who pass them."""

    name: str
    cameras: tuple[Camera, ...]
    warmth: float  # share of people dressed for warm weather
    luggage: float  # share of people with a suitcase
    women: float
    sober: float  # share of people in dark everyday colours, whom colours alone do not tell apart


@dataclass(frozen=True)
class _Kind:
    """Ranges from which the cameras of a domain are drawn."""

    cameras: int
    heights: tuple[int, int]
    pitch: tuple[float, float]
    grounds: tuple[Ground, ...]
    behinds: tuple[Behind, ...]
    horizon: tuple[float, float]
    warm_cast: float
    exposure: tuple[float, float]
    saturation: tuple[float, float]
    noise: tuple[float, float]
    blur: tuple[float, float]
    sun: tuple[float, float]
    warmth: float
    luggage: float
    women: float
    sober: float = 0.0
    contrast: tuple[float, float] = (0.8, 1.15)
    haze: float = 0.16
    quality: tuple[int, int] = (45, 93)
    upscaled: tuple[float, float] = (0.1, 0.5)


_KINDS: dict[str, _Kind] = {
    "street": _Kind(
        cameras=8, heights=(72, 190), pitch=(4, 24), horizon=(0.0, 0.7),
        grounds=("asphalt", "paving", "paving"), behinds=("shops", "cars", "wall", "trees"),
        warm_cast=0.0, exposure=(0.85, 1.15), saturation=(0.75, 1.05), noise=(1, 5), blur=(0.3, 1.1), sun=(0.0, 0.8),
        warmth=0.35, luggage=0.03, women=0.48,
    ),
    "campus": _Kind(
        cameras=6, heights=(48, 130), pitch=(12, 32), horizon=(-0.5, 0.35),
        grounds=("asphalt", "paving", "grass"), behinds=("trees", "wall", "cars"),
        warm_cast=0.02, exposure=(0.9, 1.2), saturation=(0.8, 1.15), noise=(1, 5), blur=(0.4, 1.3), sun=(0.3, 1.0),
        warmth=0.65, luggage=0.02, women=0.45,
    ),
    "mall": _Kind(
        cameras=6, heights=(100, 256), pitch=(8, 30), horizon=(-0.2, 0.55),
        grounds=("tiles", "polished"), behinds=("shops", "glass", "wall"),
        warm_cast=0.04, exposure=(0.85, 1.15), saturation=(0.8, 1.1), noise=(1, 5), blur=(0.3, 0.9), sun=(0.0, 0.25),
        warmth=0.4, luggage=0.05, women=0.56,
    ),
    # Held out: the demo and the bundled model's recipe measure on it and train on none of its people.
    "station": _Kind(
        cameras=6, heights=(80, 200), pitch=(10, 36), horizon=(-0.3, 0.45),
        grounds=("tiles", "paving", "polished"), behinds=("train", "wall", "glass", "fence"),
        warm_cast=-0.03, exposure=(0.75, 1.05), saturation=(0.65, 0.95), noise=(2, 7), blur=(0.4, 1.2), sun=(0.0, 0.2),
        warmth=0.2, luggage=0.22, women=0.47,
    ),
    "night": _Kind(
        cameras=6, heights=(60, 160), pitch=(6, 28), horizon=(-0.2, 0.5),
        grounds=("asphalt", "paving"), behinds=("shops", "cars", "wall", "fence"),
        warm_cast=0.08, exposure=(0.55, 0.85), saturation=(0.5, 0.85), noise=(3, 7), blur=(0.5, 1.5), sun=(0.1, 0.5),
        warmth=0.25, luggage=0.04, women=0.44,
    ),
    # Good cameras near by: what is small, such as bags and hair, shows; and most people dress alike.
    "plaza": _Kind(
        cameras=8, heights=(100, 250), pitch=(4, 24), horizon=(0.0, 0.7),
        grounds=("asphalt", "paving", "grass"), behinds=("shops", "cars", "wall", "trees"),
        warm_cast=0.0, exposure=(0.85, 1.15), saturation=(0.75, 1.05), noise=(0.5, 3), blur=(0.1, 0.5), sun=(0.0, 0.8),
        warmth=0.4, luggage=0.02, women=0.48, sober=0.6,
        contrast=(0.9, 1.25), haze=0.08, quality=(70, 97), upscaled=(0.05, 0.2),
    ),
    "lobby": _Kind(
        cameras=8, heights=(110, 256), pitch=(4, 28), horizon=(-0.2, 0.6),
        grounds=("tiles", "polished", "paving"), behinds=("glass", "wall", "fence", "shops"),
        warm_cast=0.02, exposure=(0.8, 1.15), saturation=(0.7, 1.1), noise=(0.5, 3), blur=(0.1, 0.5), sun=(0.0, 0.4),
        warmth=0.3, luggage=0.04, women=0.5, sober=0.6,
        contrast=(0.9, 1.25), haze=0.08, quality=(70, 97), upscaled=(0.05, 0.2),
    ),
}  # fmt: skip


def _camera(kind: _Kind, chance: Chance) -> Camera:
    # A cast raises red and lowers blue, as a white balance that is off does; the tint is green or magenta.
    warm = kind.warm_cast + chance.middle(-0.08, 0.08)
    tint = chance.middle(-0.05, 0.05)
    low, high = kind.heights
    centre = chance.between(low, high)
    # People pass one camera at similar distances; the spread of a domain lies between its cameras.
    heights = (max(low, int(centre * 0.72)), min(high, int(centre * 1.3)) + 1)
    pitch = chance.between(*kind.pitch)
    # The more a camera looks down, the more of the crop is ground.
    horizon = chance.between(*kind.horizon) - 0.012 * (pitch - kind.pitch[0])
    return Camera(
        heights=heights,
        pitch=(max(0.0, pitch - 4), pitch + 4),
        gains=(1 + warm, 1 + tint * 0.6, 1 - warm),
        exposure=chance.between(*kind.exposure),
        contrast=chance.between(*kind.contrast),
        saturation=chance.between(*kind.saturation),
        # The product is mostly near 0: few lenses are dull.
        haze=chance.between(0.0, kind.haze) * chance.unit(),
        blur=chance.between(*kind.blur),
        noise=chance.between(*kind.noise),
        quality=chance.whole(*kind.quality),
        sharpen=chance.between(0.0, 1.6) if chance.happens(0.5) else 0.0,
        upscaled=chance.between(*kind.upscaled),
        sun=chance.between(*kind.sun),
        light=chance.between(-1.0, 1.0),
        place=make_place(chance.pick(kind.grounds), chance.pick(kind.behinds), horizon, chance.unit(), chance),
    )


def _domain(name: str, kind: _Kind) -> Domain:
    # By name and number: a new domain or a further camera leaves all others as they are.
    cameras = tuple(_camera(kind, Chance.of("camera", name, index)) for index in range(kind.cameras))
    return Domain(name, cameras, kind.warmth, kind.luggage, kind.women, kind.sober)


DOMAINS: Mapping[str, Domain] = {name: _domain(name, kind) for name, kind in _KINDS.items()}
