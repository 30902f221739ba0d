"""The printed form of a diagnosis."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from textreid.datasets.doctor.examination import Diagnosis
from textreid.datasets.doctor.findings import RULES, Finding


def render(diagnosis: Diagnosis) -> RenderableType:
    """Sizes, verdicts and findings as tables and lines."""
    parts: list[RenderableType] = [_splits(diagnosis), *(Text(verdict.text) for verdict in diagnosis.verdicts)]
    if diagnosis.findings:
        parts.append(_findings(diagnosis.findings))
    return Group(*parts, *(Text(line) for line in _lines(diagnosis)))


def _splits(diagnosis: Diagnosis) -> Table:
    table = Table(title=f"{diagnosis.path}, read as {diagnosis.form}", title_justify="left")
    for name in ("split", "images", "captions", "people"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for name, counts in diagnosis.splits.items():
        people = f"{counts.identities:,}" if counts.identities else "-"
        table.add_row(name, f"{counts.images:,}", f"{counts.captions:,}", people)
    return table


def _findings(findings: tuple[Finding, ...]) -> Table:
    table = Table(show_lines=True)
    table.add_column("")
    table.add_column("count", justify="right")
    table.add_column("finding", ratio=3)
    table.add_column("what to do", ratio=2)
    table.add_column("by eye", justify="right")
    for finding in findings:
        rule = RULES[finding.rule]
        found = Text(rule.what, style="bold red" if rule.wrong else "")
        found.append("".join(f"\n{example:.100}" for example in finding.examples), style="not bold default")
        by_eye = f"{max(1, round(finding.minutes))} min" if finding.minutes else "-"
        table.add_row("wrong" if rule.wrong else "note", f"{finding.count:,}", found, rule.advice, by_eye)
    return table


def _lines(diagnosis: Diagnosis) -> list[str]:
    lines = []
    if diagnosis.sizes:
        spans = (f"{name} {low} / {middle} / {high}" for name, (low, middle, high) in diagnosis.sizes.items())
        lines.append(f"pixels, least / median / greatest: {', '.join(spans)}")
    if diagnosis.decoded:
        rate = diagnosis.decoded / max(diagnosis.seconds, 1e-9)
        lines.append(f"decoded {diagnosis.decoded:,} images in {diagnosis.seconds:.1f} s, {rate:,.0f} a second")
    if diagnosis.guessed:
        lines.append("in CUHK-PEDES form; if it is CUHK-PEDES, --benchmark cuhk-pedes checks its size")
    wrong = sum(RULES[finding.rule].wrong for finding in diagnosis.findings)
    notes = len(diagnosis.findings) - wrong
    lines.append(f"{wrong or 'nothing'} wrong, {notes} to note")
    return lines
