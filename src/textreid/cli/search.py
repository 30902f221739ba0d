"""``textreid search``: a sentence and a folder in, ranked images out."""

import os
import sys
import time
from json import dumps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import typer

from textreid.cli.gallery_search import (
    CAMERA,
    DATABASE,
    HOURS,
    PAGE,
    SINCE,
    SOURCE,
    TAG,
    UNTIL,
    FilterWords,
    search_gallery,
)
from textreid.cli.question import (
    ALSO,
    EVIDENCE,
    GROUP,
    LABELLED,
    LIKE,
    NOBODY,
    PRIOR,
    REWRITE,
    RIGHT,
    WITHOUT,
    WRONG,
    QuestionWords,
    tell_verdict,
    verdict_json,
)
from textreid.errors import ConfigError
from textreid.progress import Progress

if TYPE_CHECKING:
    from textreid.gallery import Hit, SearchResult
    from textreid.gallery.indexing import Rejected
    from textreid.gallery.query.evidence import Case, Exhibit

# Of the images that were left out: a folder may hold thousands.
_NAMED_AT_MOST = 5
# After a first search, which is when somebody wonders whether it can be better.
BETTER = "larger models know more of photographs: --model clip (599 MB, fetched once), or another of textreid models"
_STAGES = {"read": "read", "load": "load the model", "embed": "embed"}


def search(
    query: list[str] | None = typer.Argument(
        None, help="The person in words, as in 'a woman in a red jacket'.", metavar="QUERY"
    ),
    images: Path | None = typer.Option(None, "--images", metavar="FOLDER", help="The images, subfolders included."),
    gallery: str | None = typer.Option(
        None, "--gallery", metavar="NAME", help="A gallery instead, as textreid index made it."
    ),
    top: int = typer.Option(10, "--top", min=1, metavar="N", help="How many images to show."),
    page: str | None = PAGE,
    sheet: Path | None = typer.Option(None, "--sheet", metavar="FILE", help="Draw them as one picture (.png, .jpg)."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    model: str | None = typer.Option(
        None,
        "--model",
        metavar="MODEL",
        help="Folder or hub name of a model; + between several; else what is bundled.",
    ),
    precision: Literal["auto", "fp32", "bf16"] = typer.Option(
        "auto", "--precision", help="Of the images' features: bf16 is faster where the processor multiplies it."
    ),
    no_cache: bool = typer.Option(False, "--no-cache", help="Neither use nor keep embeddings of earlier searches."),
    also: list[str] | None = ALSO,
    like: list[Path] | None = LIKE,
    without: list[str] | None = WITHOUT,
    right: list[str] | None = RIGHT,
    wrong: list[str] | None = WRONG,
    group: bool | None = GROUP,
    nobody: bool = NOBODY,
    prior: float = PRIOR,
    labelled: Path | None = LABELLED,
    rewrite: str | None = REWRITE,
    evidence: Path | None = EVIDENCE,
    camera: list[str] | None = CAMERA,
    since: str | None = SINCE,
    until: str | None = UNTIL,
    hours: str | None = HOURS,
    tag: list[str] | None = TAG,
    source: list[str] | None = SOURCE,
    database: str | None = DATABASE,
) -> None:
    """Rank the images of a folder, or the people of a gallery, by how well they fit a description.

    Scores are cosine similarities: they order the images of one search, and are not probabilities.

    The first search of a folder embeds its images; later ones reuse that (see [bold]textreid cache[/bold]).

    On a terminal the result is a table; in a pipe, lines of rank, score and path between tabs.
    """
    asked = QuestionWords(
        _one_query(query or []), also or (), like or (), without or (), right or (), wrong or (), group,
        prior if nobody else None, labelled, rewrite, evidence,
    )  # fmt: skip
    filters = FilterWords(camera, since, until, hours, tag, source, page)
    if gallery is not None:
        if images:
            raise ConfigError("--images and --gallery: search one of them")
        search_gallery(asked, gallery, filters, top=top, sheet=sheet, json=json, model=model, url=database)
        return
    if images is None:
        raise ConfigError("search where? --images FOLDER, or --gallery NAME")
    filters.refuse()
    from textreid.gallery import open_cache
    from textreid.gallery.embedding_cache import EmbeddingCache
    from textreid.gallery.search import search as search_folder
    from textreid.images import silence_decoders
    from textreid.models.folder import BUNDLED, DEFAULT

    silence_decoders()
    question, pairs = asked.read(), asked.pairs()
    cache, problem = (EmbeddingCache(), "") if no_cache else open_cache()
    if problem:  # told before the work that will not be kept
        _note(problem)
    with cache, _Reported() as report:
        result = search_folder(
            question, images, model=model, top=top, right=asked.right, wrong=asked.wrong, group=bool(group),
            prior=asked.prior, pairs=pairs, precision=precision, cache=cache, report=report,
        )  # fmt: skip
    _tell_problems(result)
    tell_verdict(result.verdict)
    asked.write_evidence(lambda: _case(result, images), lambda: _exhibits(result))
    if sheet:
        _draw(result, sheet)
    if json:
        _print_json(result)
    elif sys.stdout.isatty():
        _print_table(result)
    else:
        for hit in result.hits:
            # A path goes out as the bytes it has on disk, UTF-8 or not.
            line = os.fsencode(f"{hit.rank}\t{hit.score:.4f}\t{hit.path}\n")
            sys.stdout.buffer.write(line)
    if report.embedded and result.model in (DEFAULT, *BUNDLED):
        sys.stdout.flush()  # or a terminal would show what comes last first
        _note(BETTER)


def _one_query(words: list[str]) -> str:
    """Join a query that was written without quotation marks, unless one of its words is rather a second folder."""
    paths = [word for word in words if Path(word).exists()] if len(words) > 1 else []
    if paths:
        raise ConfigError(f"{paths[0]!r} beside a query: --images takes one folder, and a query quotation marks")
    return " ".join(words)


class _Reported:
    """Progress of a search on standard error, and one line at its end; one that embeds nothing shows nothing."""

    def __init__(self) -> None:
        self._progress = Progress("search")
        self.embedded = 0
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.__exit__(kind, error, at)
        if kind and issubclass(kind, KeyboardInterrupt):
            _note(f"stopped after {self.embedded:,} images; the same command continues from there")
        elif self.embedded:
            seconds = time.monotonic() - self._start
            _note(f"embedded {self.embedded:,} images in {seconds:.1f} s, {self.embedded / seconds:,.0f} a second")

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._progress.update(done, total, task=_STAGES[stage])
        if stage == "embed":
            # The rate counts from here: reading the folder and loading the model come before.
            self._start = self._start if done else time.monotonic()
            self.embedded = done


def _tell_problems(result: "SearchResult") -> None:
    if result.unread:
        _note(f"the query is longer than the model reads; left out: {_printable(result.unread)!r}")
    for note in result.notes:
        _note(_printable(note))
    _name_rejected([one for one in result.rejected if not one.shows_nothing], "could not be used")
    _name_rejected([one for one in result.rejected if one.shows_nothing], "left out, because no person can be seen")


def _name_rejected(rejected: "list[Rejected]", what: str) -> None:
    count = len(rejected)
    if count:
        _note(f"{count:,} {'image' if count == 1 else 'images'} {what}:")
    for one in rejected[:_NAMED_AT_MOST]:
        _note(f"  {_printable(f'{one.path}: {one.reason}')}")
    if count > _NAMED_AT_MOST:
        _note(f"  and {count - _NAMED_AT_MOST:,} more; --json names all")


def _draw(result: "SearchResult", path: Path) -> None:
    from textreid.gallery.sheet import MAX_TILES, contact_sheet, save_contact_sheet

    # The list may be longer than what a picture shows legibly.
    hits = result.hits[:MAX_TILES]
    if len(hits) < len(result.hits):
        _note(f"{path} shows the first {MAX_TILES} images")
    note = f"The best {len(hits):,} of {result.images:,} images  ·  model {result.model}  ·  cosine similarity"
    save_contact_sheet(contact_sheet(result.query, note, hits), path)
    _note(f"contact sheet: {path}")


def _case(result: "SearchResult", folder: Path) -> "Case":
    from datetime import UTC, datetime

    from textreid.gallery.query.evidence import Case

    facts = {"whether anybody fits": str(result.verdict)} if result.verdict else {}
    made = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    searched = f"folder {folder}: {result.images:,} images"
    return Case(result.query, searched, result.model, result.fingerprint, made, facts, result.notes)


def _exhibits(result: "SearchResult") -> "list[Exhibit]":
    from textreid.gallery.query.evidence import exhibit_of_file

    return [exhibit_of_file(hit.rank, hit.score, hit.path, **_alike(hit)) for hit in result.hits]


def _alike(hit: "Hit") -> dict[str, str]:
    return {"hardly differ": ", ".join(str(path) for path in hit.alike)} if hit.alike else {}


def _print_json(result: "SearchResult") -> None:
    answer = {
        "query": result.query,
        "unread": result.unread,
        "model": result.model,
        "images": result.images,
        "rejected": [{"path": str(item.path), "reason": item.reason} for item in result.rejected],
        # Six digits: a float32 has hardly more.
        "results": [
            {
                "rank": hit.rank,
                "score": round(hit.score, 6),
                "path": str(hit.path),
                "seems_empty": hit.seems_empty,
                **({"alike": [str(path) for path in hit.alike]} if hit.alike else {}),
            }
            for hit in result.hits
        ],
        **({"verdict": verdict_json(result.verdict)} if result.verdict else {}),
        "notes": [_printable(note) for note in result.notes],
    }
    # ASCII: a file name that is not UTF-8 survives, escaped.
    typer.echo(dumps(answer, indent=2))


def _print_table(result: "SearchResult") -> None:
    from textreid.reporting.tables import Table, print_tables

    rows = [(str(hit.rank), f"{hit.score:.3f}", _printable(str(hit.path))) for hit in result.hits]
    print_tables([Table("", ("rank", "score", "image"), [rows], texts=frozenset({2}))])


def _printable(text: str) -> str:
    """Take out of a text the characters that would steer the terminal, which a file name may hold."""
    text = os.fsencode(text).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "�" for character in text)


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
