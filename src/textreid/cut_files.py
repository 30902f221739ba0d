"""Picture files that were cut short: how much is missing, and an end for those that lack little.

A decoder refuses such a file, or fills in what it lacks without saying how much. Pillow's switch for it is of the
whole process, and a program that uses textreid has its own setting.
"""

import struct
import zlib
from collections.abc import Iterator

CUT_SHARE = 0.05  # of the pixels, which a file that is used may leave unknown
# What PNG needs to show its pixels as Pillow does; text, profiles and times are not among it.
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_GIF_CODE_BYTES = 1.5  # the widest code of a pixel
_TIFF_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # of a value, by its type; others have one
_EXTENSION, _PICTURE = 0x21, 0x2C  # kinds of blocks of a GIF


def without_metadata(png: bytes) -> bytes:
    """Keep the chunks of a PNG that its pixels need."""
    return png[:8] + b"".join(png[start:end] for kind, start, end in _chunks(png) if kind in _PNG_CHUNKS)


def completed(content: bytes, most_pixels: int) -> bytes | None:
    """Give a PNG or a GIF an end of dark pixels, if it lacks at most about `CUT_SHARE` of them; None is no such file.

    ``most_pixels``: a larger picture is not looked into.
    """
    try:
        return _completed_png(content, most_pixels) if content.startswith(b"\x89PNG") else _completed_gif(content)
    except (IndexError, KeyError, struct.error, zlib.error):  # it is damaged in another way
        return None


def _completed_png(png: bytes, most_pixels: int) -> bytes | None:
    chunks = list(_chunks(png))
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    if chunks[-1][0] == b"IEND" or width * height > most_pixels:
        return None
    if any(zlib.crc32(png[start + 4 : end - 4]) != int.from_bytes(png[end - 4 : end]) for _, start, end in chunks[:-1]):
        return None
    needed = height * (1 + (width * depth * _PNG_CHANNELS[colour] + 7) // 8)
    # Each row of the seven passes of an interlaced picture has a byte of its own, and perhaps a half-filled one.
    room = needed + (4 * height + 64 if png[28] else 0)
    packed = b"".join(png[start + 8 : end - 4] for kind, start, end in chunks if kind == b"IDAT")
    raw = zlib.decompressobj().decompress(packed, room)
    if len(raw) < (1 - CUT_SHARE) * needed:
        return None
    kept = [png[start:end] for kind, start, end in chunks if kind in _PNG_CHUNKS and kind != b"IDAT"]
    return b"".join([png[:8], *kept, _chunk(b"IDAT", zlib.compress(raw.ljust(room, b"\0"), 1)), _chunk(b"IEND", b"")])


def _completed_gif(gif: bytes) -> bytes | None:
    place = 13 + (3 << ((gif[10] & 7) + 1) if gif[10] & 0x80 else 0)
    while (kind := gif[place]) in (_EXTENSION, _PICTURE):
        pixels = 0
        if kind == _EXTENSION:
            place += 2
        else:
            width, height, flags = struct.unpack("<HHB", gif[place + 5 : place + 10])
            pixels = width * height
            place += 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
        while place < len(gif) and gif[place]:
            place += gif[place] + 1
        if place >= len(gif):
            # A code of zeros is one pixel of the first colour, however wide codes are by then.
            blocks = (b"\xff" + bytes(255)) * (int(CUT_SHARE * pixels * _GIF_CODE_BYTES) // 255 + 1)
            return gif + bytes(place - len(gif)) + blocks + b"\0;" if pixels else None
        place += 1
    return None


def missing_end(content: bytes) -> str:
    """Say how many bytes a file has and should have by what its own parts tell of their length, or nothing."""
    declared = _declared_length(content)
    if declared <= len(content):
        return ""
    return f"cut short: {len(content):,} bytes, and its parts reach to byte {declared:,} at least"


def _declared_length(content: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    try:
        if order:  # the table of contents of a TIFF, which many programs write last
            return _declared_by_tiff(content, order)
        if content[:4] == b"RIFF":
            return 8 + int(struct.unpack("<I", content[4:8])[0])
        if content[:2] == b"BM":
            return int(struct.unpack("<I", content[2:6])[0])
    except struct.error:
        return 0
    if content.startswith(b"\x89PNG"):
        return max((end for _, _, end in _chunks(content)), default=0)
    place = 0
    if content[4:8] in (b"ftyp", b"jP  "):  # the boxes of AVIF, HEIC and JPEG 2000
        while place + 8 <= len(content) and (size := int.from_bytes(content[place : place + 4], "big")) >= 8:
            place += size
    return place


def _declared_by_tiff(content: bytes, order: str) -> int:
    place = int(struct.unpack(order + "I", content[4:8])[0])
    entries = int(struct.unpack(order + "H", content[place : place + 2])[0]) if place + 2 <= len(content) else 0
    ends = [place + 2 + 12 * entries]
    for entry in range(place + 2, min(ends[0], len(content) - 11), 12):
        kind, count, at = struct.unpack(order + "HII", content[entry + 2 : entry + 12])
        size = count * _TIFF_BYTES.get(kind, 1)
        ends += [at + size] if size > 4 else []  # a shorter value stands in the entry itself
    return max(ends)


def _chunks(png: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The kind, start and end of each chunk; the last end may lie behind that of the file."""
    place = 8
    while place + 8 <= len(png):
        end = place + 12 + int.from_bytes(png[place : place + 4], "big")
        yield png[place + 4 : place + 8], place, end
        place = end


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
