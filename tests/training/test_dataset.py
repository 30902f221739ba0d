from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from textreid.captions.table import CaptionRow, write_captions
from textreid.datasets.benchmarks import read_benchmark
from textreid.datasets.records import Benchmark, Record, Rejection
from textreid.errors import DataError
from textreid.evaluation.splits import Validation
from textreid.training.dataset import annotated_people, captioned_images

if TYPE_CHECKING:
    from tests.training.conftest import Corpus


def people(*records: tuple[str, int, int]) -> Benchmark:
    """Of (image, identity, number of captions)."""
    return Benchmark(
        "people",
        Path("imgs"),
        tuple(
            Record(image, identity, tuple(f"{image} {number}" for number in range(captions)), "train")
            for image, identity, captions in records
        ),
    )


def test_labels_are_identities_in_order_whatever_their_numbers() -> None:
    data = annotated_people(people(("a", 40, 2), ("b", 7, 1), ("c", 40, 1), ("d", 9, 0), ("e", 1000, 3)))
    assert data.images == ("a", "b", "c", "e")
    assert data.labels.tolist() == [2, 0, 2, 3]
    assert data.identities == 4  # of the split: "d" has no caption, and yet is somebody
    assert data.image_index.tolist() == [0, 0, 1, 2, 3, 3, 3]
    assert data.captions.to_pylist() == ["a 0", "a 1", "b 0", "c 0", "e 0", "e 1", "e 2"]
    assert len(data) == 7


def test_the_number_of_classes_comes_from_the_people_of_the_split(
    make_people: Callable[..., Path], tmp_path: Path
) -> None:
    whole = read_benchmark(
        "generic", make_people(tmp_path / "people", {"train": 6, "val": 2, "test": 3}, images_each=2)
    )
    data = annotated_people(whole.split("train"))
    assert (data.identities, len(data.images), len(data)) == (6, 12, 24)
    assert data.sources == ("people",)


def test_images_of_a_caption_table_stand_for_themselves(corpus: "Corpus") -> None:
    data = captioned_images(corpus.images, corpus.captions)
    assert data.identities == 0
    assert data.labels.tolist() == list(range(60))
    assert data.sources == ("m",)


def test_images_that_were_left_out_as_the_data_was_read_are_counted(tmp_path: Path) -> None:
    rejected = (
        Rejection(0, "a", "train", "empty"),  # it has other captions
        Rejection(2, "lost", "train", "empty"),
        Rejection(2, "lost", "train", "no-words"),
        Rejection(3, "gone", "train", "absent"),
        Rejection(4, "quiet", "train", "no-captions"),  # it came without any
    )
    data = annotated_people(replace(people(("a", 1, 1), ("b", 2, 1), ("lost", 3, 0)), rejected=rejected))
    assert (data.images, data.rejected, data.images_lost) == (("a", "b"), 3, 2)
    rows = [
        CaptionRow(image, slot, "a man", "m", "static", "", "", 0, status)
        for image, slot, status in [
            ("a.png", "m/0", "ok"), ("a.png", "m/1", "refusal"), ("b.png", "m/0", "ok"), ("c.png", "m/0", "refusal"),
        ]
    ]  # fmt: skip
    write_captions(tmp_path / "captions", rows)
    data = captioned_images(tmp_path, tmp_path / "captions")
    assert (data.images, data.rejected, data.images_lost) == (("a.png", "b.png"), 2, 1)


def test_the_fingerprint_sees_paths_captions_and_identities() -> None:
    base = people(("a", 1, 2), ("b", 2, 1))
    same = annotated_people(base).fingerprint
    assert annotated_people(people(("a", 10, 2), ("b", 20, 1))).fingerprint == same  # other numbers, same people
    others = [
        people(("a", 2, 2), ("b", 1, 1)), people(("a", 1, 1), ("b", 2, 1)), people(("c", 1, 2), ("b", 2, 1)),
    ]  # fmt: skip
    assert len({same, *(annotated_people(other).fingerprint for other in others)}) == 4


def test_one_identity_has_nothing_to_tell_apart() -> None:
    with pytest.raises(DataError, match="only one identity with captions to train on: nothing to tell apart"):
        annotated_people(people(("a", 1, 2), ("b", 1, 1)))
    with pytest.raises(DataError, match="only one identity with captions"):
        annotated_people(people(("a", 1, 2), ("b", 2, 0)))
    with pytest.raises(DataError, match="people: no image has a caption to train on"):
        annotated_people(people(("a", 1, 0), ("b", 2, 0)))
    data = annotated_people(people(("a", 1, 2), ("b", 2, 1)))
    with pytest.raises(DataError, match="only 1 image with captions"):
        replace(data, images=("a",), labels=data.labels[:1], identities=0)


def test_a_benchmark_of_several_splits_gives_its_training_split(
    make_people: Callable[..., Path], tmp_path: Path
) -> None:
    whole = read_benchmark(
        "generic", make_people(tmp_path / "people", {"train": 6, "val": 2, "test": 3}, images_each=2)
    )
    assert annotated_people(whole).images == annotated_people(whole.split("train")).images
    assert annotated_people(whole.split("test")).identities == 3


@pytest.mark.parametrize(("image", "identity", "found"), [("c", 7, "1 people, 7"), ("a", 9, "1 images, .*/imgs/a")])
def test_an_image_or_a_person_of_the_validation_set_is_refused(
    image: str, identity: int, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = annotated_people(people(("a", 40, 2), ("b", 7, 1)))
    part = Validation(people((image, identity, 1)), "a street")
    with pytest.raises(DataError, match=rf"^{found} for one, are in the training set and in the validation set, a str"):
        data.refuse_overlap(part)
    data.refuse_overlap(Validation(people(("c", 9, 1)), "a street"))
    # The same folder by another name, and images that nobody annotated.
    (tmp_path / "imgs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "imgs")
    with pytest.raises(DataError, match=rf"^{found} for one"):
        data.refuse_overlap(replace(part, part=replace(part.part, image_root=tmp_path / "link")))
    if image == "a":
        with pytest.raises(DataError, match=rf"^{found} for one"):
            replace(data, people=frozenset(), identities=0).refuse_overlap(part)
