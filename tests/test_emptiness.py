"""Pictures that show nobody are told by name, and pictures of people never are."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFilter

from textreid.emptiness import shows_nothing
from textreid.images import read_image
from textreid.reporting.lettering import font
from textreid.seeding import generator
from textreid.synthetic.domains import DOMAINS
from textreid.synthetic.drawing import render as rendering
from textreid.synthetic.drawing.scene import Frame
from textreid.synthetic.sampling import sample_person


def picture_of(pixels: npt.NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def drawn_people(each: int) -> list[Image.Image]:
    """Crops of every domain and camera in turn, as they are stored."""
    pictures = []
    for name, domain in DOMAINS.items():
        for number in range(each):
            person = sample_person(domain, generator("person", 1, name, number))
            camera = number % len(domain.cameras)
            stream = io.BytesIO()
            shot = rendering.render(person, number, domain, camera, number)
            shot.image.save(stream, "JPEG", quality=domain.cameras[camera].quality)
            pictures.append(read_image(Image.open(stream)))
    return pictures


@pytest.mark.parametrize("colour", ["white", "black", "gray", "lime", (30, 200, 90)])
@pytest.mark.parametrize("deviation", [0, 2, 3])
def test_pictures_of_one_colour_show_nothing(colour: object, deviation: int, tmp_path: Path) -> None:
    pixels = np.asarray(Image.new("RGB", (64, 128), colour)).astype(float)  # type: ignore[arg-type]
    pixels += np.random.default_rng(0).normal(0, deviation, pixels.shape)
    picture_of(pixels).save(tmp_path / "frame.jpg", quality=80)
    assert shows_nothing(read_image(tmp_path / "frame.jpg")) == "one colour"
    assert shows_nothing(Image.new("RGB", (1, 1))) == "one colour"


@pytest.mark.parametrize("size", [(48, 16), (128, 64), (640, 480)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("grain", [1, 2, 3])
def test_noise_shows_nothing_whatever_its_grain(size: tuple[int, int], channels: int, grain: int) -> None:
    if min(size) // grain < 12:
        pytest.skip("too few grains to tell")
    small = np.random.default_rng(0).integers(0, 256, (size[0] // grain, size[1] // grain, channels), dtype=np.uint8)
    noise = Image.fromarray(np.broadcast_to(small, (*small.shape[:2], 3)).copy())
    assert shows_nothing(noise.resize(size[::-1], Image.Resampling.NEAREST)) == "noise"


def test_a_gradient_two_walls_and_a_time_stamp_are_hardly_anything() -> None:
    ramp = np.linspace(40, 220, 128)[:, None, None] * np.ones((128, 64, 3))
    walls = Image.new("RGB", (64, 128), "sienna")
    ImageDraw.Draw(walls).rectangle((40, 0, 64, 128), fill="tan")
    stamp = Image.new("RGB", (64, 128), "slategray")
    ImageDraw.Draw(stamp).text((4, 4), "12:07:31", "white")
    for picture in (picture_of(ramp), walls, stamp):
        noisy = np.asarray(picture, float) + np.random.default_rng(0).normal(0, 3, (128, 64, 3))
        assert shows_nothing(picture_of(noisy)) == "hardly anything"


ACROSS, DOWN = np.meshgrid(np.arange(60), np.arange(140))
SHADE, OTHER = np.array([[[40, 60, 150]]]), np.array([[[200, 170, 60]]])


def coloured_noise(exponent: float, channels: int, seed: int) -> npt.NDArray[np.floating]:
    """Noise whose amplitude falls with the frequency to the power of ``exponent``: 1 is called pink, 2 brown."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(140)[:, None] * 140, np.fft.fftfreq(60)[None] * 140)
    frequency[0, 0] = np.inf
    white = np.fft.fft2(generator.normal(size=(channels, 140, 60)))
    noise = np.fft.ifft2(white / frequency**exponent).real
    noise = np.broadcast_to(noise / noise.std(axis=(1, 2), keepdims=True), (3, 140, 60))
    return np.asarray(128 + 40 * noise.transpose(1, 2, 0), float)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_nearly_all_pink_and_brown_noise_shows_nothing(exponent: float, channels: int) -> None:
    told = [shows_nothing(picture_of(coloured_noise(exponent, channels, seed))) for seed in range(40)]
    assert told.count("noise") >= 32


def two_shades(share: npt.NDArray[np.generic]) -> npt.NDArray[np.floating]:
    return np.asarray(SHADE + (OTHER - SHADE) * share[:, :, None].astype(float))


def lettered(text: str, size: int) -> npt.NDArray[np.floating]:
    screen = Image.new("RGB", (60, 140), (0, 0, 190))
    ImageDraw.Draw(screen).text((2, 40), text, "white", font(size))
    return np.asarray(screen, float)


def television_card() -> npt.NDArray[np.floating]:
    """Seven bars above seven others, as television had them."""
    colours = np.array([[v & 1, v >> 1 & 1, v >> 2] for v in (7, 6, 3, 2, 5, 4, 1)]) * 190
    bar = np.minimum(ACROSS * 7 // 60, 6)
    return np.where((DOWN < 100)[:, :, None], colours[bar], colours[6 - bar] / (1 + bar % 2 * 8)[:, :, None]).astype(
        float
    )


RADIUS = np.hypot(ACROSS - 25, DOWN - 60)
CHECKS = np.random.default_rng(3).integers(0, 2, (25, 25))
SLANTED = ACROSS + DOWN
FADE = (DOWN / 140)[:, :, None]
PATTERNS = {
    "horizontal stripes": two_shades(DOWN // 7 % 2),
    "vertical stripes": two_shades(ACROSS // 5 % 2),
    "diagonal stripes": two_shades(SLANTED // 8 % 2),
    "wide waves": two_shades(0.5 + 0.5 * np.sin(SLANTED / 9)),
    "checkerboard": two_shades((ACROSS // 9 + DOWN // 9) % 2),
    "bars": television_card()[:1].repeat(140, 0),
    "test card": television_card(),
    "interlaced comb": two_shades(DOWN % 2),
    "rolling shutter": two_shades(np.where(DOWN < 70, ACROSS, (ACROSS + 20) % 60) / 60),
    "matrix code": two_shades(CHECKS[np.ix_(np.arange(140) * 25 // 140, np.arange(60) * 25 // 60)]),
    "dots": two_shades((ACROSS % 12 - 6) ** 2 + (DOWN % 12 - 6) ** 2 < 16),
    "lamp": two_shades(np.exp(-((RADIUS / 25) ** 2))),
    "cone of light": two_shades(np.clip(1 - RADIUS / 45, 0, 1)),
    "disc": two_shades(RADIUS < 20),
    "vignette": two_shades(1 - 2 * ((ACROSS / 60 - 0.5) ** 2 + (DOWN / 140 - 0.5) ** 2)),
    "desktop": (1 - FADE) * two_shades(ACROSS / 60) + FADE * np.array([20.0, 180, 90]),
    "time stamp": lettered("12:07:31", 10),
    "letter": lettered("R", 70),
    "no signal": lettered("NO\nSIGNAL", 14),
}


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("deviation", [0, 2])
@pytest.mark.parametrize("scale", [1, 4])
def test_patterns_lights_and_letters_show_nothing(name: str, deviation: int, scale: int) -> None:
    pixels = PATTERNS[name].repeat(scale, 0).repeat(scale, 1)
    noisy = pixels + np.random.default_rng(0).normal(0, deviation, pixels.shape)
    assert shows_nothing(picture_of(noisy)) in ("a pattern", "hardly anything", "noise")


@pytest.mark.parametrize("size", [(1000, 1), (1, 1000), (1600, 90), (20, 400)])
def test_a_sliver_shows_nothing(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    assert shows_nothing(Image.fromarray(pixels)) == "a sliver"


def test_blocks_of_many_colours_may_show_something() -> None:
    generator = np.random.default_rng(0)
    blocks = [Image.fromarray(generator.integers(0, 256, (8, 4, 3), np.uint8)) for _ in range(200)]
    assert {shows_nothing(one.resize((24, 56), Image.Resampling.NEAREST)) for one in blocks} == {""}


def test_people_are_people_in_the_dark_and_in_fog_too() -> None:
    people = drawn_people(each=24)
    assert len(people) == 24 * len(DOMAINS)
    for gain, haze in ((1.0, 0), (0.4, 0), (0.3, 90), (1.6, 0)):
        assert {shows_nothing(picture_of(gain * np.asarray(picture, float) + haze)) for picture in people} == {""}
    for worse in (blurred, moved, compressed, tiny, without_colour, as_at_night):
        assert [shows_nothing(worse(picture)) for picture in people if shows_nothing(worse(picture))] == []


def blurred(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(2.5))


def moved(picture: Image.Image) -> Image.Image:
    pixels = np.pad(np.asarray(picture, float), ((0, 0), (4, 4), (0, 0)), mode="edge")
    return picture_of(np.mean([pixels[:, i : i + picture.width] for i in range(9)], axis=0))


def compressed(picture: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=8)
    return read_image(Image.open(stream))


def tiny(picture: Image.Image) -> Image.Image:
    return picture.resize((8, 20), Image.Resampling.BOX).resize((64, 160), Image.Resampling.BICUBIC)


def without_colour(picture: Image.Image) -> Image.Image:
    return picture.convert("L").convert("RGB")


def as_at_night(picture: Image.Image) -> Image.Image:
    pixels = 0.3 * np.asarray(picture, float)
    return picture_of(pixels + np.random.default_rng(0).normal(0, 3, pixels.shape))


@pytest.mark.parametrize("colour", ["white", "black", "slategray", "darkgreen"])
def test_people_before_a_plain_wall_are_people(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(_place: object, frame: Frame, _chance: object) -> Image.Image:
        return Image.new("RGB", (frame.width, frame.height), colour)

    monkeypatch.setattr(rendering, "paint_surroundings", plain)
    assert {shows_nothing(picture) for picture in drawn_people(each=8)} == {""}
