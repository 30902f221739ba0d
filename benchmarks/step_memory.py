"""How much memory a training step takes: as it is, with recomputed layers, in micro-batches, and with both.

    python benchmarks/step_memory.py                     # some minutes on two cores
    python benchmarks/step_memory.py --batch 32 --micro 4

Steps of the recipe itself with the ``paper`` preset (ViT-B/16, 384×128, NAM) on random weights, noise for images and
random words for captions. Every way runs in a process of its own. Reported is the peak of its resident memory during
the second step over what it holds before the first: gradients, Adam's moments and what the step itself needs.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from textreid.captions.table import CaptionRow, write_captions
from textreid.presets import paper
from textreid.runlog import RunLog
from textreid.training.dataset import captioned_images
from textreid.training.preparation import prepare
from textreid.training.recipe import training_steps

STATUS, PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CAPTION = "a man in dark red jacket over grey trousers and white shoes carries small black bag on left shoulder"


def write_data(folder: Path, images: int, seed: int) -> None:
    """Pictures of noise, each with a caption of 30 drawn words."""
    rng = np.random.default_rng(seed)
    (folder / "imgs").mkdir()
    rows = []
    for index in range(images):
        Image.fromarray(rng.integers(0, 256, (384, 128, 3), dtype=np.uint8)).save(folder / "imgs" / f"{index}.png")
        caption = " ".join(rng.choice(CAPTION.split(), 30))
        rows.append(CaptionRow(f"{index}.png", "noise/static", caption, "noise", "static", "", "", seed))
    write_captions(folder / "captions", rows)


def resident(field: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most since the last reset."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def measure(folder: Path, batch: int, precision: str, settings: list[str]) -> dict[str, float]:
    """Peak memory and seconds of the second of two steps."""
    torch.set_num_threads(2)
    config = paper().override(
        [
            "model.weights=null", f"training.batch_size={batch}", "training.epochs=6",
            f"training.precision={precision}", *settings,
        ]
    )  # fmt: skip
    data = captioned_images(folder / "imgs", folder / "captions")
    with tempfile.TemporaryDirectory() as out:
        log = RunLog(Path(out) / "run", False)
        log.path.parent.mkdir()
        run = prepare(config, data, log.path.parent, log)
        steps = training_steps(run, run.loader.batches(range(2), 0, run.compute.device), None, log)
        before = resident("VmRSS")
        for _ in range(2):
            PEAK.write_text("5")  # resets the peak
            start = time.perf_counter()
            next(steps)
            seconds = time.perf_counter() - start
    return {"mib": round((resident("VmHWM") - before) / 2**20), "seconds": round(seconds, 1)}


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--micro", type=int, default=4)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.data:
        print(json.dumps(measure(options.data, options.batch, options.precision, options.measure)))
        return
    recompute, micro = "training.activation_checkpointing=true", f"training.micro_batch={options.micro}"
    ways = {"as it is": [], "recomputed": [recompute], "in micro-batches": [micro], "both": [recompute, micro]}
    with tempfile.TemporaryDirectory() as name:
        write_data(Path(name), 2 * options.batch, options.seed)
        command = [sys.executable, __file__, "--data", name, "--batch", str(options.batch)]
        command += ["--precision", options.precision, "--measure"]
        found = {
            way: json.loads(subprocess.run([*command, *settings], capture_output=True, check=True, text=True).stdout)
            for way, settings in ways.items()
        }
    facts = {"batch": options.batch, "micro_batch": options.micro, "precision": options.precision, "seed": options.seed}
    machine = f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    print(json.dumps({**found, **facts, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()
