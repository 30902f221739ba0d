import io

import pytest
from hypothesis import given, strategies as st
from rich.console import Console

from textreid.reporting.tables import Table, least_width, to_latex, to_markdown, to_terminal

CELLS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12)


def printed(tables: list[Table], width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(to_terminal(tables, width))
    return stream.getvalue()


def test_rows_fit_the_columns() -> None:
    with pytest.raises(ValueError, match="2 columns, but rows of"):
        Table("title", ("a", "b"), [[("1", "2"), ("1",)]])


FIGURES = st.lists(st.lists(st.from_regex(r"\A[0-9.]{1,9}\Z"), min_size=5, max_size=5), min_size=1, max_size=4)


@given(FIGURES, st.lists(st.text("ab", min_size=1, max_size=20), max_size=6).map(" ".join))
def test_no_figure_is_cut_at_the_least_width(rows: list[list[str]], words: str) -> None:
    table = Table("t", ["", *"vwxyz", "more words"], [[(words, *row, words) for row in rows]], texts=frozenset({0, 6}))
    lines = printed([table], least_width([table])).splitlines()
    found = [figure for line in lines for figure in line.split() if figure[0] in "0123456789."]
    assert sorted(found) == sorted(figure for row in rows for figure in row)
    assert "…" not in "".join(lines)


@given(st.lists(CELLS, min_size=2, max_size=2), CELLS)
def test_markdown_keeps_its_columns_whatever_the_cells_hold(cells: list[str], note: str) -> None:
    page = to_markdown("T", [Table("t", ("a", "b"), [[cells]], [note])])
    row = page.splitlines()[6]
    bare = [at for at, character in enumerate(row) if character == "|" and row[at - 1] != "\\"]
    assert len(bare) == 3
    assert (bare[0], bare[-1]) == (0, len(row) - 1)


def test_markdown_has_no_markup_of_others() -> None:
    page = to_markdown("T", [Table("t", ("",), [[("<b>*x*_y_|z`",)]])])
    assert r"| \<b\>\*x\*\_y\_\|z\` |" in page


def test_latex_is_escaped_and_has_a_rule_between_groups() -> None:
    source = to_latex([Table("50 % & _more_", ("", "a"), [[("x_y", "-1.5,\n-2")], [("[1, 2]", "a-1")]], ["#1 {x}"])])
    assert source.splitlines() == [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small",
        r"\caption{50 \% \& \_more\_}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r" & a \\",
        r"\midrule",
        r"x\_y & $-$1.5, $-$2 \\",
        r"\midrule",
        r"{}[1, 2] & a-1 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\footnotesize \#1 \{x\}",
        r"\end{table}",
    ]
