from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from textreid.datasets.records import Benchmark, Record
from textreid.errors import DataError
from textreid.evaluation.agreement import draw_benchmark, measure_agreement

Floats = npt.NDArray[np.float32]


class Turned:
    """Images and captions of an identity at its angle; the images turned by ``off`` degrees."""

    def __init__(self, off: float) -> None:
        self.off = off

    def encode_images(self, images: Sequence[Path], /) -> Floats:
        return self.at([20 * int(image.stem) + self.off for image in images])

    def encode_texts(self, texts: Sequence[str], /) -> Floats:
        return self.at([20 * int(text) for text in texts])

    @staticmethod
    def at(degrees: Sequence[float]) -> Floats:
        angles = np.radians(degrees)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def benchmark(captions: bool = True) -> Benchmark:
    return Benchmark("five", Path("x"), tuple(Record(f"{n}.png", n, (str(n),) * captions, "test") for n in range(5)))


def test_cosines_and_scores_of_a_worked_case() -> None:
    found = measure_agreement(Turned(0), Turned(15), benchmark())
    cosine = np.cos(np.radians(15))
    assert (found.images, found.captions) == (5, 5)
    assert found.image_cosine == pytest.approx((cosine, cosine), abs=1e-6)
    assert found.text_cosine == pytest.approx((1, 1), abs=1e-6)
    assert found.before["R1"] == 1
    # Turned by 15 of 20 degrees, the image before is nearer, except to the first caption, which has none before.
    assert found.after["R1"] == pytest.approx(1 / 5)
    assert "| R1 | 100.00 | 20.00 |" in found.to_markdown()
    assert found.to_dict()["after"]["R1"] == found.after["R1"]


def test_a_benchmark_without_captions_is_refused() -> None:
    with pytest.raises(DataError, match="no captions"):
        measure_agreement(Turned(0), Turned(1), benchmark(captions=False))


@pytest.mark.slow
def test_drawn_people_are_the_same_each_time(tmp_path: Path) -> None:
    first, second = (draw_benchmark(tmp_path / name) for name in ("a", "b"))
    assert first.records == second.records
    assert (len(first.records), first.name) == (100, "drawn pedestrians")
    assert (first.image_root / first.records[0].image).is_file()
