"""Counts, rates and costs of a job."""

from dataclasses import replace

import pytest
from tests.captioning.scripted import tokens

from textreid.captioning.counts import JobCounts
from textreid.captioning.requests import Answer, CaptionFailure, Usage
from textreid.captioning.spending import Price
from textreid.captions.table import CaptionRow


def row(status: str = "ok", mllm: str = "qwen") -> CaptionRow:
    return CaptionRow("1.jpg", f"{mllm}/static", "A man.", mllm, "static", "", "0", 1, status)


def test_a_cost_needs_a_price_for_every_model() -> None:
    counts = JobCounts(10)
    counts.start(images=5, images_done=0)
    prices = {"qwen": Price(1.0, 2.0)}
    assert counts.cost(prices) is None
    counts.answered(Answer(row(), usage=Usage(2_000_000, 1_000_000)))
    assert counts.cost(prices) == 4.0
    counts.answered(Answer(row(mllm="shikra")))
    assert counts.cost(prices) is None


def test_the_line_and_the_summary_name_every_trouble() -> None:
    counts = JobCounts(6)
    counts.found("ok")
    counts.found("failed-http-500")
    counts.start(images=3, images_done=1)
    failure = CaptionFailure("time-out", "no answer within 5 s")
    counts.answered(Answer(row(), ("refusal", "markup", "refusal"), Usage(10, 1)))
    counts.answered(Answer(row("failed-time-out"), failure=failure))
    counts.saved([row(), row("markup")], image_done=True)
    assert (counts.done, counts.images_done, counts.failed, counts.first_failure) == (4, 2, 1, "no answer within 5 s")
    line = counts.line({})
    assert line.startswith("2 images, ")
    assert "11 tokens, cost unknown (no price of it in --prices), 3 rejected (refusal 2, markup 1), " in line
    assert line.endswith("2 failed (http-500 1, time-out 1)")
    summary = counts.summary({"qwen": Price(1e6, 0)})
    assert summary.startswith(
        "2 captions of 3 images; 2 rows without a usable one (failed-http-500 1, markup 1); 2 new"
    )
    assert summary.endswith("3 asked again (refusal 2, markup 1); 11 tokens; cost 10.00")
    assert counts.summary({}).endswith("11 tokens; cost unknown (no price of it in --prices)")
    values = counts.to_dict({})
    assert values["statuses"] == {"failed-http-500": 1, "markup": 1, "ok": 2}
    spent = values["this_run"]["spent"]["qwen"]
    assert (spent["prompt_tokens"], spent["completion_tokens"]) == (10, 1)


def test_cost_and_tokens_are_those_of_all_runs() -> None:
    counts = JobCounts(10, {"qwen": Usage(1_000_000, 0, 1800), "shikra": Usage(5, 5, 5)})
    counts.start(images=5, images_done=0)
    counts.answered(Answer(row(), usage=Usage(1_000_000, 500_000)))
    assert tokens(counts.usage["qwen"]) == (2_000_000, 500_000)
    assert counts.usage["shikra"] == Usage(5, 5, 5)
    assert counts.cost({"qwen": Price(1.0, 2.0, hour=4.0)}) == pytest.approx(2 + 1 + 2, abs=0.01)
    assert "2,500,000 tokens; cost 3.00" in counts.summary({"qwen": Price(1.0, 2.0)})


def test_what_the_server_does_not_count_has_no_price_a_token() -> None:
    counts = JobCounts(10)
    counts.start(images=5, images_done=0)
    counts.answered(Answer(row()))
    assert counts.cost({"qwen": Price(1.0, 2.0)}) is None
    assert counts.cost({"qwen": Price(hour=2.0)}) is not None


def test_the_rate_counts_this_run_only() -> None:
    counts = JobCounts(1_000)
    for _ in range(900):
        counts.found("ok")
    counts.start(images=1_000, images_done=900)
    assert counts.rate == 0
    assert counts.seconds_left is None
    counts.saved([row()] * 50, image_done=False)
    assert counts.seconds_left == pytest.approx(50 / counts.rate, rel=0.5)


@pytest.mark.parametrize(
    ("rows", "ends"),
    [
        ([row()] * 30, "look at qwen: it says the same of every image; does it see them?"),
        (
            [row(), replace(row(), caption="A lady."), *[row("refusal")] * 38],
            "look at qwen: only 5% of its 40 captions can be used",
        ),
        ([row()] * 9, "new in 0 s"),
        ([row(), replace(row(), caption="A lady.")] * 15 + [row("refusal")] * 10, "new in 0 s"),
    ],
)
def test_the_summary_names_what_is_odd_in_many_captions(rows: list[CaptionRow], ends: str) -> None:
    counts = JobCounts(len(rows))
    counts.start(images=len(rows), images_done=0)
    counts.saved(rows, image_done=True)
    assert counts.summary({}).endswith(ends)
