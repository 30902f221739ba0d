"""Weights in: the bundled model, model folders, CLIP from a folder or the hub."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from textreid.artifacts import read_json, read_manifest
from textreid.config import ModelConfig
from textreid.errors import ConfigError, ModelError
from textreid.models.dual_encoder import DualEncoder
from textreid.models.model import FORMAT_VERSION, Model
from textreid.models.tokenizer import Tokenizer

BUNDLED = Path(__file__).parent / "bundled" / "tiny"


def load_model(name_or_path: str | Path | None = None) -> Model:
    """Load a model: the bundled one (None or ``"tiny"``) or a model folder.

    Raises:
        ModelError: the folder is missing, damaged or holds other tensors than its configuration says.
    """
    if name_or_path is None or name_or_path == "tiny":
        if not BUNDLED.is_dir():
            raise ModelError("this build of textreid has no bundled model; give the path of a model folder")
        return _load_folder(BUNDLED)
    return _load_folder(Path(name_or_path))


def initialize(config: ModelConfig, seed: int = 0) -> DualEncoder:
    """The network where training starts: the weights that the configuration names, or random ones from ``seed``."""
    if config.weights is not None:
        return load_model(config.weights).encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DualEncoder(config)


def _load_folder(folder: Path) -> Model:
    read_manifest(folder, "model", FORMAT_VERSION)
    try:
        config = ModelConfig.from_dict(read_json(folder / "config.json"))
    except ConfigError as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from error
    encoder = DualEncoder(config)
    encoder.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return Model(encoder.eval(), Tokenizer.load(folder / "tokenizer.json"))
