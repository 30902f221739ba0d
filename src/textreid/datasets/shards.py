"""WebDataset shards: tar files whose members share a key, as ``0001.jpg`` with ``0001.txt`` or ``0001.json``.

`unpack_shards` reads them once, in one pass and without seeking, and writes what the rest of textreid reads: images, a
caption table and, where the samples say who is on them, annotations in the generic form.
"""

import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from textreid.artifacts import new_folder
from textreid.captions.language import is_unicode
from textreid.captions.table import CaptionRow, is_storable, write_captions
from textreid.datasets.benchmarks import ANNOTATION_TABLE
from textreid.datasets.entries import MAX_REJECTED
from textreid.errors import AnnotationError
from textreid.images import read_suffixes
from textreid.listing import by_product
from textreid.rows import fields_of, listed

KIND = "unpacked-shards"
FORMAT_VERSION = 1
IMAGES, CAPTIONS = "imgs", "captions"
# Memory holds a whole sample: a video beside its pictures must not fill it.
LARGEST_MEMBER = 64 << 20  # bytes; a crop has some thousand

# POSIX ends a tar file with two blocks of zeros; GNU tar adds more of them.
_END_BYTES = 1024
# gzip, bzip2, xz, zstd, zip.
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\3\4")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


# What each word of `Unpacked` means and how to mend it; first the rules of WebDataset that a shard may break.
REASONS = {
    "scattered": "the files of a sample do not stand next to each other, as WebDataset wants them; write the shard "
    "sorted by name: tar --sort=name -cf SHARD.tar -C FOLDER .",
    "repeated": "a key has two files of one suffix, but WebDataset gives each sample of a shard a key of its own; "
    "number the samples through",
    "dots": "WebDataset ends a key at the first dot of the file name, which makes one sample of pictures with further "
    "dots; rename them, as cam1.0001.jpg to cam1_0001.jpg",
    "no-image": "no picture among the files of the sample; its files have one folder and one name before the first dot",
    "no-captions": "neither a caption (in KEY.txt, or as caption or captions in KEY.json) nor a person",
    "not-text": "a caption that is not UTF-8 (iconv -f cp1252 -t utf-8 writes it so), or not a text",
    "not-json": "a .json that cannot be read, or has a field twice",
    "bad-annotation": "an identity that is not a whole number from 0, or a split that is not a name",
    "bad-name": "a key that leaves the folder or cannot be stored",
    "too-large": "a file of more than 64 MiB",
}


@dataclass(frozen=True)
class Sample:
    """What shares a key in a shard: the bytes of the image, its captions, and what is known of the person."""

    key: str
    suffix: str
    image: bytes
    captions: tuple[str, ...]
    identity: int | None
    split: str | None


@dataclass
class Unpacked:
    """What an unpacking did: samples that were written, and those left out by reason, with some examples.

    The reasons are the keys of `REASONS`. Members that other programs left are no samples; they are counted by kind.
    """

    samples: int = 0
    captions: int = 0
    annotated: bool = False
    left_out: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    by_products: Counter[str] = field(default_factory=Counter)

    def advice(self) -> str:
        """Say what each reason means, broken rules of WebDataset first."""
        return "; ".join(f"{reason}: {text}" for reason, text in REASONS.items() if reason in self.left_out)


class _UnusableError(Exception):
    """A sample cannot be used; the message is the reason, a word of `Unpacked`."""


def list_shards(pattern: str) -> list[Path]:
    """Find the shards that a tar file, a folder of them, or a pattern such as ``train-{000000..000099}.tar`` names.

    Raises:
        AnnotationError: there are none, or one that the pattern names is missing.
    """
    given = _RANGE.search(pattern)
    if given:
        first, last = int(given[1]), int(given[2])
        # As many digits as the first number has, as the shell's braces do.
        numbers = (str(number).zfill(len(given[1])) for number in range(first, last + 1))
        shards = list(chain.from_iterable(list_shards(_RANGE.sub(number, pattern, count=1)) for number in numbers))
    else:
        path = Path(pattern)
        shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    missing = [str(shard) for shard in shards if not shard.is_file()]
    if missing or not shards:
        raise AnnotationError(f"{pattern}: no such shards: {listed(missing) or 'no file *.tar in this folder'}")
    return shards


def unpack_shards(
    shards: Sequence[Path], out: Path, writer: str = "shards", max_rejected: float = MAX_REJECTED
) -> Unpacked:
    """Unpack ``shards`` into the new folder ``out``: ``imgs/SHARD/KEY.jpg``, ``captions/`` and ``annotations.jsonl``.

    Captions come from ``KEY.txt``, or from ``caption`` (or the list ``captions``) in ``KEY.json``; identity and split
    from ``identity`` and ``split`` there. The annotations are written if the samples have both. Memory holds one
    sample and a part of the caption table.

    Args:
        shards: as `list_shards` gives them.
        out: must not exist; is there, whole, when this returns.
        writer: who wrote the captions; the first half of their slot.
        max_rejected: share of the samples that may be left out.

    Raises:
        AnnotationError: a shard is damaged (says after how many samples); some samples have identity and split and
            others not (names one); no sample has a caption; or more is left out than allowed.
        ArtifactError: ``out`` exists already, or cannot be written.
    """
    unpacked = Unpacked()
    facts: dict[str, Any] = {}
    with new_folder(out, KIND, FORMAT_VERSION, facts=facts) as partial:
        with (partial / ANNOTATION_TABLE).open("w", encoding="utf-8") as annotations:
            # One pass: the annotations and the images are written as the captions are drawn.
            rows = _unpack(shards, partial, annotations, writer, unpacked)
            # The check comes behind the last row, inside `new_folder`: an error leaves nothing behind.
            write_captions(partial / CAPTIONS, chain(rows, _check(shards, unpacked, max_rejected)))
        if not unpacked.annotated:
            (partial / ANNOTATION_TABLE).unlink()
        # Filled now, and written into the manifest when this block ends.
        facts |= {"samples": unpacked.samples, "captions": unpacked.captions, "left_out": dict(unpacked.left_out)}
    return unpacked


def _unpack(
    shards: Sequence[Path], out: Path, annotations: TextIO, writer: str, unpacked: Unpacked
) -> Iterator[CaptionRow]:
    """Write the images and annotations; yields the captions."""
    for shard in shards:
        for sample in _samples(shard, unpacked):
            annotated = sample.identity is not None and sample.split is not None
            # Half of the people would make a benchmark whose gallery lacks the others.
            if unpacked.samples and annotated != unpacked.annotated:
                raise AnnotationError(
                    f"{shard}: sample {sample.key!r} has {'' if annotated else 'no '}identity and split, unlike those "
                    "before it; give all samples both in their .json, or none"
                )
            image = f"{shard.stem}/{sample.key}{sample.suffix}"
            target = out / IMAGES / image
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(sample.image)
            unpacked.annotated = annotated
            unpacked.samples += 1
            unpacked.captions += len(sample.captions)
            if annotated:
                row = {"image": f"{IMAGES}/{image}", "identity": sample.identity, "split": sample.split}
                for caption in sample.captions or ("",):
                    annotations.write(json.dumps(row | {"caption": caption}, ensure_ascii=False) + "\n")
            for number, caption in enumerate(sample.captions, 1):
                slot = f"{writer}/static" + (f"-{number}" if number > 1 else "")
                yield CaptionRow(image, slot, caption, writer, "static", "", "", 0)


def _check(shards: Sequence[Path], unpacked: Unpacked, max_rejected: float) -> Iterator[CaptionRow]:
    """Yield no more rows, but raise an error where too much was left out."""
    left_out = unpacked.left_out.total()
    if left_out > max_rejected * (left_out + unpacked.samples):
        raise AnnotationError(
            f"{shards[0].parent}: {left_out} of {left_out + unpacked.samples} samples cannot be used (allowed: "
            f"{max_rejected:.0%}): {listed(unpacked.examples)}. {unpacked.advice()}"
        )
    if not unpacked.captions:
        raise AnnotationError(f"{shards[0].parent}: no sample of these shards has a caption")
    yield from ()


def _samples(shard: Path, unpacked: Unpacked) -> Iterator[Sample]:
    """Yield the usable samples of a shard; the others are counted."""
    seen: dict[str, set[str]] = {}
    try:
        _check_end(shard)
        # A stream never seeks, and a member must be read before the next one is asked for: so `parts` is a list.
        with tarfile.open(shard, "r|") as tar:
            # macOS' tar writes a ._NAME beside each file; read, they would all be one sample without a key.
            files = (member for member in tar if member.isfile() and not _left_behind(member.name, unpacked))
            # WebDataset makes a sample of neighbours with one key, and so does this.
            for key, members in groupby(files, lambda member: _key(member.name)):
                parts = [(_suffix(member.name), _content(tar, member)) for member in members]
                try:
                    _check_order(key, [suffix for suffix, _ in parts], seen)
                    yield _sample(key, dict(parts))
                except _UnusableError as error:
                    unpacked.left_out[str(error)] += 1
                    unpacked.examples.append(f"{shard.name}: {key} ({error})")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise AnnotationError(
            f"{shard}: damaged or cut off after {len(seen)} samples: {error}; fetch it again"
        ) from error


def _left_behind(name: str, unpacked: Unpacked) -> bool:
    """Tell whether another program left this member, or the folder that it is in; such a member is counted."""
    kinds = (by_product(part) for part in name.split("/") if part not in (".", ".."))
    left_behind = next(filter(None, kinds), "")
    unpacked.by_products.update([left_behind] if left_behind else [])
    return bool(left_behind)


def _check_order(key: str, suffixes: Sequence[str], seen: dict[str, set[str]]) -> None:
    """Refuse what breaks the rules of WebDataset on keys; ``seen`` are the suffixes of each key of the shard so far."""
    before = seen.setdefault(key, set())
    again = len(set(suffixes)) < len(suffixes) or not before.isdisjoint(suffixes)
    scattered = bool(before)
    # Also for a sample that is refused: what follows under its key is scattered or repeated all the same.
    before.update(suffixes)
    pictures = [suffix for suffix in suffixes if PurePosixPath(f"x{suffix}").suffix in read_suffixes()]
    if again:
        raise _UnusableError("repeated")
    if scattered:
        raise _UnusableError("scattered")
    if pictures and read_suffixes().isdisjoint(pictures):
        raise _UnusableError("dots")


def _check_end(shard: Path) -> None:
    """Refuse a tar file that does not end with zeros: `tarfile` takes one that was cut between members for whole."""
    with shard.open("rb") as stream:
        head = stream.read(tarfile.BLOCKSIZE)
        if head.startswith(_COMPRESSED):
            raise AnnotationError(
                f"{shard}: is compressed; decompress it first (the images in it are compressed already)"
            )
        if any(head) and not _is_header(head):
            raise AnnotationError(f"{shard}: not a tar file, whatever its name; fetch it again")
        stream.seek(max(0, shard.stat().st_size - _END_BYTES))
        if any(stream.read()):
            raise tarfile.ReadError("has no end mark")


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _key(name: str) -> str:
    """Cut the path of a member at the first dot of its base name."""
    parent, slash, base = name.removeprefix("./").rpartition("/")
    return f"{parent}{slash}{base.partition('.')[0]}"


def _suffix(name: str) -> str:
    return f".{name.rpartition('/')[2].partition('.')[2].lower()}"


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    stream = tar.extractfile(member) if member.size <= LARGEST_MEMBER else None
    return stream.read() if stream else None


def _sample(key: str, parts: dict[str, bytes | None]) -> Sample:
    if not is_storable(key) or not PurePosixPath(key).name:
        raise _UnusableError("bad-name")
    if any(content is None for content in parts.values()):
        raise _UnusableError("too-large")
    suffix = next((suffix for suffix in parts if suffix in read_suffixes()), None)
    if suffix is None:
        raise _UnusableError("no-image")
    facts = _facts(parts.get(".json") or b"{}")
    identity, split = facts.get("identity"), facts.get("split")
    whole = isinstance(identity, int) and not isinstance(identity, bool) and identity >= 0
    if not (identity is None or whole) or not (split is None or isinstance(split, str)):
        raise _UnusableError("bad-annotation")
    captions = _captions(parts.get(".txt"), facts)
    if not captions and (identity is None or split is None):
        raise _UnusableError("no-captions")
    return Sample(key, suffix, parts[suffix] or b"", captions, identity, split)


def _facts(content: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(content.decode("utf-8-sig"), object_pairs_hook=fields_of)
    except (ValueError, RecursionError):
        raise _UnusableError("not-json") from None
    if not isinstance(facts, dict):
        raise _UnusableError("not-json")
    return facts


def _captions(text: bytes | None, facts: dict[str, Any]) -> tuple[str, ...]:
    if text is not None:
        try:
            captions: Any = [text.decode("utf-8-sig")]
        except UnicodeDecodeError:
            raise _UnusableError("not-text") from None
    else:
        # img2dataset writes a caption to both files; the .txt counts.
        captions = facts.get("captions", [facts["caption"]] if facts.get("caption") else [])
    if not isinstance(captions, list) or not all(
        isinstance(caption, str) and is_unicode(caption) for caption in captions
    ):
        raise _UnusableError("not-text")
    return tuple(stripped for caption in captions if (stripped := caption.strip()))
