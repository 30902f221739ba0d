"""``textreid watch``: people whom another program has seen into a gallery, for as long as it runs."""

import sys
import threading
import time
from functools import cache
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textreid.cli.gallery_search import DATABASE, parse_time
from textreid.cli.index import INTO_GALLERY, NEW_MODEL
from textreid.errors import ConfigError
from textreid.interrupt import StopRequest

if TYPE_CHECKING:
    from textreid.gallery.encoder import GalleryEncoder
    from textreid.gallery.frigate import Frigate
    from textreid.gallery.store import Database, Store
    from textreid.gallery.watching import Watched, WatchReport
    from textreid.people import Detector

watch = typer.Typer(no_args_is_help=True, help="Bring in who is seen by another program, for as long as it runs.")


@watch.command()
def frigate(
    url: str = typer.Argument(metavar="URL", help="Frigate's address, as http://frigate:5000."),
    gallery: str = INTO_GALLERY,
    camera: list[str] | None = typer.Option(None, "--camera", metavar="NAME", help="Only of this; may be repeated."),
    every: float = typer.Option(30, "--every", min=1, metavar="SECONDS", help="How often Frigate is asked."),
    once: bool = typer.Option(False, "--once", help="Ask once, and end."),
    since: str | None = typer.Option(
        None, "--since", metavar="TIME", help="Nobody who came before (2026-05-31, or '2026-05-31 14:05')."
    ),
    zone: str | None = typer.Option(
        None, "--zone", metavar="NAME", help="Time zone of the cameras, as Europe/Berlin; else that of this machine."
    ),
    credentials: Path | None = typer.Option(
        None, "--credentials", metavar="FILE", help="TOML: token, or user and password; and headers."
    ),
    certificate: Path | None = typer.Option(
        None, "--certificate", metavar="FILE", help="That vouches for Frigate's own (PEM)."
    ),
    model: str | None = NEW_MODEL,
    database: str | None = DATABASE,
    json: bool = typer.Option(False, "--json", help="With --once: print one JSON object."),
) -> None:
    """Bring the people whom Frigate has seen into a gallery, each with camera, time, zones and a link back.

    Frigate is asked for its finished events of people, and of each one crop is indexed: cut out of the frame that
    Frigate keeps without drawings, or else of its thumbnail. Nobody is indexed twice, and what a stop, a kill or an
    absence of Frigate left is made up for. Ctrl-C and SIGTERM end it.
    """
    from textreid.gallery.frigate import AwayError, Credentials, Frigate
    from textreid.gallery.store import ConnectionLostError, ModelChangedError, open_database
    from textreid.gallery.store.indexing import open_gallery
    from textreid.gallery.watching import Watched, zone_of
    from textreid.images import silence_decoders

    silence_decoders()
    if json and not once:
        raise ConfigError("--json: tells of one round, with --once")
    place = zone_of(zone) if zone else None
    begin = parse_time("--since", since, ends=False)
    # A time without a zone is one of this machine's clock for `timestamp`, too.
    watched = Watched(frozenset(camera or ()), begin.replace(tzinfo=place).timestamp() if begin else 0.0, place)
    told = Credentials.read(credentials) if credentials else None
    stop = threading.Event()
    with (
        Frigate(url, told, certificate) as asked,
        open_database(database) as opened,
        StopRequest(stop.set),
    ):
        _, encoder = open_gallery(opened, gallery, model)
        said, left_out = "", set[tuple[str, str]]()
        while not stop.is_set():
            try:
                encoder = _round(asked, opened, gallery, encoder, watched, stop, left_out, json=json)
                said = ""
            except (AwayError, ConnectionLostError, ModelChangedError) as error:
                if once:
                    raise
                if str(error) != said:  # once, not every thirty seconds of a night
                    _note(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {error}; asked again every {every:g} s")
                said = str(error)
            if once or stop.wait(every):
                return


def _round(
    frigate: "Frigate", database: "Database", gallery: str, encoder: "GalleryEncoder", watched: "Watched",
    stop: threading.Event, left_out: set[tuple[str, str]], *, json: bool,
) -> "GalleryEncoder":  # fmt: skip
    """Ask once; returns the model of the gallery, which may be another one since the last time.

    ``left_out`` are the events and reasons that were told before; new ones are added.
    """
    from textreid.gallery.store.indexing import encoder_of
    from textreid.gallery.watching import index_events

    store = database.store(gallery)
    if store.fingerprint not in encoder.spaces:
        encoder = encoder_of(store)
    done = index_events(frigate, store, encoder, _detector, watched, time.time(), stop.is_set)
    _tell(done, left_out)
    if done.indexed:
        store.build_index()
    if json:
        typer.echo(dumps(_as_json(store, done), indent=2))
    return encoder


@cache
def _detector() -> "Detector":
    from textreid.people import load_detector

    return load_detector()


def _tell(done: "WatchReport", before: set[tuple[str, str]]) -> None:
    if done.indexed:
        waiting = f", {done.waiting:,} are waited for" if done.waiting else ""
        _note(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {done.indexed:,} people came{waiting}")
    for left_out in done.quarantined:
        if left_out not in before:  # an entry that Frigate's list has wrong is met again each time
            _note(f"  left out: {': '.join(left_out)}")
    before.update(done.quarantined)


def _as_json(store: "Store", done: "WatchReport") -> dict[str, object]:
    left_out = [{"event": link, "reason": reason} for link, reason in done.quarantined]
    return {
        "gallery": store.name, "crops": store.counts().crops, "indexed": done.indexed, "waiting": done.waiting,
        "quarantined": left_out,
    }  # fmt: skip


def _note(text: str) -> None:
    sys.stderr.write("".join(sign if sign.isprintable() else "\ufffd" for sign in text) + "\n")
    sys.stderr.flush()
