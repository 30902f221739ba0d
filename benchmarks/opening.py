"""What a run costs before its first step: the caption table, its tokens, the sizes of the images, the noise table.

    python benchmarks/opening.py                       # 100,000 images with four captions each
    python benchmarks/opening.py --images 1000000      # the size of the paper's pre-training; a million empty files

Images are empty files: only their paths and sizes are read before the first step. A process of its own takes the stages
one after the other; memory is its peak after each.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from textreid.captioning import caption
from textreid.captions.table import CaptionRow, read_captions, write_captions
from textreid.config import ModelConfig
from textreid.models.tokenizer import TEXT_LENGTH, Tokenizer
from textreid.synthetic import write_corpus
from textreid.training.dataset import captioned_images
from textreid.training.image_store import ImageStore
from textreid.training.loader import TokenizedCaptions
from textreid.training.noise_table import NoiseTable

CAPTIONS = 4
_FOLDER_FILES = 10_000
_Result = TypeVar("_Result")


def image_path(number: int) -> str:
    """Folders of as many files as a file system likes."""
    return f"{number // _FOLDER_FILES:05d}/{number:09d}.jpg"


def write_data(folder: Path, images: int) -> None:
    """Empty images, and simulated captions of 500 drawn people dealt out to them."""
    write_corpus(folder / "people", "street", 500, 1, seed=0)
    caption(folder / "people", folder / "few", ["qwen=simulated", "shikra=simulated"])
    few = read_captions(folder / "few")
    texts = [few.caption(row) for row in range(len(few))]
    for number in range(images):
        path = folder / "imgs" / image_path(number)
        if number % _FOLDER_FILES == 0:
            path.parent.mkdir(parents=True)
        path.touch()

    def rows() -> Iterator[CaptionRow]:
        for number in range(images):
            for slot in range(CAPTIONS):
                text = texts[(number * CAPTIONS + slot) % len(texts)]
                yield CaptionRow(
                    image_path(number), f"drawn/{slot}", f"{text} Seen by camera {number}.", "drawn", "", "", "", 0
                )

    write_captions(folder / "captions", rows())


def measure(folder: Path) -> dict[str, Any]:
    """Take the stages: seconds and peak memory of each."""
    found: dict[str, dict[str, float]] = {}

    def stage(name: str, work: Callable[[], _Result]) -> _Result:
        begin = time.perf_counter()
        result = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        found[name] = {"seconds": round(time.perf_counter() - begin, 2), "peak_mib": peak}
        return result

    stage("start", lambda: None)
    data = stage("caption table", lambda: captioned_images(folder / "imgs", folder / "captions"))
    tokens = stage("tokens", lambda: TokenizedCaptions.encode(data.captions, Tokenizer.clip()))
    stage("sizes of images", lambda: ImageStore(folder / "imgs", data.images, ModelConfig()))
    noise = stage("noise table", lambda: NoiseTable.create(folder / "noise.npy", len(data), TEXT_LENGTH, 0.15))
    stage("a copy of the noise table", lambda: noise.save(folder / "copy.npy"))
    return {"mean_tokens": round(float(tokens.lengths.mean()), 1), **found}


def main() -> None:
    """Parse, write, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_data(Path(name), options.images)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own_process:
            found = own_process.submit(measure, Path(name)).result()
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"images": options.images, **found, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()
