"""Weights in: the bundled model, a model folder, CLIP from a folder or the hub, or random ones."""

import logging
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from textreid.artifacts import MANIFEST
from textreid.config import ModelConfig
from textreid.errors import ConfigError, ModelError
from textreid.models.clip_checkpoint import CONFIG, download, read_clip
from textreid.models.dual_encoder import DualEncoder
from textreid.models.folder import BUNDLED, WEIGHTS, check_shapes, open_folder, training_text_of
from textreid.models.model import Model
from textreid.models.tokenizer import Tokenizer

_LOG = logging.getLogger(__name__)
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_VISION_POSITIONS = "vision_model.embeddings.position_embedding.weight"
_TEXT_POSITIONS = "text_model.embeddings.position_embedding.weight"
# A configuration may differ from the weights it names in these: the position tables are fitted to it.
_ADAPTABLE = frozenset({"weights", "image_height", "image_width", "text_length"})


class _Source(NamedTuple):
    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    weights: dict[str, torch.Tensor]
    selected_on: str | None = None


def load_model(
    name_or_path: str | Path | None = None, image_size: tuple[int, int] | None = None, device: str | None = None
) -> Model:
    """Load a model.

    Args:
        name_or_path: None or ``"tiny"`` for the bundled model; a model folder; a CLIP folder as Hugging Face stores
            it; or else the name of one on the hub, such as ``"openai/clip-vit-base-patch16"``.
        image_size: (height, width) in pixels that images shall be resized to in place of the model's own; its
            position table is interpolated, which is logged.
        device: where it encodes, as torch names it (``"cpu"``, ``"cuda:1"``); None is the GPU if torch sees one.

    Raises:
        ModelError: there is no such model, or its files are damaged or do not fit each other.
        ArtifactError: the model folder is incomplete, truncated, or of another format version.
        DownloadError: the hub cannot be reached, or has no such model.
        ConfigError: ``image_size`` is not a multiple of the patch size.
    """
    source = _read(name_or_path)
    if image_size is not None:
        source = _fit(source, replace(source.config, image_height=image_size[0], image_width=image_size[1]))
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    texts = training_text_of("tiny" if name_or_path is None else name_or_path)
    return Model(_build(source).to(place), source.tokenizer, source.selected_on, texts)


def initialize(config: ModelConfig, seed: int = 0) -> DualEncoder:
    """The network that training starts from: the weights that ``config`` names, or else random ones from ``seed``.

    Image size and text length may differ from those of the weights (the text length only be shorter).

    Raises:
        ModelError: as `load_model`, or the weights have another shape than ``config``.
        ArtifactError, DownloadError, ConfigError: as `load_model`.
    """
    if config.weights is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return DualEncoder(config)
    return _build(_fit(_read(config.weights), config))


def _read(name_or_path: str | Path | None) -> _Source:
    if name_or_path is None or name_or_path == "tiny":
        if not BUNDLED.is_dir():
            raise ModelError("this build of textreid has no bundled model; give the path of a model folder")
        return _read_own(BUNDLED)
    path = Path(name_or_path)
    if path.is_file():
        raise ModelError(f"{path}: a file; give a model folder, or a CLIP folder with {CONFIG} and safetensors weights")
    if (path / MANIFEST).is_file():
        return _read_own(path)
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise ModelError(f"{path}: neither {MANIFEST} nor {CONFIG}: not a model folder, or its writing was stopped")
        return _Source(str(path), *read_clip(path))
    if not (isinstance(name_or_path, str) and _HUB_NAME.fullmatch(name_or_path)):
        raise ModelError(f"{path}: no such folder")
    return _Source(name_or_path, *read_clip(download(name_or_path)))


def _read_own(path: Path) -> _Source:
    folder = open_folder(path)
    try:
        weights = load_file(path / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path / WEIGHTS}: cannot be read: {error}") from error
    copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in weights.items()}
    return _Source(str(path), folder.config, folder.tokenizer, copies, folder.selected_on)


def _build(source: _Source) -> DualEncoder:
    with torch.device("meta"):  # no memory, no random numbers: every parameter is assigned below
        encoder = DualEncoder(source.config)
    expected = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in source.weights.items()}
    check_shapes(found, expected, source.name)
    encoder.load_state_dict(source.weights, assign=True)
    return encoder


def _fit(source: _Source, config: ModelConfig) -> _Source:
    """The same weights under another configuration: position tables are interpolated or cut, and that is logged."""
    had, wanted = asdict(source.config), asdict(config)
    differing = [
        f"{name} {had[name]} (not {wanted[name]})"
        for name in had
        if name not in _ADAPTABLE and had[name] != wanted[name]
    ]
    if config.text_length > source.config.text_length:
        differing.append(f"text_length at most {source.config.text_length} (not {config.text_length})")
    if differing:
        raise ModelError(
            f"{source.name}: the weights have another shape than the configuration: {', '.join(differing)}"
        )
    if problems := config.contradictions():
        raise ConfigError("; ".join(problems))
    weights = dict(source.weights)
    before, after = _grid(source.config), _grid(config)
    if before != after and _VISION_POSITIONS in weights:
        _LOG.warning("%s: position table resized from %dx%d to %dx%d patches", source.name, *before, *after)
        weights[_VISION_POSITIONS] = resize_positions(weights[_VISION_POSITIONS], before, after)
    if config.text_length < source.config.text_length and _TEXT_POSITIONS in weights:
        _LOG.warning("%s: texts cut to %d of %d tokens", source.name, config.text_length, source.config.text_length)
        weights[_TEXT_POSITIONS] = weights[_TEXT_POSITIONS][: config.text_length].clone()
    return source._replace(config=config, weights=weights)


def resize_positions(table: torch.Tensor, before: tuple[int, int], after: tuple[int, int]) -> torch.Tensor:
    """Position table (1 + h · w, D) for another grid of patches; bilinear, the row of CLS is kept (Tan et al. 2024).

    Raises:
        ModelError: the table is not of the grid ``before``.
    """
    if len(table) != 1 + before[0] * before[1]:
        raise ModelError(
            f"a position table of {len(table)} rows does not cover CLS and {before[0]}x{before[1]} patches"
        )
    grid = table[1:].T.reshape(1, -1, *before)
    resized = nn.functional.interpolate(grid, size=after, mode="bilinear", align_corners=False)
    return torch.cat([table[:1], resized.flatten(2)[0].T])


def _grid(config: ModelConfig) -> tuple[int, int]:
    return config.image_height // config.patch_size, config.image_width // config.patch_size
