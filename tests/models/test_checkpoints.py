"""Each layout that is imported: written here from a small random CLIP, and compared with its own forward pass."""

import json
import logging
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.models import reference_clip as reference
from tests.models.reference_clip import Weights

from textreid.errors import ModelError
from textreid.models import DualEncoder, KeyReport, Model, load_model
from textreid.models.checkpoints.configs import Declared, infer
from textreid.models.checkpoints.layouts import find_layout

SENTENCES = ["a woman in a red jacket, with a black backpack!", "", "ein Mann mit Hut"]
RELEASED = {"input_resolution": torch.tensor(64), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
OPEN_CLIP: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": 3, "width": 128, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}
HUGGING_FACE: dict[str, Any] = {
    "model_type": "clip",
    "projection_dim": 24,
    "text_config": {
        "hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2, "num_hidden_layers": 2,
        "vocab_size": 49408, "hidden_act": "gelu",
    },
    "vision_config": {
        "hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2, "num_hidden_layers": 3,
        "image_size": 64, "patch_size": 16, "hidden_act": "gelu",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def weights() -> Weights:
    return reference.random_weights()


def half(weights: Weights) -> Weights:
    return {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}


def rounded(weights: Weights) -> Weights:
    return {name: value.float() for name, value in half(weights).items()}


def save_torchscript(weights: Weights, path: Path, activation: str = "quick_gelu") -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit", category=DeprecationWarning)
        module = reference.as_modules(weights, activation)
        traced: Any = torch.jit.trace(module, torch.ones(2))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path)


def assert_same_features(model: Model, weights: Weights, activation: str) -> None:
    """The features of pictures and sentences are those of the reference, to 1e-5."""
    config = model.config
    draws = torch.Generator().manual_seed(1)
    pixels = torch.randn(3, 3, config.image_height, config.image_width, generator=draws)
    tokens = model.tokenizer.encode(SENTENCES)
    ids = [row[:length].tolist() for row, length in zip(tokens.ids, tokens.lengths, strict=True)]
    with torch.no_grad():
        images = model.encoder.encode_image(pixels)
        texts = model.encoder.encode_text(torch.tensor(tokens.ids), torch.tensor(tokens.lengths))
    for found, expected in (
        (images, reference.image_features(weights, pixels, activation)),
        (texts, reference.text_features(weights, ids, activation)),
    ):
        assert expected.std() > 0.3  # or the comparison would say little
        assert (found - expected).abs().max() < 1e-5


def assert_complete(report: KeyReport, loaded: int, ignored: list[str], model: Model) -> None:
    """So many tensors of the file are used and these are not; and every tensor of the model is filled once."""
    assert len(report.loaded) == loaded
    assert sorted(report.ignored) == sorted(ignored)
    assert all(report.ignored.values())
    filled = [ours for places in report.loaded.values() for ours in places]
    assert sorted(filled) == sorted(model.encoder.state_dict())
    assert len(filled) == 13 + 16 * 5


def report_of(model: Model) -> KeyReport:
    assert model.report is not None
    return model.report


def test_the_reference_is_what_transformers_computes(weights: Weights) -> None:
    from transformers import CLIPConfig, CLIPModel

    clip: Any = CLIPModel(CLIPConfig(**HUGGING_FACE))
    clip.eval()
    clip.load_state_dict(reference.as_hugging_face(weights))
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        images = clip.get_image_features(pixels).pooler_output
        texts = clip.get_text_features(torch.tensor([[49406, 320, 2368, 49407]])).pooler_output
    assert (images - reference.image_features(weights, pixels, "gelu")).abs().max() < 1e-5
    assert (texts - reference.text_features(weights, [[49406, 320, 2368, 49407]], "gelu")).abs().max() < 1e-5


def openai_archive(weights: Weights, folder: Path) -> Path:
    save_torchscript(half(weights) | RELEASED, folder / "m")
    return folder / "m"


def openai_state_dict(weights: Weights, folder: Path) -> Path:
    torch.save(half(weights) | RELEASED, folder / "m.jpg")  # a name tells nothing
    return folder / "m.jpg"


def openai_old_pickle(weights: Weights, folder: Path) -> Path:
    torch.save(half(weights) | RELEASED, folder / "m", _use_new_zipfile_serialization=False)
    return folder / "m"


def open_clip_training(weights: Weights, folder: Path) -> Path:
    state = {f"module.{name}": value for name, value in weights.items()}
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}
    torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": optimizer}, folder / "epoch_3.pt")
    return folder / "epoch_3.pt"


def open_clip_folder(weights: Weights, folder: Path, quick: bool = False) -> Path:
    config = OPEN_CLIP | {"model_cfg": OPEN_CLIP["model_cfg"] | ({"quick_gelu": True} if quick else {})}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    torch.save(weights, folder / "open_clip_pytorch_model.bin")
    return folder


def open_clip_quick_folder(weights: Weights, folder: Path) -> Path:
    return open_clip_folder(weights, folder, quick=True)


def open_clip_custom_text(weights: Weights, folder: Path) -> Path:
    state = {
        name if name.startswith("visual.") or name == "logit_scale" else f"text.{name}": value
        for name, value in weights.items()
    }
    save_file(state | {"text.attn_mask": torch.zeros(77, 77)}, folder / "m.bin")
    return folder / "m.bin"


def open_clip_archive(weights: Weights, folder: Path) -> Path:
    save_torchscript(weights, folder / "m.pt", "gelu")
    return folder / "m.pt"


def hugging_face_folder(weights: Weights, folder: Path) -> Path:
    (folder / "config.json").write_text(json.dumps(HUGGING_FACE), encoding="utf-8")
    counters = {f"{tower}_model.embeddings.position_ids": torch.arange(5) for tower in ("text", "vision")}
    torch.save(reference.as_hugging_face(weights) | counters, folder / "pytorch_model.bin")
    return folder


def hugging_face_file_beside_its_config(weights: Weights, folder: Path) -> Path:
    return hugging_face_folder(weights, folder) / "pytorch_model.bin"


def hugging_face_file_alone(weights: Weights, folder: Path) -> Path:
    save_file(reference.as_hugging_face(weights), folder / "m.safetensors")
    return folder / "m.safetensors"


def irra(weights: Weights, folder: Path, prefix: str = "") -> Path:
    """A checkpoint of the paper's release: the towers under ``base_model``, heads beside it, half precision."""
    state = {f"base_model.{name}": value for name, value in half(weights).items() if name != "logit_scale"}
    state |= {name: torch.ones(2, 2).half() for name in IRRA_HEADS}
    content = {"model": {prefix + name: value for name, value in state.items()}, "iteration": 7, "epoch": 2}
    torch.save(content, folder / "best.pth")
    return folder / "best.pth"


def irra_of_several_gpus(weights: Weights, folder: Path) -> Path:
    return irra(weights, folder, "module.")


IRRA_HEADS = [
    "classifier.weight", "classifier.bias", "cross_attn.in_proj_weight", "cross_attn.out_proj.bias",
    "cross_modal_transformer.resblocks.0.attn.in_proj_weight", "ln_pre_t.weight", "ln_pre_i.bias", "ln_post.weight",
    "mlm_head.dense.weight", "mlm_head.ln.bias", "mlm_head.fc.bias",
]  # fmt: skip
COUNTERS = ["text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"]
WRITERS: dict[Callable[[Weights, Path], Path], tuple[str, str, bool, list[str]]] = {
    # writer: (layout, activation, whether that must be given, what is ignored besides logit_scale)
    openai_archive: ("as OpenAI releases it (TorchScript archive)", "quick_gelu", False, [*RELEASED]),
    openai_state_dict: ("as OpenAI releases it (PyTorch archive)", "quick_gelu", False, [*RELEASED]),
    openai_old_pickle: ("as OpenAI releases it (PyTorch pickle)", "quick_gelu", False, [*RELEASED]),
    open_clip_training: ("as OpenAI and open_clip name it", "gelu", True, ["epoch", "name", "optimizer"]),
    open_clip_folder: ("as OpenAI and open_clip name it (PyTorch archive)", "gelu", False, []),
    open_clip_quick_folder: ("as OpenAI and open_clip name it", "quick_gelu", False, []),
    open_clip_custom_text: ("as OpenAI and open_clip name it (safetensors)", "gelu", True, ["text.attn_mask"]),
    open_clip_archive: ("as OpenAI and open_clip name it (TorchScript archive)", "gelu", False, []),
    hugging_face_folder: ("as Hugging Face names it (PyTorch archive)", "gelu", False, COUNTERS),
    hugging_face_file_beside_its_config: ("as Hugging Face names it", "gelu", False, COUNTERS),
    hugging_face_file_alone: ("as Hugging Face names it (safetensors)", "quick_gelu", True, []),
}
HALVES = {openai_archive, openai_state_dict, openai_old_pickle, irra, irra_of_several_gpus}


@pytest.mark.parametrize("write", WRITERS, ids=lambda writer: writer.__name__)
def test_each_layout_computes_what_its_weights_define(
    write: Callable[[Weights, Path], Path], weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout, activation, must_be_given, ignored = WRITERS[write]
    path = write(weights, tmp_path)
    if must_be_given:
        with pytest.raises(ModelError, match=r"do not tell the network's activation.*: choose gelu"):
            load_model(path)
    with caplog.at_level(logging.INFO):
        model = load_model(path, activation=activation if must_be_given else None)  # type: ignore[arg-type]
    report = report_of(model)
    assert layout in report.layout
    assert model.config.activation == activation
    assert (model.config.image_height, model.config.image_width, model.config.text_length) == (64, 64, 77)
    assert_same_features(model, rounded(weights) if write in HALVES else weights, activation)
    separate = len(reference.as_hugging_face(weights)) if "Hugging Face" in layout else len(weights)
    assert_complete(report, separate - 1, ["logit_scale", *ignored], model)
    assert report.summary in caplog.text
    assert (f"activation {activation} is assumed" in caplog.text) is must_be_given


@pytest.mark.parametrize("write", [irra, irra_of_several_gpus])
def test_a_person_search_checkpoint_keeps_its_image_size(
    write: Callable[[Weights, Path], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = reference.random_weights(rows=24, columns=8)
    model = load_model(write(weights, tmp_path))
    report = report_of(model)
    assert (model.config.image_height, model.config.image_width) == (384, 128)
    assert not caplog.records  # nothing was resized, nothing assumed
    assert_same_features(model, rounded(weights), "quick_gelu")
    assert "identity" in report.ignored["classifier.weight"]
    assert "masked words" in report.ignored["mlm_head.fc.bias"]
    assert report.loaded["base_model.visual.transformer.resblocks.2.attn.in_proj_bias"] == tuple(
        f"vision_model.encoder.layers.2.self_attn.{part}_proj.bias" for part in "qkv"
    )
    assert_complete(report, len(weights) - 1, [*IRRA_HEADS, "iteration", "epoch"], model)


def test_pixels_are_normalised_as_open_clip_says(weights: Weights, tmp_path: Path) -> None:
    config = load_model(open_clip_folder(weights, tmp_path)).config
    assert (config.pixel_mean, config.pixel_std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


PUBLISHED = {  # patch size, image size; width, layers and heads of the towers; dimension
    "ViT-B/32": (32, 224, (768, 12, 12), (512, 12, 8), 512),
    "ViT-B/16": (16, 224, (768, 12, 12), (512, 12, 8), 512),
    "ViT-L/14": (14, 224, (1024, 24, 16), (768, 12, 12), 768),
    "ViT-L/14@336px": (14, 336, (1024, 24, 16), (768, 12, 12), 768),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_shapes_of_the_published_models_are_understood(name: str) -> None:
    """At their real size, but without numbers: the tensors that transformers makes for them are all placed."""
    from transformers import CLIPConfig, CLIPModel

    patch, side, vision, text, dimension = PUBLISHED[name]

    def tower(width: int, layers: int, heads: int) -> dict[str, object]:
        sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
        return {**sizes, "num_attention_heads": heads, "hidden_act": "quick_gelu"}

    settings: dict[str, Any] = {
        "vision_config": {**tower(*vision), "image_size": side, "patch_size": patch},
        "text_config": {**tower(*text), "vocab_size": 49408},
        "projection_dim": dimension,
    }
    with torch.device("meta"):
        state = CLIPModel(CLIPConfig(**settings)).state_dict()
    layout = find_layout(state, name)
    shapes = {key: tuple(state[key].shape) for key in layout.places}
    config, notes = infer(shapes, Declared(activation="quick_gelu"), name)
    assert set(state) - set(shapes) == set(layout.ignored) == {
        "logit_scale", "text_model.embeddings.position_ids", "vision_model.embeddings.position_ids",
    } & set(state)  # fmt: skip
    assert (config.patch_size, config.image_height, config.image_width) == (patch, side, side)
    assert (config.vision_width, config.vision_layers, config.vision_heads) == vision
    assert (config.text_width, config.text_layers, config.text_heads) == text
    assert config.embedding_dim == dimension
    assert len(notes) == 2
    with torch.device("meta"):
        ours = DualEncoder(config).state_dict()
    assert {key: tuple(value.shape) for key, value in ours.items()} == shapes
    assert len(shapes) == 13 + 16 * (vision[1] + text[1])


# How training programs store what is a CLIP all the same: (content of the file, what is left out besides logit_scale).
Shape = Callable[[Weights], tuple[object, list[str]]]


def prefixed(weights: Weights, prefix: str) -> Weights:
    return {prefix + name: value for name, value in weights.items()}


SHAPES: dict[str, Shape] = {
    "a number of numpy beside it": lambda w: ({"state_dict": w, "best": np.float64(0.5)}, ["best"]),
    "an array of numpy beside it": lambda w: ({"model": w, "curve": np.ones(3)}, ["curve"]),
    "settings beside it": lambda w: ({"model": w, "args": Namespace(lr=1e-5, out=Path("runs"))}, ["args"]),
    "dates and counts beside it": lambda w: (
        {"net": w, "when": datetime(2024, 5, 1), "seen": Counter("aab"), "kinds": {1, 2}},
        ["when", "seen", "kinds"],
    ),
    "a tensor beside it": lambda w: ({"model": w, "loss": torch.tensor(1.5)}, ["loss"]),
    "model_state_dict": lambda w: ({"model_state_dict": w, "epoch": 3, "optim": {"lr": 1.0}}, ["epoch", "optim"]),
    "any name, deeper": lambda w: ({"run": {"nets": [{"clip": w}], "step": 2}}, ["step"]),
    "an optimizer with moments": lambda w: (
        {"weights": w, "optim": {"state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(1.0)}}}},
        ["optim"],
    ),
    "a prefix of a wrapper": lambda w: ({"state_dict": prefixed(w, "model.clip.")}, []),
    "a prefix, and a head without it": lambda w: (prefixed(w, "net.") | {"head.bias": torch.ones(2)}, ["head.bias"]),
    "compiled and distributed parts": lambda w: (
        {n.replace("visual.", "module.visual._orig_mod."): t for n, t in w.items()}, [],
    ),
    "one set of weights under two names": lambda w: ({"state_dict": w, "model": dict(w)}, ["model"]),
    "equal copies under two names": lambda w: (
        {"state_dict": w, "model_ema": {n: t.clone() for n, t in w.items()}}, ["model_ema"],
    ),
    "parameters, with gradients": lambda w: ({n: torch.nn.Parameter(t.clone()) for n, t in w.items()}, []),
    "a stray tensor with such a name": lambda w: (
        {"model": w, "ema": {"visual.proj": torch.ones(2)}}, ["ema"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", ["OpenAI's names", "Hugging Face's names"])
def test_a_clip_is_found_however_it_was_wrapped(shape: str, layout: str, weights: Weights, tmp_path: Path) -> None:
    stored = weights if layout == "OpenAI's names" else reference.as_hugging_face(weights)
    content, ignored = SHAPES[shape](stored)
    torch.save(content, tmp_path / "m.pt")
    model = load_model(tmp_path / "m.pt", activation="gelu")
    assert_same_features(model, weights, "gelu")
    if shape != "a stray tensor with such a name" or layout == "OpenAI's names":
        assert_complete(report_of(model), len(stored) - 1, ["logit_scale", *ignored], model)


def test_the_family_of_irra_is_known_inside_a_wrapper_too(weights: Weights, tmp_path: Path) -> None:
    state = prefixed(weights, "module.net.base_model.") | {"module.net.classifier.weight": torch.ones(2, 2)}
    torch.save({"model_state": state, "best": np.float32(1)}, tmp_path / "m.pt")
    model = load_model(tmp_path / "m.pt")
    assert (model.config.activation, model.config.interpolation) == ("quick_gelu", "bilinear")
    assert_same_features(model, weights, "quick_gelu")
    assert sorted(report_of(model).ignored) == ["base_model.logit_scale", "best", "classifier.weight"]


@pytest.mark.parametrize(
    ("content", "places"),
    [
        (lambda w: {"state_dict": w, "model_ema": half(w)}, ["state_dict", "model_ema"]),
        (lambda w: {"model": {"net": w}, "teacher": half(w)}, ["model.net", "teacher"]),
        (lambda w: prefixed(w, "student.") | prefixed(half(w), "teacher."), ["with student.", "with teacher."]),
        (lambda w: w | prefixed(half(w), "module."), ["names as they are", "with module."]),
    ],
)
def test_of_two_models_in_a_file_both_are_named(
    content: Callable[[Weights], object], places: list[str], weights: Weights, tmp_path: Path
) -> None:
    torch.save(content(weights), tmp_path / "m.pt")
    with pytest.raises(
        ModelError, match=r"2 models in it that look like CLIP: .*; save the one you want alone"
    ) as caught:
        load_model(tmp_path / "m.pt")
    assert all(place in str(caught.value) for place in places)


def test_pictures_are_resized_as_those_who_wrote_the_weights_did(weights: Weights, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("irra", "openai", "plain", "bilinear", "hf", "hf-bilinear", "other")]
    for folder in folders:
        folder.mkdir()
    irra_path, openai, plain, bilinear, hf, hf_bilinear, other = folders
    found = [load_model(irra(weights, irra_path)), load_model(openai_archive(weights, openai))]
    found.append(load_model(open_clip_folder(weights, plain)))
    config = OPEN_CLIP | {"preprocess_cfg": {"interpolation": "bilinear"}}
    open_clip_folder(weights, bilinear)
    (bilinear / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    found += [load_model(bilinear), load_model(hugging_face_folder(weights, hf))]
    for folder, number in ((hf_bilinear, 2), (other, 1)):
        hugging_face_folder(weights, folder)
        (folder / "preprocessor_config.json").write_text(json.dumps({"resample": number}), encoding="utf-8")
    found.append(load_model(hf_bilinear))
    expected = ["bilinear", "bicubic", "bicubic", "bilinear", "bicubic", "bilinear"]
    assert [model.config.interpolation for model in found] == expected
    for model, interpolation in zip(found, expected, strict=True):
        assert not model.config.reduced_decoding
        note = f"pictures are resized by {interpolation} interpolation, JPEGs are decoded in full"
        assert note in report_of(model).notes
    with pytest.raises(ModelError, match=r"model\.interpolation: expected one of bicubic, bilinear, got 1"):
        load_model(other)


def test_builtin_things_and_numbers_of_an_average_beside_it_are_left_unread(weights: Weights, tmp_path: Path) -> None:
    average = {"n_averaged": torch.tensor(5)} | {f"module.{name}": value for name, value in weights.items()}
    content = {"state_dict": average, "seen": frozenset({1}), "span": range(3)}
    torch.save(content, tmp_path / "m.pt")
    model = load_model(tmp_path / "m.pt", activation="gelu")
    assert_same_features(model, weights, "gelu")
    assert set(report_of(model).ignored) == {"logit_scale", "n_averaged", "seen", "span"}
    torch.save(weights, tmp_path / "m.pt", pickle_protocol=4)
    with pytest.raises(ModelError, match="another pickle protocol than 2"):
        load_model(tmp_path / "m.pt")
