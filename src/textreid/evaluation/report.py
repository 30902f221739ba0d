"""Several models on several benchmarks in one report: JSON values, and tables made from these values alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from textreid.artifacts import write_json, write_text
from textreid.datasets.benchmarks import PUBLISHED, Counts
from textreid.datasets.records import Benchmark
from textreid.errors import ArtifactError, DataError, TextReidError
from textreid.evaluation.chance_level import LEVEL, RESAMPLES, SEED
from textreid.evaluation.encoding import MAX_UNREADABLE, Encoder, Progress, encode_split
from textreid.evaluation.failures import FailureSection, failures_page, worst_queries
from textreid.evaluation.protocol import measure
from textreid.evaluation.published import DIRECT_TRANSFER, published_rows, why_not_comparable
from textreid.evaluation.splits import chosen_on_test
from textreid.evaluation.swaps import swap_table
from textreid.evaluation.words import word_table
from textreid.reporting.tables import Table, to_latex, to_markdown
from textreid.version import __version__

FORMAT_VERSION = 2
_METRICS = ("R1", "R5", "R10", "mAP", "mINP")
_WITH_INTERVAL = ("R1", "mAP")  # in the tables; the JSON has all
_DIRECTIONS = {"text_to_image": "text to image", "image_to_text": "image to text"}


Watch = Callable[[str, str], Progress]  # model, benchmark


class Candidate(NamedTuple):
    """A model to be evaluated, by the name that the report gives it."""

    name: str
    load: Callable[[], Encoder]


@dataclass(frozen=True)
class Measures:
    """What is measured beside text to image.

    Attributes:
        image_to_text: the other direction.
        words: each attribute word.
        swaps: each attribute, exchanged for another.
        failures: file of the page of failures, or None.
        max_unreadable: share of the images of a split that may be unreadable.
    """

    image_to_text: bool = False
    words: bool = False
    failures: Path | None = None
    max_unreadable: float = MAX_UNREADABLE
    swaps: bool = False


def compare(
    candidates: Sequence[Candidate], parts: Sequence[Benchmark], measures: Measures, watch: Watch | None = None
) -> dict[str, Any]:
    """Evaluate each model on each part; returns the report.

    One model at a time is in memory, and one encoded part. A model that cannot be loaded or fails on a part is told
    in ``failures`` of the report.

    Args:
        candidates: the models.
        parts: splits of benchmarks.
        measures: what else to measure.
        watch: gives what is told of the images encoded, for each model and benchmark.

    Raises:
        TextReidError: the only evaluation there is failed, or every one of them.
        ArtifactError: the page of failures cannot be written.
    """
    evaluations: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    sections: list[FailureSection] = []
    problem: TextReidError | None = None
    for candidate in candidates:
        try:
            model = candidate.load()
        except TextReidError as error:
            problem = problem or error
            failures += [_failure(candidate, part, error) for part in parts]
            continue
        for part in parts:
            progress = watch(candidate.name, part.name) if watch else None
            try:
                section = _evaluate(model, candidate.name, part, measures, progress)
            except TextReidError as error:
                problem = problem or error
                failures.append(_failure(candidate, part, error))
                continue
            # A section holds the values of every query: without a page of failures it is let go after each part.
            evaluations.append(section.evaluation.to_dict())
            sections += [section] if measures.failures else []
    # Without one evaluation a report would look like a success.
    if problem and not evaluations:
        raise (
            problem
            if len(failures) == 1
            else DataError(f"all {len(failures)} evaluations failed; the first: {problem}")
        )
    if measures.failures:
        write_text(measures.failures, failures_page(sections))
    return to_report(evaluations, failures)


def _evaluate(
    model: Encoder, name: str, part: Benchmark, measures: Measures, progress: Progress | None
) -> FailureSection:
    encoded = encode_split(model, part, max_unreadable=measures.max_unreadable, progress=progress)
    evaluation = measure(
        model, encoded, name=name, image_to_text=measures.image_to_text, words=measures.words, swaps=measures.swaps
    )
    worst = worst_queries(model, encoded, evaluation.text_to_image.per_query) if measures.failures else []
    return FailureSection(evaluation, worst)


def _failure(candidate: Candidate, part: Benchmark, error: TextReidError) -> dict[str, str]:
    return {"model": candidate.name, "benchmark": part.name, "error": " ".join(str(error).split())}


def to_report(evaluations: Sequence[Mapping[str, Any]], failures: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """Join evaluations of models on benchmarks into one report, with what was published on those benchmarks.

    Args:
        evaluations: as `Evaluation.to_dict` gives them.
        failures: ``model``, ``benchmark`` and ``error`` of evaluations that could not be made.

    Raises:
        ArtifactError: evaluations on one benchmark were not made on the same data.
    """
    groups = _by_benchmark(evaluations)
    for (benchmark, split), members in groups.items():
        if len({evaluation["data"] for evaluation in members}) != 1:
            raise ArtifactError(
                f"{benchmark} / {split}: a report compares models on the same images and captions; these were made on "
                "different ones"
            )
    return {
        "kind": "evaluation",
        "format_version": FORMAT_VERSION,
        "textreid": __version__,
        "intervals": {"level": LEVEL, "resamples": RESAMPLES, "seed": SEED, "resampled": "identities"},
        "evaluations": [dict(evaluation) for evaluation in evaluations],
        "failures": [dict(failure) for failure in failures],
        "published": [_published(*key, members) for key, members in groups.items() if members[0]["form"] in PUBLISHED],
    }


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.json``, ``report.md`` and ``report.tex``; only the first holds everything.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    tables = report_tables(report, full=True)
    write_json(folder / "report.json", dict(report))
    write_text(folder / "report.md", to_markdown("Evaluation", tables))
    write_text(folder / "report.tex", to_latex(tables))


def report_tables(report: Mapping[str, Any], full: bool = False) -> list[Table]:
    """Lay out a table for each benchmark and direction, one across benchmarks, one of words, one of failures.

    Args:
        report: as `to_report` gives it.
        full: show every published row, not only the main ones.

    Raises:
        ArtifactError: ``report`` was not made by `to_report` of this version.
    """
    if report.get("kind") != "evaluation" or report.get("format_version") != FORMAT_VERSION:
        raise ArtifactError("not an evaluation report of this version of textreid")
    evaluations = report["evaluations"]
    groups = _by_benchmark(evaluations)
    published = {(entry["benchmark"], entry["split"]): entry for entry in report["published"]}
    tables = []
    for key, members in groups.items():
        tables += [
            _benchmark_table(members, direction, published.get(key) if direction == "text_to_image" else None, full)
            for direction in _DIRECTIONS
            if members[0][direction]
        ]
    if len(groups) > 1:
        tables.append(_matrix(evaluations, list(groups)))
    # Reports written before there were swaps do not have the key.
    tables += [swap_table(evaluation) for evaluation in evaluations if evaluation.get("swaps") is not None]
    tables += [word_table(evaluation) for evaluation in evaluations if evaluation["words"] is not None]
    if report["failures"]:
        rows = [(failure["model"], failure["benchmark"], failure["error"]) for failure in report["failures"]]
        tables.append(Table("Not evaluated", ("model", "benchmark", "why"), [rows], texts=frozenset({0, 1, 2})))
    return tables


def _by_benchmark(evaluations: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for evaluation in evaluations:
        groups.setdefault((evaluation["benchmark"], evaluation["split"]), []).append(evaluation)
    return groups


def _published(benchmark: str, split: str, members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the published rows of a benchmark with each model's difference, or why they do not belong there."""
    first = members[0]
    counts = Counts(first["images"], first["captions"], first["identities"])
    # Beside a figure of another split or size, a difference would not be progress.
    reason = why_not_comparable(first["form"], split, counts)
    rows = [] if reason else published_rows(first["form"])
    measured = {evaluation["model"]: evaluation["text_to_image"]["scores"] for evaluation in members}
    for row in rows:
        row["difference"] = {
            model: {name: scores[name] - value for name, value in row["scores"].items()}
            for model, scores in measured.items()
        }
    return {"benchmark": benchmark, "split": split, "not_comparable": reason, "rows": rows}


def _benchmark_table(
    members: Sequence[Mapping[str, Any]], direction: str, published: Mapping[str, Any] | None, full: bool
) -> Table:
    first = members[0]
    rows = [row for row in published["rows"] if full or row["main"]] if published else []
    compared = [member["model"] for member in members] if rows else []
    fill = [""] * len(compared)
    measured = [[*_figures(member, direction), *fill, *_origin(member, first["form"])] for member in members]
    # That of the first stands for all: models in one table were measured on the same data.
    chance = first[direction]["chance"]
    measured.append(["random order", *(_percent(chance[name]) for name in _METRICS), *fill, "", ""])
    known = [
        [
            row["name"] if row["setting"] == DIRECT_TRANSFER else f"{row['name']}, {row['setting']}",
            *(_percent(row["scores"].get(name)) for name in _METRICS),
            *(_difference(row["difference"][model]) for model in compared),
            *_origin(row, first["form"]),
        ]
        for row in rows
    ]
    columns = [
        "", *_METRICS, *(f"{model} - row" for model in compared), "selected on", "target text used",
    ]  # fmt: skip
    return Table(
        title=f"{first['benchmark']} / {first['split']}: {_DIRECTIONS[direction]}, %",
        columns=columns,
        groups=[measured, known] if known else [measured],
        notes=_notes(members, direction, published, rows),
        texts=frozenset({0, len(columns) - 2, len(columns) - 1}),
    )


def _figures(evaluation: Mapping[str, Any], direction: str) -> list[str]:
    scores, ends = evaluation[direction]["scores"], evaluation[direction]["intervals"]
    cells = [
        f"{_percent(scores[name])}\n[{100 * ends[name][0]:.1f}, {100 * ends[name][1]:.1f}]"
        if name in _WITH_INTERVAL
        else _percent(scores[name])
        for name in _METRICS
    ]
    return [evaluation["model"], *cells]


def _origin(row: Mapping[str, Any], form: str) -> tuple[str, str]:
    """Say what chose a checkpoint, and whether it learned from sentences of the benchmark it is measured on."""
    selected, texts = row["selected_on"] or "unknown", row["training_text"]
    if texts is None:
        return selected, "unknown"
    # Under its label or under the name of its form: one's own label may hide a public benchmark.
    target = row.get("benchmark", form) in texts or form in texts
    return selected, "yes" if target else "no"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _difference(values: Mapping[str, float]) -> str:
    # `z`, because a difference of -0.001 points would be shown as -0.00.
    cells = [f"{100 * values[name]:+z.2f}" for name in _WITH_INTERVAL if name in values]
    return ",\n".join(cells)


def _matrix(evaluations: Sequence[Mapping[str, Any]], keys: Sequence[tuple[str, str]]) -> Table:
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for evaluation in evaluations:
        scores = evaluation["text_to_image"]["scores"]
        row = cells.setdefault(evaluation["model"], {})
        row[evaluation["benchmark"], evaluation["split"]] = f"{_percent(scores['R1'])} / {_percent(scores['mAP'])}"
    return Table(
        title="Across benchmarks: R1 / mAP of text to image, %",
        columns=("", *(f"{benchmark} / {split}" for benchmark, split in keys)),
        groups=[[[model, *(row.get(key, "failed") for key in keys)] for model, row in cells.items()]],
    )


def _notes(
    members: Sequence[Mapping[str, Any]],
    direction: str,
    published: Mapping[str, Any] | None,
    rows: Sequence[Mapping[str, Any]],
) -> list[str]:
    first = members[0]
    lines = [
        f"{first['images']:,} images of {first['identities']:,} people, {first[direction]['queries']:,} queries; "
        f"data {first['data'][:12]}",
        f"[low, high]: {LEVEL:.0%} bootstrap interval over identities",
    ]
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in first["rejected"].items())
    if left_out:
        lines.append(f"left out: {left_out}: {', '.join(first['rejected_examples'])}")
    if first[direction]["queries_without_match"]:
        lines.append(f"left out: {first[direction]['queries_without_match']:,} queries without a match")
    lines += [
        f"{member['model']}: weights {member['fingerprint'][:12]}, learned from text of: {_sources(member)}"
        for member in members
    ]
    lines += [
        f"TEST USED: {member['model']}: {member['selected_on']}; its figures there are no measure of new data"
        for member in members
        if chosen_on_test(member["selected_on"])
    ]
    if published and published["not_comparable"]:
        lines.append(published["not_comparable"])
    if rows:
        lines += [
            "MODEL - row: difference of R1 and mAP in points; published rows are of direct transfer where they say "
            "nothing else, as printed in " + "; ".join(sorted({row["source"] for row in rows}))
        ]
    return lines


def _sources(evaluation: Mapping[str, Any]) -> str:
    texts = evaluation["training_text"]
    return "unknown" if texts is None else ", ".join(texts) or "none"
