import io
import os
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from textreid.errors import ImageError
from textreid.images import MAX_PIXELS, lacks_its_end, map_ahead, read_image, read_suffixes, to_pixels

ORANGE = (250, 120, 10)


def scene(width: int = 60, height: int = 90) -> Image.Image:
    """A smooth picture whose four corners differ."""
    y, x = np.mgrid[0:height, 0:width]
    planes = (255 * x / width, 255 * y / height, 255 * (1 - x / width) * (y / height))
    return Image.fromarray(np.stack(planes, axis=2).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def flat(mode: str, value: object) -> Image.Image:
    return Image.new(mode, (20, 30), value)  # type: ignore[arg-type]


def palette_with_transparency() -> Image.Image:
    image = flat("P", 1)
    image.putpalette([0, 0, 0, *ORANGE])
    image.paste(0, (0, 0, 20, 15))
    return image


@pytest.mark.parametrize(
    ("image", "kind", "options", "top", "bottom"),
    [
        (flat("RGB", ORANGE), "PNG", {}, ORANGE, ORANGE),
        (flat("L", 77), "PNG", {}, (77, 77, 77), (77, 77, 77)),
        (flat("1", 1), "PNG", {}, (255, 255, 255), (255, 255, 255)),
        (flat("RGBA", (*ORANGE, 0)), "PNG", {}, (255, 255, 255), (255, 255, 255)),
        (flat("RGBA", (0, 0, 0, 128)), "PNG", {}, (127, 127, 127), (127, 127, 127)),
        (flat("LA", (0, 128)), "PNG", {}, (127, 127, 127), (127, 127, 127)),
        (flat("I;16", 77 * 257), "PNG", {}, (77, 77, 77), (77, 77, 77)),
        (flat("I;16", 65535), "TIFF", {}, (255, 255, 255), (255, 255, 255)),
        (palette_with_transparency(), "PNG", {"transparency": 0}, (255, 255, 255), ORANGE),
        (palette_with_transparency(), "GIF", {"transparency": 0}, (255, 255, 255), ORANGE),
        (palette_with_transparency(), "PNG", {"transparency": b"\x00\xff"}, (255, 255, 255), ORANGE),
        (flat("CMYK", (0, 0, 0, 0)), "JPEG", {"quality": 100}, (255, 255, 255), (255, 255, 255)),
        (flat("CMYK", (0, 255, 255, 0)), "JPEG", {"quality": 100}, (255, 0, 0), (255, 0, 0)),
        (flat("L", 77), "JPEG", {"quality": 100}, (77, 77, 77), (77, 77, 77)),
        (flat("RGB", ORANGE), "BMP", {}, ORANGE, ORANGE),
        (flat("RGB", ORANGE), "PPM", {}, ORANGE, ORANGE),
        (flat("RGB", ORANGE), "WEBP", {"lossless": True}, ORANGE, ORANGE),
        (flat("YCbCr", (77, 128, 128)), "TIFF", {}, (77, 77, 77), (77, 77, 77)),
        (flat("RGB", ORANGE), "AVIF", {"quality": 100, "subsampling": "4:4:4"}, ORANGE, ORANGE),
        (flat("RGBA", (*ORANGE, 0)), "AVIF", {"quality": 100}, (255, 255, 255), (255, 255, 255)),
        (flat("RGB", ORANGE), "JPEG2000", {}, ORANGE, ORANGE),
        (flat("LAB", (0, 128, 128)), "TIFF", {}, (0, 0, 0), (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(
    image: Image.Image,
    kind: str,
    options: dict[str, object],
    top: tuple[int, int, int],
    bottom: tuple[int, int, int],
    tmp_path: Path,
) -> None:
    path = tmp_path / "picture"  # the format is found in the contents, not in the name
    path.write_bytes(encoded(image, kind, **options))
    picture = read_image(path)
    assert picture.mode == "RGB"
    assert picture.size == (20, 30)
    found = np.asarray(picture).astype(int)
    assert np.abs(found[:15] - top).max() <= 3
    assert np.abs(found[15:] - bottom).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("reduced", [False, True])
def test_exif_orientation_is_undone(orientation: int, reduced: bool, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    scene(80, 120).save(path, exif=exif, quality=98, subsampling=0)
    with Image.open(path) as stored:
        upright = ImageOps.exif_transpose(stored)
    assert upright is not None
    picture = read_image(path, at_least=(upright.height // 10, upright.width // 10) if reduced else None)
    assert picture.size == ((upright.width // 4, upright.height // 4) if reduced else upright.size)
    difference = to_pixels(picture, 24, 16).astype(int) - to_pixels(upright, 24, 16)
    assert np.abs(difference).mean() < 2


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    scene().save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")
    assert read_image(path).size == (60, 90)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    frames = [flat("RGB", colour) for colour in ("red", "lime", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50)
    assert read_image(path).getpixel((3, 3)) == (255, 0, 0)


def texts(count: int, compressed: bool) -> PngImagePlugin.PngInfo:
    """A megabyte of metadata and more, as editors and image generators write."""
    info = PngImagePlugin.PngInfo()
    for number in range(count):
        info.add_itxt(f"note {number}", "word " * 300_000, zip=compressed)
    return info


@pytest.mark.parametrize(
    "options",
    [
        {"pnginfo": texts(1, True)},
        {"pnginfo": texts(50, False)},
        {"icc_profile": bytes(3 << 20)},
        {"pnginfo": texts(1, True), "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
    ],
    ids=["text", "much text", "profile", "text and orientation"],
)
def test_metadata_does_not_cost_the_picture(options: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(scene(), "PNG", **options))
    picture = read_image(path)
    upright = scene().transpose(Image.Transpose.ROTATE_270) if "exif" in options else scene()
    assert np.array_equal(np.asarray(picture), np.asarray(upright))
    assert not lacks_its_end(picture)


def test_a_broken_text_does_not_cost_the_picture(tmp_path: Path) -> None:
    content = bytearray(encoded(scene(), "PNG", pnginfo=texts(1, False)))
    content[content.index(b"iTXt") + 1000] ^= 1  # its checksum is wrong
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    assert np.array_equal(np.asarray(read_image(path)), np.asarray(scene()))


def test_metadata_does_not_hide_a_gigantic_picture(tmp_path: Path) -> None:
    header = png_header(20_000, 20_000)
    text = encoded(scene(), "PNG", pnginfo=texts(1, True))
    start = text.index(b"iTXt") - 4
    length = 12 + int.from_bytes(text[start : start + 4], "big")
    path = tmp_path / "bomb.png"
    path.write_bytes(header[:33] + text[start : start + length] + header[33:])
    with pytest.raises(ImageError, match="more than the 100 megapixels"):
        read_image(path)


@pytest.mark.parametrize(
    ("kind", "options", "cut"),
    [
        *(("JPEG", {}, cut) for cut in (1, 2, 3, 8, 20)),
        *(("JPEG", {"progressive": True}, cut) for cut in (1, 2)),
        *(("JPEG", {"subsampling": 0, "quality": 95}, cut) for cut in (2, 20)),
        *(("PNG", {}, cut) for cut in (1, 2, 12, 20, 24, 30)),
        *(("WEBP", {}, cut) for cut in (1, 2)),
        *(("BMP", {}, cut) for cut in (1, 2, 20)),
        *(("GIF", {}, cut) for cut in (1, 2, 3, 30, 700)),
        *(("TIFF", {}, cut) for cut in (1, 20)),
        *(("PPM", {}, cut) for cut in (1, 20)),
    ],
)
def test_a_picture_that_lacks_only_its_end_is_used(
    kind: str, options: dict[str, object], cut: int, tmp_path: Path
) -> None:
    content = encoded(scene(256, 384), kind, **options)
    whole, path = tmp_path / "whole", tmp_path / "cut.jpg"
    whole.write_bytes(content)
    path.write_bytes(content[:-cut])
    picture = read_image(path)
    difference = np.abs(np.asarray(picture).astype(int) - np.asarray(read_image(whole))).max(axis=-1)
    assert picture.size == (256, 384)
    assert (difference > 0).mean() <= 0.05
    if kind in ("JPEG", "BMP"):  # the others may be whole but for a mark that says so
        assert lacks_its_end(picture)


def grainy() -> Image.Image:
    """A picture whose files are as long as those of photographs: smooth ones lie in a few bytes."""
    noise = np.random.default_rng(0).integers(0, 40, (192, 96, 3), np.uint8)
    return Image.fromarray(np.asarray(scene(96, 192)) // 2 + noise)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "I;16"])
@pytest.mark.parametrize("cut", [24, 0.03])
def test_a_png_of_any_mode_is_completed(mode: str, cut: float, tmp_path: Path) -> None:
    image = Image.fromarray(np.asarray(grainy().convert("L")).astype(np.uint16) * 257)
    image = image if mode == "I;16" else grainy().convert(mode)
    content = encoded(image, "PNG")
    whole, path = tmp_path / "whole", tmp_path / "cut.png"
    whole.write_bytes(content)
    path.write_bytes(content[: -(cut if cut > 1 else int(cut * len(content)))])  # type: ignore[index, misc, unused-ignore]
    picture = read_image(path)
    equal = (np.asarray(picture) == np.asarray(read_image(whole))).all(axis=(1, 2))
    assert lacks_its_end(picture)
    assert equal[: int(0.94 * len(equal))].all()


def test_a_damaged_middle_is_not_taken_for_a_missing_end(tmp_path: Path) -> None:
    content = bytearray(encoded(grainy().resize((300, 500), Image.Resampling.NEAREST), "PNG", compress_level=0))
    assert content.count(b"IDAT") > 2
    content[1000] ^= 0xFF
    path = tmp_path / "damaged.png"
    path.write_bytes(content[:-30])
    with pytest.raises(ImageError, match=r"damaged\.png"):
        read_image(path)


@pytest.mark.parametrize(
    ("kind", "options", "cut"),
    [
        ("PNG", {}, 0.1),
        ("WEBP", {}, 0.2),
        ("AVIF", {}, 0.1),
        ("JPEG2000", {}, 2),
        ("BMP", {}, 0.2),
        *(("TIFF", {"compression": "tiff_lzw"}, cut) for cut in (1, 24, 200, 0.5)),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_that_was_cut_short_is_called_so(
    kind: str, options: dict[str, object], cut: float, tmp_path: Path
) -> None:
    content = encoded(grainy(), kind, **options)
    path = tmp_path / "cut.jpg"
    path.write_bytes(content[: -(cut if cut >= 1 else int(cut * len(content)))])  # type: ignore[index, misc, unused-ignore]
    with pytest.raises(ImageError, match=rf"cut\.jpg: cut short: {path.stat().st_size:,} bytes, and its parts reach"):
        read_image(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files_are_refused_by_name(kind: str, share: float, tmp_path: Path) -> None:
    content = encoded(scene(), kind)
    path = tmp_path / "cut.jpg"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageError, match=r"cut\.jpg"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"P6\n12 x", "damaged PPM"),
        (b"hello, this is no picture", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"\xff\xd8\xff\xe0", "damaged"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "floating-point"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"odd\.png: .*{reason}"):
        read_image(path)


def test_gigantic_pictures_are_refused_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(20_000, 20_000))
    with pytest.raises(ImageError, match=r"bomb\.png: 20000x20000 pixels, more than the 100 megapixels"):
        read_image(path)
    with pytest.raises(ImageError, match="more than the 100 megapixels"):
        read_image(Image.new("1", (MAX_PIXELS // 1000 + 1, 1000)))


def test_pictures_that_pillow_warns_of_are_read_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png_header(9_500, 10_000))  # more than Pillow's own limit, less than ours
    with pytest.raises(ImageError, match="damaged or truncated"):  # decoding was begun; a warning would be an error
        read_image(path)


def test_pillow_keeps_its_global_settings() -> None:
    from PIL import ImageFile

    assert Image.MAX_IMAGE_PIXELS == 1024**3 // 4 // 3
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match=r"nothing\.jpg: cannot be read: No such file"):
        read_image(tmp_path / "nothing.jpg")
    with pytest.raises(ImageError, match="not a file"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="not a file"):
        read_image(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a possible file name"):
        read_image("a\0b")


def test_a_pillow_image_is_not_changed() -> None:
    image = Image.new("RGBA", (20, 30), (*ORANGE, 0))
    assert read_image(image).getpixel((0, 0)) == (255, 255, 255)
    assert image.mode == "RGBA"
    original = scene()
    copy = read_image(original)
    copy.putpixel((0, 0), (1, 2, 3))
    assert original.getpixel((0, 0)) != (1, 2, 3)
    with pytest.raises(ImageError, match="no pixels"):
        read_image(Image.new("RGB", (0, 5)))


def test_a_large_jpeg_is_decoded_smaller_without_a_visible_difference(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (60, 40, 3), dtype=np.uint8)).resize((800, 1200))
    noise.save(path, quality=92)
    whole, reduced = read_image(path), read_image(path, at_least=(128, 64))
    assert whole.size == (800, 1200)
    assert reduced.size == (200, 300)
    difference = to_pixels(whole, 128, 64).astype(int) - to_pixels(reduced, 128, 64)
    assert np.abs(difference).mean() < 1
    assert read_image(path, at_least=(800, 600)).size == (800, 1200)


def test_many_threads_read_the_same(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(40)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(flat("RGB", (number, 2 * number, 3 * number)), "JPEG", quality=100))
    paths[7].write_bytes(b"")

    def mean(path: Path) -> list[float]:
        try:
            return [float(value) for value in np.asarray(read_image(path)).mean(axis=(0, 1))]
        except ImageError:
            return []

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(mean, paths))
    assert found == [mean(path) for path in paths]
    assert sum(not colour for colour in found) == 1


@given(
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_give_a_picture_or_an_image_error(
    kind: str, edits: list[tuple[float, int]], tmp_path: Path
) -> None:
    content = bytearray(encoded(scene(24, 36), kind))
    for place, value in edits:
        content[int(place * len(content))] = value
    path = tmp_path / "fuzzed"
    path.write_bytes(content)
    with suppress(ImageError):
        assert read_image(path, at_least=(8, 8)).mode == "RGB"


def test_pixels_are_channels_first_and_resized_with_antialiasing() -> None:
    pixels = to_pixels(scene(61, 93), 32, 16)
    assert pixels.shape == (3, 32, 16)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels[0, 5, 0] < pixels[0, 5, -1]  # red grows to the right
    assert pixels[1, 0, 5] < pixels[1, -1, 5]  # green grows downwards
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32))).convert("RGB")
    assert np.abs(to_pixels(stripes, 8, 8).astype(int) - 127).max() <= 5
    whole = scene(61, 93)
    for name, resampling in (("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)):
        expected = np.asarray(whole.resize((16, 32), resampling)).transpose(2, 0, 1)
        assert np.array_equal(to_pixels(whole, 32, 16, name), expected)  # type: ignore[arg-type]
    assert np.array_equal(to_pixels(scene(), 90, 60), np.asarray(scene()).transpose(2, 0, 1))


def test_heic_is_read_where_its_reader_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "IMG_1.HEIC"
    pillow_heif.from_pillow(scene(64, 128)).save(path, quality=90, exif=exif.tobytes())
    assert path.suffix.lower() in read_suffixes()
    upright = scene(64, 128).transpose(Image.Transpose.ROTATE_270)
    difference = to_pixels(read_image(path), 32, 64).astype(int) - to_pixels(upright, 32, 64)
    assert np.abs(difference).mean() < 4
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ImageError, match=r"IMG_1\.HEIC: .*damaged"):
        read_image(path)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"HEIC is not read: pip install 'textreid\[heic\]'"):
        read_image(path)


def test_work_ahead_keeps_order_and_bound() -> None:
    begun: list[int] = []

    def double(number: int) -> int:
        begun.append(number)
        return 2 * number

    ahead = map_ahead(double, range(100), threads=3, ahead=5)
    assert next(ahead) == 0
    assert len(begun) <= 6
    assert list(islice(ahead, 10)) == list(range(2, 22, 2))
    ahead.close()
    assert len(begun) <= 17
    assert list(map_ahead(double, range(50), threads=0, ahead=5)) == list(range(0, 100, 2))


def test_an_error_ahead_comes_in_its_turn() -> None:
    def half(number: int) -> float:
        return 1 / (number - 3)

    ahead = map_ahead(half, range(10), threads=2, ahead=8)
    assert list(islice(ahead, 3)) == [-1 / 3, -1 / 2, -1]
    with pytest.raises(ZeroDivisionError):
        next(ahead)
