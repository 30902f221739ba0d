"""EfficientNet-Lite as it was published: batch norms apart, its parameters by the names of its PyTorch port."""

import math

import torch
from torch import nn

# Repeats, kernel, stride, expansion, channels in, channels out: the rows of EfficientNet-B0's table (Tan & Le 2019).
ROWS = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
]
DEPTHS = {"efficientnet-lite0": 1.0, "efficientnet-lite1": 1.1}  # times the repeats, but of the first and last row


def repeats_of(stem: str) -> list[int]:
    """Repeats of each row, rounded up."""
    return [1, *(math.ceil(row[0] * DEPTHS[stem]) for row in ROWS[1:-1]), 1]


class Reference(nn.Module):
    """The features of a classifier with random weights and random statistics of its norms."""

    def __init__(self, stem: str = "efficientnet-lite0") -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, stride=2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self._blocks = nn.ModuleList(
            _MBConv(inner if first else outer, outer, kernel, stride if first else 1, expansion)
            for (_, kernel, stride, expansion, inner, outer), repeats in zip(ROWS, repeats_of(stem), strict=True)
            for first in [True] + [False] * (repeats - 1)
        )
        self._conv_head = nn.Conv2d(320, 1280, 1, bias=False)  # in the file, and not a part of the trunk
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 10)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
                module.running_mean = torch.randn(module.num_features) * 0.2
                module.running_var = torch.rand(module.num_features) * 1.2 + 0.3

    def maps(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Compute the output of every block."""
        hidden = torch.clamp(self._bn0(_same(self._conv_stem, pixels)), 0, 6)
        found = []
        for block in self._blocks:
            hidden = block(hidden)
            found.append(hidden)
        return found


class _MBConv(nn.Module):
    def __init__(self, inner: int, outer: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inner * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(inner, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride=stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv = nn.Conv2d(wide, outer, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outer, eps=1e-3)
        self.skips = stride == 1 and inner == outer

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = pixels
        if hasattr(self, "_expand_conv"):
            hidden = torch.clamp(self._bn0(self._expand_conv(hidden)), 0, 6)
        hidden = torch.clamp(self._bn1(_same(self._depthwise_conv, hidden)), 0, 6)
        hidden = self._bn2(self._project_conv(hidden))
        return hidden + pixels if self.skips else hidden


def _same(convolution: nn.Conv2d, pixels: torch.Tensor) -> torch.Tensor:
    """Convolve with TensorFlow's "SAME" padding, computed from the size as its documentation says."""
    pads: list[int] = []
    for side, kernel, stride in reversed(
        list(zip(pixels.shape[-2:], convolution.kernel_size, convolution.stride, strict=True))
    ):
        total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    found: torch.Tensor = convolution(nn.functional.pad(pixels, pads))
    return found
