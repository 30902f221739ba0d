from typing import Any

import pytest

from textreid.training.diagnosis import diagnose

START = {"event": "start", "step": 0, "chance_levels": {"itc": 10.35}}


def log(*losses: float, start: dict[str, Any] | None = START, part: str = "itc") -> list[dict[str, Any]]:
    trained = [{"event": "train", "step": step, "loss": loss, part: loss} for step, loss in enumerate(losses, start=1)]
    return [*([start] if start else []), *trained, {"event": "validation", "step": len(losses), "R1": 0.0}]


def test_a_loss_that_stays_where_everything_looks_alike_is_named() -> None:
    flat = "nothing learned: the itc loss is 10.350, and 10.350 is that of a model to which everything looks alike"
    assert diagnose(log(10.56, 10.36, *[10.35] * 18)) == flat
    assert diagnose(log(10.56, 10.36, 5.0, *[10.35] * 18)) == flat  # it was better once: no matter


@pytest.mark.parametrize("losses", [(10.5, 10.0), (10.5, 9.0, 8.0), (10.5, *[7.0] * 30, 10.5), (10.5,), ()])
def test_a_loss_that_fell_or_hardly_began_is_not(losses: tuple[float, ...]) -> None:
    assert diagnose(log(*losses)) == ""


def test_the_sum_must_fall_whatever_the_losses_are() -> None:
    risen = "the loss has not fallen: 2.000 at first, 2.100 now"
    assert diagnose(log(2.0, 1.5, 2.1)) == risen
    assert diagnose(log(2.0, 1.5, 2.1, start=None)) == risen
    assert diagnose(log(2.0, 1.5, 2.1, start={"event": "start", "step": 0}, part="mlm")) == risen


def test_the_end_is_the_last_tenth() -> None:
    assert diagnose(log(*[5.0] * 18, 5.9, 4.0)) == ""
    assert diagnose(log(*[5.0] * 18, 6.1, 4.0)).startswith("the loss has not fallen: 5.000 at first, 5.050 now")


def test_reads_older_logs() -> None:
    older = {"event": "start", "step": 0, "uninformed_losses": {"itc": 10.35}}
    assert diagnose(log(10.56, *[10.35] * 18, start=older)).startswith("nothing learned")
