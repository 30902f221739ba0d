"""From JPEG files and sentences to features: `Model` against the obvious loop, in images and sentences a second.

Ways that are compared take turns, and each run is a process of its own. The model is CLIP ViT-B/16 at 384x128 with
random weights; the pictures are drawn pedestrians, enlarged to the size of a camera's crop and stored as JPEG; the
sentences are their captions.

- loop: Pillow decodes in the main process, float32, batches of 32, no inference mode, texts padded to 77 tokens.
- fp32: `Model.encode_images` and `Model.encode_texts`.
- auto: the same in bfloat16 where the processor multiplies it.

The share of the speed of one large matrix product of the same type is given too.

    python benchmarks/embedding.py                  # three rounds; about four minutes on two cores
    python benchmarks/embedding.py --images 640 --texts 6400 --size 1152x384
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from arithmetic import TINY, image_operations, matrix_peak
from textreid.datasets.benchmarks import read_benchmark
from textreid.models import Model, Tokenizer, initialize
from textreid.presets import paper
from textreid.synthetic import DOMAINS, write_corpus

WAYS = ("loop", "fp32", "auto")
_LOOP_BATCH = 32
_WARM_UP = 8
Floats = npt.NDArray[np.float32]


def main() -> None:
    """Draw the pictures, run the ways in turns, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="480x160", help="height x width of the JPEG files")
    parser.add_argument("--tiny", action="store_true", help="a model of a second: does it still run?")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.folder, options.tiny)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        height, width = map(int, options.size.split("x"))
        prepare(folder, options.images, options.texts, height, width)
        rounds = [{way: run(way, folder, options.tiny) for way in WAYS} for _ in range(options.rounds)]
        features = {way: np.load(folder / f"{way}.npz") for way in WAYS}
    print(json.dumps(summary(rounds, features, options), indent=2))


def prepare(folder: Path, images: int, texts: int, height: int, width: int) -> None:
    """JPEG files in ``pictures/`` and their sentences in ``texts.json``."""
    write_corpus(folder / "corpus", next(iter(DOMAINS)), max(images, -(-texts // 2)), 1, seed=0)
    records = read_benchmark("generic", folder / "corpus").records
    (folder / "pictures").mkdir()
    for number, record in enumerate(records[:images]):
        with Image.open(folder / "corpus" / "imgs" / record.image) as picture:
            picture.convert("RGB").resize((width, height)).save(folder / "pictures" / f"{number:06}.jpg", quality=90)
    captions = [caption for record in records for caption in record.captions]
    (folder / "texts.json").write_text(json.dumps(captions[:texts]))


def run(way: str, folder: Path, tiny: bool) -> dict[str, Any]:
    """The figures of one way, measured in a new process."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder), *(["--tiny"] if tiny else [])]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return cast("dict[str, Any]", json.loads(output))


def measure(way: str, folder: Path, tiny: bool) -> dict[str, Any]:
    """Time one way, after a few pictures and sentences that are not timed; its features go to ``WAY.npz``."""
    config = paper().override(["model.weights=null", *(TINY if tiny else ())]).model
    encoder, tokenizer = initialize(config, seed=0), Tokenizer.clip()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder.to(device)
    pictures = sorted((folder / "pictures").iterdir())
    texts: list[str] = json.loads((folder / "texts.json").read_text())
    model = Model(encoder, tokenizer, precision=cast("Literal['fp32', 'auto']", way) if way != "loop" else "fp32")

    def encode(some_pictures: list[Path], some_texts: list[str]) -> tuple[Floats, float, Floats, float]:
        begin = time.perf_counter()
        images = loop_images(model, some_pictures) if way == "loop" else model.encode_images(some_pictures)
        middle = time.perf_counter()
        words = loop_texts(model, some_texts) if way == "loop" else model.encode_texts(some_texts)
        return images, middle - begin, words, time.perf_counter() - middle

    encode(pictures[:_WARM_UP], texts[:_WARM_UP])
    images, image_seconds, words, text_seconds = encode(pictures, texts)
    np.savez(folder / f"{way}.npz", images=images, texts=words)
    figures: dict[str, Any] = {
        "precision": model.precision,
        "images_per_s": len(pictures) / image_seconds,
        "texts_per_s": len(texts) / text_seconds,
    }
    dtype = torch.bfloat16 if model.precision == "bf16" else torch.float32
    peak = matrix_peak(torch.device(device), dtype, tiny)
    return {**figures, "share_of_peak": figures["images_per_s"] * image_operations(config) / peak}


def loop_images(model: Model, pictures: list[Path]) -> Floats:
    """What one writes first: decode, resize, normalise, encode, batch by batch."""
    config, parts = model.config, []
    mean, deviation = (np.array(values, np.float32) for values in (config.pixel_mean, config.pixel_std))
    for first in range(0, len(pictures), _LOOP_BATCH):
        batch = []
        for path in pictures[first : first + _LOOP_BATCH]:
            with Image.open(path) as picture:
                small = picture.convert("RGB").resize(
                    (config.image_width, config.image_height), Image.Resampling.BICUBIC
                )
            batch.append((np.asarray(small, np.float32) / 255 - mean) / deviation)
        pixels = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).to(model.device)
        features = model.encoder.encode_image(pixels)
        parts.append((features / features.norm(dim=-1, keepdim=True)).detach().cpu().numpy())
    return np.concatenate(parts)


def loop_texts(model: Model, texts: list[str]) -> Floats:
    """The same for sentences, each padded to all 77 tokens, as CLIP's own tokenizer gives them."""
    parts = []
    for first in range(0, len(texts), _LOOP_BATCH):
        tokens = model.tokenizer.encode(texts[first : first + _LOOP_BATCH])
        ids = np.zeros((len(tokens.ids), model.config.text_length), np.int64)
        ids[:, : tokens.ids.shape[1]] = tokens.ids
        features = model.encoder.encode_text(
            torch.from_numpy(ids).to(model.device), torch.from_numpy(tokens.lengths).to(model.device)
        )
        parts.append((features / features.norm(dim=-1, keepdim=True)).detach().cpu().numpy())
    return np.concatenate(parts)


def summary(rounds: list[dict[str, Any]], features: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds; ratios are medians of the ratios within a round; cosines are to the loop's features."""
    found: dict[str, Any] = {"images": options.images, "texts": options.texts, "jpeg": options.size}
    for way in WAYS:
        figures: dict[str, Any] = {"precision": rounds[0][way]["precision"]}
        for side in ("images", "texts"):
            rate = f"{side}_per_s"
            ratios = [one[way][rate] / one["loop"][rate] for one in rounds]
            cosines = (features[way][side] * features["loop"][side]).sum(axis=1)
            figures[rate] = round(statistics.median(one[way][rate] for one in rounds), 2)
            figures[f"{side}_times_loop"] = {
                "median": round(statistics.median(ratios), 2),
                "all": [round(ratio, 2) for ratio in ratios],
            }
            figures[f"{side}_least_cosine"] = round(float(cosines.min()), 5)
        figures["share_of_peak"] = round(statistics.median(one[way]["share_of_peak"] for one in rounds), 3)
        found[way] = figures
    found["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    return found


if __name__ == "__main__":
    main()
