"""What each pixel of a crop shows, and what each part of the person looks like: a small network over a trunk's maps.

It is taught by people in three dimensions, of whom every pixel is known, and by drawn ones
(``recipes/attribute_expert.py``). What it finds is read by rules, in `attribute_expert`.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F  # noqa: N812

from textreid.errors import ModelError
from textreid.models.attribute_reading import ATTRIBUTES
from textreid.models.trunk import split_maps

PARTS = ("background", "skin", "hair", "headwear", "upper", "lower", "shoes", "bag", "thing")
GRID = 4  # pixels a side of what is told apart
# What an attribute is read from; the whole person and the background are looked at beside it.
_REGIONS: dict[str, tuple[str, ...]] = {
    "person": PARTS[1:], "head": ("hair", "headwear"), **{part: (part,) for part in PARTS},
}  # fmt: skip
_FIELDS = {  # by the first word of an attribute's name
    "gender": "person", "hair": "hair", "headwear": "headwear", "glasses": "head", "upper": "upper",
    "sleeve": "upper", "inner": "upper", "lower": "lower", "shoes": "shoes", "bag": "bag",
}  # fmt: skip
_COARSE, _FINE, _COLOURS, _HIDDEN = 64, 32, 48, 96  # channels, colours that pixels are counted by, width of a head
_LEAST = 1e-3  # added to a share before its logarithm


class AttributeNetwork(nn.Module):
    """Finds parts and attributes in the maps of EfficientNet-Lite0, `TrunkEmbedding.maps`.

    The maps at all strides are joined from the coarsest to the finest, down to the colours of 4 by 4 pixels, and each
    cell is given to a part. An attribute is read from its part: the mean of the maps there, the colours there and
    around the person, and how much of the crop each part takes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.coarse, self.middle, self.fine = (_convolution(channels, _COARSE, 1) for channels in (320, 112, 40))
        self.join_middle, self.join_fine = _convolution(_COARSE, _COARSE, 3), _convolution(_COARSE, _COARSE, 3)
        self.narrow, self.pixels = _convolution(_COARSE, _FINE, 1), _convolution(3, _FINE, 3)
        self.join_pixels = _convolution(_FINE, _FINE, 3)
        self.parts = nn.Conv2d(_FINE, len(PARTS), kernel_size=1)
        self.colours = nn.Conv2d(3, _COLOURS, kernel_size=1)
        known = 2 * _COARSE + _FINE + 2 * _COLOURS + len(_REGIONS)
        self.attributes = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.LayerNorm(known), nn.Linear(known, _HIDDEN), nn.GELU(), nn.Dropout(0.2),
                    nn.Linear(_HIDDEN, len(values)),
                )
                for name, values in ATTRIBUTES.items()
            }
        )  # fmt: skip

    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Read maps (B, `MAP_CHANNELS`, h, w).

        Returns:
            Logits of `PARTS` (B, parts, 4 h, 4 w), and of the values of each of `ATTRIBUTES` (B, values).
        """
        pixels, fine, middle, coarse = split_maps(maps)
        hidden = self.join_middle(F.interpolate(self.coarse(coarse), scale_factor=2.0) + self.middle(middle))
        hidden = self.join_fine(F.interpolate(hidden, scale_factor=2.0) + self.fine(fine))
        detail = self.join_pixels(F.interpolate(self.narrow(hidden), scale_factor=2.0) + self.pixels(pixels))
        logits = self.parts(detail)
        share = logits.float().softmax(dim=1)
        named = dict(zip(PARTS, share.unbind(dim=1), strict=True))
        regions = torch.stack([sum(named[part] for part in parts) for parts in _REGIONS.values()], dim=1)
        # How much of the crop a region takes, and (B, regions, pixels) weights of which each row sums to nearly 1.
        sizes = torch.log(regions.mean(dim=(2, 3)) + _LEAST)
        weights = regions / (regions.sum(dim=(2, 3), keepdim=True) + 1)
        counted = self.colours(pixels).float().softmax(dim=1)
        shades = torch.log(_means(weights, counted) + _LEAST)
        shapes, details = _means(4 * F.avg_pool2d(weights, 2), hidden.float()), _means(weights, detail.float())
        found = {}
        order = list(_REGIONS)
        for name, head in self.attributes.items():
            region = order.index(_FIELDS[name.split("_")[0]])
            found[name] = head(
                torch.cat(
                    [
                        *(shapes[:, region], shapes[:, 0], details[:, region], shades[:, region]),
                        *(shades[:, order.index("background")], sizes),
                    ],
                    dim=1,
                )
            )
        return logits, found

    def probabilities(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute the probability of each value of `ATTRIBUTES`, side by side: (B, values of all)."""
        _, found = self(maps)
        return torch.cat([found[name].float().softmax(dim=1) for name in ATTRIBUTES], dim=1)


def load_network(path: Path) -> AttributeNetwork:
    """Read the weights of an `AttributeNetwork`.

    Raises:
        ModelError: the file cannot be read, or is not of one.
    """
    network = AttributeNetwork()
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{path}: no weights of the network for attributes could be read: {error}") from error
    return network.eval()


def _means(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Weigh values (B, C, H, W) by weights (B, R, H, W): (B, R, C)."""
    means: torch.Tensor = torch.einsum("brp,bcp->brc", weights.flatten(2), values.flatten(2))
    return means


def _convolution(channels: int, out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU()
    )
