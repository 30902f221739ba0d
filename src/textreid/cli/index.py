"""``textreid index``: folders, photographs and videos of people into a gallery."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from textreid.cli.gallery_search import DATABASE
from textreid.errors import ConfigError, DataError
from textreid.progress import Progress

if TYPE_CHECKING:
    from textreid.gallery.encoder import GalleryEncoder
    from textreid.gallery.store import Store
    from textreid.gallery.store.indexing import IndexReport, Knowledge, MakeEncoder
    from textreid.people import Detector

INTO_GALLERY = typer.Option(..., "--gallery", metavar="NAME", help="Where to; made when there is none.")
NEW_MODEL = typer.Option(
    None, "--model", metavar="MODEL", help="Of a new gallery: a model folder, or CLIP; else the bundled model."
)
_NAMED_AT_MOST = 5


def index(
    sources: list[str] = typer.Argument(metavar="SOURCE...", help="Folders of crops or videos; videos; rtsp://…"),
    gallery: str = INTO_GALLERY,
    pattern: str | None = typer.Option(
        None, "--pattern", metavar="PATTERN", help="Of paths below SOURCE, as '{camera}/{date}/{time}_*.jpg'."
    ),
    sidecar: Path | None = typer.Option(
        None, "--sidecar", metavar="FILE", help="CSV or JSONL with path and camera, time, tags."
    ),
    camera: str | None = typer.Option(
        None, "--camera", metavar="NAME", help="Of all that no pattern or sidecar tells."
    ),
    tag: list[str] | None = typer.Option(None, "--tag", metavar="WORD", help="For all of them; may be repeated."),
    photographs: bool = typer.Option(False, "--photographs", help="The images are no crops: find the people in them."),
    detector: Path | None = typer.Option(
        None, "--detector", metavar="FILE", help="An ONNX model that finds people; else the bundled one."
    ),
    follow: float = typer.Option(
        0.0,
        "--follow",
        min=0,
        metavar="SECONDS",
        help="A video still grows: it has ended when it does not for so long.",
    ),
    fps: float = typer.Option(
        10.0, "--fps", min=0.001, metavar="NUMBER", help="Frames of a video a second that are looked at."
    ),
    model: str | None = NEW_MODEL,
    precision: Literal["auto", "fp32", "bf16"] = typer.Option(
        "auto", "--precision", help="Of a new gallery: bf16 is faster where the processor multiplies it."
    ),
    engine: Literal["local", "ray"] = typer.Option(
        "local", "--engine", help="Who embeds: this process, or the workers of a Ray cluster."
    ),
    ray_address: str | None = typer.Option(
        None, metavar="HOST:PORT", help="The cluster of --engine ray; without it Ray is started on this machine."
    ),
    workers: int | None = typer.Option(None, min=1, help="Processes of --engine ray; one a CPU when not given."),
    database: str | None = DATABASE,
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Bring people into a gallery, which [bold]textreid search --gallery[/bold] searches.

    Images are crops, one person each, unless --photographs is given. In videos people are found and followed, and of
    each walk a few good crops are kept.

    Only what is new is embedded: the same command again brings in what was added, forgets what was deleted, and goes
    on where an earlier one was stopped, even with kill -9. What cannot be used is named and left out.

    Camera and time come from the sidecar, the pattern, or EXIF, in this order.
    """
    from textreid.gallery.store import open_database
    from textreid.gallery.store.indexing import IndexReport, Knowledge, open_gallery
    from textreid.gallery.store.provenance import PathPattern, read_sidecar
    from textreid.images import silence_decoders

    silence_decoders()
    read, table = PathPattern.parse(pattern) if pattern else None, read_sidecar(sidecar) if sidecar else {}
    knowledge = Knowledge(read, table, camera, tuple(tag or ()))
    for source in sources:
        if "://" not in source and not Path(source).exists():
            raise DataError(f"{source}: there is no such file or folder")
    with open_database(database) as opened, _encoders(engine, ray_address, workers) as make_encoder:
        store, encoder = open_gallery(opened, gallery, model, precision, make_encoder)
        done = IndexReport()
        begun = time.monotonic()
        try:
            for source in sources:
                _index(source, store, encoder, knowledge, done, _Ways(photographs, detector, follow, fps))
        except KeyboardInterrupt:
            sys.stderr.write(f"stopped after {done.embedded:,} crops; the same command continues from there\n")
            raise
        took = store.build_index()
        _tell(done, time.monotonic() - begun)
        if took is not None:
            sys.stderr.write(f"built the index for fast searches in {took.total_seconds():.1f} s\n")
        if json:
            typer.echo(dumps(_as_json(store, done), indent=2))


@contextmanager
def _encoders(engine: str, address: str | None, workers: int | None) -> Iterator["MakeEncoder"]:
    """Start or join what embeds, and leave it at the end."""
    from textreid.gallery.encoder import GalleryEncoder

    if engine == "local":
        if address or workers:
            raise ConfigError("--ray-address and --workers: are of --engine ray")
        yield GalleryEncoder
        return
    from textreid.captioning.cluster.connection import Cluster, clear_errors
    from textreid.gallery.ray_encoder import RayEncoder

    with Cluster(address, workers), clear_errors():
        yield partial(RayEncoder, workers=workers)


@dataclass(frozen=True)
class _Ways:
    """How people are found where images are no crops."""

    photographs: bool
    detector: Path | None
    follow: float
    fps: float

    @cached_property
    def loaded(self) -> "Detector":
        """The detector, loaded when the first photograph or video comes."""
        from textreid.people import load_detector

        found = load_detector(self.detector)
        if self.detector:
            _note(f"detector: {found}")
        return found


def _index(
    source: str, store: "Store", encoder: "GalleryEncoder", knowledge: "Knowledge", done: "IndexReport", ways: _Ways
) -> None:
    """Index what is below a folder, an image, a video, or a stream."""
    from textreid.gallery.store import media
    from textreid.gallery.store.indexing import index_crops
    from textreid.people import is_video

    path = Path(source)
    videos = [source] if is_video(source) else [str(found) for found in media.find_videos(path)]
    if not is_video(source):
        embed = partial(media.embed_photographs, ways.loaded) if ways.photographs else None
        with Progress(f"index {path.name}", "files") as progress:
            index_crops(
                path, store, encoder, knowledge, progress.update, done, photographs=embed, may_be_empty=bool(videos)
            )
    for number, video in enumerate(videos, start=1):
        count = f" ({number} of {len(videos)})" if len(videos) > 1 else ""
        with Progress(f"index {video}{count}", "seconds") as progress:
            media.index_video(
                video, store, encoder, ways.loaded, knowledge, LookedAt(progress), done, follow=ways.follow,
                frames_a_second=ways.fps,
            )  # fmt: skip


class LookedAt:
    """What shows how much of a video has been looked at, as `index_video` reports it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._found: float | None = None  # by an earlier run
        self._begun = time.monotonic()

    def __call__(self, seconds: float, length: float | None, crops: int) -> None:
        """Show it; the first time is the beginning."""
        if self._found is None:
            self._found, self._begun = seconds, time.monotonic()
            self._progress.start(int(seconds))
            return
        times = (seconds - self._found) / (time.monotonic() - self._begun)
        total = None if length is None else int(length)
        self._progress.update(int(seconds), total, f"{crops:,} crops, {times:.1f} times real time")


def _tell(done: "IndexReport", seconds: float) -> None:
    """Say what was done, on standard error."""
    for note in done.notes:
        _note(note)
    counts = {
        "embedded": done.embedded,
        "copied": done.copied,
        "unchanged": done.unchanged,
        "with new facts": done.updated,
        "gone": done.deleted,
        "left out": len(done.quarantined),
    }
    rate = f", {done.embedded / seconds:,.1f} a second" if done.embedded else ""
    _note(", ".join(f"{count:,} {what}" for what, count in counts.items() if count) + f" in {seconds:.1f} s{rate}")
    _name(done.unmatched, "files do not fit the pattern, and have neither camera nor time from it")
    _name([f"{path}: {reason}" for path, reason in done.quarantined], "files are left out")


def _name(lines: list[str], what: str) -> None:
    if lines:
        _note(f"{len(lines):,} {what}:")
    for line in lines[:_NAMED_AT_MOST]:
        _note(f"  {line}")
    if len(lines) > _NAMED_AT_MOST:
        _note(f"  and {len(lines) - _NAMED_AT_MOST:,} more; --json names all")


def _as_json(store: "Store", done: "IndexReport") -> dict[str, object]:
    counts = store.counts()
    return {
        "gallery": store.name,
        "model": store.model,
        "crops": counts.crops,
        "embedded": done.embedded,
        "copied": done.copied,
        "unchanged": done.unchanged,
        "updated": done.updated,
        "deleted": done.deleted,
        "quarantined": [{"path": str(path), "reason": reason} for path, reason in done.quarantined],
        "unmatched": done.unmatched,
        "notes": done.notes,
    }


def _note(text: str) -> None:
    text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    sys.stderr.write(f"{text}\n")
