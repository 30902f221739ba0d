"""CLIP as Hugging Face stores it: a folder with ``config.json`` and weights, or the name of one on the hub."""

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from textreid.artifacts import read_json
from textreid.config import ModelConfig
from textreid.errors import ArtifactError, ConfigError, DownloadError, ModelError
from textreid.models.tokenizer import Tokenizer

CONFIG, VOCABULARY, PIXELS = "config.json", "vocab.json", "preprocessor_config.json"
SAFE_WEIGHTS, PICKLED_WEIGHTS = "model.safetensors", "pytorch_model.bin"

_LOG = logging.getLogger(__name__)
_TIMEOUT = 5.0  # seconds until an unreachable hub is given up
_CLIP_VOCABULARY = 49_408
_REPLACED = "jekyll</w>"  # the last merge of CLIP's vocabulary, whose id is the mask token here


def read_clip(folder: Path) -> tuple[ModelConfig, Tokenizer, dict[str, torch.Tensor]]:
    """Configuration, tokenizer and float32 weights of a CLIP folder, under the names of `DualEncoder`.

    Raises:
        ModelError: it holds another kind of model, or a CLIP that this package cannot express.
    """
    try:
        config = _read_config(folder)
        tokenizer = _read_tokenizer(folder, config)
    except ModelError:
        raise
    except ArtifactError as error:
        raise ModelError(str(error)) from error
    weights = {
        name: tensor.to(torch.float32, copy=True)
        for name, tensor in _read_weights(folder).items()
        # Not part of the features: CLIP's own temperature, and a counter that old releases stored.
        if name != "logit_scale" and not name.endswith(".position_ids")
    }
    return config, tokenizer, weights


def download(name: str) -> Path:
    """The local folder of the CLIP called ``name`` on the Hugging Face hub; only files that are needed are fetched.

    What was downloaded before is used when the hub cannot be reached.

    Raises:
        DownloadError: the hub cannot be reached, or has no such model.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    advice = "give the path of a folder that holds the model instead"
    try:
        files = {file.rfilename for file in HfApi().model_info(name, timeout=_TIMEOUT).siblings or ()}
        weights = SAFE_WEIGHTS if SAFE_WEIGHTS in files else PICKLED_WEIGHTS
        wanted = [CONFIG, VOCABULARY, PIXELS, weights]
        return Path(snapshot_download(name, allow_patterns=wanted, etag_timeout=_TIMEOUT))
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"{name}: neither a folder here nor a model on the Hugging Face hub; check the name, or {advice}"
        ) from error
    except Exception as error:  # the client lets errors of its network library through
        found = _downloaded_before(name)
        if found is None:
            reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
            raise DownloadError(
                f"{name}: not a folder here, and the Hugging Face hub did not give it ({reason}); {advice}"
            ) from error
        _LOG.warning("%s: the hub did not answer; using the files downloaded before, in %s", name, found)
        return found


def _downloaded_before(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, CONFIG)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if any((folder / weights).is_file() for weights in (SAFE_WEIGHTS, PICKLED_WEIGHTS)) else None


def _read_config(folder: Path) -> ModelConfig:
    from transformers import CLIPConfig

    path = folder / CONFIG
    values = read_json(path)
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != "clip":
        raise ModelError(f"{path}: a model of type {kind!r}; of foreign models only CLIP with a ViT can be loaded")
    try:
        config = CLIPConfig(**values)
    except Exception as error:  # a validation error of whichever library checks it
        raise ModelError(f"{path}: not a CLIP configuration: {error}") from error
    vision: Any = config.vision_config
    text: Any = config.text_config
    for tower in (vision, text):
        if tower.intermediate_size != 4 * tower.hidden_size or tower.layer_norm_eps != 1e-5:
            raise ModelError(f"{path}: needs an MLP 4 times as wide as its tower and layer_norm_eps 1e-5")
    if vision.hidden_act != text.hidden_act:
        raise ModelError(f"{path}: the towers have two activations, {vision.hidden_act} and {text.hidden_act}")
    fields: dict[str, Any] = {
        "image_height": vision.image_size,
        "image_width": vision.image_size,
        "patch_size": vision.patch_size,
        "vision_width": vision.hidden_size,
        "vision_layers": vision.num_hidden_layers,
        "vision_heads": vision.num_attention_heads,
        "text_width": text.hidden_size,
        "text_layers": text.num_hidden_layers,
        "text_heads": text.num_attention_heads,
        "text_length": text.max_position_embeddings,
        "embedding_dim": config.projection_dim,
        "activation": vision.hidden_act,
        "vocabulary_size": text.vocab_size,
    }
    if (folder / PIXELS).is_file():
        pixels = read_json(folder / PIXELS)
        fields |= {"pixel_mean": pixels.get("image_mean"), "pixel_std": pixels.get("image_std")}
    try:
        return ModelConfig.from_dict({name: value for name, value in fields.items() if value is not None})
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error


def _read_tokenizer(folder: Path, config: ModelConfig) -> Tokenizer:
    """CLIP's tokenizer, if the folder's vocabulary is CLIP's; one without ``vocab.json`` is trusted by its size."""
    if config.vocabulary_size != _CLIP_VOCABULARY:
        raise ModelError(
            f"{folder}: a text tower with {config.vocabulary_size} tokens; only CLIP's {_CLIP_VOCABULARY} are known"
        )
    tokenizer = Tokenizer.clip(config.text_length)
    if (folder / VOCABULARY).is_file():
        found = read_json(folder / VOCABULARY)
        ours = json.loads(tokenizer.to_json())["model"]["vocab"]
        theirs = {name: index for name, index in found.items() if name != _REPLACED}
        if theirs != {name: index for name, index in ours.items() if index != tokenizer.mask_id}:
            raise ModelError(f"{folder / VOCABULARY}: not CLIP's vocabulary; only CLIP's is known")
    return tokenizer


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    safe, pickled = folder / SAFE_WEIGHTS, folder / PICKLED_WEIGHTS
    if safe.is_file():
        try:
            return load_file(safe)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{safe}: cannot be read: {error}") from error
    if not pickled.is_file():
        raise ModelError(f"{folder}: no {SAFE_WEIGHTS} and no {PICKLED_WEIGHTS}")
    try:
        state: dict[str, torch.Tensor] = torch.load(pickled, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"{pickled}: cannot be read: {error}") from error
    return state
