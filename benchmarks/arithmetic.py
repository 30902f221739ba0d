"""Floating-point operations of the training step by formula, and what they make of the paper's pre-training.

    python benchmarks/arithmetic.py              # hours and dollars at an assumed share of the peak
    python benchmarks/arithmetic.py --share 0.35

Only products of matrices count, two operations a multiplication and addition. A layer of width w over n tokens takes
24 w² n for its six products and 4 w n² for attention; causal attention is counted whole, since it is computed so.
A backward pass takes twice its forward pass. Tokens are those of the captions, not of their padding.
"""

import argparse
import time
from collections.abc import Sequence

import torch

from textreid.config import ModelConfig
from textreid.presets import paper

PAIRS, EPOCHS = 4_030_000, 30  # of the paper's pre-training
TOKENS = 35.6  # of a caption on average, start and end included: 20,000 of four simulated MLLMs
PEAKS = {"A100": 312e12, "H100": 989e12}  # bfloat16, dense, as published by NVIDIA
DOLLARS = {"A100": 1.8, "H100": 3.0}  # an hour of one GPU, rented: assumed
# Settings of a model of a second: to see that a script still runs, not to measure (`--tiny` of several benchmarks).
TINY = (
    *("model.image_height=64", "model.image_width=32", "model.embedding_dim=32", "masking.layer=1"),
    *("model.vision_width=32", "model.vision_layers=2", "model.vision_heads=2"),
    *("model.text_width=32", "model.text_layers=2", "model.text_heads=2"),
)
_TRAINING = 3  # forward passes in one forward and backward pass


def image_operations(config: ModelConfig, whole: bool = False) -> float:
    """A forward pass of one image; the last layer for the class token alone, unless ``whole``."""
    rows, columns = config.grid
    tokens, width = 1 + rows * columns, config.vision_width
    patches = 2 * (tokens - 1) * 3 * config.patch_size**2 * width
    return patches + _tower(tokens, width, config.vision_layers, whole)


def text_operations(config: ModelConfig, tokens: float, whole: bool = False) -> float:
    """A forward pass of one caption; the last layer for the end token alone, unless ``whole``."""
    return _tower(tokens, config.text_width, config.text_layers, whole)


def _tower(tokens: float, width: int, layers: int, whole: bool) -> float:
    return (layers - 1) * _layer(tokens, tokens, width) + _layer(tokens, tokens if whole else 1, width)


def _layer(tokens: float, asking: float, width: int) -> float:
    """Keys and values of all tokens; queries, attention, its output and the perceptron of those asking."""
    return 4 * width**2 * tokens + 20 * width**2 * asking + 4 * width * tokens * asking


def step_operations(
    config: ModelConfig, images: int, lengths: Sequence[float], scored_layers: int, whole: bool = False
) -> float:
    """A step: train on both towers, score each caption up to a layer without gradient, project; ``whole`` layers."""
    tokens = sum(lengths)
    texts = sum(
        _TRAINING * text_operations(config, length, whole) + scored_layers * _layer(length, length, config.text_width)
        for length in lengths
    )
    # The heads: patches and words are projected for their scores only; one token of each for the loss.
    rows, columns = config.grid
    heads = 2 * config.embedding_dim * (rows * columns * config.vision_width * images + tokens * config.text_width)
    return _TRAINING * images * image_operations(config, whole) + texts + heads


def matrix_peak(device: torch.device, dtype: torch.dtype, tiny: bool = False) -> float:
    """Operations a second of one large product, the best of some."""
    size, times = (8192, 20) if device.type == "cuda" else (256 if tiny else 2048, 8)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(times):
        finish(device)
        begin = time.perf_counter()
        torch.mm(left, right)
        finish(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


def finish(device: torch.device) -> None:
    """Wait for what the device has been told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Print hours and cost of the paper's pre-training for both modes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.45, help="of the peak that a step reaches; assumed")
    parser.add_argument("--scaling", type=float, default=0.9, help="of the ideal speed on 8 GPUs; assumed")
    options = parser.parse_args()
    config = paper().model
    print("mode      GFLOP/caption  GPU   GPUs   hours  dollars  images/s")
    for mode, captions in (("pairs", 1), ("four", 4)):
        one = step_operations(config, 1, [TOKENS] * captions, paper().masking.layer) / captions
        for gpu, peak in PEAKS.items():
            for count in (1, 4, 8):
                kept = 1 - (1 - options.scaling) * (count - 1) / 7
                rate = peak * options.share * count * kept / one  # captions a second
                hours = PAIRS * EPOCHS / rate / 3600
                cost = hours * count * DOLLARS[gpu]
                print(f"{mode:9} {one / 1e9:13.1f}  {gpu:5} {count:4} {hours:7.1f} {cost:8.0f} {rate / captions:9.0f}")


if __name__ == "__main__":
    main()
