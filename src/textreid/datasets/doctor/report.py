"""The printed form of a diagnosis."""

from collections.abc import Sequence

from textreid.datasets.doctor.examination import Diagnosis
from textreid.datasets.doctor.findings import RULES, Finding
from textreid.reporting.tables import Table


def diagnosis_tables(diagnosis: Diagnosis) -> list[Table]:
    """Lay out sizes and verdicts, then the findings, as tables for `textreid.reporting.tables.to_terminal`."""
    rows = [
        (name, f"{counts.images:,}", f"{counts.captions:,}", f"{counts.identities:,}" if counts.identities else "-")
        for name, counts in diagnosis.splits.items()
    ]
    splits = Table(
        title=f"{diagnosis.path}, read as {diagnosis.form}",
        columns=("split", "images", "captions", "people"),
        groups=[rows],
        notes=[*(verdict.text for verdict in diagnosis.verdicts), *_lines(diagnosis)],
    )
    return [splits, _findings(diagnosis.findings)] if diagnosis.findings else [splits]


def _findings(findings: Sequence[Finding]) -> Table:
    return Table(
        title="Findings",
        columns=("", "count", "finding", "what to do", "by eye"),
        groups=[[_row(finding)] for finding in findings],
        texts=frozenset({0, 2, 3}),
    )


def _row(finding: Finding) -> tuple[str, ...]:
    rule = RULES[finding.rule]
    found = "".join([rule.what, *(f"\n  {example:.100}" for example in finding.examples)])
    by_eye = f"{max(1, round(finding.minutes))} min" if finding.minutes else "-"
    return "WRONG" if rule.wrong else "note", f"{finding.count:,}", found, rule.advice, by_eye


def _lines(diagnosis: Diagnosis) -> list[str]:
    lines = []
    if diagnosis.sizes:
        spans = (f"{name} {low:g} / {mid:g} / {high:g}" for name, (low, mid, high) in diagnosis.sizes.items())
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
