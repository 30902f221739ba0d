"""``textreid search``: a sentence and a folder in, ranked images out."""

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID

    from textreid.gallery import EmbeddingCache, SearchResult

_NAMED_AT_MOST = 5
_QUIET_SECONDS = 10.0
_STAGES = {"read": "Reading", "load": "Loading the model", "embed": "Embedding"}


def search(
    query: str = typer.Argument(help="The person in words, as in 'a woman in a red jacket'.", show_default=False),
    images: Path = typer.Option(..., "--images", metavar="FOLDER", help="The images, subfolders included."),
    top: int = typer.Option(10, "--top", min=1, metavar="N", help="How many images to show."),
    sheet: Path | None = typer.Option(None, "--sheet", metavar="FILE", help="Draw them as one picture (.png, .jpg)."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    model: str | None = typer.Option(
        None, "--model", metavar="MODEL", help="A model folder, or CLIP (folder or hub name); else the bundled model."
    ),
    precision: Literal["auto", "fp32", "bf16"] = typer.Option(
        "auto", "--precision", help="Of the images' features: bf16 is faster where the processor multiplies it."
    ),
    no_cache: bool = typer.Option(False, "--no-cache", help="Neither use nor keep embeddings of earlier searches."),
) -> None:
    """Rank the images of a folder by how well they fit a description.

    Scores are cosine similarities: they order the images of one search, and are no probabilities.

    The first search of a folder embeds its images; later ones reuse that (see [bold]textreid cache[/bold]).

    On a terminal the result is a table; in a pipe, lines of rank, score and path between tabs.
    """
    from textreid.gallery import search_folder

    progress = _Progress()
    with ExitStack() as stack:
        cache = None if no_cache else stack.enter_context(_open_cache())
        stack.enter_context(progress)
        result = search_folder(query, images, model=model, top=top, precision=precision, cache=cache, report=progress)
    _tell_problems(result)
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


def _open_cache() -> "EmbeddingCache":
    from textreid.gallery import EmbeddingCache, cache_folder

    try:
        return EmbeddingCache(cache_folder())
    except OSError as error:
        _note(f"embeddings are not kept: {cache_folder()}: {error.strerror or error}")
        return EmbeddingCache()


class _Progress:
    """Rate and time left on stderr, from the first report on; a search that has nothing to do shows nothing.

    A terminal gets a bar, anything else a line every few seconds.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._embedded = 0
        self._start = self._spoken = time.monotonic()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        if kind and issubclass(kind, KeyboardInterrupt):
            _note(f"stopped after {self._embedded:,} images; the same command continues from there")
        elif self._embedded:
            seconds = time.monotonic() - self._start
            _note(f"embedded {self._embedded:,} images in {seconds:.1f} s, {self._embedded / seconds:,.0f} a second")

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = self._stack.enter_context(_progress_bar())
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(_STAGES[stage])
            self._start = self._spoken = time.monotonic()
        self._bar.update(self._tasks[stage], completed=done, total=total)
        if stage == "embed":
            self._embedded = done
            if self._bar.disable and time.monotonic() > self._spoken + _QUIET_SECONDS:
                self._say_rate(done, total)

    def _say_rate(self, done: int, total: int) -> None:
        self._spoken = time.monotonic()
        rate = done / (self._spoken - self._start)
        _note(f"embedded {done:,} of {total:,} images, {rate:,.0f} a second, {(total - done) / rate:,.0f} s left")


def _progress_bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: "Task") -> Text:
            return Text(f"{task.speed:,.0f} a second" if task.speed else "")

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _tell_problems(result: "SearchResult") -> None:
    if result.unread:
        _note(f"the query is longer than the model reads; left out: {_printable(result.unread)!r}")
    for note in result.notes:
        _note(_printable(note))
    if result.rejected:
        count = len(result.rejected)
        _note(f"{count:,} {'image' if count == 1 else 'images'} could not be used:")
        for rejected in result.rejected[:_NAMED_AT_MOST]:
            _note(f"  {_printable(f'{rejected.path}: {rejected.reason}')}")
        if count > _NAMED_AT_MOST:
            _note(f"  and {count - _NAMED_AT_MOST:,} more; --json names all")


def _draw(result: "SearchResult", path: Path) -> None:
    from textreid.gallery.sheet import MAX_TILES, contact_sheet, save_contact_sheet

    hits = result.hits[:MAX_TILES]
    if len(hits) < len(result.hits):
        _note(f"{path} shows the first {MAX_TILES} images")
    note = f"The best {len(hits):,} of {result.images:,} images  ·  model {result.model}  ·  cosine similarity"
    save_contact_sheet(contact_sheet(result.query, note, hits), path)
    _note(f"contact sheet: {path}")


def _print_json(result: "SearchResult") -> None:
    import json

    answer = {
        "query": result.query,
        "unread": result.unread,
        "model": result.model,
        "images": result.images,
        "rejected": [{"path": str(item.path), "reason": item.reason} for item in result.rejected],
        "results": [{"rank": hit.rank, "score": round(hit.score, 6), "path": str(hit.path)} for hit in result.hits],
    }
    # ASCII: a file name that is not UTF-8 survives, escaped.
    typer.echo(json.dumps(answer, indent=2))


def _print_table(result: "SearchResult") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("image", overflow="fold")
    for hit in result.hits:
        table.add_row(str(hit.rank), f"{hit.score:.3f}", Text(_printable(str(hit.path))))
    Console().print(table)


def _printable(text: str) -> str:
    """The text without characters that would steer the terminal, which a file name may hold."""
    text = os.fsencode(text).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "�" for character in text)


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
