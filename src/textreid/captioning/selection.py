"""Which images of a folder a captioning job is about."""

from dataclasses import dataclass
from pathlib import Path

from textreid.datasets.captions import is_storable
from textreid.datasets.images import list_images
from textreid.datasets.synthetic.chance import generator
from textreid.errors import DataError


@dataclass(frozen=True)
class Selection:
    """Images as the caption table names them (paths relative to the folder, sorted).

    ``unusable`` are the names, made printable, of image files that the table cannot name: the bytes of their names
    are not UTF-8, or would be taken for a path out of the folder elsewhere. Rename them to have them captioned.
    """

    images: tuple[str, ...]
    unusable: tuple[str, ...]


def select_images(folder: Path, limit: int | None = None, sample: int | None = None, seed: int = 0) -> Selection:
    """The image files under ``folder``: all, the first ``limit``, or a random ``sample`` by ``seed``.

    Of one folder, a smaller sample is part of a larger one with the same seed. Files are told by their suffix; one
    that turns out to be no image fails by itself, later.

    Raises:
        DataError: the folder is missing, cannot be listed, or has no usable image.
    """
    names = [path.relative_to(folder).as_posix() for path in list_images(folder)]
    images = [name for name in names if is_storable(name)]
    unusable = [_printable(name) for name in names if not is_storable(name)]
    if not images:
        raise DataError(f"{folder}: no image files in it{': names are not UTF-8' if unusable else ''}")
    if sample is not None:
        chosen = generator("sample", seed).permutation(len(images))[:sample]
        images = [images[index] for index in sorted(chosen.tolist())]
    return Selection(tuple(images[:limit]), tuple(unusable))


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
