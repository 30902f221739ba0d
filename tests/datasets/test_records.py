"""Fingerprints and the validation split of a benchmark."""

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from textreid.datasets.records import Benchmark, Record
from textreid.errors import AnnotationError


def benchmark_of(identities: list[int], split: str = "train") -> Benchmark:
    records = (Record(f"{n:05}.jpg", identity, (f"caption {n}",), split) for n, identity in enumerate(identities))
    return Benchmark("people", Path("nowhere"), tuple(records))


@given(st.lists(st.integers(0, 60), min_size=2, max_size=120), st.integers(0, 2**32), st.randoms())
def test_the_validation_split_divides_people(identities: list[int], seed: int, chance: random.Random) -> None:
    people = set(identities)
    benchmark = benchmark_of(identities)
    if len(people) < 2:
        with pytest.raises(AnnotationError, match="leaves nobody to train on"):
            benchmark.validation_split(seed)
        return
    rest, aside = benchmark.validation_split(seed)
    kept, held = ({record.identity for record in part.records} for part in (rest, aside))
    assert kept.isdisjoint(held)
    assert kept | held == people
    assert len(held) == max(1, round(0.1 * len(people)))
    assert aside.splits == {"validation": len(aside.records)}
    assert rest.splits == {"train": len(rest.records)}
    back = sorted((*rest.records, *(replace(r, split="train") for r in aside.records)), key=lambda r: r.image)
    assert back == list(benchmark.records)
    shuffled = list(benchmark.records)
    chance.shuffle(shuffled)
    again_rest, again_aside = replace(benchmark, records=tuple(shuffled)).validation_split(seed)
    assert set(again_rest.records) == set(rest.records)
    assert again_aside.list_fingerprint == aside.list_fingerprint


def test_seeds_and_shares_choose() -> None:
    benchmark = benchmark_of(list(range(200)))
    parts = {seed: benchmark.validation_split(seed)[1] for seed in range(20)}
    assert len({part.list_fingerprint for part in parts.values()}) == 20
    drawn = {record.identity for part in parts.values() for record in part.records}
    assert 150 < len(drawn) < 195  # 20 independent draws of 10 % miss 12 % of the people
    assert len(benchmark.validation_split(0, share=0.25)[1].records) == 50
    with pytest.raises(AnnotationError, match="setting 100% of 200 people aside"):
        benchmark.validation_split(0, share=1.0)


def test_the_choice_never_changes() -> None:
    """Reports of older versions name the same split by the same seed."""
    aside = benchmark_of(list(range(100))).validation_split(0)[1]
    assert sorted(record.identity for record in aside.records) == [2, 4, 7, 16, 30, 43, 46, 64, 92, 98]


def test_the_list_fingerprint_is_of_what_is_listed(tmp_path: Path) -> None:
    benchmark = benchmark_of([1, 1, 2])
    same = replace(benchmark, name="other", image_root=tmp_path, records=benchmark.records[::-1], form="cuhk-pedes")
    assert same.list_fingerprint == benchmark.list_fingerprint
    first, *others = benchmark.records
    changes: list[dict[str, Any]] = [
        {"image": "x.jpg"}, {"identity": 3}, {"captions": ()}, {"captions": ("caption 0", "x")}, {"split": "test"},
    ]  # fmt: skip
    changed = [replace(benchmark, records=(replace(first, **change), *others)) for change in changes]
    assert len({part.list_fingerprint for part in [benchmark, *changed]}) == len(changes) + 1


def test_anyone_can_recompute_the_list_fingerprint() -> None:
    records = (Record("ü.jpg", 4, ("a, “b”",), "test"), Record("a.jpg", 5, (), "test"))
    listed = [
        {"image": "a.jpg", "identity": 5, "split": "test", "captions": []},
        {"image": "ü.jpg", "identity": 4, "split": "test", "captions": ["a, “b”"]},
    ]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in listed)
    found = Benchmark("people", Path("nowhere"), records).list_fingerprint
    assert found == hashlib.sha256(text.encode()).hexdigest()
