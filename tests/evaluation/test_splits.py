from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from textreid.datasets.records import Benchmark, Record
from textreid.errors import AnnotationError
from textreid.evaluation.splits import Validation, chosen_on_test, split_for_training, split_of, validation
from textreid.images import read_image


def benchmark(*splits: str) -> Benchmark:
    """Forty people in each split, two images each."""
    records = tuple(
        Record(f"{split}{i}.png", 100 * number + i // 2, ("a man",), split)
        for number, split in enumerate(splits)
        for i in range(80)
    )
    return Benchmark("streets", Path("nowhere"), records)


def test_the_validation_split_of_its_own_comes_first() -> None:
    found = validation(benchmark("train", "val", "test"))
    assert found.name == "the validation split of streets"
    assert {record.split for record in found.part.records} == {"val"}
    assert split_of(benchmark("train", "val"), "val") == found.part


def test_else_a_tenth_of_the_training_people_is_set_aside() -> None:
    found = validation(benchmark("train", "test"), seed=3)
    people = {record.identity for record in found.part.records}
    assert found.name == "10% of the training people (seed 3) of streets"
    assert len(people) == 4
    assert people < set(range(40))
    assert validation(benchmark("train", "test"), seed=3) == found
    assert validation(benchmark("train", "test"), seed=4).part != found.part
    assert split_of(benchmark("train"), "val").splits == {"validation": 8}


def test_test_is_taken_only_when_asked_and_is_stamped() -> None:
    with pytest.raises(AnnotationError, match=r"no validation split \(val\), and no train split .* there are: test"):
        validation(benchmark("test"))
    found = validation(benchmark("train", "val", "test"), on_test=True)
    assert {record.split for record in found.part.records} == {"test"}
    assert chosen_on_test(found.name)
    assert chosen_on_test(f"nothing: the last step; watched: {found.name}")
    assert not chosen_on_test(validation(benchmark("val")).name)
    assert not chosen_on_test(None)


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val", "test")])
def test_nobody_is_trained_on_and_validated_on(splits: tuple[str, ...]) -> None:
    whole = benchmark(*splits)
    people, held = split_for_training(whole)
    assert held is not None
    assert {record.identity for record in people.records} & {identity for _, identity in held.people} == set()
    assert {f"{Path('nowhere').resolve()}/{record.image}" for record in people.records} & held.images == set()
    assert len(people.records) + len(held.part.records) == 80 * (len(splits) - 1)
    assert held == validation(whole)


def test_nobody_is_set_aside_unless_asked() -> None:
    people, held = split_for_training(benchmark("train", "test"), set_aside=False)
    assert (len(people.records), held) == (80, None)
    people, held = split_for_training(benchmark("train", "val"), set_aside=False)
    assert held == validation(benchmark("train", "val"))
    with pytest.raises(AnnotationError, match="no split 'train'"):
        split_for_training(benchmark("val", "test"))


class Dull:
    """Encodes everything alike, and has no fingerprint."""

    selected_on = training_text = None

    @property
    def fingerprint(self) -> str:
        raise AssertionError("hashed all weights for a figure")

    def encode_images(self, images: Sequence[Path]) -> npt.NDArray[np.float32]:
        return np.ones((len(images), 2), np.float32)

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.ones((len(texts), 2), np.float32)


def test_a_validation_tells_the_share_of_images_that_it_could_not_read(tmp_path: Path) -> None:
    class Reading(Dull):
        def encode_images(self, images: Sequence[Path]) -> npt.NDArray[np.float32]:
            for path in images:
                read_image(path)
            return super().encode_images(images)

    part = validation(benchmark("val")).part
    for record in part.records:
        (tmp_path / record.image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 40)).save(tmp_path / record.image)
    whole = Validation(replace(part, image_root=tmp_path), "whole")
    assert "unreadable" not in whole.measure(Reading())
    (tmp_path / part.records[0].image).write_bytes(b"")
    assert whole.measure(Reading())["unreadable"] == pytest.approx(1 / len(part.records))


def test_a_validation_computes_neither_fingerprint_nor_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("intervals that nobody reads")

    monkeypatch.setattr("textreid.evaluation.protocol.bootstrap_means", refuse)
    scores = validation(benchmark("val")).measure(Dull())
    assert list(scores) == ["R1", "R5", "R10", "mAP", "mINP"]
    assert scores["R1"] == scores["R10"] == 0 < scores["mAP"]  # equal scores for all count against the model
