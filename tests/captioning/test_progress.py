"""Counts, rates and costs of a job."""

from pathlib import Path

import pytest

from textreid.captioning.asking import Answer
from textreid.captioning.captioner import CaptionFailure, Usage
from textreid.captioning.progress import Price, Tally, read_prices
from textreid.datasets.captions import CaptionRow
from textreid.errors import ConfigError


def row(status: str = "ok", mllm: str = "qwen") -> CaptionRow:
    return CaptionRow("1.jpg", f"{mllm}/static", "A man.", mllm, "static", "", "0", 1, status)


def test_tokens_and_hours_cost() -> None:
    assert Price(2.0, 8.0).cost(Usage(1_000_000, 500_000), 3600) == 6.0
    assert Price(hour=3.0).cost(Usage(1_000_000, 500_000), 1800) == 1.5


def test_prices_are_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text('["Qwen/Qwen2.5-VL-7B-Instruct"]\nhour = 2.5\n["small"]\nprompt = 0.1\ncompletion = 4\n')
    assert read_prices(path) == {"Qwen/Qwen2.5-VL-7B-Instruct": Price(hour=2.5), "small": Price(0.1, 4)}
    for text in (
        '["m"]\nprompt = "free"',
        '["m"]\nprompt = -1',
        '["m"]\nprize = 1',
        "m = 3",
        "[m",
        '["m"]\nhour = true',
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"prices\.toml"):
            read_prices(path)
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read"):
        read_prices(tmp_path / "missing.toml")


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
    assert "11 tokens, 3 rejected (refusal 2, markup 1), 2 failed (http-500 1, time-out 1)" in line
    summary = tally.summary({"qwen": Price(1e6, 0)})
    assert summary.startswith(
        "2 captions of 3 images; 2 rows without a usable one (failed-http-500 1, markup 1); 2 new"
    )
    assert summary.endswith("3 asked again (refusal 2, markup 1); cost of this run 10.00")
    counts = tally.to_dict({})
    assert counts["statuses"] == {"failed-http-500": 1, "markup": 1, "ok": 2}
    assert counts["this_run"]["tokens"] == {"qwen": {"prompt_tokens": 10, "completion_tokens": 1}}


def test_the_rate_counts_this_run_only() -> None:
    tally = Tally(1_000)
    for _ in range(900):
        tally.found("ok")
    tally.start(images=1_000, images_done=900)
    assert tally.rate == 0
    assert tally.seconds_left is None
    tally.saved([row()] * 50, image_done=False)
    assert tally.seconds_left == pytest.approx(50 / tally.rate, rel=0.5)
