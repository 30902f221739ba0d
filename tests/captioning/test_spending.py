"""Prices, and the record of what was used."""

from pathlib import Path

import pytest

from textreid.artifacts import write_text
from textreid.captioning.requests import Usage
from textreid.captioning.spending import USAGE, Price, read_prices, read_usage, write_usage
from textreid.errors import ArtifactError, ConfigError


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
