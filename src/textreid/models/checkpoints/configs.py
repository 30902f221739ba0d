"""The shape of a CLIP: from the configuration beside its weights, or else from the weights themselves."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from textreid.artifacts import read_json
from textreid.config import CLIP_PIXEL_MEAN, CLIP_PIXEL_STD, NORM_EPSILON, ModelConfig
from textreid.errors import ConfigError, ModelError
from textreid.images import RESAMPLING
from textreid.models.checkpoints.layouts import (
    HUGGING_FACE,
    OPEN_CLIP,
    PATCH_EMBEDDING,
    TEXT_POSITIONS,
    TOKEN_EMBEDDING,
    VISION_POSITIONS,
    VISUAL_PROJECTION,
)
from textreid.models.folder import Shapes

PIXELS = "preprocessor_config.json"
OWN_SECTION = "textreid"  # of the config.json of a repository that textreid wrote: what transformers has no place for

_HEAD_WIDTH = 64  # channels of a head: of every published CLIP whose image tower is not wider than
_USUAL_WIDTH = 1024
_TELLING = {  # tensors that tell the sizes, with their numbers of dimensions
    PATCH_EMBEDDING: 4, VISION_POSITIONS: 2, TOKEN_EMBEDDING: 2, TEXT_POSITIONS: 2, VISUAL_PROJECTION: 2,
}  # fmt: skip
# 256×128 and 384×128 are the usual crops of re-identification.
_PERSON = (2, 3)  # height by width of a person's crop, where the patches are not a square
# What open_clip may say of a tower: sizes (and what matters in training only), and CLIP's own way of doing things.
_SIZES = {
    "image_size", "patch_size", "patch_dropout", "layers", "width", "head_width", "heads",
    "context_length", "vocab_size",
}  # fmt: skip
_OPTIONS = {
    "vision_cfg": {"mlp_ratio": 4.0, "pool_type": "tok"},
    "text_cfg": {"mlp_ratio": 4.0, "pool_type": "argmax", "proj_type": "linear"},
}
_INTERPOLATIONS = {number.value: name for name, number in RESAMPLING.items()}  # as preprocessor files tell them
_DEFAULTS: dict[str, dict[str, Any]] = {  # of Hugging Face's CLIP: ViT-B/32
    "vision_config": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    },
    "text_config": {
        "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
        "vocab_size": 49_408, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    },
}  # fmt: skip


class Declared(NamedTuple):
    """What the weights of a CLIP do not tell, as far as it was written beside them."""

    image_size: tuple[int, int] | None = None
    vision_heads: int | None = None
    text_heads: int | None = None
    activation: str | None = None
    pixel_mean: Any = CLIP_PIXEL_MEAN
    pixel_std: Any = CLIP_PIXEL_STD
    interpolation: str | None = None


def read_hugging_face(path: Path) -> ModelConfig:
    """Read a ``config.json``, with the resize and normalisation of pixels beside it.

    Raises:
        ModelError: it is of another kind of model, or of a CLIP that this package cannot express.
    """
    values = read_json(path)
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != "clip":
        raise ModelError(f"{path}: a model of type {kind!r}; of foreign models only CLIP with a ViT can be loaded")
    try:
        vision, text = (_tower(values, tower) for tower in ("vision_config", "text_config"))
        for tower in (vision, text):
            if tower["intermediate_size"] != 4 * tower["hidden_size"] or tower["layer_norm_eps"] != NORM_EPSILON:
                raise ModelError(f"{path}: needs an MLP 4 times as wide as its tower and layer_norm_eps 1e-5")
    except TypeError as error:
        raise ModelError(f"{path}: not a CLIP configuration: {error}") from error
    if vision["hidden_act"] != text["hidden_act"]:
        raise ModelError(f"{path}: the towers have two activations, {vision['hidden_act']} and {text['hidden_act']}")
    fields: dict[str, Any] = {
        "image_height": vision["image_size"],
        "image_width": vision["image_size"],
        "patch_size": vision["patch_size"],
        "vision_width": vision["hidden_size"],
        "vision_layers": vision["num_hidden_layers"],
        "vision_heads": vision["num_attention_heads"],
        "text_width": text["hidden_size"],
        "text_layers": text["num_hidden_layers"],
        "text_heads": text["num_attention_heads"],
        "text_length": text["max_position_embeddings"],
        "embedding_dim": values.get("projection_dim"),
        "activation": vision["hidden_act"],
        "vocabulary_size": text["vocab_size"],
    }
    if (path.parent / PIXELS).is_file():
        pixels = read_json(path.parent / PIXELS)
        fields |= {"pixel_mean": pixels.get("image_mean"), "pixel_std": pixels.get("image_std")}
        fields["interpolation"] = _INTERPOLATIONS.get(pixels.get("resample"), pixels.get("resample"))
    # The authors of foreign checkpoints decode JPEGs in full.
    fields["reduced_decoding"] = False
    return _checked({name: value for name, value in fields.items() if value is not None}, path)


def _tower(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Complete the settings of a tower by transformers' defaults for what is left out.

    Old files tell them twice; there the section that ends in ``_dict`` counts, its defaults included.
    """
    told = dict(values.get(name) or {})
    if (older := values.get(f"{name}_dict")) is not None:
        told |= {**_DEFAULTS[name], **older}
    return _DEFAULTS[name] | {setting: value for setting, value in told.items() if value is not None}


class Own(NamedTuple):
    """What textreid adds to the ``config.json`` of a repository that it writes for transformers."""

    image_size: tuple[int, int]  # transformers' own entry is the longer side, and its table of positions is square
    tokenizer: Literal["clip", "own"]
    selected_on: str | None
    reduced_decoding: bool


def read_own_section(path: Path) -> Own | None:
    """Read that section of a ``config.json``; None where there is no such file, or textreid did not write it.

    Raises:
        ModelError: the section is damaged.
    """
    values = read_json(path) if path.is_file() else {}
    if OWN_SECTION not in values:
        return None
    try:
        own = values[OWN_SECTION]
        size = own["image_height"], own["image_width"]
        return Own(size, own["tokenizer"], own["selected_on"], own.get("reduced_decoding", True))
    except (AttributeError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: {OWN_SECTION}: damaged: {type(error).__name__}: {error}") from error


def read_open_clip(path: Path) -> Declared:
    """Read an ``open_clip_config.json``, with open_clip's defaults for what it leaves out.

    Raises:
        ModelError: it asks for something that CLIP's own ViT and text tower do not have.
    """
    values = read_json(path)
    try:
        model, pixels = values["model_cfg"], values.get("preprocess_cfg", {})
        vision, text = model["vision_cfg"], model["text_cfg"]
        for tower, options in _OPTIONS.items():
            for name, value in model[tower].items():
                if value and name not in _SIZES and options.get(name) != value:
                    raise ModelError(f"{path}: {tower}.{name} {value!r}: not supported, CLIP's own towers have no such")
        side = vision.get("image_size", 224)
        height, width = side if isinstance(side, list) else (side, side)
        return Declared(
            image_size=(height, width),
            vision_heads=vision.get("width", 768) // vision.get("head_width", _HEAD_WIDTH),
            text_heads=text.get("heads", 8),
            # Exact GELU where nothing is said: the default of open_clip, unlike that of transformers.
            activation="quick_gelu" if model.get("quick_gelu") else "gelu",
            pixel_mean=pixels.get("mean", CLIP_PIXEL_MEAN),
            pixel_std=pixels.get("std", CLIP_PIXEL_STD),
            interpolation=pixels.get("interpolation"),
        )
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"{path}: not a configuration of open_clip: {type(error).__name__}: {error}") from error


def infer(shapes: Shapes, declared: Declared, where: str) -> tuple[ModelConfig, tuple[str, ...]]:
    """Infer the configuration of a CLIP from shapes under the names of `DualEncoder`; says what had to be concluded.

    Raises:
        ModelError: it is not among the shapes that CLIP can have, or they leave something open.
    """
    sides = {name: _sides(shapes, name, count, where) for name, count in _TELLING.items()}
    width, _, patch, _ = sides[PATCH_EMBEDDING]
    vocabulary, text_width = sides[TOKEN_EMBEDDING]
    notes = []
    patches = sides[VISION_POSITIONS][0] - 1
    height, breadth = declared.image_size or _image_size(patches, patch, where)
    if declared.image_size is None:
        notes.append(f"image size {height}x{breadth}: from a position table for {patches} patches of {patch}")
    if declared.vision_heads is None:
        notes.append(f"heads: {_HEAD_WIDTH} channels each, as in CLIP")
    fields = {
        "image_height": height,
        "image_width": breadth,
        "patch_size": patch,
        "vision_width": width,
        "vision_layers": _layers(shapes, "vision_model"),
        "vision_heads": declared.vision_heads or _heads(width, "vision", where),
        "text_width": text_width,
        "text_layers": _layers(shapes, "text_model"),
        "text_heads": declared.text_heads or _heads(text_width, "text", where),
        "text_length": sides[TEXT_POSITIONS][0],
        "embedding_dim": sides[VISUAL_PROJECTION][0],
        "activation": declared.activation,
        "vocabulary_size": vocabulary,
        "pixel_mean": declared.pixel_mean,
        "pixel_std": declared.pixel_std,
        # OpenAI's and open_clip's.
        "interpolation": declared.interpolation or "bicubic",
        "reduced_decoding": False,
    }
    return _checked(fields, where), tuple(notes)


def _sides(shapes: Shapes, name: str, count: int, where: str) -> tuple[int, ...]:
    shape = shapes[name]
    if len(shape) != count:
        raise ModelError(f"{where}: the tensor for {name} has {len(shape)} dimensions, not {count}")
    return shape


def _image_size(patches: int, patch: int, where: str) -> tuple[int, int]:
    """Infer (height, width) of the image: square as in CLIP, or a crop of a person, never both."""
    # One count of patches fits one ratio at most: the roots of 2, 3 and 3/2 are irrational.
    for ratio in (1, *_PERSON):
        across = math.isqrt(max(patches, 0) // ratio)
        if across and patches == ratio * across**2:
            return ratio * across * patch, across * patch
    raise ModelError(
        f"{where}: a position table for {patches} patches, which is no grid of 1, 2 or 3 times as many rows as columns"
    )


def _heads(width: int, tower: str, where: str) -> int:
    if width % _HEAD_WIDTH or width > _USUAL_WIDTH:
        raise ModelError(
            f"{where}: the weights do not tell how many heads a {tower} tower of width {width} has; "
            f"put its {HUGGING_FACE} or {OPEN_CLIP} beside them"
        )
    return width // _HEAD_WIDTH


def _layers(shapes: Shapes, tower: str) -> int:
    return sum(name.startswith(f"{tower}.encoder.layers.") and name.endswith(".mlp.fc1.weight") for name in shapes)


def _checked(fields: dict[str, Any], where: Path | str) -> ModelConfig:
    try:
        return ModelConfig.from_dict(fields)
    except ConfigError as error:
        raise ModelError(f"{where}: {error}") from error
