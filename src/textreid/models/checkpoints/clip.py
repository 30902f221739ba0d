"""CLIP from a file or folder that another program wrote, whatever its layout."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from textreid.artifacts import read_json
from textreid.config import ModelConfig
from textreid.errors import ArtifactError, ModelError
from textreid.models.checkpoints.configs import (
    Declared,
    Own,
    infer,
    read_hugging_face,
    read_open_clip,
    read_own_section,
)
from textreid.models.checkpoints.files import Stored, read_file, weight_files
from textreid.models.checkpoints.layouts import HUGGING_FACE, OPEN_CLIP, VISION_POSITIONS, Layout, Place, find_layout
from textreid.models.checkpoints.report import KeyReport, Source, resize_note
from textreid.models.dual_encoder import DualEncoder
from textreid.models.folder import TOKENIZER, Shapes, check_shapes
from textreid.models.positions import from_square
from textreid.models.tokenizer import Tokenizer

VOCABULARY = "vocab.json"
SAFE_WEIGHTS, PICKLED_WEIGHTS = "model.safetensors", "pytorch_model.bin"

_LOG = logging.getLogger(__name__)
_CLIP_VOCABULARY = 49_408
_REPLACED = "jekyll</w>"  # the last merge of CLIP's vocabulary, whose id is the mask token here
_NAMED_AT_MOST = 5  # files in an error message


def read_clip(path: Path, activation: str | None = None) -> Source:
    """Read a CLIP.

    Args:
        path: a file of weights, or a folder with one.
        activation: of the network, where neither the file nor a configuration beside it tells.

    Raises:
        ModelError: it is another kind of model, a CLIP that this package cannot express, or damaged; or it does not
            tell its activation, and ``activation`` is None.
    """
    try:
        return _read(path, activation)
    except ModelError:
        raise
    except ArtifactError as error:  # of a JSON file
        raise ModelError(str(error)) from error


def _read(path: Path, activation: str | None) -> Source:
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and (folder / HUGGING_FACE).is_file() and not (folder / OPEN_CLIP).is_file():
        read_hugging_face(folder / HUGGING_FACE)  # refuses another kind of model before its weights are read
    file = _weights_in(folder) if path.is_dir() else path
    stored = read_file(file)
    layout = find_layout(stored.tensors, str(file))
    tensors = {name: tensor for name, tensor in stored.tensors.items() if name not in layout.ignored}
    _check_kind(tensors, layout, file)
    config, notes = _configure(tensors, layout, stored, file, activation)
    own = read_own_section(folder / HUGGING_FACE) if path.is_dir() else None
    if own:
        tokenizer = Tokenizer.load(folder / TOKENIZER)
    else:
        tokenizer = _clip_tokenizer(config, folder / VOCABULARY if path.is_dir() else None, file)
    report = KeyReport(
        source=str(path),
        layout=f"{layout.title} ({stored.form})",
        loaded={name: layout.places[name].ours for name in tensors},
        ignored=layout.ignored | stored.ignored,
        notes=notes,
    )
    source = Source(config, tokenizer, _take(tensors, layout.places, config, file), report)
    return _restore(source, own) if own else source


def _restore(source: Source, own: Own) -> Source:
    """Restore what textreid wrote in transformers' format: the image size, with the positions that belong to it."""
    height, width = own.image_size
    config = replace(
        source.config,
        image_height=height,
        image_width=width,
        tokenizer=own.tokenizer,
        reduced_decoding=own.reduced_decoding,
    )
    weights, report = dict(source.weights), source.report
    if height != width:
        weights[VISION_POSITIONS] = from_square(weights[VISION_POSITIONS], config.grid)
        report = report.with_resized(
            VISION_POSITIONS, "{0}x{0} to {1}x{2} patches".format(max(config.grid), *config.grid)
        )
    return Source(config, source.tokenizer, weights, report, own.selected_on)


def _weights_in(folder: Path) -> Path:
    """Find the one file of weights in a folder; in one of Hugging Face's, the one that its own library reads."""
    usual = [folder / name for name in (SAFE_WEIGHTS, PICKLED_WEIGHTS) if (folder / name).is_file()]
    if usual and (folder / HUGGING_FACE).is_file():
        # Safetensors before the pickle, as transformers does: both are of the same weights.
        return usual[0]
    found = weight_files(folder)
    if not found:
        raise ModelError(
            f"{folder}: no manifest.json, and no file of weights: not a model folder, or its writing was stopped"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:_NAMED_AT_MOST])
        raise ModelError(f"{folder}: {len(found)} files of weights ({names}); give the path of one of them")
    return found[0]


def _check_kind(tensors: Mapping[str, torch.Tensor], layout: Layout, file: Path) -> None:
    """Refuse tensors that are missing, unknown, or not of floating-point numbers."""
    # Names alone, before anything is concluded from shapes: a tensor that is missing shall be named.
    check_shapes(dict.fromkeys(tensors, ()), dict.fromkeys(layout.places, ()), str(file))
    whole = [name for name, tensor in tensors.items() if not tensor.is_floating_point()]
    if whole:
        raise ModelError(f"{file}: quantised weights ({whole[0]} is {tensors[whole[0]].dtype}) are not supported")


def _configure(
    tensors: Mapping[str, torch.Tensor], layout: Layout, stored: Stored, file: Path, activation: str | None
) -> tuple[ModelConfig, tuple[str, ...]]:
    """Find the configuration, and say what the file did not tell about it."""
    beside = file.parent / layout.configured
    declared = Declared()
    if layout.configured and beside.is_file():
        if layout.configured == HUGGING_FACE:
            config = read_hugging_face(beside)
            return config, (resize_note(config),)
        declared = read_open_clip(beside)
    told = stored.activation or layout.activation or declared.activation
    if not (told or activation):
        raise ModelError(
            f"{file}: the weights do not tell the network's activation, and no {layout.configured} is beside them: "
            "choose gelu (open_clip's own models, unless their name ends in -quickgelu) or quick_gelu (OpenAI's, and "
            "those trained from them)"
        )
    note = f"activation {told}: as the file or its configuration tells"
    if not told:
        note = f"activation {activation} is assumed: the weights do not tell it, and the wrong one spoils the features"
        _LOG.warning("%s: %s", file, note)
    shapes = {
        ours: place.here(tuple(tensors[name].shape)) for name, place in layout.places.items() for ours in place.ours
    }
    complete = declared._replace(
        activation=told or activation, interpolation=declared.interpolation or layout.interpolation
    )
    config, notes = infer(shapes, complete, str(file))
    return config, (note, resize_note(config), *notes)


def _clip_tokenizer(config: ModelConfig, vocabulary: Path | None, file: Path) -> Tokenizer:
    """Make CLIP's tokenizer, if the vocabulary is CLIP's; without a ``vocab.json`` it is trusted by its size."""
    if config.vocabulary_size != _CLIP_VOCABULARY:
        raise ModelError(
            f"{file}: a text tower with {config.vocabulary_size} tokens; only CLIP's {_CLIP_VOCABULARY} are known"
        )
    tokenizer = Tokenizer.clip(config.text_length)
    if vocabulary and vocabulary.is_file():
        ours = json.loads(tokenizer.to_json())["model"]["vocab"]
        # Of the last id the name differs on purpose; all others have to be equal.
        theirs = {name: index for name, index in read_json(vocabulary).items() if name != _REPLACED}
        if theirs != {name: index for name, index in ours.items() if index != tokenizer.mask_id}:
            raise ModelError(f"{vocabulary}: not CLIP's vocabulary; only CLIP's is known")
    return tokenizer


def _take(
    tensors: Mapping[str, torch.Tensor], places: Mapping[str, Place], config: ModelConfig, file: Path
) -> dict[str, torch.Tensor]:
    """Take the weights under the names of `DualEncoder`, each into memory of its own."""
    ours = {name: tuple(tensor.shape) for name, tensor in DualEncoder.without_weights(config).state_dict().items()}
    check_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()}, _expected(places, ours), str(file))
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        place = places[name]
        value = tensor.to(torch.float32)
        if not torch.isfinite(value).all():
            raise ModelError(f"{file}: {name} holds numbers that are not finite: the weights are damaged")
        # OpenAI multiplies features by its projections from the right, a linear layer of torch by the transpose.
        parts = value.chunk(len(place.ours)) if len(place.ours) > 1 else (value.T if place.transposed else value,)
        for part_name, part in zip(place.ours, parts, strict=True):
            # Copies: parts and transposes share the memory of the file, which may be mapped.
            weights[part_name] = part.clone(memory_format=torch.contiguous_format)
    return weights


def _expected(places: Mapping[str, Place], ours: Shapes) -> Shapes:
    """List the shapes that a file must have, under its own names; a tensor that it has no place for keeps our name."""
    expected = {name: place.there(ours[place.ours[0]]) for name, place in places.items() if place.ours[0] in ours}
    placed = {name for place in places.values() for name in place.ours}
    return expected | {name: shape for name, shape in ours.items() if name not in placed}
