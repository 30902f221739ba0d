"""Does one image pass for four captions cost accuracy? A small model trained both ways, at equal samples and compute.

    textreid synthesize people --domain campus --identities 1500 --images 2 --captions captions
    textreid synthesize unseen --domain station --identities 250 --images 4 --first-identity 27000
    python benchmarks/captions_per_image.py --images people --captions captions --unseen unseen

- pairs: every (image, caption) pair is a sample of its own (`training.captions_per_image=1`, unit pair).
- samples: an image comes with four captions, a quarter of the images a step; as many captions in all, as many steps.
- compute: the same for as many epochs as the arithmetic of the pairs buys, by the formula in `arithmetic.py`. An image
  costs this model about ten captions, as it does ViT-B/16 at 384×128.

All start from the same random weights, with the same batch of captions, rate and warm-up. The people, the cameras and
the domain of the unseen set are never trained on, and nothing is chosen by it: the last step counts.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from arithmetic import TOKENS, step_operations
from textreid.config import Config
from textreid.datasets.benchmarks import read_benchmark
from textreid.evaluation.splits import Validation, validation
from textreid.presets import tiny
from textreid.runlog import RunLog
from textreid.training.dataset import TrainingSet, captioned_images
from textreid.training.recipe import train

CAPTIONS = 4
WAYS = ("pairs", "samples", "compute")
SMALL = (
    "model.image_height=64", "model.image_width=32", "model.patch_size=8",
    "model.vision_width=128", "model.vision_layers=5", "model.vision_heads=4",
    "model.text_width=64", "model.text_layers=2", "model.text_heads=2", "model.embedding_dim=128",
    "model.vocabulary_size=2048", "augmentation.pad=2", "training.cache_images=on",
)  # fmt: skip


def ratio_of(config: Config) -> float:
    """Arithmetic of a pair over that of a quarter of an image with a caption, by the formula."""
    layer, lengths = config.masking.layer, [TOKENS] * CAPTIONS
    pairs, four = (step_operations(config.model, images, lengths, layer) for images in (CAPTIONS, 1))
    return pairs / four


def configuration(way: str, options: argparse.Namespace, seed: int) -> Config:
    """The settings of one run."""
    shape = ["training.epoch_unit=pair", "training.captions_per_image=1", f"training.batch_size={options.batch}"]
    if way != "pairs":
        shape = [
            "training.epoch_unit=image",
            f"training.captions_per_image={CAPTIONS}",
            f"training.batch_size={options.batch // CAPTIONS}",
        ]
    small = tiny().override(SMALL)
    epochs = round(options.epochs * (ratio_of(small) if way == "compute" else 1))
    return small.override(
        [
            *shape, f"losses.{options.loss}=1",
            *(["losses.itc=0"] if options.loss != "itc" else []),
            f"training.epochs={epochs}", f"training.seed={seed}",
        ]
    )  # fmt: skip


def some_of(data: TrainingSet, count: int) -> TrainingSet:
    """``count`` of the images, drawn once for all runs, with their captions."""
    chosen = np.sort(np.random.default_rng(0).choice(len(data.images), count, replace=False))
    kept = np.isin(data.image_index, chosen)
    return replace(
        data,
        images=tuple(data.images[index] for index in chosen.tolist()),
        image_index=np.searchsorted(chosen, data.image_index[kept]),
        captions=data.captions.filter(kept),
        labels=np.arange(count),
        fingerprint=f"{count} of {data.fingerprint}",
    )


def measure(
    way: str, data: TrainingSet, unseen: Validation, seed: int, options: argparse.Namespace
) -> dict[str, float]:
    """Train once; figures on the unseen domain in percent, and what the run cost."""
    config = configuration(way, options, seed)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        begin = time.process_time()
        model = train(config, data, out, log=RunLog(out, False))
        seconds = time.process_time() - begin
    scores = {name: round(100 * value, 2) for name, value in unseen.measure(model).items()}
    captions = config.training.epochs * len(data)
    images = captions if way == "pairs" else captions // CAPTIONS
    return {**scores, "captions": captions, "image_passes": images, "processor_seconds": round(seconds)}


def main() -> None:
    """Parse, run every way with every seed, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--captions", type=Path, required=True)
    parser.add_argument("--unseen", type=Path, required=True)
    parser.add_argument("--take", type=int, default=5000, help="images trained on")
    parser.add_argument("--epochs", type=int, default=3, help="of the pairs")
    parser.add_argument("--batch", type=int, default=128, help="captions a step")
    parser.add_argument("--loss", choices=["itc", "sdm"], default="itc")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = some_of(captioned_images(options.images, options.captions), options.take)
    unseen = validation(read_benchmark("generic", options.unseen), on_test=True)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in options.ways}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for way in options.ways:
            runs[way].append(measure(way, data, unseen, seed, options))
            print(json.dumps({"way": way, "seed": seed, **runs[way][-1]}), flush=True)
    means = {
        way: {name: round(statistics.mean(run[name] for run in of_way), 2) for name in of_way[0]}
        for way, of_way in runs.items()
    }
    settings = {name: value for name, value in vars(options).items() if not isinstance(value, Path)}
    machine = f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    print(json.dumps({"mean": means, **settings, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()
