"""Counts, rates, prices and costs of a job, and the record of what was used."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.captioning.scripted import tokens

from textreid.artifacts import write_text
from textreid.captioning.counts import USAGE, JobCounts, Price, read_prices, read_usage, write_usage
from textreid.captioning.requests import Answer, CaptionFailure, Usage
from textreid.captions.table import CaptionRow
from textreid.errors import ArtifactError, ConfigError


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
    counts.saved([row()] * 50, image_done=False)
    assert counts.rate * counts.seconds == pytest.approx(50, rel=0.5)


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


def test_tokens_and_hours_cost() -> None:
    assert Price(2.0, 8.0).cost(Usage(1_000_000, 500_000, 3600)) == 6.0
    assert Price(hour=3.0).cost(Usage(1_000_000, 500_000, 1800)) == 1.5


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
        '["m"]\nhour = inf',
        '["m"]\nhour = nan',
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"prices\.toml"):
            read_prices(path)
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read"):
        read_prices(tmp_path / "missing.toml")


def test_the_record_is_read_back(tmp_path: Path) -> None:
    assert read_usage(tmp_path) == {}
    spent = {"qwen": Usage(7, 3, 12.5), "shikra": Usage()}
    for _ in range(2):
        write_usage(tmp_path, spent)
    assert read_usage(tmp_path) == spent
    assert [path.name for path in tmp_path.iterdir()] == [USAGE]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"kind": "caption-usage", "format_version": 2, "mllms": {}}',
        '{"kind": "caption-usage", "format_version": 1}',
        '{"kind": "caption-usage", "format_version": 1, "mllms": {"qwen": {"seconds": 1}}}',
        '{"kind": "caption-usage", "format_version": 1, "mllms": {"qwen": 5}}',
        '{"kind": "caption-usage", "format_version": 1, "mllms": '
        '{"qwen": {"prompt_tokens": "1", "completion_tokens": 1, "seconds": 1}}}',
    ],
)
def test_a_damaged_record_is_named(text: str, tmp_path: Path) -> None:
    write_text(tmp_path / USAGE, text)
    with pytest.raises(ArtifactError, match=r"usage\.json: "):
        read_usage(tmp_path)


def test_what_a_person_should_look_at_is_told_while_the_job_runs() -> None:
    counts = JobCounts(60)
    counts.start(images=60, images_done=0)
    counts.saved([row() for _ in range(23)], image_done=True)
    assert "look at" not in counts.line({})
    counts.saved([row()], image_done=True)
    assert counts.line({}).endswith("look at qwen: it says the same of every image; does it see them?")
