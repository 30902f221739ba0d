"""What a camera does to light: cast, exposure, contrast, haze, blur, lost resolution, noise, sharpening."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from textreid.seeding import Chance
from textreid.synthetic.drawing import textures
from textreid.synthetic.drawing.background import Place

_BOX, _SMOOTH = Image.Resampling.BOX, Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Camera:
    """One mounted camera: all its pictures share this."""

    heights: tuple[int, int]  # of a crop, in pixels
    pitch: tuple[float, float]  # degrees it looks down
    gains: tuple[float, float, float]
    exposure: float
    contrast: float
    saturation: float
    haze: float
    blur: float  # radius at a crop height of 128
    noise: float  # standard deviation in grey levels
    quality: int  # of the JPEG
    sharpen: float
    upscaled: float  # probability that a crop was enlarged from fewer pixels
    sun: float  # 0 soft light, 1 hard sun
    light: float  # side of the sun: -1 left … 1 right
    place: Place


def expose(image: Image.Image, camera: Camera, height: int, width: int, chance: Chance) -> Image.Image:
    """Return the picture as the camera stores it, ``width`` × ``height`` pixels."""
    tall = height
    if chance.happens(camera.upscaled):
        tall = max(32, int(height * chance.between(0.38, 0.75)))
    wide = max(8, (width * tall + height // 2) // height)
    # Both average all pixels when they shrink; BOX takes two thirds of the time and is coarse only near equal sizes.
    image = image.resize((wide, tall), _BOX if tall * 2 <= image.height else _SMOOTH)
    radius = camera.blur * tall / 128 * chance.between(0.5, 1.6)
    if radius > 0.25:
        image = image.filter(ImageFilter.GaussianBlur(radius))
    if chance.happens(0.12):
        image = _smear(image, chance.whole(1, max(2, tall // 40)))
    # Before the noise, which sharpening would make louder. Steps of less than 2 grey levels stay as they are.
    if camera.sharpen > 0:
        image = image.filter(ImageFilter.UnsharpMask(1.2, int(camera.sharpen * 100 * chance.between(0.5, 1.4)), 2))
    pixels = _tone(image, camera, chance)
    strength = camera.noise * chance.between(0.4, 1.5)
    window = textures.crop(textures.grain(), tall, wide, chance)
    shared = window[:, :, :1] * np.float32(0.8 * strength)  # most of what is left after coding is in the luma
    pixels = pixels + shared + window * np.float32(0.35 * strength)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    image = _bleed_chroma(image, chance)
    if tall != height:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return image


def _tone(image: Image.Image, camera: Camera, chance: Chance) -> textures.Field:
    """Apply cast, saturation, exposure, contrast and haze."""
    pixels = np.asarray(image, np.float32)
    # The luma of ITU-R BT.601, in which cameras and JPEG files weigh the three colours.
    grey = (pixels[:, :, :1] * np.float32(0.3) + pixels[:, :, 1:2] * np.float32(0.59)) + pixels[:, :, 2:] * np.float32(
        0.11
    )
    saturation = np.float32(camera.saturation * chance.between(0.88, 1.12))
    pixels = grey + (pixels - grey) * saturation
    exposure = camera.exposure * chance.between(0.86, 1.16)
    contrast = camera.contrast * chance.between(0.92, 1.08)
    gains = np.array([g * exposure * chance.between(0.98, 1.02) for g in camera.gains], np.float32)
    # Contrast turns about 112, near the mean grey of the crops (114 over 1,500), so that it hardly changes exposure.
    pixels = (pixels * gains - np.float32(112)) * np.float32(contrast) + np.float32(112)
    veil = camera.haze * chance.between(0.5, 1.4)
    pixels = pixels * np.float32(1 - veil) + np.float32(150 * veil)
    # Highlights roll off instead of clipping at once.
    toned: textures.Field = np.where(
        pixels > 215, np.float32(215) + (pixels - np.float32(215)) * np.float32(0.55), pixels
    )
    return toned


def _smear(image: Image.Image, reach: int) -> Image.Image:
    """Smear by motion along the picture's width."""
    # A sum of bytes would overflow a byte.
    pixels = np.asarray(image, np.uint16)
    total = pixels.copy()
    for step in range(1, reach + 1):
        total[:, step:] += pixels[:, :-step]
        total[:, :step] += pixels[:, :1]
    return Image.fromarray((total // (reach + 1)).astype(np.uint8))


def _bleed_chroma(image: Image.Image, chance: Chance) -> Image.Image:
    """Store colour at a quarter of the pixels or fewer, as video does."""
    luma, blue, red = image.convert("YCbCr").split()
    # 2 is the 4:2:0 of JPEG and most video; 3 and 4 stand for what coding at a low rate takes away besides.
    factor = chance.pick((2, 2, 3, 4))
    small = (max(1, image.width // factor), max(1, image.height // factor))
    blue = blue.resize(small, _BOX).resize(image.size, _SMOOTH)
    red = red.resize(small, _BOX).resize(image.size, _SMOOTH)
    return Image.merge("YCbCr", (luma, blue, red)).convert("RGB")
