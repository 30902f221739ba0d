"""Counts, rates and costs of a job."""

import pytest

from textreid.captioning.asking import Answer
from textreid.captioning.progress import Tally
from textreid.captioning.requests import CaptionFailure, Usage
from textreid.captioning.spending import Price, Spent
from textreid.captions.table import CaptionRow


def row(status: str = "ok", mllm: str = "qwen") -> CaptionRow:
    return CaptionRow("1.jpg", f"{mllm}/static", "A man.", mllm, "static", "", "0", 1, status)


def test_a_cost_needs_a_price_for_every_model() -> None:
    tally = Tally(10)
    tally.start(images=5, images_done=0)
    prices = {"qwen": Price(1.0, 2.0)}
    assert tally.cost(prices) is None
    tally.answered(Answer(row(), usage=Usage(2_000_000, 1_000_000)))
    assert tally.cost(prices) == 4.0
    tally.answered(Answer(row(mllm="shikra")))
    assert tally.cost(prices) is None


def test_the_line_and_the_summary_name_every_trouble() -> None:
    tally = Tally(6)
    tally.found("ok")
    tally.found("failed-http-500")
    tally.start(images=3, images_done=1)
    failure = CaptionFailure("time-out", "no answer within 5 s")
    tally.answered(Answer(row(), ("refusal", "markup", "refusal"), Usage(10, 1)))
    tally.answered(Answer(row("failed-time-out"), failure=failure))
    tally.saved([row(), row("markup")], image_done=True)
    assert (tally.done, tally.images_done, tally.failed, tally.first_failure) == (4, 2, 1, "no answer within 5 s")
    line = tally.line({})
    assert line.startswith("2 images, ")
    assert "11 tokens, cost unknown (no price of it in --prices), 3 rejected (refusal 2, markup 1), " in line
    assert line.endswith("2 failed (http-500 1, time-out 1)")
    summary = tally.summary({"qwen": Price(1e6, 0)})
    assert summary.startswith(
        "2 captions of 3 images; 2 rows without a usable one (failed-http-500 1, markup 1); 2 new"
    )
    assert summary.endswith("3 asked again (refusal 2, markup 1); 11 tokens; cost 10.00")
    assert tally.summary({}).endswith("11 tokens; cost unknown (no price of it in --prices)")
    counts = tally.to_dict({})
    assert counts["statuses"] == {"failed-http-500": 1, "markup": 1, "ok": 2}
    tokens = counts["this_run"]["spent"]["qwen"]
    assert (tokens["prompt_tokens"], tokens["completion_tokens"]) == (10, 1)


def test_cost_and_tokens_are_those_of_all_runs() -> None:
    tally = Tally(10, {"qwen": Spent(Usage(1_000_000, 0), 1800), "shikra": Spent(Usage(5, 5), 5)})
    tally.start(images=5, images_done=0)
    tally.answered(Answer(row(), usage=Usage(1_000_000, 500_000)))
    assert tally.spent["qwen"].usage == Usage(2_000_000, 500_000)
    assert tally.spent["shikra"] == Spent(Usage(5, 5), 5)
    assert tally.cost({"qwen": Price(1.0, 2.0, hour=4.0)}) == pytest.approx(2 + 1 + 2, abs=0.01)
    assert "2,500,000 tokens; cost 3.00" in tally.summary({"qwen": Price(1.0, 2.0)})


def test_what_the_server_does_not_count_has_no_price_a_token() -> None:
    tally = Tally(10)
    tally.start(images=5, images_done=0)
    tally.answered(Answer(row()))
    assert tally.cost({"qwen": Price(1.0, 2.0)}) is None
    assert tally.cost({"qwen": Price(hour=2.0)}) is not None


def test_the_rate_counts_this_run_only() -> None:
    tally = Tally(1_000)
    for _ in range(900):
        tally.found("ok")
    tally.start(images=1_000, images_done=900)
    assert tally.rate == 0
    assert tally.seconds_left is None
    tally.saved([row()] * 50, image_done=False)
    assert tally.seconds_left == pytest.approx(50 / tally.rate, rel=0.5)
