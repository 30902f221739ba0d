import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import textreid
from textreid.artifacts import read_json, write_json
from textreid.config import ModelConfig
from textreid.errors import ArgumentError, ArtifactError, ConfigError, ImageError, ModelError
from textreid.images import to_pixels
from textreid.models import Model, Tokenizer, initialize, load_model, model as model_module
from textreid.models.folder import BUNDLED, DEFAULT, training_text_of

TENSOR = "vision_model.encoder.layers.0.mlp.fc1.weight"


def test_features_of_images_are_unit_vectors_in_the_order_given(model: Model, pictures: list[Image.Image]) -> None:
    features = model.encode_images(pictures, batch_size=4)
    assert features.dtype == np.float32
    assert features.shape == (13, 20)
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    alone = np.concatenate([model.encode_images([picture]) for picture in pictures])
    assert np.abs(features - alone).max() < 1e-5
    assert np.abs(features[0] - features[1]).max() > 1e-3
    pixels = np.stack([to_pixels(picture, 64, 32) for picture in pictures])
    pixels.setflags(write=False)
    assert np.abs(model.encode_pixels(pixels) - features).max() < 1e-5


def test_files_and_pictures_give_the_same(model: Model, pictures: list[Image.Image], tmp_path: Path) -> None:
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(len(pictures))]
    mixed: list[str | Path | Image.Image] = [str(paths[0]), *paths[1:5], *pictures[5:]]
    assert np.abs(model.encode_images(mixed) - model.encode_images(pictures)).max() < 1e-6


def test_an_unreadable_image_is_named(model: Model, pictures: list[Image.Image], tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        model.encode_images([*pictures, tmp_path / "bad.jpg", *pictures * 5], batch_size=2)


def test_features_of_texts_are_unit_vectors_in_the_order_given(model: Model, captions: list[str]) -> None:
    texts = [*captions[:30], "", "red " * 100, "!", "日本"]
    features = model.encode_texts(texts, batch_size=7)
    assert features.dtype == np.float32
    assert features.shape == (34, 20)
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    alone = np.concatenate([model.encode_texts([text]) for text in texts])
    assert np.abs(features - alone).max() < 1e-5


def test_nothing_in_nothing_out(model: Model) -> None:
    assert model.encode_images([]).shape == model.encode_texts([]).shape == (0, 20)
    assert model.encode_images([]).dtype == model.encode_texts([]).dtype == np.float32


def test_what_is_not_a_list_of_such_things_is_refused_in_one_line(model: Model, pictures: list[Image.Image]) -> None:
    encoders: tuple[Any, ...] = (model.encode_texts, partial(model.similarity, images=pictures))
    for wrong, message in (("a woman", "texts: .*a list of sentences"), (None, "texts: "), (["a", 3.5], r"texts\[1\]")):
        for encode_texts in encoders:
            with pytest.raises(ArgumentError, match=message) as caught:
                encode_texts(wrong)
            assert "\n" not in str(caught.value)
    for wrong_images in ("a.jpg", Path("a.jpg"), pictures[0], None, [pictures[0], b"a.jpg"]):
        with pytest.raises(ArgumentError, match=r"images.*: expected a list of pictures"):
            model.encode_images(wrong_images)  # type: ignore[arg-type]
    for shape, kind in (((3, 64, 32), np.uint8), ((2, 3, 64, 30), np.uint8), ((2, 3, 64, 32), np.float32)):
        with pytest.raises(ArgumentError, match=r"pixels: expected pixels|pixels: expected \(N, 3, 64, 32\)"):
            model.encode_pixels(np.zeros(shape, kind))
    with pytest.raises(ImageError, match=r"nowhere\.jpg: cannot be read"):
        model.similarity(["a"], ["nowhere.jpg"])


def test_similarities_are_cosines_of_each_sentence_with_each_picture(
    model: Model, pictures: list[Image.Image], captions: list[str]
) -> None:
    found = model.similarity(captions[:4], pictures)
    assert found.dtype == np.float32
    assert found.shape == (4, 13)
    for row, column in ((0, 0), (3, 12), (1, 7)):
        text, image = model.encode_texts([captions[row]])[0], model.encode_images([pictures[column]])[0]
        assert found[row, column] == pytest.approx(float(text @ image), abs=1e-6)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pictures_are_resized_as_the_configuration_says(
    interpolation: Literal["bicubic", "bilinear"], config: ModelConfig, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    noise = Image.fromarray(rng.integers(0, 256, (1024, 512, 3), dtype=np.uint8))
    noise.save(tmp_path / "large.jpg")
    resampling = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    with Image.open(tmp_path / "large.jpg") as picture:
        expected = np.asarray(picture.resize((32, 64), resampling)).transpose(2, 0, 1)
    shape = replace(config, interpolation=interpolation, reduced_decoding=False)
    model = Model(initialize(shape, seed=3), tokenizer)
    assert np.array_equal(model.decode(tmp_path / "large.jpg"), expected)
    quick = Model(initialize(replace(shape, reduced_decoding=True), seed=3), tokenizer)
    assert not np.array_equal(quick.decode(tmp_path / "large.jpg"), expected)
    assert quick.fingerprint != model.fingerprint
    model.save(tmp_path / "m", "card")
    loaded = load_model(tmp_path / "m")
    assert (loaded.config, loaded.fingerprint) == (shape, model.fingerprint)
    assert loaded.report
    assert f"pictures are resized by {interpolation} interpolation, JPEGs are decoded in full" in loaded.report.notes
    with pytest.raises(ConfigError, match=r"model\.interpolation: expected one of bicubic, bilinear"):
        ModelConfig.from_dict({"interpolation": "nearest"})


def test_a_folder_from_before_the_setting_is_bicubic_and_keeps_its_fingerprint(folder: Path, model: Model) -> None:
    config = read_json(folder / "config.json")
    del config["interpolation"], config["reduced_decoding"]
    write_json(folder / "config.json", config)
    manifest = read_json(folder / "manifest.json")
    manifest["files"]["config.json"] = (folder / "config.json").stat().st_size
    write_json(folder / "manifest.json", manifest)
    old = load_model(folder)
    assert (old.config.interpolation, old.config.reduced_decoding) == ("bicubic", True)
    assert old.fingerprint == model.fingerprint == manifest["fingerprint"]


def test_the_fingerprint_is_computed_once_for_the_same_weights(
    config: ModelConfig, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    original = model_module._fingerprint

    def counted(*how: Any) -> str:
        computed.append(1)
        return original(*how)

    monkeypatch.setattr(model_module, "_fingerprint", counted)
    model = Model(initialize(config, seed=3), tokenizer)
    first = model.fingerprint
    assert (model.fingerprint, len(computed)) == (first, 1)
    model.encode_texts(["a"])
    assert (model.fingerprint, len(computed)) == (first, 1)
    seen = {first}
    optimizer = torch.optim.Adam(model.encoder.parameters(), 1e-3)

    def step() -> None:
        torch.autograd.backward(model.encoder.encode_image(torch.ones(1, 3, 64, 32)).sum())
        optimizer.step()

    state = {name: 2 * tensor for name, tensor in model.encoder.state_dict().items()}
    for change in (
        step,
        lambda: model.encoder.load_state_dict(state),
        lambda: model.encoder.load_state_dict({name: 3 * tensor for name, tensor in state.items()}, assign=True),
        lambda: torch.no_grad()(model.encoder.visual_projection.weight.mul_)(2),
    ):
        change()
        seen.add(model.fingerprint)
    assert (len(seen), len(computed)) == (5, 5)
    same = Model(initialize(config, seed=3), tokenizer)
    assert same.fingerprint == first
    with torch.inference_mode():
        assert Model(initialize(config, seed=3), tokenizer).fingerprint == first


def test_encoding_needs_no_gradient_and_leaves_the_mode_alone(model: Model, pictures: list[Image.Image]) -> None:
    model.encoder.train()
    model.encode_images(pictures[:2])
    model.encode_texts(["a"])
    assert model.encoder.training
    assert all(p.requires_grad and p.grad is None for p in model.encoder.parameters())


def test_a_saved_model_encodes_the_same(
    model: Model, folder: Path, pictures: list[Image.Image], captions: list[str]
) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "card.md", "config.json", "manifest.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    loaded = textreid.load_model(str(folder))
    assert loaded.config == model.config
    assert np.array_equal(loaded.encode_images(pictures), model.encode_images(pictures))
    assert np.array_equal(loaded.encode_texts(captions), model.encode_texts(captions))
    assert (folder / "card.md").read_text(encoding="utf-8") == "# A model for tests\n"
    assert all(p.requires_grad for p in loaded.encoder.parameters())  # it can be trained further


def test_half_precision_halves_the_file_and_hardly_moves_the_features(
    model: Model, folder: Path, tmp_path: Path, captions: list[str]
) -> None:
    model.save(tmp_path / "half", "card", dtype="float16")
    sizes = [(path / "model.safetensors").stat().st_size for path in (tmp_path / "half", folder)]
    assert sizes[0] < 0.55 * sizes[1]
    half = load_model(tmp_path / "half")
    assert {tensor.dtype for tensor in half.encoder.state_dict().values()} == {torch.float32}
    assert (half.encode_texts(captions) * model.encode_texts(captions)).sum(axis=1).min() > 0.9999
    assert half.fingerprint == read_json(tmp_path / "half" / "manifest.json")["fingerprint"] != model.fingerprint


def test_the_fingerprint_follows_what_is_encoded(
    model: Model, config: ModelConfig, tokenizer: Tokenizer, folder: Path
) -> None:
    assert load_model(folder).fingerprint == model.fingerprint == read_json(folder / "manifest.json")["fingerprint"]
    same = Model(initialize(config, seed=3), tokenizer)
    assert same.fingerprint == model.fingerprint
    with torch.no_grad():
        same.encoder.visual_projection.weight[0, 0] += 1
    assert same.fingerprint != model.fingerprint
    brighter = Model(initialize(replace(config, pixel_mean=(0.0, 0.0, 0.0)), seed=3), tokenizer)
    assert brighter.fingerprint != model.fingerprint
    assert Model(initialize(replace(config, weights=str(folder))), tokenizer).fingerprint == model.fingerprint


def test_what_selected_the_checkpoint_is_kept(model: Model, folder: Path, tmp_path: Path) -> None:
    assert load_model(folder).selected_on is None
    Model(model.encoder, model.tokenizer, selected_on="a validation split").save(tmp_path / "chosen", "card")
    assert load_model(tmp_path / "chosen").selected_on == "a validation split"


def test_the_sources_of_its_sentences_are_kept(model: Model, folder: Path, tmp_path: Path) -> None:
    assert load_model(folder).training_text is None
    Model(model.encoder, model.tokenizer, training_text=("qwen", "cuhk-pedes")).save(tmp_path / "tuned", "card")
    assert load_model(tmp_path / "tuned").training_text == ("qwen", "cuhk-pedes")
    assert training_text_of(tmp_path / "tuned") == ("qwen", "cuhk-pedes")


@pytest.mark.parametrize(
    ("weights", "texts"),
    [
        (None, ()),
        ("tiny", ("simulated-qwen", "simulated-shikra", "qwen", "shikra")),
        ("openai/clip-vit-base-patch16", ("openai/clip-vit-base-patch16",)),
        ("someone/clip-vit-base-patch16", None),
        ("no/such/folder", None),
    ],
)
def test_what_is_known_of_the_text_behind_weights(weights: str | None, texts: tuple[str, ...] | None) -> None:
    assert training_text_of(weights) == texts


def test_a_folder_is_replaced_only_on_request(model: Model, folder: Path) -> None:
    with pytest.raises(ArtifactError, match="exists already"):
        model.save(folder, "other")
    model.save(folder, "other", replace=True)
    assert (folder / "card.md").read_text(encoding="utf-8") == "other"


def test_weights_that_are_not_finite_are_not_saved(config: ModelConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = Model(initialize(config), tokenizer)
    model.encoder.visual_projection.weight.data[3, 3] = 1e6
    with pytest.raises(ModelError, match=r"1 tensors are not finite in float16, first visual_projection\.weight"):
        model.save(tmp_path / "m", "card", dtype="float16")
    assert not (tmp_path / "m").exists()


def test_a_tokenizer_that_does_not_fit_is_refused(config: ModelConfig, tokenizer: Tokenizer) -> None:
    with pytest.raises(ModelError, match="the tokenizer has 49408 tokens, but the text tower has 309"):
        Model(initialize(config), Tokenizer.clip())
    with pytest.raises(ModelError, match="gives up to 24 tokens, but the text tower takes 20"):
        Model(initialize(replace(config, text_length=20)), tokenizer)


def edit_weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file)

    return edit


def edit_config(**values: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        write_json(folder / "config.json", read_json(folder / "config.json") | values)

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_weights(lambda w: {n: t for n, t in w.items() if n != TENSOR}), f"1 missing: {TENSOR}"),
        (edit_weights(lambda w: {n: t for n, t in w.items() if "layers" not in n}), r"80 missing: .*, …"),
        (edit_weights(lambda w: w | {"head.bias": torch.ones(3)}), r"1 not part of this model: head\.bias"),
        (
            edit_weights(lambda w: w | {TENSOR: w[TENSOR][:7].clone()}),
            f"1 of another shape: {TENSOR} 7x32 instead of 128x32",
        ),
        (edit_config(image_height=128), "position_embedding.weight 9x32 instead of 17x32"),
        (edit_config(vocabulary_size=400), "the tokenizer has 309 tokens, but the text tower has 400"),
        (edit_config(vision_layers=2), "16 not part of this model"),
        (edit_config(vision_width=64), "of another shape"),
        (edit_config(vision_widht=64), r"model\.vision_widht: no such setting; did you mean model\.vision_width"),
        (edit_config(image_height="tall"), "expected a whole number"),
        (lambda folder: (folder / "config.json").write_text("[]", encoding="utf-8"), "expected a table"),
        (lambda folder: (folder / "config.json").write_text("{", encoding="utf-8"), "not valid JSON"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}", encoding="utf-8"), r"tokenizer\.json: cannot"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64), r"model\.safetensors: cannot be"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), r"model\.safetensors: cannot be"),
    ],
)
def test_tampered_folders_are_refused(edit: Callable[[Path], object], message: str, folder: Path) -> None:
    edit(folder)
    manifest = read_json(folder / "manifest.json")
    manifest["files"] = {name: (folder / name).stat().st_size for name in manifest["files"]}
    write_json(folder / "manifest.json", manifest)
    with pytest.raises(ArtifactError, match=message):
        load_model(folder)


def test_incomplete_and_foreign_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="truncated or edited"):
        load_model(folder)
    weights.unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors: missing"):
        load_model(folder)
    (folder / "manifest.json").unlink()
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no manifest\.json, and no file of weights: not a model folder"):
        load_model(folder)
    with pytest.raises(ModelError, match="no such file or folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="no such file or folder"):
        load_model("/no/where/at/all")


def test_a_file_of_a_model_folder_is_not_the_model(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.safetensors: part of a model folder; give the folder"):
        load_model(folder / "model.safetensors")


def test_a_build_without_the_bundled_model_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in BUNDLED:
        monkeypatch.setitem(BUNDLED, name, tmp_path / "absent")
    for asked in (None, DEFAULT, *BUNDLED):
        with pytest.raises(ModelError, match="no bundled model; give the path"):
            load_model(asked)


def test_the_bundled_name_loads_the_bundled_folder(folder: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUNDLED, "small", folder)
    assert load_model("small").fingerprint == model.fingerprint


def test_bfloat16_is_near_and_changes_nothing_that_is_saved(
    model: Model, pictures: list[Image.Image], captions: list[str], tmp_path: Path
) -> None:
    rounded = Model(model.encoder, model.tokenizer, precision="bf16")
    assert (model.precision, rounded.precision) == ("fp32", "bf16")
    assert rounded.fingerprint == model.fingerprint
    for exact, near in (
        (model.encode_images(pictures), rounded.encode_images(pictures)),
        (model.encode_texts(captions), rounded.encode_texts(captions)),
    ):
        assert near.dtype == np.float32
        assert 0.995 < (exact * near).sum(axis=1).min() < 0.9999999
        assert np.abs(np.linalg.norm(near, axis=1) - 1).max() < 1e-5
    rounded.save(tmp_path / "saved", "# Card\n")
    loaded = load_model(tmp_path / "saved")
    assert np.array_equal(loaded.encode_images(pictures), model.encode_images(pictures))


def test_auto_is_what_the_machine_multiplies(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    for fast, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("textreid.models.device._cpu_multiplies_bf16", lambda _, fast=fast: fast)
        assert Model(model.encoder, model.tokenizer, precision="auto").precision == expected


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_cores_share_the_batches_and_the_setting_stays(
    threads: int, model: Model, captions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textreid.models.model._TOKENS", 60)  # several batches of pictures and of texts
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (31, 3, 64, 32), dtype=np.uint8)
    before = torch.get_num_threads()
    expected = np.concatenate([model.encode_pixels(pixels[row : row + 1]) for row in range(31)])
    try:
        torch.set_num_threads(threads)
        assert np.abs(model.encode_pixels(pixels) - expected).max() < 1e-5
        texts = model.encode_texts(captions)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    alone = np.concatenate([model.encode_texts([text]) for text in captions[:20]])
    assert np.abs(texts[:20] - alone).max() < 1e-5


@pytest.mark.slow
def test_eight_callers_at_once_find_the_number_of_threads_as_it_was(folder: Path) -> None:
    """In a process of its own, whose first callers are the eight."""
    script = f"""
import threading
import numpy as np, torch
from textreid import load_model
torch.set_num_threads(3)
model = load_model({str(folder)!r}, device="cpu")
pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 64, 32), dtype=np.uint8)
expected = np.concatenate([model.encode_pixels(pixels[row : row + 1]) for row in range(40)])
together, seen, worst = threading.Barrier(8), [], []
def call():
    before = torch.get_num_threads()
    together.wait()
    for _ in range(5):
        worst.append(float(np.abs(model.encode_pixels(pixels) - expected).max()))
        model.encode_texts([f"a {{n}}" * n for n in range(9)])
        seen.append((before, torch.get_num_threads()))
threads = [threading.Thread(target=call) for _ in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
late = []
thread = threading.Thread(target=lambda: late.append(torch.get_num_threads()))
thread.start(), thread.join()
print(set(seen), len(seen), torch.get_num_threads(), late, max(worst) < 1e-5)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "{(3, 3)} 40 3 [3] True\n"
