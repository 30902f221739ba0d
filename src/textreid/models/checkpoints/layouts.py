"""The layouts: which tensor of a file is which of `DualEncoder`. Names and shapes alone decide, no values."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from textreid.errors import ModelError
from textreid.images import Interpolation

HUGGING_FACE, OPEN_CLIP = "config.json", "open_clip_config.json"  # configurations beside the weights
CLASS_EMBEDDING = "vision_model.embeddings.class_embedding"
PATCH_EMBEDDING = "vision_model.embeddings.patch_embedding.weight"
VISION_POSITIONS = "vision_model.embeddings.position_embedding.weight"
TOKEN_EMBEDDING = "text_model.embeddings.token_embedding.weight"  # noqa: S105 - of words
TEXT_POSITIONS = "text_model.embeddings.position_embedding.weight"
VISUAL_PROJECTION, TEXT_PROJECTION = "visual_projection.weight", "text_projection.weight"

_IRRA = "base_model."
# As few parts as possible before the tower: else IRRA's own `base_model.` would count as a prefix.
_IMAGE_TOWER = re.compile(rf"((?:[\w-]+\.)*?)(?:{re.escape(_IRRA)})?(?:visual|vision_model)\.")
_BLOCK = {
    "ln_1": "layer_norm1",
    "attn.out_proj": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
# OpenAI's archives hold these numbers; open_clip, which names its tensors alike, does not write them.
_OPENAI_ONLY = frozenset({"input_resolution", "context_length", "vocab_size"})
_FOREIGN = {
    r"(.*\.)?visual\.(layer\d|attnpool|bn1)\b.*": "a CLIP with a ResNet; only image towers that are ViTs are supported",
    r"(.*\.)?visual\.trunk\..*": "an open_clip model with an image tower of timm; only CLIP's own ViT is supported",
    r"(module\.)?text\.(transformer\.(embeddings|encoder)|proj)\..*": (
        "an open_clip model with a text tower of another library; only CLIP's own is supported"
    ),
    # SigLIP adds a bias to its scores, and pools the tokens of an image by attention, in `head`.
    r"(.*\.)?(logit_bias|vision_model\.head\..*)": "SigLIP; of foreign models only CLIP with a ViT can be loaded",
}
_IGNORED = {
    r"logit_scale": "temperature of CLIP's own loss; no part of the features",
    r"(.*\.)?position_ids": "a counter; positions are taken in order",
    r"(text\.)?attn_mask": "the causal mask; it is made anew",
    r"n_averaged|num_updates|decay": "a number of an average of weights",
    r"input_resolution|context_length|vocab_size": "a number that the shapes tell as well",
}
_HEADS = {
    r"classifier\w*\..*": "identity classifier, used in training only",
    r"(cross_attn|cross_modal_transformer|ln_pre_[it]|ln_post|mlm_head)\..*": (
        "head that predicts masked words, used in training only"
    ),
    r".*": "outside both towers, and unknown here",
}


class Place(NamedTuple):
    """Where a tensor goes: to one name; to three, of equal parts of its rows; or to one, transposed."""

    ours: tuple[str, ...]
    transposed: bool = False

    def here(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape in `DualEncoder` of each part, given that in the file."""
        if len(self.ours) > 1 and shape and shape[0] % len(self.ours) == 0:
            return shape[0] // len(self.ours), *shape[1:]
        return shape[::-1] if self.transposed else shape

    def there(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape in the file, given that in `DualEncoder`."""
        if len(self.ours) > 1:
            return shape[0] * len(self.ours), *shape[1:]
        return shape[::-1] if self.transposed else shape


class Layout(NamedTuple):
    """Whose layout a file has.

    Attributes:
        title: in words.
        places: name in the file -> where it goes; all that the layout must have.
        ignored: name in the file -> why it is not used.
        configured: the name of the configuration that such a file has beside it; empty if it has none.
        activation: of the network, where the layout tells.
        interpolation: by which those who write it resize pictures.
    """

    title: str
    places: dict[str, Place]
    ignored: dict[str, str]
    configured: str
    activation: str | None = None
    interpolation: Interpolation = "bicubic"


def clip_prefixes(names: Collection[str]) -> Counter[str]:
    """Count the tensors of image towers by what stands before CLIP's own names; IRRA's ``base_model.`` is CLIP's.

    >>> clip_prefixes(["net.visual.conv1.weight", "net.visual.proj", "head.bias"])
    Counter({'net.': 2})
    """
    return Counter(found[1] for name in names if (found := _IMAGE_TOWER.match(name)))


def find_layout(names: Collection[str], where: str) -> Layout:
    """Tell the layout of a file by the names in it.

    Raises:
        ModelError: it is not a CLIP, or one that this package cannot express.
    """
    # First, because SigLIP's names begin as those of CLIP do at Hugging Face.
    for pattern, what in _FOREIGN.items():
        if any(re.fullmatch(pattern, name) for name in names):
            raise ModelError(f"{where}: {what}")
    if any(name.startswith(("vision_model.", "text_model.")) for name in names):
        openai = _towers(_depth(names, "vision_model.encoder.layers"), _depth(names, "text_model.encoder.layers"))
        places = {name: Place((name,)) for place in openai.values() for name in place.ours}
        return Layout("CLIP as Hugging Face names it", places, _reasons(names, _IGNORED), HUGGING_FACE)
    if any(name.startswith(f"{_IRRA}visual.") for name in names):
        inside = {name.removeprefix(_IRRA) for name in names if name.startswith(_IRRA)}
        outside = {name for name in names if not name.startswith(_IRRA)}
        places = {f"{_IRRA}{name}": place for name, place in _openai(inside).items()}
        ignored = {f"{_IRRA}{name}": reason for name, reason in _reasons(inside, _IGNORED).items()}
        ignored |= _reasons(outside, _IGNORED | _HEADS)
        # IRRA starts from OpenAI's weights, and resizes as torchvision does when it is not told how: bilinearly.
        return Layout("person search of the IRRA family", places, ignored, "", "quick_gelu", "bilinear")
    if any(name.startswith("visual.") for name in names):
        released = _OPENAI_ONLY.issubset(names)
        title = "CLIP as OpenAI releases it" if released else "CLIP as OpenAI and open_clip name it"
        activation = "quick_gelu" if released else None
        return Layout(title, _openai(names), _reasons(names, _IGNORED), OPEN_CLIP, activation)
    raise ModelError(f"{where}: not CLIP in any layout that is known; its first tensors are {', '.join([*names][:3])}")


def _openai(names: Collection[str]) -> dict[str, Place]:
    text = "text." if any(name.startswith("text.") for name in names) else ""  # open_clip's newer kind of model
    return _towers(_depth(names, "visual.transformer.resblocks"), _depth(names, f"{text}transformer.resblocks"), text)


def _depth(names: Collection[str], prefix: str) -> int:
    return len({found[1] for name in names if (found := re.match(rf"{re.escape(prefix)}\.(\d+)\.", name))})


def _reasons(names: Collection[str], reasons: Mapping[str, str]) -> dict[str, str]:
    """Say why not, of those names that are known not to be weights of the towers."""
    found = ((name, next((r for pattern, r in reasons.items() if re.fullmatch(pattern, name)), None)) for name in names)
    return {name: reason for name, reason in found if reason}


def _towers(vision_layers: int, text_layers: int, text: str = "") -> dict[str, Place]:
    """List OpenAI's names of both towers; those of the text tower begin with ``text``."""
    places = {
        "visual.class_embedding": Place((CLASS_EMBEDDING,)),
        "visual.conv1.weight": Place((PATCH_EMBEDDING,)),
        "visual.positional_embedding": Place((VISION_POSITIONS,)),
        "visual.proj": Place((VISUAL_PROJECTION,), transposed=True),
        f"{text}token_embedding.weight": Place((TOKEN_EMBEDDING,)),
        f"{text}positional_embedding": Place((TEXT_POSITIONS,)),
        f"{text}text_projection": Place((TEXT_PROJECTION,), transposed=True),
    }
    pairs = {
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.ln_post": "vision_model.post_layernorm",
        f"{text}ln_final": "text_model.final_layer_norm",
    }
    for theirs, ours, layers in (
        ("visual.transformer", "vision_model", vision_layers),
        (f"{text}transformer", "text_model", text_layers),
    ):
        for layer in range(layers):
            there, here = f"{theirs}.resblocks.{layer}", f"{ours}.encoder.layers.{layer}"
            for kind in ("weight", "bias"):
                # torch's MultiheadAttention holds the three in one tensor, in this order.
                parts = (f"{here}.self_attn.{part}_proj.{kind}" for part in ("q", "k", "v"))
                places[f"{there}.attn.in_proj_{kind}"] = Place(tuple(parts))
            pairs |= {f"{there}.{name}": f"{here}.{other}" for name, other in _BLOCK.items()}
    for theirs, ours in pairs.items():
        places |= {f"{theirs}.{kind}": Place((f"{ours}.{kind}",)) for kind in ("weight", "bias")}
    return places
