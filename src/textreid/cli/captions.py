"""``textreid captions``: measure, clean, select, export and import caption tables."""

from collections import Counter
from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from textreid.captions.table import CaptionRow

captions = typer.Typer(help="Measure, clean, select, export and import captions.", no_args_is_help=True)

_ENDS = {"suffix": "the end of their path", "base-name": "their base name alone"}
_BY = ("corpus", "instruction", "mllm", "slot")


@captions.command()
def stats(
    corpora: list[str] = typer.Argument(
        metavar="[NAME=]PATH...", help="Caption tables, JSON files or folders of captions, to put side by side."
    ),
    by: str = typer.Option("corpus", help="One column a corpus, or for tables one an instruction, mllm or slot."),
    sample: int = typer.Option(20_000, min=2, help="Captions to measure of each, at most."),
    whole: bool = typer.Option(False, "--whole", help="Let the corpora differ in size; else the smallest sets it."),
    once: bool = typer.Option(False, "--once", help="Count captions with equal texts in a corpus once."),
    seed: int = typer.Option(0, min=0, help="Of the sample."),
    plots: Path | None = typer.Option(None, metavar="FILE", help="Write the plots to this PNG file."),
    json: bool = typer.Option(False, "--json", help="Print the figures as JSON, not a table."),
) -> None:
    """Measure how diverse captions are: sentence patterns, distinct-n, self-BLEU, lengths, attributes, openings."""
    from rich.console import Console

    from textreid.artifacts import write_bytes
    from textreid.captions.diversity import compare_corpora, plot, render, to_report
    from textreid.errors import CaptionError

    if by not in _BY:
        raise typer.BadParameter(f"--by {by}: expected one of {', '.join(_BY)}")
    texts: dict[str, list[str]] = {}
    for corpus in corpora:
        before = sum(map(len, texts.values()))
        for column, text in _texts(corpus, by, alone=len(corpora) == 1):
            texts.setdefault(column, []).append(text)
        # The smallest corpus sets the size: compared with an empty one, the others would be measured by nothing.
        if sum(map(len, texts.values())) == before:
            raise CaptionError(f"{corpus}: holds no usable caption")
    if once:
        texts = {column: list(dict.fromkeys(column_texts)) for column, column_texts in texts.items()}
    report = to_report(compare_corpora(texts, sample, seed=seed, equal_sizes=not whole), seed)
    if plots:
        write_bytes(plots, plot(report))
    if json:
        typer.echo(dumps(report, indent=2, ensure_ascii=False))
    else:
        Console().print(render(report))


@captions.command()
def clean(
    table: Path = typer.Argument(help="A caption table."),
    out: Path = typer.Argument(help="Folder of the cleaned table; must not exist."),
    json: bool = typer.Option(False, "--json", help="Print the counts as JSON."),
) -> None:
    """Copy a table, cleaning and judging every usable caption; what was rejected before stays so."""
    from dataclasses import replace

    from textreid.captions.cleaning import OK, clean
    from textreid.captions.table import write_captions
    from textreid.captions.writer import caption_rows

    counts: Counter[str] = Counter()

    def judged() -> "Iterator[CaptionRow]":
        for row in caption_rows(table):
            # What was rejected keeps its reason: the text of a failure is empty, and would be judged as such.
            if row.status != OK:
                counts[row.status] += 1
                yield row
                continue
            cleaned = clean(row.caption)
            counts.update((cleaned.status, *(f"cut: {name}" for name in cleaned.cut)))
            yield replace(row, caption=cleaned.caption, status=cleaned.status)

    write_captions(out, judged())
    print_counts(dict(counts.most_common()), json)


@captions.command()
def select(
    table: Path = typer.Argument(help="A caption table."),
    out: Path = typer.Argument(help="Folder of the new table; must not exist."),
    slots: list[str] = typer.Option(
        [], "--slot", metavar="MLLM/INSTRUCTION", help="Keep this slot, as qwen/static; repeat for more. Else all."
    ),
    sample: int | None = typer.Option(None, min=1, help="Keep so many images, drawn by --seed; samples are nested."),
    seed: int = typer.Option(0, min=0, help="Of the sample."),
    json: bool = typer.Option(False, "--json", help="Print the counts as JSON."),
) -> None:
    """Copy a part of a table: some slots, and all captions of a random sample of the images."""
    from textreid.captions.selecting import select_captions

    print_counts({"kept": select_captions(table, out, slots, sample, seed)}, json)


@captions.command()
def export(
    table: Path = typer.Argument(help="A caption table."),
    out: Path = typer.Argument(help="Folder to write; must not exist, or be empty."),
    form: str = typer.Option(
        "released", "--as", help="released (Ts-NAME.json and Td-NAME.json), cuhk (reid_raw.json) or datasets (Parquet)."
    ),
) -> None:
    """Write the usable captions of a table in a form that other programs read."""
    from textreid.captions.exporting import export_captions

    for file in export_captions(table, out, form):
        typer.echo(file)


@captions.command("import")
def import_(
    sources: list[str] = typer.Argument(
        metavar="[NAME[/INSTRUCTION]=]PATH...",
        help="Files or folders, and whose captions they hold: human=reid_raw.json, qwen/dynamic=folder. "
        "Files named as in the release (Ts-qwen.json), folders of them and caption tables need no name.",
    ),
    out: Path = typer.Option(..., metavar="FOLDER", help="Folder of the caption table; must not exist."),
    images: Path | None = typer.Option(
        None, metavar="FOLDER", help="The image root, where images are looked for. Else paths stay as given."
    ),
    save_images: Path | None = typer.Option(
        None, metavar="FOLDER", help="Write the images that are in a Parquet or Arrow file to this folder."
    ),
    max_rejected: float = typer.Option(0.05, min=0, max=1, metavar="SHARE", help="How much may be unusable."),
    image_field: str | None = typer.Option(None, metavar="NAME", help="Field or column of the image's path."),
    caption_field: str | None = typer.Option(None, metavar="NAME", help="Of the captions; several with commas."),
    json: bool = typer.Option(False, "--json", help="Print the counts as JSON."),
) -> None:
    """Make one caption table of JSON, JSON Lines, CSV, Parquet or Arrow files, `datasets` folders, or tables."""
    from dataclasses import replace

    from textreid.captions.importing import Source, import_captions

    parsed = [
        replace(source, image_field=image_field, caption_field=caption_field)
        for text in sources
        for source in Source.parse_all(text)
    ]
    imported = import_captions(parsed, out, images, max_rejected, save_images)
    for how, count in imported.matched.items():
        typer.echo(f"{count:,} images were found by {_ENDS[how]}, not by their whole path", err=True)
    print_counts({"imported": imported.rows, **imported.left_out}, json)


def _texts(corpus: str, by: str, alone: bool) -> Iterator[tuple[str, str]]:
    """Yield the usable captions of a corpus, each with the column that it belongs to."""
    from textreid.captions.importing import Source, captions_in
    from textreid.captions.writer import caption_rows, is_table
    from textreid.errors import CaptionError

    name, separator, rest = corpus.partition("=")
    # A path may have a = of its own: whatever exists is a path.
    named = separator and not Path(corpus).exists()
    path = Path(rest if named else corpus)
    label = name if named else path.resolve().name
    if not path.exists():
        raise CaptionError(f"{path}: no such file or folder")
    if not is_table(path):
        yield from ((label, text) for text in captions_in(Source(path, label)))
        return
    for row in caption_rows(path):
        if row.status == "ok":
            part = "" if by == "corpus" else getattr(row, by)
            # Beside other corpora a column needs both names; alone, the part says enough.
            yield (part if alone and part else f"{label} {part}".strip()), row.caption


def print_counts(counts: dict[str, int], json: bool) -> None:
    """Print numbers by name, as JSON or one a line."""
    if json:
        typer.echo(dumps(counts, indent=2))
        return
    for name, count in counts.items():
        typer.echo(f"{name:<20} {count:>12,}")
