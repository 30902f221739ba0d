"""Pairs a second of the recipe's step at ViT-B/16, 384×128, random weights, against the step of the published release.

    python benchmarks/train_step.py                     # a few minutes on two cores
    python benchmarks/train_step.py --pairs 8 --rounds 2
    python benchmarks/train_step.py --only input        # JPEG files to batches, and the table of masking probabilities

The ways take turns, and each round gives one ratio: what else the machine does hits all alike. The processor time of
the process tells the same apart from waiting.

- release: written here after what the paper's release does. Batches of pairs; the masked and the full caption both go
  through the text tower with gradient, padded to 77 tokens; all tokens of both towers pass the final norm and
  projection; the scores of each sample become Python lists, one copy a sample; float32 on a CPU, float16 autocast with
  a gradient scaler on a GPU. The scores are no part of the loss, so that no backward pass goes through them.
- pairs: the loop of the recipe (`training_steps`), preset ``paper``.
- four: the same with four captions an image, preset ``fast``: as many captions a step, a quarter of the images.

Arithmetic is that of `arithmetic.py`; the peak is that of one large product of the same type, measured in the same run.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the usual name)

from arithmetic import PAIRS, TINY, finish, matrix_peak, step_operations
from textreid.captions.table import CaptionRow, write_captions
from textreid.config import Config, ModelConfig
from textreid.presets import fast, paper
from textreid.runlog import RunLog
from textreid.training.augmentation import augment, draw_changes
from textreid.training.batch import Batch
from textreid.training.dataset import captioned_images
from textreid.training.image_store import ImageStore, Pixels
from textreid.training.losses import sdm
from textreid.training.masking import mask_tokens
from textreid.training.noise_table import NoiseTable
from textreid.training.preparation import Run, prepare, synchronize
from textreid.training.recipe import training_steps

WAYS = ("release", "pairs", "four")
CAPTIONS = 4
PADDED = 77
INPUT_IMAGES = 128
SENTENCE = (
    "the person wears a dark red jacket over grey trousers with white shoes and carries small black bag on left "
    "shoulder short brown hair looks like man walking along street while holding phone in right hand"
)
MEAN_WORDS, DEVIATION = 33.6, 8.4  # of the captions of four simulated MLLMs; each word here is one token


def write_data(folder: Path, images: int, height: int, width: int, seed: int) -> None:
    """Noise for pictures, stored as JPEG, and words for captions: time does not depend on what they show or say."""
    rng = np.random.default_rng(seed)
    (folder / "imgs").mkdir(parents=True)
    words, rows = SENTENCE.split(), []
    for index in range(images):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / "imgs" / f"{index}.jpg", quality=90)
        for slot in range(CAPTIONS):
            count = int(np.clip(rng.normal(MEAN_WORDS, DEVIATION), 10, PADDED - 2))
            caption = " ".join(rng.choice(words, size=count))
            rows.append(CaptionRow(f"{index}.jpg", f"noise/{slot}", caption, "noise", "static", "", "", seed))
    write_captions(folder / "captions", rows)


def prepare_run(folder: Path, config: Config, name: str, options: argparse.Namespace, cache: bool = True) -> Run:
    """A run of a preset from random weights."""
    images = options.pairs // config.training.captions_per_image
    config = config.override(
        [
            "model.weights=null", f"training.batch_size={images}", f"training.seed={options.seed}",
            f"training.precision={options.precision}", f"training.cache_images={'on' if cache else 'off'}",
            f"training.compile={str(options.compile and name != 'release').lower()}", *(TINY if options.tiny else ()),
        ]
    )  # fmt: skip
    data = captioned_images(folder / "imgs", folder / "captions")
    log = RunLog(folder / name, False)
    log.path.parent.mkdir(exist_ok=True)
    run = prepare(config, data, log.path.parent, log)
    run.loader.cache_images(run.config.training, log)
    return synchronize(run)


class Release:
    """The reference step, on a network of its own."""

    def __init__(self, run: Run) -> None:
        self.run = run
        on_gpu = run.compute.device.type == "cuda"
        self.autocast = partial(torch.autocast, run.compute.device.type, torch.float16, enabled=on_gpu)
        self.scaler = torch.amp.GradScaler(run.compute.device.type, enabled=on_gpu)
        self.probabilities: dict[int, list[float]] = {}

    def steps(self, stream: Iterable[Batch]) -> Iterator[int]:
        """Train on one batch of pairs after the other."""
        for number, batch in enumerate(stream):
            self.step(number, batch)
            yield number

    def step(self, step: int, batch: Batch, rate: float = 1e-5) -> None:
        """Train on one batch of pairs."""
        run, device = self.run, self.run.compute.device
        tokenizer, model = run.model.tokenizer, run.config.model
        draws = torch.Generator(device).manual_seed(step)
        ids = F.pad(batch.ids, (0, PADDED - batch.ids.shape[1])).to(device)
        lengths, pixels = batch.lengths.to(device), batch.pixels.to(device)
        changes = draw_changes(len(pixels), run.config.augmentation, draws)
        pixels = augment(pixels, run.config.augmentation, changes, model.pixel_mean, model.pixel_std)
        positions = torch.arange(PADDED, device=device)
        words = (positions > 0) & (positions < lengths[:, None] - 1)
        p = torch.tensor([self.probabilities.get(pair, [0.15] * PADDED) for pair in batch.caption_index.tolist()])
        masked = mask_tokens(ids, p.to(device), words, draws, tokenizer.mask_id, tokenizer.vocabulary_size)
        with self.autocast():
            images, texts, noise = self._forward(pixels, masked.ids, ids, lengths)
            loss = sdm(images, texts, batch.labels.to(device))
        for pair, row in zip(batch.caption_index.tolist(), noise, strict=True):
            self.probabilities[pair] = (row - row.mean() + 0.15).clamp(0, 1).tolist()
        torch.autograd.backward(self.scaler.scale(loss))
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(run.optimizer)
        self.scaler.update()
        run.optimizer.zero_grad(set_to_none=True)

    def _forward(self, pixels: Tensor, masked: Tensor, full: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Image features, text features, and the noise of each token of the full captions (T, 77)."""
        encoder, layer = self.run.network.encoder, self.run.config.masking.layer
        last, inner = encoder.vision_model(pixels, layer, all_tokens=True)
        images, patches = encoder._project_image(last)[:, 0], encoder._project_image(inner[:, 1:])
        texts = encoder._project_text(encoder.text_model(masked, self.run.config.model.text_layers))
        texts = texts[torch.arange(len(texts), device=texts.device), lengths - 1]
        tokens = encoder._project_text(encoder.text_model(full, layer))
        cosines = F.normalize(tokens, dim=2) @ F.normalize(patches, dim=2).transpose(1, 2)
        return images, texts, 1 - cosines.amax(dim=2).detach().float()


@dataclass(frozen=True)
class Way:
    """A step, batches for it, and what it computes."""

    steps: Iterator[object]
    stream: list[Batch]
    device: torch.device
    dtype: torch.dtype  # of the products
    operations: list[float]  # of each batch

    def seconds(self) -> tuple[float, float]:
        """Wall-clock and processor time of the next step."""
        finish(self.device)
        wall, processor = time.perf_counter(), time.process_time()
        next(self.steps)
        finish(self.device)
        return time.perf_counter() - wall, time.process_time() - processor


def make_way(folder: Path, name: str, options: argparse.Namespace) -> Way:
    """One of the three, with its own weights, optimiser and batches."""
    config = fast() if name == "four" else paper()
    run = prepare_run(folder, config, name, options)
    stream = list(run.loader.batches(range(options.rounds + 1), 0, torch.device("cpu")))
    layer, model, device = config.masking.layer, run.config.model, run.compute.device
    if name == "release":
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        padded = [float(PADDED)] * options.pairs
        operations = [step_operations(model, options.pairs, padded, layer, whole=True) for _ in stream]
        return Way(Release(run).steps(stream), stream, device, dtype, operations)
    operations = [step_operations(model, len(b.pixels), b.lengths.tolist(), layer) for b in stream]
    sent = (batch.to(device) for batch in stream)  # within the step, as the release does it
    steps = training_steps(run, sent, None, RunLog(folder / name, False))
    return Way(steps, stream, device, run.compute.dtype, operations)


def measure_steps(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Rates, ratios to the release, and shares of the peak."""
    ways = {name: make_way(folder, name, options) for name in WAYS}
    seconds, shares = [], []
    for step in range(options.rounds + 1):
        order = WAYS if step % 2 else WAYS[::-1]  # none is always the first
        taken = {name: ways[name].seconds() for name in order}
        device, dtypes = ways["pairs"].device, {way.dtype for way in ways.values()}
        peaks = {dtype: matrix_peak(device, dtype, options.tiny) for dtype in dtypes}
        seconds.append(taken)
        shares.append({name: way.operations[step] / taken[name][0] / peaks[way.dtype] for name, way in ways.items()})
    seconds, shares = seconds[1:], shares[1:]  # the first round warms up
    return {name: _summary(name, way, seconds, shares, options.pairs) for name, way in ways.items()}


def _summary(
    name: str, way: Way, seconds: list[dict[str, tuple[float, float]]], shares: list[dict[str, float]], pairs: int
) -> dict[str, object]:
    ratios = [one["release"][0] / one[name][0] for one in seconds]
    processor = [one["release"][1] / one[name][1] for one in seconds]
    return {
        "pairs_per_second": round(statistics.median(pairs / one[name][0] for one in seconds), 2),
        "times_release": round(statistics.median(ratios), 2),
        "lowest": round(min(ratios), 2),
        "highest": round(max(ratios), 2),
        "times_release_processor_time": round(statistics.median(processor), 2),
        "gflop_per_pair": round(statistics.mean(way.operations) / pairs / 1e9, 1),
        "tflops": round(
            statistics.median(way.operations[step] / one[name][0] for step, one in enumerate(seconds, 1)) / 1e12, 3
        ),
        "share_of_peak": round(statistics.median(one[name] for one in shares), 3),
        "dtype": str(way.dtype).removeprefix("torch."),
        "mean_tokens": round(float(np.mean([batch.lengths.double().mean() for batch in way.stream])), 1),
    }


def measure_input(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Images a second from JPEG files to batches, by size of the files and by who reads them ahead."""
    found: dict[str, object] = {}
    for size in options.jpeg:
        height, width = map(int, size.split("x"))
        write_data(folder / size, INPUT_IMAGES, height, width, options.seed)
        run = prepare_run(folder / size, paper(), "run", options, cache=False)
        readers: dict[str, Callable[[], int]] = {
            f"{count} threads": partial(_through_threads, run, count) for count in (1, options.threads)
        }
        with ProcessPoolExecutor(options.threads, get_context("spawn")) as pool:
            readers[f"{options.threads} processes"] = partial(_through_processes, run, folder / size, pool)
            rates = [{name: _rate(read) for name, read in readers.items()} for _ in range(options.rounds + 1)]
        found[size] = {name: round(statistics.median(one[name] for one in rates[1:])) for name in readers}
    return {"images_per_second": found}


def _rate(read: Callable[[], int]) -> float:
    begin = time.perf_counter()
    return read() / (time.perf_counter() - begin)


def _through_threads(run: Run, workers: int) -> int:
    """What the recipe does."""
    stream = run.loader.batches(range(run.loader.sampler.steps_per_epoch), workers, torch.device("cpu"))
    return sum(len(batch.pixels) for batch in stream)


def _through_processes(run: Run, folder: Path, pool: ProcessPoolExecutor) -> int:
    """The same files, in portions of the same size, read by processes that send the pixels back."""
    names = run.loader.images.names
    portions = [names[start : start + run.config.training.batch_size] for start in range(0, len(names), 16)]
    return sum(len(pixels) for pixels in pool.map(partial(_read, folder / "imgs"), portions))


def _read(root: Path, names: Sequence[str]) -> Pixels:
    return ImageStore(root, names, ModelConfig()).read(np.arange(len(names)), 0)[0]


def measure_table(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Size of the table of the paper's captions, and the time that one step of 512 pairs spends on it."""
    rng = np.random.default_rng(options.seed)
    table = NoiseTable.create(folder / "noise.npy", PAIRS, PADDED, 0.15)
    times = []
    for _ in range(20):
        pairs = rng.choice(PAIRS, 512, replace=False)
        begin = time.perf_counter()
        table.write(pairs, torch.from_numpy(table.read(pairs, 65)))
        times.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    table.save(folder / "saved.npy")
    return {
        "bytes": table.path.stat().st_size,
        "milliseconds_a_step": round(1e3 * statistics.median(times), 2),
        "seconds_to_save": round(time.perf_counter() - begin, 2),
    }


def main() -> None:
    """Parse, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--pairs", type=int, default=256 if on_gpu else 16, help="a step; a multiple of 4")
    parser.add_argument("--rounds", type=int, default=10 if on_gpu else 5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--compile", action="store_true", help="training.compile=true for pairs and four")
    parser.add_argument("--jpeg", nargs="+", default=["256x128", "384x128", "1152x384"], help="height x width of files")
    parser.add_argument("--only", choices=["steps", "input"], help="one half")
    parser.add_argument("--tiny", action="store_true", help="a model of a second: does it still run?")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        if options.only != "input":
            folder = Path(name) / "steps"
            write_data(folder, options.pairs * (options.rounds + 1), 384, 128, options.seed)
            result["step"] = measure_steps(folder, options)
        if options.only != "steps":
            result["input"] = measure_input(Path(name) / "input", options)
            result["table"] = measure_table(Path(name), options)
    settings = {key: value for key, value in vars(options).items() if key != "only"}
    place = torch.cuda.get_device_name() if on_gpu else platform.machine()
    result |= {**settings, "machine": f"{place}, Python {platform.python_version()}, torch {torch.__version__}"}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
