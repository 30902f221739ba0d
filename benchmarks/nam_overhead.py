"""What Noise-Aware Masking costs: time of a NAM step over that of an EM step at ViT-B/16 dimensions.

    python benchmarks/nam_overhead.py            # some minutes on two cores
    python benchmarks/nam_overhead.py --pairs 3
    python benchmarks/nam_overhead.py --scorer words+content+centred   # another scorer of words than the paper's
    python benchmarks/nam_overhead.py --captions 4 --scorer votes+discriminant+content

Both are steps of the recipe itself, on random weights, 384×128 images and captions of about 30 tokens. The two take
turns on the same batches, and each pair gives one ratio: what else the machine does hits both alike. The processor
time of the process tells the same apart from waiting. The target is a median ratio of at most 1.15,
and 1.3 for other scorers.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from arithmetic import TINY, finish
from textreid.captions.table import CaptionRow, write_captions
from textreid.presets import paper
from textreid.runlog import RunLog
from textreid.training.batch import Batch
from textreid.training.dataset import captioned_images
from textreid.training.noise_table import EqualNoise
from textreid.training.preparation import Run, prepare
from textreid.training.recipe import training_steps

SENTENCE = (
    "the person wears a dark red jacket over grey trousers with white shoes and carries small black bag on left "
    "shoulder short brown hair looks like man walking along street while holding phone in right hand"
)
TARGET, TARGET_OF_OTHERS = 1.15, 1.3


def write_data(folder: Path, images: int, captions: int, seed: int) -> None:
    """Noise for pictures and 20 to 34 drawn words for captions: time does not depend on what they show or say."""
    rng = np.random.default_rng(seed)
    (folder / "imgs").mkdir()
    words = SENTENCE.split()
    rows = []
    for index in range(images):
        pixels = rng.integers(0, 256, (384, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "imgs" / f"{index}.png")
        for slot in range(captions):
            caption = " ".join(rng.choice(words, size=int(rng.integers(20, 35))))
            rows.append(CaptionRow(f"{index}.png", f"noise/{slot}", caption, "noise", "static", "", "", seed))
    write_captions(folder / "captions", rows)


def prepare_both(folder: Path, options: argparse.Namespace) -> tuple[Run, Run]:
    """The run of the ``paper`` preset from random weights, and the same run under equal masking."""
    config = paper().override(
        [
            "model.weights=null",
            f"training.batch_size={options.batch}",
            f"training.seed={options.seed}",
            f"training.precision={options.precision}",
            f"masking.scorer={options.scorer}",
            "training.epoch_unit=image",
            f"training.captions_per_image={options.captions}",
            *(TINY if options.tiny else ()),
        ]
    )
    data = captioned_images(folder / "imgs", folder / "captions")
    (folder / "run").mkdir()
    nam = prepare(config, data, folder / "run", RunLog(folder / "run", False))
    return nam, replace(nam, noise=EqualNoise(config.masking.probability), scorer=None)


def steps_of(run: Run, stream: Iterable[Batch], folder: Path) -> Iterator[int]:
    """The recipe's own loop, one step at a time; batches go to the device in it."""
    return training_steps(run, (batch.to(run.compute.device) for batch in stream), None, RunLog(folder, False))


def seconds_of(run: Run, steps: Iterator[int]) -> tuple[float, float]:
    """Wall-clock and processor seconds of one step."""
    wall, processor = time.perf_counter(), time.process_time()
    next(steps)
    finish(run.compute.device)
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--captions", type=int, default=1, help="of each image")
    parser.add_argument("--scorer", default="patches", help="a value of masking.scorer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--tiny", action="store_true", help="a model of a second: does it still run?")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, options.batch * 4, options.captions, options.seed)
        nam, em = prepare_both(folder, options)
        stream = list(nam.loader.batches(range(options.pairs + 1), 0, torch.device("cpu")))
        nam_steps, em_steps = (steps_of(run, stream, folder / "run") for run in (nam, em))
        times = []
        tokens = []
        for step, batch in enumerate(stream):
            first, second = (nam, em) if step % 2 else (em, nam)  # neither is always the first
            taken = {run is nam: seconds_of(run, nam_steps if run is nam else em_steps) for run in (first, second)}
            if step:  # the first pair warms up
                times.append((*taken[True], *taken[False]))
                tokens.append(float(batch.lengths.double().mean()))
    wall = [row[0] / row[2] for row in times]
    processor = [row[1] / row[3] for row in times]
    result = {
        "ratio": round(statistics.median(wall), 3),
        "ratio_processor_time": round(statistics.median(processor), 3),
        "lowest": round(min(wall), 3),
        "highest": round(max(wall), 3),
        "target": TARGET if options.scorer == "patches" else TARGET_OF_OTHERS,
        "nam_seconds": round(statistics.median(row[0] for row in times), 3),
        "em_seconds": round(statistics.median(row[2] for row in times), 3),
        "pairs": len(times),
        "batch": options.batch,
        "mean_tokens": round(statistics.mean(tokens), 1),
        "captions": options.captions,
        "scorer": options.scorer,
        "layer": nam.config.masking.layer,
        "dtype": str(nam.compute.dtype),
        "device": str(nam.compute.device),
        "threads": torch.get_num_threads(),
        "seed": options.seed,
        "machine": f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}",
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
