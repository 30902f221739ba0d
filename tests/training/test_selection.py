import pytest

from textreid.errors import ConfigError
from textreid.training.selection import Selection

X = "the validation split of X"
RECORDS = [
    {"event": "start", "step": 0},
    {"event": "validation", "validation_set": X, "step": 0, "epoch": 0.0, "R1": 0.9},
    {"event": "validation", "validation_set": X, "step": 4, "epoch": 1.0, "R1": 0.25},
    {"event": "train", "step": 5, "loss": 1.0},
    {"event": "validation", "validation_set": X, "step": 8, "epoch": 2.0, "R1": 0.5},
    {"event": "validation", "validation_set": X, "step": 12, "epoch": 3.0, "R1": 0.5},
    {"event": "validation", "validation_set": X, "step": 16, "epoch": 4.0, "R1": 0.375},
]


def test_keeps_the_first_of_the_best_epochs_but_never_the_model_it_started_from() -> None:
    selection = Selection.from_records("validation", X, RECORDS)
    assert selection.kept_step == 8
    assert selection.describe() == "R1 0.375 after epoch 4, the last; best 0.5 after epoch 2"
    assert selection.selected_on() == "the validation split of X (R1)"
    assert not selection.offer(20, 5.0, {"R1": 0.5})
    assert selection.offer(24, 6.0, {"R1": 0.75})
    assert selection.describe() == "R1 0.75 after epoch 6, the last and best"


def test_the_last_is_kept_whatever_was_measured() -> None:
    selection = Selection.from_records("last", X, RECORDS)
    assert selection.kept_step is None
    assert selection.best is not None
    assert selection.best.step == 8
    assert selection.selected_on() == "nothing: the last step; watched: the validation split of X"
    assert Selection("last", None).selected_on() == "nothing: the last step"
    assert Selection("last", None).describe() == ""


def test_needs_r1_to_choose_by() -> None:
    assert not Selection("last", "X").offer(4, 1.0, {"loss": 1.0})
    with pytest.raises(ConfigError, match=r"training\.select: validation, but the figures of it hold no R1"):
        Selection("validation", "X").offer(4, 1.0, {"loss": 1.0})


def test_names_every_set_that_was_watched_and_compares_only_figures_of_the_present_one() -> None:
    other = {"event": "validation", "validation_set": "the TEST split of Y", "step": 12, "epoch": 3.0, "R1": 0.125}
    selection = Selection.from_records("last", None, [*RECORDS[:3], other])
    assert selection.selected_on() == f"nothing: the last step; watched: {X}, the TEST split of Y"
    assert selection.describe() == "R1 0.125 after epoch 3, the last and best"
    again = Selection.from_records("last", X, [*RECORDS[:3], other])
    assert again.describe() == "R1 0.25 after epoch 1, the last and best"
    again.offer(16, 4.0, {"R1": 0.5})
    assert again.selected_on() == selection.selected_on()


def test_reads_older_logs() -> None:
    without = [{name: value for name, value in record.items() if name != "validation_set"} for record in RECORDS]
    assert Selection.from_records("validation", X, without) == Selection.from_records("validation", X, RECORDS)
    assert Selection.from_records("last", None, without).selected_on() == "nothing: the last step"
    renamed = [{**record, "watched": X} if record["event"] == "validation" else record for record in without]
    assert Selection.from_records("last", None, renamed) == Selection.from_records("last", None, RECORDS)
