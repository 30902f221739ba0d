"""The exact list of images and captions that were used, in a file and as a fingerprint.

A manifest is JSON Lines. The first line says what it is of and holds the fingerprints; then follows one line an image,
sorted by path. Two manifests can be compared with ``diff``, and ``tail -n +2 FILE | sha256sum`` gives the fingerprint
of the first line: ``content_sha256``, or ``list_sha256`` where no image was read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textreid.artifacts import write_text
from textreid.captions.table import CaptionTable
from textreid.datasets.records import Benchmark, json_line, lines_digest

KIND = "textreid-data"
FORMAT_VERSION = 1

Digests = Mapping[str, str]  # SHA-256 of the file of each image, by its path


@dataclass(frozen=True)
class Manifest:
    """What was used: facts, fingerprints among them, and one line of JSON an image."""

    facts: dict[str, Any]
    lines: tuple[str, ...]

    @classmethod
    def of(cls, facts: Mapping[str, Any], lines: Iterable[str], with_content: bool = True) -> "Manifest":
        """Add the kind, the number of images and the fingerprint to ``facts``."""
        body = tuple(lines)
        fingerprint = "content_sha256" if with_content else "list_sha256"
        head = {"kind": KIND, "format_version": FORMAT_VERSION, **facts, "images": len(body)}
        return cls(head | {fingerprint: lines_digest(body)}, body)

    def write(self, path: Path) -> None:
        """Write the manifest, whole or not at all.

        Raises:
            ArtifactError: it cannot be written.
        """
        write_text(path, json_line(self.facts) + "".join(self.lines))


def benchmark_manifest(benchmark: Benchmark, digests: Digests) -> Manifest:
    """Make the manifest of a benchmark; its facts have the fingerprints of every split too."""
    splits = {}
    for name in sorted(benchmark.splits):
        part = benchmark.split(name)
        splits[name] = {
            "images": len(part.records),
            "captions": sum(len(record.captions) for record in part.records),
            "identities": len({record.identity for record in part.records}),
            "list_sha256": part.list_fingerprint,
            "content_sha256": lines_digest(part.canonical_lines(digests)),
        }
    facts = {"name": benchmark.name, "form": benchmark.form, "splits": splits}
    return Manifest.of(facts | {"list_sha256": benchmark.list_fingerprint}, benchmark.canonical_lines(digests))


def folder_manifest(name: str, digests: Digests) -> Manifest:
    """Make the manifest of a folder of images, which has no captions."""
    lines = (json_line({"image": image, "sha256": digests[image]}) for image in sorted(digests))
    return Manifest.of({"name": name, "form": "images"}, lines)


def table_manifest(name: str, table: CaptionTable, digests: Digests | None) -> Manifest:
    """Make the manifest of a caption table: the usable captions of each image by slot.

    Args:
        name: of the table.
        table: as it was read.
        digests: of the images that can be used, the others are left out; None: no image was looked at.
    """
    captions: list[dict[str, str]] = [{} for _ in table.images]
    for row, (image, slot) in enumerate(zip(table.image_index.tolist(), table.slot_index.tolist(), strict=True)):
        captions[image][table.slots[slot]] = table.caption(row)
    lines = (
        json_line({"image": image, "captions": texts} | ({"sha256": digests[image]} if digests is not None else {}))
        for image, texts in zip(table.images, (dict(sorted(texts.items())) for texts in captions), strict=True)
        if digests is None or image in digests
    )
    return Manifest.of({"name": name, "form": "captions"}, lines, with_content=digests is not None)
