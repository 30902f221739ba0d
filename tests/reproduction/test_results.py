"""Means, intervals and tables from reports of evaluations."""

import json
from pathlib import Path

import pytest

from textreid.reproduction import SCALES, find_experiment, make_plan
from textreid.reproduction.intervals import detectable, interval
from textreid.reproduction.results import result_tables, to_results, write_results

R1 = {"tde-em": (0.30, 0.40, 0.35), "tde-nam": (0.32, 0.43, 0.36), "layer-1": (0.31, 0.41, 0.36)}


def write_evaluation(path: Path, r1: float, drawn: bool, not_comparable: str | None = None) -> None:
    """What `textreid evaluate` writes, as far as it is read: benchmarks have titles there."""
    benchmark = "campus" if drawn else "CUHK-PEDES"
    evaluation = {
        "benchmark": benchmark,
        "form": "generic" if drawn else "cuhk-pedes",
        "text_to_image": {"scores": {"R1": r1, "mAP": r1 / 2}, "chance": {"R1": 0.01}},
    }
    published = [{"benchmark": benchmark, "not_comparable": not_comparable}]
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"evaluations": [evaluation], "published": published}))


def test_the_interval_is_that_of_a_table_of_students_t() -> None:
    # Mean 2, deviation 1, three values: 2 ± 4.303 / sqrt(3).
    assert interval([1, 2, 3]) == pytest.approx((2 - 2.4843, 2 + 2.4843), abs=1e-3)
    assert interval([1]) is None
    many = interval([float(number) for number in range(40)])
    assert many is not None
    assert many[0] < 19.5 - 2.02 * 11.69 / 40**0.5 < 19.5 < many[1]


def test_a_miniature_compares_rows_of_equal_seeds(tmp_path: Path) -> None:
    plan = make_plan(find_experiment("fig4"), SCALES["mini"], tmp_path, range(3))
    for planned in plan.rows:
        write_evaluation(planned.report, R1[planned.row.id][planned.seed], drawn=True)
    results = to_results(plan)
    (table,) = result_tables(results)
    cells = {row[0]: row[1:] for row in table.groups[0]}
    assert cells["all four (TDE), EM"] == ["35.00\n[22.6, 47.4]", "17.50\n[11.3, 23.7]", "", "", "50.32"]
    # Differences of 2, 3 and 1 points: narrower than either row by itself.
    assert cells["all four (TDE), NAM"][2:] == ["+2.00\n[-0.5, +4.5]", "+1.00\n[-0.2, +2.2]", "52.64"]
    assert "random order: R1 1.00" in table.notes
    assert {row["x"] for row in results["rows"]} == {None, 1.0, 2.0}
    files = write_results(tmp_path / "written", results)
    assert [file.name for file in files] == ["report.json", "report.md", "report.tex", "plot.png"]
    assert files[3].read_bytes().startswith(b"\x89PNG")
    assert "35.00 [22.6, 47.4]" in files[1].read_text().replace("\\", "")


def test_gains_stand_beside_the_oracles(tmp_path: Path) -> None:
    r1 = {
        "none-0": (0.50, 0.52, 0.51), "none-30": (0.40, 0.41, 0.42), "oracle-30": (0.44, 0.45, 0.465),
        "em-30": (0.42, 0.43, 0.44), "none-50": (0.30, 0.30, 0.30), "oracle-50": (0.25, 0.35, 0.30),
        "nam-50": (0.30, 0.31, 0.32),
    }  # fmt: skip
    plan = make_plan(find_experiment("noise"), SCALES["mini"], tmp_path, range(3))
    for planned in plan.rows:
        if planned.row.id in r1:
            write_evaluation(planned.report, r1[planned.row.id][planned.seed], drawn=True)
    results = to_results(plan)
    (table,) = result_tables(results)
    cells = {row[0]: row[1:] for row in table.groups[0]}
    assert cells["30 % errors, no masking"][2:5] == ["-10.00\n[-12.5, -7.5]", "-5.00\n[-6.2, -3.8]", ""]
    # Two points of the oracle's 4.17.
    assert cells["30 % errors, EM"][2:5] == ["+2.00\n[+2.0, +2.0]", "+1.00\n[+1.0, +1.0]", "0.48"]
    # Of a bound that may be nothing there is no share.
    assert cells["50 % errors, NAM"][2:5] == ["+1.00\n[-1.5, +3.5]", "+0.50\n[-0.7, +1.7]", ""]
    for start in (
        "difference: to 'all four (TDE), no masking'; 'CLIP, no training' for no error, no",
        "power: a true difference of",
    ):
        assert any(note.startswith(start) for note in table.notes), start


def test_the_power_is_that_of_the_pooled_spread() -> None:
    # Deviations of 1 and 3 points over three seeds, pooled 2.236: (4.303 + 1.061) * 2.236 / sqrt(3).
    found = detectable([(0.01, 0.02, 0.03), (0.03, 0.06, 0.09), (0.5,)])
    assert found == pytest.approx(5.364 * 0.02236 / 3**0.5, rel=1e-3)
    assert detectable([(0.1,), ()]) is None


def test_the_mean_over_domains_is_a_table_of_its_own(tmp_path: Path) -> None:
    plan = make_plan(find_experiment("noise"), SCALES["mini"], tmp_path, range(2))
    for planned in plan.rows[:5]:
        write_evaluation(planned.report, 0.2, drawn=True)
        report = json.loads(planned.report.read_text())
        other = {**report["evaluations"][0], "benchmark": "station"}
        other["text_to_image"] = {"scores": {"R1": 0.4, "mAP": 0.2}, "chance": {"R1": 0.01}}
        planned.report.write_text(json.dumps({**report, "evaluations": [*report["evaluations"], other]}))
    results = to_results(plan)
    tables = result_tables(results)
    assert [table.title.split(": ")[1] for table in tables] == [
        "drawn people of campus, %", "drawn people of station, %", "all unseen domains, %",
    ]  # fmt: skip
    assert tables[2].groups[0][0][1].startswith("30.00")
    assert write_results(tmp_path / "written", results)[-1].read_bytes().startswith(b"\x89PNG")


def test_published_stands_beside_measured_where_the_data_is_the_same(tmp_path: Path) -> None:
    plan = make_plan(find_experiment("masking"), SCALES["paper"], tmp_path, [0])
    for planned, r1 in zip(plan.rows, (0.49, 0.51, 0.52), strict=False):
        write_evaluation(planned.report, r1, drawn=False)
    cuhk, icfg, rstp = result_tables(to_results(plan))
    cells = {row[0]: row[1:] for row in cuhk.groups[0]}
    assert cells["all four (TDE), EM"] == ["50.32", "51.00", "+0.68", "45.74", "25.50", "-20.24"]
    assert cells["all four (TDE), no masking"] == ["", "49.00", "", "", "24.50", ""]
    assert cells["NAM and the loss of masked words"][:3] == ["48.79", "", ""]
    assert "not measured: NAM and the loss of masked words" in cuhk.notes
    assert icfg.groups[0][1][1:4] == ["29.12", "", ""]
    assert rstp.title.endswith("rstpreid, %")


def test_no_difference_is_told_on_other_data(tmp_path: Path) -> None:
    plan = make_plan(find_experiment("masking"), SCALES["paper"], tmp_path, [0])
    write_evaluation(plan.rows[1].report, 0.5, False, "published figures are of 3,074 images")
    table = result_tables(to_results(plan))[0]
    assert table.groups[0][1][1:4] == ["50.32", "50.00", ""]
    assert "published figures are of 3,074 images" in table.notes
