"""CLIP from its definition (Radford et al. 2021), in plain tensor arithmetic, and its weights as others store them.

Nothing of textreid is used here: the forward pass is what the importers are compared with. Weights carry OpenAI's
names; the other layouts are made from these.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]

HEAD, PATCH, TOKENS, DIMENSION = 64, 16, 49_408, 24
ROWS, COLUMNS = 4, 4  # patches
WIDTHS = {"visual.": 128, "": 128}
LAYERS = {"visual.": 3, "": 2}
TEXT_LENGTH = 77


def random_weights(rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> Weights:
    """Weights of two small towers under OpenAI's names, such that every tensor matters to the features."""
    draws = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float, mean: float = 0.0) -> Tensor:
        return mean + scale * torch.randn(*shape, generator=draws)

    width, text = WIDTHS["visual."], WIDTHS[""]
    weights = {
        "positional_embedding": normal(TEXT_LENGTH, text, scale=0.5),
        "text_projection": normal(text, DIMENSION, scale=text**-0.5),
        "visual.class_embedding": normal(width, scale=0.5),
        "visual.positional_embedding": normal(1 + rows * columns, width, scale=0.5),
        "visual.proj": normal(width, DIMENSION, scale=width**-0.5),
        "visual.conv1.weight": normal(width, 3, PATCH, PATCH, scale=0.04),
        "token_embedding.weight": normal(TOKENS, text, scale=0.5),
        "logit_scale": torch.tensor(4.6),
    }
    norms = ["visual.ln_pre", "visual.ln_post", "ln_final"]
    for tower, size in WIDTHS.items():
        for layer in range(LAYERS[tower]):
            block = f"{tower}transformer.resblocks.{layer}"
            norms += [f"{block}.ln_1", f"{block}.ln_2"]
            for name, outputs, inputs in (
                ("attn.in_proj_", 3 * size, size),
                ("attn.out_proj.", size, size),
                ("mlp.c_fc.", 4 * size, size),
                ("mlp.c_proj.", size, 4 * size),
            ):
                weights[f"{block}.{name}weight"] = normal(outputs, inputs, scale=1.5 * inputs**-0.5)
                weights[f"{block}.{name}bias"] = normal(outputs, scale=0.2)
    for norm in norms:
        size = len(
            weights["visual.class_embedding"] if norm.startswith("visual.") else weights["positional_embedding"][0]
        )
        weights |= {f"{norm}.weight": normal(size, scale=0.2, mean=1.0), f"{norm}.bias": normal(size, scale=0.2)}
    return weights


def image_features(weights: Weights, pixels: Tensor, activation: str) -> Tensor:
    """Features (B, D) of pixels (B, 3, H, W): the projected class token."""
    w = {name.removeprefix("visual."): value.double() for name, value in weights.items() if name.startswith("visual.")}
    features = []
    for picture in pixels.double():
        kernel = w["conv1.weight"]
        patches = [
            (kernel * picture[:, top : top + PATCH, left : left + PATCH]).sum(dim=(1, 2, 3))
            for top in range(0, picture.shape[1], PATCH)
            for left in range(0, picture.shape[2], PATCH)
        ]
        x = torch.stack([w["class_embedding"], *patches]) + w["positional_embedding"]
        x = transformer(layer_norm(x, w, "ln_pre"), w, LAYERS["visual."], activation, causal=False)
        features.append(layer_norm(x[0], w, "ln_post") @ w["proj"])
    return torch.stack(features)


def text_features(weights: Weights, ids: list[list[int]], activation: str) -> Tensor:
    """Features (B, D) of token ids: the projected token with the highest id, which is the end."""
    w = {name: value.double() for name, value in weights.items() if not name.startswith("visual.")}
    features = []
    for sentence in ids:
        x = w["token_embedding.weight"][sentence] + w["positional_embedding"][: len(sentence)]
        x = layer_norm(transformer(x, w, LAYERS[""], activation, causal=True), w, "ln_final")
        features.append(x[sentence.index(max(sentence))] @ w["text_projection"])
    return torch.stack(features)


def transformer(x: Tensor, w: Weights, layers: int, activation: str, causal: bool) -> Tensor:
    act = ACTIVATIONS[activation]
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}"
        x = x + attention(layer_norm(x, w, f"{block}.ln_1"), w, f"{block}.attn", causal)
        inner = layer_norm(x, w, f"{block}.ln_2") @ w[f"{block}.mlp.c_fc.weight"].T + w[f"{block}.mlp.c_fc.bias"]
        x = x + act(inner) @ w[f"{block}.mlp.c_proj.weight"].T + w[f"{block}.mlp.c_proj.bias"]
    return x


def attention(x: Tensor, w: Weights, name: str, causal: bool) -> Tensor:
    """Attention of tokens (T, width), one head of 64 channels after the other."""
    width = x.shape[1]
    query, key, value = (x @ w[f"{name}.in_proj_weight"].T + w[f"{name}.in_proj_bias"]).chunk(3, dim=1)
    heads = []
    for begin in range(0, width, HEAD):
        part = slice(begin, begin + HEAD)
        scores = query[:, part] @ key[:, part].T / math.sqrt(HEAD)
        if causal:
            future = torch.arange(len(x))[None, :] > torch.arange(len(x))[:, None]
            scores = scores.masked_fill(future, -math.inf)
        heads.append(scores.softmax(dim=1) @ value[:, part])
    return torch.cat(heads, dim=1) @ w[f"{name}.out_proj.weight"].T + w[f"{name}.out_proj.bias"]


def layer_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
}


def as_hugging_face(weights: Weights) -> Weights:
    """The same weights under the names of Hugging Face: separate projections, and linear layers as torch has them."""
    names = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "logit_scale": "logit_scale",
    }
    renamed: Weights = {
        "visual_projection.weight": weights["visual.proj"].T.contiguous(),
        "text_projection.weight": weights["text_projection"].T.contiguous(),
    }
    parts = [
        ("visual.ln_pre.", "vision_model.pre_layrnorm."), ("visual.ln_post.", "vision_model.post_layernorm."),
        ("ln_final.", "text_model.final_layer_norm."), ("attn.out_proj.", "self_attn.out_proj."),
        ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
        ("transformer.resblocks.", "text_model.encoder.layers."),
        ("ln_1.", "layer_norm1."), ("ln_2.", "layer_norm2."), ("mlp.c_fc.", "mlp.fc1."), ("mlp.c_proj.", "mlp.fc2."),
    ]  # fmt: skip
    for name, value in weights.items():
        other = names.get(name, name)
        for theirs, ours in parts:
            other = other.replace(theirs, ours)
        if "attn.in_proj_" in name:
            head, kind = other.split("attn.in_proj_")
            for letter, third in zip("qkv", value.chunk(3), strict=True):
                renamed[f"{head}self_attn.{letter}_proj.{kind}"] = third.clone()
        elif name not in ("visual.proj", "text_projection"):
            renamed[other] = value
    return renamed


class _Node(nn.Module):
    """A place in the tree of modules; its forward pass makes the program of the archive mention an activation."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x) if self.activation == "quick_gelu" else nn.functional.gelu(x)


def as_modules(weights: Weights, activation: str) -> nn.Module:
    """A tree of modules with these tensors in it: dots in the names are its branches."""
    root = _Node(activation)
    for name, value in weights.items():
        *branches, leaf = name.split(".")
        owner: Any = root
        for branch in branches:
            if branch not in owner._modules:
                owner.add_module(branch, _Node(activation))
            owner = getattr(owner, branch)
        if value.is_floating_point():
            owner.register_parameter(leaf, nn.Parameter(value))
        else:
            owner.register_buffer(leaf, value)
    return root
