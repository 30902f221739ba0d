"""Published figures (``published.toml``) beside measured ones, where both are of the same test split."""

import tomllib
from dataclasses import astuple
from functools import cache
from importlib.resources import files
from typing import Any

from textreid.datasets.benchmarks import PUBLISHED, Counts

DIRECT_TRANSFER = "direct transfer"  # the setting of a row whose model was not trained on the target
_TOLERANCE = 0.01  # of the images or sentences may be absent, as in a copy with a few broken files


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(files("textreid.evaluation").joinpath("published.toml").read_text(encoding="utf-8"))


def published_rows(benchmark: str) -> list[dict[str, Any]]:
    """List what was published on the test split of a benchmark, as JSON values; empty where nothing is known.

    A row has ``name``, ``setting``, ``source``, ``main``, ``selected_on`` and ``training_text`` (None: not known) and
    ``scores``, as fractions of 1.
    """
    tables = _tables()
    return [
        {
            "name": row["name"],
            "setting": row["setting"],
            "source": tables["sources"][row["source"]],
            "main": row.get("main", False),
            "selected_on": row.get("selected_on"),
            "training_text": row.get("training_text"),
            "scores": {score: value / 100 for score, value in row[benchmark].items()},
        }
        for row in tables["rows"]
        if benchmark in row
    ]


def why_not_comparable(benchmark: str, split: str, size: Counts) -> str | None:
    """Say why the published figures do not belong beside a measurement on a split of this size; None where they do.

    Raises:
        KeyError: nothing is published on the benchmark.
    """
    if split != "test":
        return f"published figures are of the test split, not of {split}"
    known = PUBLISHED[benchmark].splits["test"]
    # Where the paper and the distributed file differ in size, either will do.
    for expected in known:
        sides = zip(astuple(size), astuple(expected), strict=True)
        if all(abs(here - there) <= _TOLERANCE * there for here, there in sides):
            return None
    return f"published figures are of {_in_words(known[0])}; here are {_in_words(size)}"


def _in_words(counts: Counts) -> str:
    return f"{counts.images:,} images, {counts.captions:,} sentences, {counts.identities:,} people"
