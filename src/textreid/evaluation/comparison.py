"""Several models on several benchmarks: what fails is reported, and does not lose the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from textreid.artifacts import write_text
from textreid.datasets.records import Benchmark
from textreid.errors import DataError, TextReidError
from textreid.evaluation.encoding import MAX_UNREADABLE, Encoder, Progress, encode_split
from textreid.evaluation.failures import worst_queries
from textreid.evaluation.failures_page import FailureSection, failures_page
from textreid.evaluation.protocol import measure
from textreid.evaluation.report import to_report

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
        failures: file of the page of failures, or None.
        max_unreadable: share of the images of a split that may be unreadable.
    """

    image_to_text: bool = False
    words: bool = False
    failures: Path | None = None
    max_unreadable: float = MAX_UNREADABLE


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
            evaluations.append(section.evaluation.to_dict())
            sections += [section] if measures.failures else []
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
    evaluation = measure(model, encoded, name=name, image_to_text=measures.image_to_text, words=measures.words)
    worst = worst_queries(model, encoded, evaluation.text_to_image.per_query) if measures.failures else []
    return FailureSection(evaluation, worst)


def _failure(candidate: Candidate, part: Benchmark, error: TextReidError) -> dict[str, str]:
    return {"model": candidate.name, "benchmark": part.name, "error": " ".join(str(error).split())}
