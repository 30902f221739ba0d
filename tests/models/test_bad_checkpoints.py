"""Files that are no checkpoint, or not one that can be imported: each is refused with a reason, and none is run."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.models import reference_clip as reference
from tests.models.reference_clip import Weights
from tests.models.test_checkpoints import RELEASED, report_of, save_torchscript

from textreid.config import ModelConfig
from textreid.errors import ConfigError, ModelError
from textreid.models import initialize, load_model

BLOCK = "visual.transformer.resblocks.1"
Change = Callable[[Weights], Weights]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return reference.random_weights() | RELEASED


def put(name: str, *shape: int) -> Change:
    return lambda w: w | {name: torch.ones(shape)}


def without(*names: str) -> Change:
    return lambda w: {name: value for name, value in w.items() if not name.startswith(names)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(f"{BLOCK}.mlp.c_fc.bias"), rf"1 missing: {BLOCK}\.mlp\.c_fc\.bias$"),
        (without("transformer."), r"model\.text_layers: expected at least 1, got 0"),
        (put(f"{BLOCK}.ls_1.gamma", 128), rf"1 not part of this model: {BLOCK}\.ls_1\.gamma"),
        (put("text_decoder.ln_final.weight", 128), r"1 not part of this model: text_decoder"),
        (put(f"{BLOCK}.attn.in_proj_weight", 383, 128), r"in_proj_weight 383x128 instead of 384x128"),
        (put(f"{BLOCK}.attn.in_proj_weight", 2, 128), r"in_proj_weight 2x128 instead of 384x128"),
        (put(f"{BLOCK}.mlp.c_fc.weight", 96, 128), r"c_fc\.weight 96x128 instead of 512x128"),
        (put("visual.proj", 24, 128), r"2 of another shape: .*visual\.proj 24x128 instead of 128x128"),
        (put("visual.proj"), "has 0 dimensions, not 2"),
        (put("visual.conv1.weight", 128, 3, 16), "has 3 dimensions, not 4"),
        (put("visual.positional_embedding", 8, 128), "for 7 patches, which is no grid"),
        (put("visual.class_embedding", 64), r"visual\.class_embedding 64 instead of 128"),
        (put("token_embedding.weight", 30522, 128), "a text tower with 30522 tokens; only CLIP's 49408 are known"),
        (put("positional_embedding", 248, 128), r"model\.text_length: expected from 4 to 77"),
        (put("visual.conv1.weight", 1280, 3, 14, 14), "do not tell how many heads a vision tower of width 1280 has"),
        (put("visual.conv1.weight", 100, 3, 16, 16), "do not tell how many heads a vision tower of width 100 has"),
        (lambda w: w | {"ln_final.bias": w["ln_final.bias"] / 0}, r"ln_final\.bias holds numbers that are not finite"),
        (lambda w: w | {"visual.proj": w["visual.proj"].to(torch.int8)}, r"quantised weights \(visual\.proj is"),
        (put("visual.layer1.0.conv1.weight", 1), "a CLIP with a ResNet; only image towers that are ViTs"),
        (put("visual.attnpool.positional_embedding", 1), "a CLIP with a ResNet"),
        (put("visual.trunk.patch_embed.proj.weight", 1), "an image tower of timm"),
        (put("text.transformer.encoder.layer.0.output.dense.bias", 1), "a text tower of another library"),
        (put("logit_bias"), "SigLIP; of foreign models only CLIP"),
        (lambda _: {"backbone.conv1.weight": torch.ones(2)}, r"not CLIP in any layout.*backbone\.conv1\.weight$"),
        (lambda _: {}, "no weights in it: no tensors by name"),
        (lambda _: {"epoch": 3}, "no weights in it: no tensors by name"),
        (
            lambda _: {"optimizer": {"exp": torch.ones(1)}, "epoch": 3},
            "its first tensors are exp",
        ),
    ],
)
def test_tensors_that_are_not_those_of_a_clip_are_named(
    change: Change, message: str, weights: Weights, tmp_path: Path
) -> None:
    torch.save(change(weights), tmp_path / "m.pt")
    with pytest.raises(ModelError, match=message) as caught:
        load_model(tmp_path / "m.pt")
    assert str(caught.value).startswith(str(tmp_path / "m.pt"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><Error/>", "a web page or an XML answer"),
        (b"PK\x03\x04 and then nothing", "a truncated or damaged archive"),
        (b"\x89HDF\r\n\x1a\n", "neither safetensors nor a checkpoint of PyTorch"),
        (b'{"weight_map": {}}', "neither safetensors nor a checkpoint of PyTorch"),
        (b"\x80\x02}q\x00X\x05", "cannot be read"),
        (b"\x80\x02" + bytes(range(256)), "cannot be read"),
        ((9).to_bytes(8, "little") + b"{broken", "cannot be read, it is truncated or damaged"),
    ],
)
def test_what_is_no_checkpoint_is_called_by_its_name(content: bytes, message: str, tmp_path: Path) -> None:
    for name in ("m.pt", "model.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=rf"{name}: {message}"):
            load_model(tmp_path / name)


@pytest.mark.parametrize("form", ["safetensors", "archive", "pickle", "torchscript"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.999])
def test_a_truncated_file_is_refused(form: str, kept: float, tmp_path: Path) -> None:
    state, path = {"visual.conv1.weight": torch.ones(40, 3, 16, 16)}, tmp_path / "m"
    if form == "safetensors":
        save_file(state, path)
    elif form == "torchscript":
        save_torchscript(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "archive")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ModelError, match=r"cannot be read|truncated or damaged"):
        load_model(path)


def test_an_archive_without_weights_is_no_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelError, match="neither safetensors nor a checkpoint of PyTorch"):
        load_model(tmp_path / "m.pt")


class Trap:
    """Unpickled, it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.folder),)


def rewrite(path: Path, entry: str, content: bytes) -> None:
    """Replace the entries of an archive whose names end so."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    changed = [name for name in entries if name.endswith(entry)]
    assert changed
    with zipfile.ZipFile(path, "w") as archive:
        for name, old in entries.items():
            archive.writestr(name, content if name in changed else old)


def trap_in_state(weights: Weights, path: Path, trap: Trap) -> None:
    torch.save(weights | {"extra": trap}, path)


def trap_beside_state(weights: Weights, path: Path, trap: Trap) -> None:
    torch.save({"model": weights, "optimizer": {"state": [trap]}}, path)


def trap_in_old_pickle(weights: Weights, path: Path, trap: Trap) -> None:
    torch.save(weights | {"extra": trap}, path, _use_new_zipfile_serialization=False)


def trap_alone(weights: Weights, path: Path, trap: Trap) -> None:
    path.write_bytes(pickle.dumps(trap))


def trap_in_modules(weights: Weights, path: Path, trap: Trap) -> None:
    save_torchscript(weights, path)
    rewrite(path, "/data.pkl", pickle.dumps({"visual": trap}, protocol=2))


def whole_module(weights: Weights, path: Path, trap: Trap) -> None:
    torch.save(torch.nn.Linear(2, 2), path)


@pytest.mark.parametrize(
    ("write", "asked"),
    [
        (trap_in_state, "posix.mkdir"),
        (trap_beside_state, "posix.mkdir"),
        (trap_in_old_pickle, "posix.mkdir"),
        (trap_alone, ""),
        (trap_in_modules, "posix.mkdir"),
        (whole_module, "torch.nn.modules.linear.Linear"),
    ],
)
def test_no_pickle_is_run(
    write: Callable[[Weights, Path, Trap], None], asked: str, weights: Weights, tmp_path: Path
) -> None:
    path, trap = tmp_path / "m.pt", Trap(tmp_path / "sprung")
    write(weights, path, trap)
    with pytest.raises(ModelError, match=f"cannot be read without running code, and none was run: .*{asked}"):
        load_model(path)
    assert not trap.folder.exists()
    pickle.loads(pickle.dumps(trap))  # noqa: S301 - the trap does work
    assert trap.folder.exists()


def test_the_other_pickles_and_the_program_of_an_archive_are_not_even_read(weights: Weights, tmp_path: Path) -> None:
    path, trap = tmp_path / "m.pt", Trap(tmp_path / "sprung")
    save_torchscript(weights, path)
    rewrite(path, "/constants.pkl", pickle.dumps(trap, protocol=2))
    rewrite(path, ".py", f"import os\nos.mkdir({str(trap.folder)!r})\ntorch.sigmoid(x)".encode())
    assert load_model(path).config.activation == "quick_gelu"
    assert not trap.folder.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02ctorch\nload\n.",
        b"\x80\x02cbuiltins\neval\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x0egetattr.__call__\x93.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03K\x04tR.",
        b"\x80\x02(X\x07\x00\x00\x00storageq\x00ctorch\nFloatStorage\nX\x06\x00\x00\x00../../X\x03\x00\x00\x00cpuK\x04tQ.",
        b"\x80\x02]q\x00h\x00a.",
    ],
)
def test_a_pickle_of_an_archive_gets_no_function_and_no_other_file(pickled: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    save_torchscript({"visual.proj": torch.ones(2)}, path)
    rewrite(path, "/data.pkl", pickled)
    with pytest.raises(ModelError, match=r"cannot be read|not CLIP in any layout|no weights in it"):
        load_model(path)


def test_a_tensor_cannot_look_beyond_its_storage(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    save_torchscript({"a": torch.arange(6.0).reshape(2, 3)}, path)
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        original = archive.read(name)
    changed = original.replace(b"(K\x02K\x03t", b"(K\x02K\xfft")
    assert changed != original
    rewrite(path, "/data.pkl", changed)
    with pytest.raises(ModelError, match=r"cannot be read, it is truncated or damaged: .*out of bounds"):
        load_model(path)


def test_of_several_files_one_must_be_named(weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("downloaded in May", encoding="utf-8")
    with pytest.raises(ModelError, match=r"no manifest\.json, and no file of weights"):
        load_model(tmp_path)
    pointer = tmp_path / "pointer"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    with pytest.raises(ModelError, match="pointer: a Git LFS pointer"):
        load_model(tmp_path)
    torch.save(weights, tmp_path / "first.pt")
    assert load_model(tmp_path).config.vision_layers == 3
    save_file(weights, tmp_path / "second")
    with pytest.raises(ModelError, match=r"2 files of weights \(first\.pt, second\); give the path of one"):
        load_model(tmp_path)


def test_another_image_size_is_fitted_and_reported(
    weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(weights, tmp_path / "m.pt")
    model = load_model(tmp_path / "m.pt", image_size=(96, 32))
    report = report_of(model)
    assert "position table resized from 4x4 to 6x2 patches" in caplog.text
    assert report.resized == {"visual.positional_embedding": "4x4 to 6x2 patches"}
    assert "visual.positional_embedding resized from 4x4 to 6x2 patches" in report.summary
    assert model.config.image_height == 96
    lines = str(report).splitlines()
    assert lines[0] == report.summary
    for state, name in (
        ("loaded", "visual.proj"),
        ("resized", "visual.positional_embedding"),
        ("ignored", "vocab_size"),
    ):
        assert sum(line.startswith(state) and f"  {name}" in line for line in lines) == 1
    assert len(lines) == 1 + len(report.notes) + len(report.loaded) + len(report.ignored)
    with pytest.raises(ConfigError, match="not a multiple"):
        load_model(tmp_path / "m.pt", image_size=(100, 32))


def test_training_starts_from_any_layout(weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(weights, tmp_path / "openai.pt")
    save_file({name: value for name, value in weights.items() if name not in RELEASED}, tmp_path / "open_clip")
    config = ModelConfig(
        weights=str(tmp_path / "openai.pt"), image_height=64, image_width=64, vision_width=128, vision_layers=3,
        vision_heads=2, text_width=128, text_layers=2, text_heads=2, embedding_dim=24, activation="gelu",
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"activation quick_gelu \(not gelu\)"):
        initialize(config)
    with pytest.raises(ModelError, match=r"activation quick_gelu \(not gelu\)"):
        load_model(tmp_path / "openai.pt", activation="gelu")
    assert not caplog.records
    values: dict[str, Any] = json.loads(json.dumps({"weights": str(tmp_path / "open_clip")}))
    encoder = initialize(ModelConfig(**(vars(config) | values)))
    assert "activation gelu is assumed" in caplog.text
    assert torch.equal(encoder.visual_projection.weight, weights["visual.proj"].T)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_cfg": {"timm_model_name": "vit"}}, "vision_cfg.timm_model_name 'vit': not supported"),
        ({"vision_cfg": {"mlp_ratio": 4.5}}, r"vision_cfg\.mlp_ratio 4\.5: not supported"),
        ({"text_cfg": {"no_causal_mask": True}}, r"text_cfg\.no_causal_mask True: not supported"),
        ({"text_cfg": None}, "not a configuration of open_clip"),
        ({"vision_cfg": {"image_size": 96}}, r"visual\.positional_embedding 17x128 instead of 37x128"),
        ({"vision_cfg": {"width": 128, "head_width": 48}}, None),
    ],
)
def test_a_configuration_of_open_clip_is_read_or_refused(
    change: dict[str, Any], message: str | None, weights: Weights, tmp_path: Path
) -> None:
    from tests.models.test_checkpoints import OPEN_CLIP, open_clip_folder

    open_clip_folder(weights, tmp_path)
    model: Any = OPEN_CLIP["model_cfg"]
    for section, values in change.items():
        model = model | {section: values and model[section] | values}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}), encoding="utf-8")
    if message:
        with pytest.raises(ModelError, match=message):
            load_model(tmp_path)
    else:
        assert load_model(tmp_path).config.vision_heads == 2
