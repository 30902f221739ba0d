import tomllib
from importlib.resources import files

import pytest

from textreid.datasets.benchmarks import PUBLISHED, Counts
from textreid.evaluation.published import published_rows, why_not_comparable

TABLES = tomllib.loads(files("textreid.evaluation").joinpath("published.toml").read_text(encoding="utf-8"))
FIELDS = {"name", "setting", "source", "main", "selected_on", "training_text", *PUBLISHED}


@pytest.mark.parametrize("row", TABLES["rows"], ids=lambda row: f"{row['name']}, {row['setting']}")
def test_every_row_is_whole_and_plausible(row: dict[str, object]) -> None:
    assert set(row) <= FIELDS
    assert row["source"] in TABLES["sources"]
    scores = [row[name] for name in PUBLISHED if name in row]
    assert scores
    for each in scores:
        assert isinstance(each, dict)
        assert set(each) in ({"R1"}, {"R1", "mAP"})
        assert all(1 < value < 100 for value in each.values())


def test_rows_have_names_of_their_own() -> None:
    names = [(row["name"], row["setting"]) for row in TABLES["rows"]]
    assert len(set(names)) == len(names) == 31


def test_the_figures_of_the_paper() -> None:
    rows = {(row["name"], row["setting"]): row for row in published_rows("icfg-pedes")}
    assert rows["TDE + NAM, 0.1 M", "direct transfer"]["scores"] == pytest.approx({"R1": 0.3261, "mAP": 0.1648})
    assert rows["IRRA from TDE + NAM, 1.0 M", "fine-tuned on cuhk-pedes"]["scores"] == pytest.approx({"R1": 0.4938})
    assert rows["GA-DMS, WebPerson, 5 M", "direct transfer"]["training_text"] is None
    assert published_rows("generic") == []


@pytest.mark.parametrize(
    ("split", "size", "reason"),
    [
        ("test", Counts(3074, 6156, 1000), None),
        ("test", Counts(3060, 6130, 998), None),
        ("test", Counts(3000, 6156, 1000), "3,074 images, 6,156 sentences, 1,000 people; here are 3,000 images"),
        ("val", Counts(3078, 6156, 1000), "of the test split, not of val"),
    ],
)
def test_published_figures_stand_beside_the_same_data_only(split: str, size: Counts, reason: str | None) -> None:
    found = why_not_comparable("cuhk-pedes", split, size)
    assert (found is None) == (reason is None)
    assert (reason or "") in (found or "")
