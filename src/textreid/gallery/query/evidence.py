"""A search as evidence: one ZIP file with the pictures found, where they are from, and a hash of every file in it.

It holds ``index.html`` for people, ``results.json`` for programs, the crops byte for byte as they were kept, the frames
that they were cut from with the box drawn, and ``SHA256SUMS``, which `sha256sum --check` reads. Equal content makes
equal bytes: the hash of the ZIP file can be written down.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from textreid.artifacts import new_file
from textreid.errors import ArtifactError, ConfigError, TextReidError
from textreid.reporting.html import render_page
from textreid.version import __version__

SUMS = "SHA256SUMS"
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a ZIP file; one for all, or equal content would make other bytes each time
_QUALITY = 92
_BOX = "#ff2d2d"


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One picture that was found.

    Attributes:
        rank: 1 is the best.
        score: of the search.
        crop: the picture, encoded, as it was kept.
        suffix: of a file of it, as ``".jpg"``.
        facts: where and when it was taken, by name, in the order to be shown: JSON values; None is left out.
        box: x, y, width, height of the crop in its frame, in pixels.
        scene: reads the frame, upright; None where the crop is all there is.
    """

    rank: int
    score: float
    crop: bytes
    suffix: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    box: tuple[float, float, float, float] | None = None
    scene: Callable[[], Image.Image] | None = None


@dataclass(frozen=True)
class Case:
    """What was searched for, in what, by what, and when.

    Attributes:
        query: the question in one line.
        searched: what was searched, and how much, in words.
        model: name of the model.
        fingerprint: its SHA-256.
        made: when, in words.
        facts: more to be said of the search, by name: filters, sentences, the verdict.
        notes: lines for who reads it.
    """

    query: str
    searched: str
    model: str
    fingerprint: str
    made: str
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def write_evidence(path: Path, case: Case, exhibits: Iterable[Exhibit]) -> str:
    """Write the ZIP file, whole or not at all; returns its SHA-256, hexadecimal.

    A frame that cannot be read any more is named in its place.

    Raises:
        ConfigError: ``path`` does not end in .zip, or nothing was found.
        ArtifactError: it cannot be written.
    """
    if path.suffix.lower() != ".zip":
        raise ConfigError(f"{path}: evidence is a .zip file")
    with new_file(path) as partial:
        with zipfile.ZipFile(partial, "w") as archive:
            package = _Package(archive)
            results = [_add(package, exhibit) for exhibit in exhibits]
            if not results:
                raise ConfigError(f"{path}: nothing was found, so that there is nothing to show")
            about = {
                "query": case.query, "searched": case.searched, "made": case.made, **case.facts,
                "model": case.model, "model_sha256": case.fingerprint, "textreid": __version__,
            }  # fmt: skip
            content = {**about, "notes": list(case.notes), "results": results}
            package.add("results.json", json.dumps(content, indent=2, ensure_ascii=False).encode())
            page = render_page(__package__, "evidence.html", about=about, notes=case.notes, results=results, sums=SUMS)
            package.add("index.html", page.encode())
            package.add(SUMS, "".join(f"{digest}  {name}\n" for name, digest in package.digests.items()).encode())
        with partial.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def draw_box(scene: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """Return a frame with a box (x, y, width, height) drawn around what is in it."""
    drawn = scene.convert("RGB")
    x, y, width, height = box
    thick = max(2, round(max(drawn.size) / 400))
    # Outside of the box: not a pixel of who is in it is covered.
    corners = (x - thick, y - thick, x + width + thick, y + height + thick)
    ImageDraw.Draw(drawn).rectangle(corners, outline=_BOX, width=thick)
    return drawn


class _Package:
    """Files of a ZIP file, and their hashes."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.digests: dict[str, str] = {}

    def add(self, name: str, content: bytes) -> str:
        """Add a file; returns its SHA-256."""
        entry = zipfile.ZipInfo(name, _EARLIEST)
        entry.external_attr = 0o644 << 16
        # Pictures are compressed already.
        kind = zipfile.ZIP_DEFLATED if name.endswith((".json", ".html")) else zipfile.ZIP_STORED
        self._archive.writestr(entry, content, kind)
        self.digests[name] = hashlib.sha256(content).hexdigest()
        return self.digests[name]


def _add(package: _Package, exhibit: Exhibit) -> dict[str, Any]:
    """Add the files of one exhibit; returns what is said of it."""
    name = f"{exhibit.rank:04d}"
    crop = f"crops/{name}{exhibit.suffix}"
    told = {key: value for key, value in exhibit.facts.items() if value is not None}
    box = [round(value, 1) for value in exhibit.box] if exhibit.box else None
    result = {"rank": exhibit.rank, "score": round(exhibit.score, 6), "facts": told, "box": box, "crop": crop}
    result |= {"crop_sha256": package.add(crop, exhibit.crop), "frame": None, "problem": None}
    if exhibit.scene and exhibit.box:
        try:
            scene = draw_box(exhibit.scene(), exhibit.box)
        except (TextReidError, OSError) as error:
            result["problem"] = f"the frame cannot be shown: {error}"
        else:
            stream = io.BytesIO()
            # Colours at full resolution: the red of the box would else bleed into who is in it.
            scene.save(stream, "JPEG", quality=_QUALITY, subsampling=0)
            frame = f"frames/{name}.jpg"
            result |= {"frame": frame, "frame_sha256": package.add(frame, stream.getvalue())}
    return result


def check_evidence(path: Path) -> int:
    """Compare every file of evidence with its hash; returns how many there are.

    Raises:
        ArtifactError: it cannot be read; or a file is missing, is one too many, or was changed (names it).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if SUMS not in names:
                raise ArtifactError(f"{path}: no {SUMS} in it: no evidence of textreid")
            listed = [line.split("  ", 1) for line in archive.read(SUMS).decode().splitlines()]
            wanted = {name: digest for digest, name in listed}
            for name in sorted(names ^ {SUMS, *wanted}):
                raise ArtifactError(f"{path}: {name}: {'is not listed' if name in names else 'is missing'}")
            for name, digest in wanted.items():
                if hashlib.sha256(archive.read(name)).hexdigest() != digest:
                    raise ArtifactError(f"{path}: {name}: was changed")
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as evidence: {error}") from error
    return len(wanted)


def exhibit_of_file(rank: int, score: float, path: Path, **facts: Any) -> Exhibit:
    """Make an exhibit of an image file that is itself the crop.

    Raises:
        ArtifactError: it cannot be read any more.
    """
    try:
        content = path.read_bytes()
        changed = path.stat().st_mtime
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read as evidence: {error.strerror or error}") from error
    told = {"file": str(path), "bytes": len(content), **_modified(changed), **facts}
    return Exhibit(rank, score, content, path.suffix.lower() or ".bin", told)


def _modified(seconds: float) -> dict[str, str]:
    from datetime import UTC, datetime

    with suppress(OverflowError, ValueError, OSError):  # a damaged file system has years beyond all calendars
        return {"file changed": datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")}
    return {}
