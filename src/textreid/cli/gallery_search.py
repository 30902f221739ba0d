"""``textreid search --gallery``: a sentence and filters in, ranked people of a gallery out."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Self

import typer

from textreid.cli.question import QuestionWords, tell_verdict, verdict_json
from textreid.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

    from textreid.gallery.asking import Answer, FoundPerson
    from textreid.gallery.store import Crop, Cursor, Filters, Store
    from textreid.gallery.store.rows import Hit

DATABASE = typer.Option(
    None, "--database", metavar="URL", help="postgresql://… of another server; else $TEXTREID_DATABASE, or our own."
)
CAMERA = typer.Option(None, "--camera", metavar="NAME", help="Gallery: only of this camera; may be repeated.")
SINCE = typer.Option(None, "--since", metavar="TIME", help="Gallery: not before (2026-05-31, or '2026-05-31 14:05').")
UNTIL = typer.Option(None, "--until", metavar="TIME", help="Gallery: before; of a date, up to its end.")
HOURS = typer.Option(None, "--hours", metavar="FROM-TO", help="Gallery: hours of the day, as 13-18 or 22-5.")
TAG = typer.Option(None, "--tag", metavar="WORD", help="Gallery: only with this tag; may be repeated.")
PAGE = typer.Option(
    None, "--page", metavar="TOKEN", help="Gallery: what follows; a search ends by naming the TOKEN of the next page."
)
SOURCE = typer.Option(None, "--source", metavar="PATH", help="Gallery: only of this file, folder or address.")


@dataclass(frozen=True)
class FilterWords:
    """What only a gallery can be asked, as it stands on a command line: filters, and the page."""

    camera: list[str] | None = None
    since: str | None = None
    until: str | None = None
    hours: str | None = None
    tag: list[str] | None = None
    source: list[str] | None = None
    page: str | None = None

    def refuse(self) -> None:
        """Refuse them for images in a folder, of which nobody knows camera or time, and which are ranked at once.

        Raises:
            ConfigError: there is one; names it.
        """
        given = [field.name for field in fields(self) if getattr(self, field.name)]
        if given:
            raise ConfigError(f"--{given[0]}: only a gallery knows that: textreid index FOLDER --gallery NAME")

    def read(self) -> "Filters":
        """Read the words.

        Raises:
            ConfigError: one is no time or no hours; names it.
        """
        from textreid.gallery.store import Filters

        sources = [str(Path(name).resolve()) if "://" not in name else name for name in self.source or ()]
        return Filters(
            cameras=tuple(self.camera or ()),
            since=parse_time("--since", self.since, ends=False),
            until=parse_time("--until", self.until, ends=True),
            hours=_hours(self.hours),
            tags=tuple(self.tag or ()),
            sources=tuple(sources),
        )


def parse_time(option: str, text: str | None, *, ends: bool) -> datetime | None:
    """Read a time as an option has it; of one that ``ends`` something, a date means its end."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(f"{option}: {text!r} is no time: write 2026-05-31 or '2026-05-31 14:05'") from error
    # Of "until 31 May" nobody expects that the day is left out.
    return time + timedelta(days=1) if ends and len(text.strip()) <= len("2026-05-31") else time


def _hours(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, last = text.partition("-")
    if not (first.strip().isdigit() and last.strip().isdigit()):
        raise ConfigError(f"--hours: {text!r}: write FROM-TO, as 13-18 or 22-5")
    return int(first), int(last)


def search_gallery(
    asked: QuestionWords,
    name: str,
    words: FilterWords,
    *,
    top: int,
    sheet: Path | None,
    json: bool,
    model: str | None,
    url: str | None,
) -> None:
    """Search a gallery and print the answer.

    Args:
        asked: the question.
        name: of the gallery.
        words: its filters, and which page.
        top: how many people to show.
        sheet: where to draw them.
        json: print one JSON object.
        model: where the gallery's model is now; None where it was.
        url: of another database.

    Raises:
        ConfigError: a filter, the page or the question cannot be read.
        StoreError: there is no such gallery, or its database cannot be used.
    """
    from textreid.gallery.asking import ask, crops_named, learn_from_pairs
    from textreid.gallery.exhibits import case_of, exhibits_of
    from textreid.gallery.store import open_database
    from textreid.gallery.store.indexing import encoder_of

    filters = words.read()
    place = PageToken.parse(words.page) if words.page else PageToken()
    question, pairs = asked.read(), asked.pairs()
    with open_database(url) as database:
        store = database.store(name)
        encoder = encoder_of(store, model)
        if pairs:
            numbers = crops_named(store, [pair.image for pair in pairs])
            learn_from_pairs(store, encoder, list(zip((pair.sentence for pair in pairs), numbers, strict=True)))
        right, wrong = crops_named(store, asked.right), crops_named(store, asked.wrong)
        answer = ask(
            store, encoder, question, filters, top=top, after=place.after, right=right, wrong=wrong,
            group=asked.group is not False, prior=asked.prior,
        )  # fmt: skip
        following = PageToken(place.shown + len(answer.found), answer.next) if answer.next else None
        threshold = encoder.presence.threshold if encoder.presence else None
        nothing = "there are no more results" if words.page else _why_nothing(store, filters)
        notes = [*answer.notes, *([] if answer.found else [nothing])]
        if answer.unread:
            notes.append(f"the query is longer than the model reads; left out: {answer.unread!r}")
        for note in notes:
            sys.stderr.write(f"{note}\n")
        tell_verdict(answer.verdict)
        made = datetime.now().astimezone()
        asked.write_evidence(
            lambda: case_of(store, question, answer, filters, made),
            lambda: exhibits_of(store, answer.found, place.shown + 1),
        )
        ranked = dict(enumerate(answer.found, start=place.shown + 1))
        if sheet and answer.found:
            _draw(store, question.title, ranked, sheet)
        if json:
            _print_json(question.title, store, answer, ranked, following, notes, threshold)
            return
        _print(ranked)
        if following:
            sys.stdout.flush()  # or a terminal would show what comes last first
            sys.stderr.write(f"next page: the same command with --page {following}\n")


@dataclass(frozen=True)
class PageToken:
    """Page of a ranking as it stands on a command line: how many results came before it, and after which crop."""

    shown: int = 0
    after: "Cursor | None" = None

    def __str__(self) -> str:
        return f"{self.shown}@{self.after}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote.

        Raises:
            ConfigError: it is something else.
        """
        from textreid.gallery.store import Cursor

        shown, _, cursor = text.partition("@")
        try:
            return cls(int(shown), Cursor.parse(cursor))
        except (ValueError, ConfigError) as error:
            raise ConfigError(f"--page {text[:60]!r}: is not what a search named as its next page") from error


def _why_nothing(store: "Store", filters: "Filters") -> str:
    if not filters:
        return f"gallery {store.name!r} is empty: textreid index SOURCE --gallery {store.name}"
    reasons = [f"nobody in gallery {store.name!r} passes the filters"]
    if filters.cameras:
        known = ", ".join(list(store.cameras())[:10])
        reasons.append(f"its cameras: {known}" if known else "none of its crops has a camera")
    if (filters.since or filters.until or filters.hours) and store.counts().first is None:
        reasons.append("none of its crops has a time")
    return "; ".join(reasons)


def _draw(store: "Store", query: str, ranked: Mapping[int, "FoundPerson"], path: Path) -> None:
    from textreid.gallery.search import Hit as Tile
    from textreid.gallery.sheet import MAX_TILES, contact_sheet, save_contact_sheet

    by_rank = {rank: person.best for rank, person in list(ranked.items())[:MAX_TILES]}
    tiles = [Tile(rank, hit.score, Path(_label(hit.crop))) for rank, hit in by_rank.items()]

    def picture_of(tile: Tile) -> "Image.Image":
        return store.picture(by_rank[tile.rank].crop.id)

    first = f"Ranks {tiles[0].rank:,} to {tiles[-1].rank:,}" if tiles[0].rank > 1 else f"The best {len(tiles):,}"
    note = f"{first} of gallery {store.name}  ·  model {Path(store.model).name}  ·  cosine similarity"
    save_contact_sheet(contact_sheet(query, note, tiles, picture_of), path)
    sys.stderr.write(f"contact sheet: {path}\n")


def _label(crop: "Crop") -> str:
    """Name a crop in one short line without a slash, as a contact sheet has room for."""
    where = crop.camera or crop.path.stem
    if crop.time is not None:
        return f"{where} {crop.time:%d %b %H:%M:%S}".replace("/", " ")
    return crop.path.name if crop.seconds is None else f"{where} at {timedelta(seconds=round(crop.seconds))}"


def _print(ranked: Mapping[int, "FoundPerson"]) -> None:
    from textreid.reporting.tables import Table, print_tables

    hits = {rank: person.best for rank, person in ranked.items()}
    if not sys.stdout.isatty():
        for rank, hit in hits.items():
            known = [str(hit.crop.id), hit.crop.camera or "", _clock(hit.crop), hit.crop.place]
            sys.stdout.write("\t".join([str(rank), f"{hit.score:.4f}", *map(_printable, known)]) + "\n")
        return
    rows = [
        (str(rank), f"{hit.score:.3f}", str(hit.crop.id), hit.crop.camera or "", _clock(hit.crop), hit.crop.place)
        for rank, hit in hits.items()
    ]
    printable = [tuple(map(_printable, row)) for row in rows]
    print_tables(
        [Table("", ("rank", "score", "crop", "camera", "time", "where"), [printable], texts=frozenset({3, 4, 5}))]
    )


def _print_json(
    query: str, store: "Store", answer: "Answer", ranked: Mapping[int, "FoundPerson"], following: PageToken | None,
    notes: list[str], threshold: float | None,
) -> None:  # fmt: skip
    printed = {
        "query": query,
        "gallery": store.name,
        "model": store.model,
        "exact": answer.exact,
        "results": [
            {**_as_json(rank, person.best, threshold), "alike": [hit.crop.id for hit in person.alike]}
            for rank, person in ranked.items()
        ],
        **({"verdict": verdict_json(answer.verdict)} if answer.verdict else {}),
        "next": str(following) if following else None,
        "notes": notes,
    }
    typer.echo(dumps(printed, indent=2))


def _as_json(rank: int, hit: "Hit", threshold: float | None) -> dict[str, object]:
    crop = hit.crop
    empty = threshold is not None and crop.presence is not None and crop.presence < threshold
    return {
        "rank": rank,
        "score": round(hit.score, 6),
        "crop": crop.id,
        "path": crop.origin,
        "source": crop.source,
        "camera": crop.camera,
        "time": crop.time.isoformat() if crop.time else None,
        "seconds": crop.seconds,
        "frame": crop.frame,
        "box": crop.box,
        "track": crop.track,
        "tags": list(crop.tags),
        "seems_empty": empty,
    }


def _clock(crop: "Crop") -> str:
    return f"{crop.time:%Y-%m-%d %H:%M:%S}" if crop.time else ""


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text)
