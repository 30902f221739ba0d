import io
import json
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from textreid.errors import ArtifactError
from textreid.evaluation.report import render, to_report

EVALUATION: dict[str, Any] = {
    "name": "tiny",
    "fingerprint": "0123456789abcdef",
    "selected_on": None,
    "benchmark": "streets",
    "split": "test",
    "images": 3074,
    "captions": 6156,
    "identities": 1000,
    "data": "fedcba9876543210",
    "rejected": {"absent": 2, "empty": 1},
    "rejected_examples": ["a.png (absent)", "b.png (absent)", "c.png (empty)"],
    "queries": 6150,
    "queries_without_match": 6,
    "scores": {"R1": 0.5032, "R5": 0.7, "R10": 0.8, "mAP": 0.4574, "mINP": 0.3},
    "intervals": {"R1": [0.48, 0.52], "mAP": [0.44, 0.47]},
    "chance": {"R1": 0.001, "R5": 0.005, "R10": 0.01, "mAP": 0.0028, "mINP": 0.0012},
}


def printed(report: dict[str, Any], width: int = 120) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(render(report))
    return stream.getvalue()


def test_it_prints_every_figure_in_per_cent() -> None:
    text = printed(to_report([EVALUATION, EVALUATION | {"name": "colours", "selected_on": "streets / val"}]))
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == ["tiny", "colours", "random ranking (expected)"]
    assert [cell.strip() for cell in rows[0].split("│")[2:-1]] == [
        "50.32 [48.0, 52.0]", "70.00", "80.00", "45.74 [44.0, 47.0]", "30.00",
    ]  # fmt: skip
    for part in (
        "streets / test: text to image, %",
        "3,074 images of 1,000 people, 6,150 queries; data fedcba987654",
        "left out: 2 absent, 1 empty: a.png (absent), b.png (absent), c.png (empty)",
        "left out: 6 queries without an image of their identity",
        "tiny: 0123456789ab, checkpoint selected on data that is not recorded",
        "colours: 0123456789ab, checkpoint selected on streets / val",
    ):
        assert part in text


def test_a_report_survives_json() -> None:
    report = to_report([EVALUATION])
    assert printed(json.loads(json.dumps(report))) == printed(report)


def test_names_are_not_markup() -> None:
    assert "[red]model[/red]" in printed(to_report([EVALUATION | {"name": "[red]model[/red]"}]), width=200)


def test_models_on_different_data_are_not_compared() -> None:
    with pytest.raises(ArtifactError, match="same images and captions"):
        to_report([EVALUATION, EVALUATION | {"data": "other"}])


@pytest.mark.parametrize("report", [{}, {"kind": "model"}, {"kind": "evaluation", "format_version": 99}])
def test_a_foreign_report_is_refused(report: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="not an evaluation report"):
        render(report)


def test_it_needs_no_torch() -> None:
    code = "import sys, textreid.evaluation.report; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
