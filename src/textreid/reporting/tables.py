"""The tables of a report as plain cells, and the forms they are written in: terminal, Markdown, LaTeX."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

# Rich pads each cell by one on both sides and draws a divider, which is blank in this box.
_GAP = 3  # between columns
# A path or an address may be as long as it likes, and would push figures out of the terminal.
_LONGEST_WORD = 20  # that the terminal does not break
# A minus before a figure, not the hyphen of a name such as ViT-16.
_MINUS = re.compile(r"(?<!\w)-(?=\d)")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#])")
# Replaced character by character: one replacement after another would escape the backslashes of the first.
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{MIDDLE DOT}": r"$\cdot$",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Cells of text; a line break in one counts in the terminal and is a space elsewhere.

    Attributes:
        title: a line above it, or nothing.
        columns: headings.
        groups: rows, in groups that a line separates.
        notes: lines below it.
        texts: numbers of the columns that hold words; the others hold figures and stand to the right.
    """

    title: str
    columns: Sequence[str]
    groups: Sequence[Sequence[Sequence[str]]]
    notes: Sequence[str] = ()
    texts: frozenset[int] = frozenset({0})

    def __post_init__(self) -> None:
        widths = {len(row) for group in self.groups for row in group}
        if not widths <= {len(self.columns)}:
            raise ValueError(f"{self.title}: {len(self.columns)} columns, but rows of {sorted(widths)} cells")


def print_tables(tables: Sequence[Table]) -> None:
    """Print tables on standard output, rather in lines that the terminal breaks than with a figure cut."""
    console = Console()
    console.width = max(console.width, least_width(tables))
    console.print(to_terminal(tables, console.width))


def to_terminal(tables: Sequence[Table], width: int) -> RenderableType:
    """Draw tables for a console of ``width``, at least `least_width`; cells are text, not markup."""
    parts: list[RenderableType] = []
    for table in tables:
        drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        figures, longest_word = _widths(table)
        share = (width - figures - _GAP * len(table.columns)) // max(1, len(table.texts))
        for number, column in enumerate(table.columns):
            words = number in table.texts
            # A heading over figures breaks at each space, which keeps the column as narrow as its figures.
            heading = Text(column if words else column.replace(" ", "\n"))
            drawn.add_column(heading, justify="left" if words else "right", no_wrap=not words, overflow="fold")
            drawn.columns[-1].max_width = max(share, longest_word) if words else None
        for group in table.groups:
            for row in group:
                # A plain string would be read as rich's markup, and [b] in a cell be lost.
                drawn.add_row(*map(Text, row))
            drawn.add_section()
        parts += [Text(table.title, "bold")] if table.title else []
        parts += [drawn, *(Text(note) for note in table.notes), Text("")]
    return Group(*parts[:-1])


def least_width(tables: Sequence[Table]) -> int:
    """Return how wide a terminal must be for every figure to keep its line, and every word that is not very long."""
    needs = [(_widths(table), table) for table in tables]
    return max(
        (figures + len(table.texts) * word + _GAP * len(table.columns) for (figures, word), table in needs), default=0
    )


def _widths(table: Table) -> tuple[int, int]:
    """Measure, in characters, all columns of figures together, and the longest word of the others."""
    figures = longest_word = 0
    for number, column in enumerate(table.columns):
        cells = [row[number] for row in chain(*table.groups)]
        if number in table.texts:
            words = chain(column.split(), *(cell.split() for cell in cells))
            longest_word = max([longest_word, *(min(len(word), _LONGEST_WORD) for word in words)])
        else:
            figures += max(map(len, chain(column.split(), *(cell.splitlines() for cell in cells))), default=0)
    return figures, longest_word


def to_markdown(title: str, tables: Sequence[Table]) -> str:
    """Write a page of GitHub-flavoured Markdown."""
    lines = [f"# {_markdown(title)}", ""]
    for table in tables:
        rules = ["---" if number in table.texts else "---:" for number in range(len(table.columns))]
        rows = [row for group in table.groups for row in group]
        lines += [f"## {_markdown(table.title)}", "", _pipes(map(_markdown, table.columns)), _pipes(rules)]
        lines += [*(_pipes(map(_markdown, row)) for row in rows), "", *(f"- {_markdown(note)}" for note in table.notes)]
        lines += [""] if table.notes else []
    return "\n".join(lines)


def to_latex(tables: Sequence[Table]) -> str:
    """Write ``table`` environments to ``\\input``; they need the package booktabs."""
    lines = [r"% \usepackage{booktabs}"]
    for table in tables:
        columns = "".join("l" if number in table.texts else "r" for number in range(len(table.columns)))
        lines += [r"\begin{table}", r"\centering\small", rf"\caption{{{_latex(table.title)}}}"]
        lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _ampersands(table.columns)]
        for group in table.groups:
            lines += [r"\midrule", *map(_ampersands, group)]
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\footnotesize {_latex(note)}" for note in table.notes]
        lines += [r"\end{table}", ""]
    return "\n".join(lines)


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ampersands(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
    escaped = _MINUS.sub("$-$", escaped)
    return f"{{}}{escaped}" if escaped.startswith("[") else escaped  # after \\ a bracket would be an argument
