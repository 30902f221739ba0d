import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from textreid.errors import ArtifactError
from textreid.evaluation.report import report_tables, to_report, write_report
from textreid.reporting.tables import Table

SCORES = {"R1": 0.5032, "R5": 0.7, "R10": 0.8, "mAP": 0.4574, "mINP": 0.3}
RETRIEVAL = {
    "queries": 6150,
    "queries_without_match": 6,
    "gallery": 3074,
    "scores": SCORES,
    "intervals": {name: [value - 0.02, value + 0.02] for name, value in SCORES.items()},
    "chance": {"R1": 0.001, "R5": 0.005, "R10": 0.01, "mAP": 0.0028, "mINP": 0.0012},
}
EVALUATION: dict[str, Any] = {
    "model": "mine",
    "fingerprint": "0123456789abcdef",
    "selected_on": None,
    "training_text": None,
    "benchmark": "CUHK-PEDES",
    "form": "cuhk-pedes",
    "split": "test",
    "images": 3074,
    "captions": 6156,
    "identities": 1000,
    "data": "fedcba9876543210",
    "rejected": {"absent": 2, "empty": 1},
    "rejected_examples": ["a.png (absent)", "b.png (absent)", "c.png (empty)"],
    "text_to_image": RETRIEVAL,
    "image_to_text": None,
    "words": None,
}
OWN = {"benchmark": "streets", "form": "generic"}


def rows_of(table: Table) -> dict[str, list[str]]:
    return {row[0]: list(row[1:]) for group in table.groups for row in group}


def test_figures_stand_beside_the_published_ones_with_their_difference() -> None:
    (table,) = report_tables(to_report([EVALUATION]))
    assert table.title == "CUHK-PEDES / test: text to image, %"
    assert table.columns[1:] == ["R1", "R5", "R10", "mAP", "mINP", "mine - row", "selected on", "target text used"]
    rows = rows_of(table)
    assert rows["mine"] == [
        "50.32\n[48.3, 52.3]",
        "70.00",
        "80.00",
        "45.74\n[43.7, 47.7]",
        "30.00",
        "",
        *["unknown"] * 2,
    ]
    assert rows["random order"][:5] == ["0.10", "0.50", "1.00", "0.28", "0.12"]
    assert rows["TDE + EM, 0.1 M"] == ["50.32", "", "", "45.74", "", "+0.00,\n+0.00", "test R1", "no"]
    assert rows["TDE + NAM, 0.1 M"][5:] == ["-2.32,\n-0.74", "test R1", "no"]
    assert rows["TDE + NAM, 1.0 M"][5:] == ["-7.29", "test R1", "no"]
    assert rows["IRRA from CLIP, fine-tuned on the target"][6:] == ["unknown", "yes"]
    assert "HAM, 1 M" not in rows
    assert rows_of(report_tables(to_report([EVALUATION]), full=True)[0])["HAM, 1 M"][6:] == ["unknown", "yes"]


def test_what_it_was_measured_on_is_told() -> None:
    notes = report_tables(to_report([EVALUATION]))[0].notes
    assert [note for note in notes if not note.startswith("MODEL - row")] == [
        "3,074 images of 1,000 people, 6,150 queries; data fedcba987654",
        "[low, high]: 95% bootstrap interval over identities",
        "left out: 2 absent, 1 empty: a.png (absent), b.png (absent), c.png (empty)",
        "left out: 6 queries without a match",
        "mine: weights 0123456789ab, learned from text of: unknown",
    ]
    assert "Tan et al." in notes[-1]


@pytest.mark.parametrize(
    ("texts", "cell"),
    [(None, "unknown"), ([], "no"), (["qwen"], "no"), (["qwen", "cuhk-pedes"], "yes"), (["CUHK-PEDES"], "yes")],
)
def test_whether_target_text_was_used(texts: list[str] | None, cell: str) -> None:
    (table,) = report_tables(to_report([EVALUATION | {"training_text": texts}]))
    assert rows_of(table)["mine"][-1] == cell


def test_a_model_that_saw_test_is_stamped() -> None:
    words = "nothing: the last step; watched: the TEST split of CUHK-PEDES"
    (table,) = report_tables(to_report([EVALUATION | {"selected_on": words}]))
    assert [note for note in table.notes if "TEST USED: mine" in note]
    assert rows_of(table)["mine"][-2] == words
    (table,) = report_tables(to_report([EVALUATION | {"selected_on": "the validation split of CUHK-PEDES"}]))
    assert not [note for note in table.notes if "TEST USED" in note]


@pytest.mark.parametrize("change", [{"split": "val"}, {"images": 2000}])
def test_published_figures_are_of_the_same_data_only(change: dict[str, Any]) -> None:
    (table,) = report_tables(to_report([EVALUATION | change]))
    assert list(rows_of(table)) == ["mine", "random order"]
    assert any(note.startswith("published figures are of") for note in table.notes)


def test_own_data_has_no_published_rows() -> None:
    report = to_report([EVALUATION | OWN])
    assert report["published"] == []
    assert list(rows_of(report_tables(report)[0])) == ["mine", "random order"]


def test_models_on_benchmarks_make_a_matrix_with_its_holes() -> None:
    better = copy.deepcopy(EVALUATION) | {"model": "better"}
    better["text_to_image"]["scores"] |= {"R1": 0.9, "mAP": 0.8}
    failure = {"model": "better", "benchmark": "streets", "error": "features are not finite"}
    tables = report_tables(to_report([EVALUATION, EVALUATION | OWN, better], [failure]))
    assert [table.title.split(":")[0] for table in tables] == [
        "CUHK-PEDES / test", "streets / test", "Across benchmarks", "Not evaluated",
    ]  # fmt: skip
    assert rows_of(tables[0])["TDE + NAM, 0.1 M"][5:7] == ["-2.32,\n-0.74", "+37.36,\n+33.52"]
    assert tables[2].columns == ("", "CUHK-PEDES / test", "streets / test")
    assert rows_of(tables[2]) == {"mine": ["50.32 / 45.74", "50.32 / 45.74"], "better": ["90.00 / 80.00", "failed"]}
    assert rows_of(tables[3]) == {"better": ["streets", "features are not finite"]}


def test_the_other_direction_has_a_table_of_its_own() -> None:
    tables = report_tables(to_report([EVALUATION | {"image_to_text": RETRIEVAL}]))
    assert [table.title for table in tables] == [
        "CUHK-PEDES / test: text to image, %", "CUHK-PEDES / test: image to text, %",
    ]  # fmt: skip
    assert list(rows_of(tables[1])) == ["mine", "random order"]


def test_words_have_a_table() -> None:
    loss = {"loss": {"R1": 0.1, "mAP": 0.05}, "loss_interval": {"R1": [-0.01, 0.2], "mAP": [0.01, 0.1]}}
    word = {
        "kind": "colour", "word": "red", "queries": 1200, "identities": 300, "scores": {"R1": 0.4, "mAP": 0.3},
        "other_scores": {"R1": 0.5, "mAP": 0.35}, "difference": {"R1": [-0.2, 0.0], "mAP": [-0.1, 0.0]},
        "shortened": 300, **loss,
    }  # fmt: skip
    unclear, misleads = copy.deepcopy(word) | {"word": "blue"}, copy.deepcopy(word) | {"word": "navy"}
    unclear["loss_interval"] = {"R1": [0, 0], "mAP": [-0.01, 0.1]}
    misleads["loss_interval"] = {"R1": [0, 0], "mAP": [-0.1, -0.01]}
    whole = word | {"word": "any", "loss": None, "loss_interval": None}
    table = report_tables(to_report([EVALUATION | {"words": [whole, word, unclear, misleads]}]))[-1]
    rows = rows_of(table)
    assert rows["colour: red"] == [
        "1,200", "300", "40.0", "50.0", "[-20.0, +0.0]", "30.0", "35.0", "+10.0 [-1.0, +20.0]", "+5.0 [+1.0, +10.0]",
        "yes",
    ]  # fmt: skip
    assert [row[-1] for row in rows.values()] == ["", "yes", "unclear", "misleads"]


def test_everything_is_made_from_the_json(tmp_path: Path) -> None:
    report = to_report([EVALUATION, EVALUATION | OWN])
    write_report(tmp_path / "new" / "report", report)
    read = json.loads((tmp_path / "new" / "report" / "report.json").read_text(encoding="utf-8"))
    assert read == report
    assert report_tables(read, full=True) == report_tables(report, full=True)
    page = (tmp_path / "new" / "report" / "report.md").read_text(encoding="utf-8")
    source = (tmp_path / "new" / "report" / "report.tex").read_text(encoding="utf-8")
    assert "| TDE + NAM, 0.1 M | 52.64 |  |  | 46.48 |  | -2.32, -0.74 | test R1 | no |" in page
    assert r"TDE + NAM, 0.1 M & 52.64 &  &  & 46.48 &  & $-$2.32, $-$0.74 & test R1 & no \\" in source
    assert source.count(r"\begin{table}") == source.count(r"\end{table}") == 3


def test_models_on_different_data_are_not_compared() -> None:
    with pytest.raises(ArtifactError, match=r"CUHK-PEDES / test: .* same images and captions"):
        to_report([EVALUATION, EVALUATION | {"model": "other", "data": "other"}])


@pytest.mark.parametrize("report", [{}, {"kind": "model"}, {"kind": "evaluation", "format_version": 1}])
def test_a_foreign_report_is_refused(report: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="not an evaluation report"):
        report_tables(report)


def test_it_needs_no_torch() -> None:
    code = "import sys, textreid.evaluation.report; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
