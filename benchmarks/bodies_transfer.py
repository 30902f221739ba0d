"""Do people in three dimensions carry over to photographs better than drawn ones? The same people, cameras and steps.

    textreid synthesize drawn/street --domain street --split train --identities 1400 --images 2 --seed 7 \\
        --first-identity 100000      # and the other domains, each from where the one before ends
    python recipes/bodies_corpus.py --out bodies --seed 7 --first 100000 --domains street=1400 campus=1000 …
    python benchmarks/bodies_transfer.py --drawn drawn --bodies bodies --work work --benchmark photographs=FOLDER

Equal seeds and numbers make equal persons, so the sets differ in their pictures alone, and in what those show of a
person. Both are captioned by the simulated MLLMs. Three runs for each seed, from random weights above a frozen trunk
whose maps are computed once a run: drawn pictures, bodies, and half of the people each way. Images, steps, captions an
image, batch and rate are equal. The last step counts; nothing is chosen by what is measured on.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from textreid.captioning import caption
from textreid.config import Config
from textreid.datasets.benchmarks import read_benchmark
from textreid.evaluation.encoding import encode_split
from textreid.evaluation.protocol import measure
from textreid.models import Model
from textreid.presets import small
from textreid.runlog import RunLog
from textreid.training.dataset import TrainingSet, captioned_images
from textreid.training.recipe import train

WAYS = ("drawn", "bodies", "half")
MLLMS = ["qwen=simulated:0.05", "shikra=simulated:0.05"]
AS_THEY_ARE = tuple(f"augmentation.{name}=0" for name in ("flip", "pad", "erase", "scale", "colour", "blur", "noise"))


def configuration(epochs: int, seed: int) -> Config:
    """The bundled model's shape and trunk, without masking, on pictures as they are."""
    return small().override(
        [
            *("training.map_views=1", "masking.method=em", "training.captions_per_image=1", *AS_THEY_ARE),
            *(f"training.epochs={epochs}", f"training.seed={seed}"),
        ]
    )


def captioned(people: Path, work: Path, name: str, seed: int) -> TrainingSet:
    """The pictures below ``people`` with captions of the simulated MLLMs, which are written once."""
    captions = work / f"captions-{name}"
    if not (captions / "manifest.json").exists():
        caption(people, captions, MLLMS, seed=seed)
    data = captioned_images(people, captions)
    # Absolute, so that sets of two folders can be put into one.
    return replace(data, root=Path("/"), images=tuple(str((data.root / name).resolve())[1:] for name in data.images))


def selected(data: TrainingSet, chosen: Sequence[int]) -> TrainingSet:
    """Some images of a set with their captions."""
    kept = np.isin(data.image_index, np.asarray(chosen))
    return replace(
        data,
        images=tuple(data.images[index] for index in chosen),
        image_index=np.searchsorted(np.asarray(chosen), data.image_index[kept]),
        captions=data.captions.filter(kept),
        labels=np.arange(len(chosen)),
        errors={},
        fingerprint=f"{len(chosen)} of {data.fingerprint}",
    )


def half_and_half(drawn: TrainingSet, bodies: TrainingSet) -> TrainingSet:
    """The people of even numbers drawn, the others as bodies."""

    def of_parity(data: TrainingSet, parity: int) -> TrainingSet:
        # Names are DOMAIN_NUMBER_CAMERA_SHOT.jpg.
        numbers = [int(Path(name).name.split("_")[-3]) for name in data.images]
        return selected(data, [index for index, number in enumerate(numbers) if number % 2 == parity])

    first, second = of_parity(drawn, 0), of_parity(bodies, 1)
    return replace(
        first,
        images=first.images + second.images,
        image_index=np.concatenate((first.image_index, second.image_index + len(first.images))),
        captions=pa.concat_arrays([first.captions, second.captions]),
        labels=np.arange(len(first.images) + len(second.images)),
        fingerprint=f"{first.fingerprint} and {second.fingerprint}",
    )


def figures(model: Model, name: str, folder: Path) -> dict[str, float]:
    """R1, R5, R10, mAP and the swap test in percent on a folder of people."""
    encoded = encode_split(model, read_benchmark(name, folder).split("test"))
    found = measure(model, encoded, name="model", swaps=True)
    scores = {key: round(100 * value, 1) for key, value in found.scores().items()}
    return scores | {test.attribute: round(100 * test.preferred, 1) for test in found.swaps or ()}


def main() -> None:
    """Parse, run every way with every seed, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drawn", type=Path, required=True)
    parser.add_argument("--bodies", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for the captions")
    parser.add_argument("--benchmark", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    drawn = captioned(options.drawn, options.work, "drawn", seed=7)
    bodies = captioned(options.bodies, options.work, "bodies", seed=7)
    sets = {"drawn": drawn, "bodies": bodies, "half": half_and_half(drawn, bodies)}
    for seed in range(options.seeds):
        for way in options.ways:
            begin = time.process_time()
            with tempfile.TemporaryDirectory() as scratch:
                out = Path(scratch) / "run"
                model = train(configuration(options.epochs, seed), sets[way], out, log=RunLog(out, False))
            row: dict[str, object] = {
                "way": way,
                "seed": seed,
                "images": len(sets[way].images),
                "captions": len(sets[way]),
            }
            for pair in options.benchmark:
                name, _, folder = pair.partition("=")
                row[name] = figures(model, name, Path(folder))
            print(json.dumps(row | {"processor_seconds": round(time.process_time() - begin)}), flush=True)
    machine = f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    print(json.dumps({"epochs": options.epochs, "threads": options.threads, "machine": machine}))


if __name__ == "__main__":
    main()
