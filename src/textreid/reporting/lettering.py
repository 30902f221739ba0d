"""Words in pictures: the font that is always there, and lines that fit."""

import importlib.util
from pathlib import Path

from PIL import ImageFont

from textreid.errors import ArtifactError


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans of matplotlib, found without importing it: Latin, Greek, Cyrillic, Arabic; not Chinese."""
    # To find a package does not run it: nothing of matplotlib is imported for its font.
    package = importlib.util.find_spec("matplotlib")
    if package is None or package.origin is None:
        raise ArtifactError("matplotlib, which brings the font of pictures, is not installed")
    fonts = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(fonts / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), size)


def wrap(text: str, letters: ImageFont.FreeTypeFont, width: float, most: int) -> list[str]:
    """Break ``text`` into at most ``most`` lines no wider than ``width``; what does not fit ends in an ellipsis."""
    lines = [""]
    words = text.split()
    for number, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        # A word that is too wide for any line gets one of its own, and is cut there.
        if letters.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        elif len(lines) == most:
            # All that is left, so that `shorten` puts an ellipsis at its end.
            lines[-1] += " " + " ".join(words[number:])
            break
        else:
            lines.append(word)
    return [shorten(line, letters, width) for line in lines]


def shorten(text: str, letters: ImageFont.FreeTypeFont, width: float) -> str:
    """Cut the end of ``text`` so that it is no wider than ``width``."""
    # A control character would be drawn as an empty box.
    text = "".join(character if character.isprintable() else " " for character in text)
    if letters.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:  # the longest beginning that fits with the ellipsis
        middle = (low + high + 1) // 2
        low, high = (middle, high) if letters.getlength(text[:middle] + "…") <= width else (low, middle - 1)
    return text[:low].rstrip() + "…"
