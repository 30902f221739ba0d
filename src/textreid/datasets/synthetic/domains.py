"""Camera sets: places that differ in resolution, light, background and in what people wear there."""

from collections.abc import Mapping
from dataclasses import dataclass

from textreid.datasets.synthetic.background import Behind, Ground, make_place
from textreid.datasets.synthetic.camera import Camera
from textreid.datasets.synthetic.chance import Chance


@dataclass(frozen=True)
class Domain:
    """A named set of cameras and the people who pass them."""

    name: str
    cameras: tuple[Camera, ...]
    warmth: float  # share of people dressed for warm weather
    luggage: float  # share of people with a suitcase
    women: float


@dataclass(frozen=True)
class _Kind:
    """From what the cameras of a domain are drawn."""

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


_KINDS: dict[str, _Kind] = {
    "street": _Kind(8, (72, 190), (4, 24), ("asphalt", "paving", "paving"), ("shops", "cars", "wall", "trees"), (0.0, 0.7), 0.0, (0.85, 1.15), (0.75, 1.05), (1, 5), (0.3, 1.1), (0.0, 0.8), 0.35, 0.03, 0.48),
    "campus": _Kind(6, (48, 130), (12, 32), ("asphalt", "paving", "grass"), ("trees", "wall", "cars"), (-0.5, 0.35), 0.02, (0.9, 1.2), (0.8, 1.15), (1, 5), (0.4, 1.3), (0.3, 1.0), 0.65, 0.02, 0.45),
    "mall": _Kind(6, (100, 256), (8, 30), ("tiles", "polished"), ("shops", "glass", "wall"), (-0.2, 0.55), 0.04, (0.85, 1.15), (0.8, 1.1), (1, 5), (0.3, 0.9), (0.0, 0.25), 0.4, 0.05, 0.56),
    "station": _Kind(6, (80, 200), (10, 36), ("tiles", "paving", "polished"), ("train", "wall", "glass", "fence"), (-0.3, 0.45), -0.03, (0.75, 1.05), (0.65, 0.95), (2, 7), (0.4, 1.2), (0.0, 0.2), 0.2, 0.22, 0.47),
    "night": _Kind(6, (60, 160), (6, 28), ("asphalt", "paving"), ("shops", "cars", "wall", "fence"), (-0.2, 0.5), 0.08, (0.55, 0.85), (0.5, 0.85), (4, 10), (0.5, 1.5), (0.1, 0.5), 0.25, 0.04, 0.44),
}  # fmt: skip


def _camera(kind: _Kind, chance: Chance) -> Camera:
    warm = kind.warm_cast + chance.middle(-0.08, 0.08)
    tint = chance.middle(-0.05, 0.05)
    low, high = kind.heights
    centre = chance.between(low, high)
    heights = (max(low, int(centre * 0.72)), min(high, int(centre * 1.3)) + 1)
    pitch = chance.between(*kind.pitch)
    horizon = chance.between(*kind.horizon) - 0.012 * (pitch - kind.pitch[0])
    return Camera(
        heights=heights,
        pitch=(max(0.0, pitch - 4), pitch + 4),
        gains=(1 + warm, 1 + tint * 0.6, 1 - warm),
        exposure=chance.between(*kind.exposure),
        contrast=chance.between(0.8, 1.15),
        saturation=chance.between(*kind.saturation),
        haze=chance.between(0.0, 0.16) * chance.unit(),
        blur=chance.between(*kind.blur),
        noise=chance.between(*kind.noise),
        quality=chance.whole(45, 93),
        sharpen=chance.between(0.0, 1.6) if chance.happens(0.5) else 0.0,
        upscaled=chance.between(0.1, 0.5),
        sun=chance.between(*kind.sun),
        light=chance.between(-1.0, 1.0),
        place=make_place(chance.pick(kind.grounds), chance.pick(kind.behinds), horizon, chance.unit(), chance),
    )


def _domain(name: str, kind: _Kind) -> Domain:
    cameras = tuple(_camera(kind, Chance.of("camera", name, index)) for index in range(kind.cameras))
    return Domain(name, cameras, kind.warmth, kind.luggage, kind.women)


DOMAINS: Mapping[str, Domain] = {name: _domain(name, kind) for name, kind in _KINDS.items()}
