import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from textreid.datasets.records import Benchmark, Record, Rejection
from textreid.errors import AnnotationError, DataError
from textreid.evaluation import evaluate, retrieval_metrics
from textreid.evaluation.encoding import encode_split
from textreid.evaluation.protocol import measure
from textreid.images import read_image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
PEOPLE = 40


class MeanColour:
    """An encoder that reads pixels: a picture is its mean colour, a text the colours it names."""

    fingerprint = "mean colour"
    selected_on = "nothing"
    training_text = ("painters",)

    def encode_images(self, images: Sequence[Path], /) -> npt.NDArray[np.float32]:
        means = [np.asarray(read_image(image), dtype=np.float32).mean(axis=(0, 1)) for image in images]
        return (np.array(means) / 255 - 0.5).astype(np.float32)

    def encode_texts(self, texts: Sequence[str], /) -> npt.NDArray[np.float32]:
        known = [np.sum([COLOURS[word] for word in text.split() if word in COLOURS], axis=0) for text in texts]
        return (np.array(known) / 255 - 0.5).astype(np.float32)


@pytest.fixture
def benchmark_of(tmp_path: Path) -> Callable[[int], Benchmark]:
    """A benchmark of 40 one-colour pictures, the first so many of which are no images."""

    def make(damaged: int) -> Benchmark:
        records = []
        for i in range(PEOPLE):
            colour = list(COLOURS)[i % 4]
            Image.new("RGB", (4, 8), COLOURS[colour]).save(tmp_path / f"{i}.png")
            if i < damaged:
                (tmp_path / f"{i}.png").write_bytes(b"no image")
            records.append(Record(f"{i}.png", i % 8, (f"all {colour}",), "test"))
        return Benchmark("colours", tmp_path, tuple(records))

    return make


def test_it_measures_what_the_metrics_measure(benchmark_of: Callable[[int], Benchmark]) -> None:
    benchmark, model = benchmark_of(0), MeanColour()
    evaluation = evaluate(model, benchmark, name="mean")
    paths = [benchmark.image_root / record.image for record in benchmark.records]
    identities = [record.identity for record in benchmark.records]
    texts = [record.captions[0] for record in benchmark.records]
    expected = retrieval_metrics(model.encode_texts(texts), model.encode_images(paths), identities, identities)
    assert evaluation.scores() == expected.scores()
    forward = evaluation.text_to_image
    assert forward.metrics.r10 == 1.0
    assert (evaluation.images, evaluation.captions, evaluation.identities) == (40, 40, 8)
    assert forward.chance["R1"] == pytest.approx(5 / 40)
    assert list(forward.intervals) == list(evaluation.scores())
    for name, value in evaluation.scores().items():
        assert forward.intervals[name][0] <= value <= forward.intervals[name][1]
    assert (evaluation.model, evaluation.fingerprint, evaluation.selected_on) == ("mean", "mean colour", "nothing")
    assert evaluation.training_text == ("painters",)
    assert evaluation.data == benchmark.split("test").list_fingerprint


def test_images_ask_too_on_request(benchmark_of: Callable[[int], Benchmark]) -> None:
    benchmark, model = benchmark_of(0), MeanColour()
    # Two captions for some images: queries and gallery differ in size in the other direction.
    records = tuple(replace(r, captions=r.captions * 2) if r.identity < 3 else r for r in benchmark.records)
    encoded = encode_split(model, replace(benchmark, records=records).split("test"))
    assert encoded.text_features.shape == (55, 3)
    evaluation = measure(model, encoded, name="m", image_to_text=True)
    backward = evaluation.image_to_text
    assert backward is not None
    expected = retrieval_metrics(encoded.image_features, encoded.text_features, encoded.image_ids, encoded.caption_ids)
    assert backward.metrics.scores() == expected.scores()
    assert (backward.metrics.queries, backward.metrics.gallery) == (40, 55)
    assert (evaluation.text_to_image.metrics.queries, evaluation.text_to_image.metrics.gallery) == (55, 40)
    assert backward.chance["R1"] == pytest.approx((15 * 10 + 25 * 5) / 40 / 55)


def test_features_that_are_no_numbers_are_an_error(benchmark_of: Callable[[int], Benchmark]) -> None:
    class Broken(MeanColour):
        def encode_texts(self, texts: Sequence[str], /) -> npt.NDArray[np.float32]:
            features = super().encode_texts(texts)
            features[7] = np.nan
            return features

    with pytest.raises(DataError, match="query features are not finite in 1 of 40 rows: 7"):
        evaluate(Broken(), benchmark_of(0))


def test_what_is_told_of_the_progress(
    benchmark_of: Callable[[int], Benchmark], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textreid.evaluation.encoding._BATCH", 16)
    told: list[tuple[int, int]] = []
    encode_split(MeanColour(), benchmark_of(0), progress=lambda done, total: told.append((done, total)))
    assert told == [(16, 40), (32, 40), (40, 40)]


def test_its_values_are_json(benchmark_of: Callable[[int], Benchmark]) -> None:
    values = evaluate(MeanColour(), benchmark_of(1)).to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert (values["rejected"], values["rejected_examples"]) == ({"unreadable": 1}, ["0.png (unreadable)"])


def test_images_that_cannot_be_read_are_left_out_with_their_captions(benchmark_of: Callable[[int], Benchmark]) -> None:
    damaged = benchmark_of(2)
    sound = replace(damaged, records=damaged.records[2:], rejected=(Rejection(9, "x.png", "test", "absent"),))
    found, expected = evaluate(MeanColour(), damaged), evaluate(MeanColour(), sound)
    assert found.rejected == {"unreadable": 2}
    assert expected.rejected == {"absent": 1}
    assert (found.images, found.captions, found.scores()) == (38, 38, expected.scores())
    assert found.data == expected.data


@pytest.mark.parametrize("damaged", [3, PEOPLE])
def test_too_many_unreadable_images_are_an_error(damaged: int, benchmark_of: Callable[[int], Benchmark]) -> None:
    with pytest.raises(DataError, match=rf"{damaged} of 40 images cannot be read .* the first: .*0\.png"):
        evaluate(MeanColour(), benchmark_of(damaged))


def test_the_fingerprint_of_the_data_sees_every_change(benchmark_of: Callable[[int], Benchmark]) -> None:
    benchmark = benchmark_of(0)
    first, *others = benchmark.records
    changes = [
        replace(first, captions=("all blue",)), replace(first, identity=5), replace(first, captions=("all red",) * 2),
    ]  # fmt: skip
    variants = [benchmark, *(replace(benchmark, records=(change, *others)) for change in changes)]
    fingerprints = [evaluate(MeanColour(), variant).data for variant in variants]
    assert len(set(fingerprints)) == 4
    assert fingerprints[0] == evaluate(MeanColour(), benchmark).data


def test_an_image_without_captions_stays_in_the_gallery(benchmark_of: Callable[[int], Benchmark]) -> None:
    benchmark = benchmark_of(0)
    silent = tuple(replace(record, captions=()) if record.identity == 3 else record for record in benchmark.records)
    evaluation = evaluate(MeanColour(), replace(benchmark, records=silent))
    assert (evaluation.images, evaluation.captions, evaluation.identities) == (40, 35, 8)


def test_what_cannot_be_evaluated_is_an_error(benchmark_of: Callable[[int], Benchmark]) -> None:
    benchmark = benchmark_of(0)
    with pytest.raises(AnnotationError, match="no split 'val'"):
        evaluate(MeanColour(), benchmark, "val")
    silent = replace(benchmark, records=tuple(replace(record, captions=()) for record in benchmark.records))
    with pytest.raises(DataError, match="no image of split 'test' has a usable caption"):
        evaluate(MeanColour(), silent)
