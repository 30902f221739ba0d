import json
import logging
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image
from tests.models.reference_clip import random_weights
from tests.models.test_checkpoints import open_clip_folder
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from textreid.artifacts import read_json, write_json
from textreid.errors import ConfigError, DownloadError, ModelError
from textreid.models import Model, Tokenizer, initialize, load_model
from textreid.models.checkpoints.configs import read_hugging_face

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def clip() -> Any:
    shared = {"hidden_act": "quick_gelu", "intermediate_size": 64, "num_attention_heads": 2}
    torch.manual_seed(0)
    model: Any = CLIPModel(
        CLIPConfig(
            text_config={"vocab_size": 49408, "hidden_size": 16, "num_hidden_layers": 2, **shared},
            vision_config={
                "hidden_size": 16, "num_hidden_layers": 3, "image_size": 56, "patch_size": 8, **shared,
            },
            projection_dim=12,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def clip_folder(clip: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    clip.save_pretrained(folder)
    CLIPImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]).save_pretrained(folder)
    return folder


@torch.no_grad()
def test_a_clip_folder_encodes_as_transformers_does(clip: Any, clip_folder: Path, pictures: list[Image.Image]) -> None:
    model = load_model(clip_folder)
    assert (model.config.image_height, model.config.image_width) == (56, 56)
    assert model.config.pixel_mean == (0.4, 0.5, 0.6)
    pixels = np.stack([np.asarray(p.resize((56, 56), Image.Resampling.BICUBIC)) for p in pictures])
    scaled = (pixels / 255 - np.array([0.4, 0.5, 0.6])) / np.array([0.2, 0.3, 0.4])
    values = torch.tensor(scaled.transpose(0, 3, 1, 2), dtype=torch.float32)
    expected = torch.nn.functional.normalize(clip.get_image_features(values).pooler_output).numpy()
    assert np.abs(model.encode_images(pictures) - expected).max() < 1e-5

    ids = torch.tensor([[49406, 320, 1125, 539, 320, 2368, 49407]])  # "a photo of a cat"
    expected = torch.nn.functional.normalize(clip.get_text_features(ids).pooler_output).numpy()
    assert np.abs(model.encode_texts(["a photo of a cat"]) - expected).max() < 1e-5


def test_a_clip_folder_becomes_a_model_folder(clip_folder: Path, tmp_path: Path, captions: list[str]) -> None:
    model = load_model(clip_folder, image_size=(48, 16))
    model.save(tmp_path / "m", "card")
    loaded = load_model(tmp_path / "m")
    assert (loaded.config.image_height, loaded.config.image_width) == (48, 16)
    assert np.array_equal(loaded.encode_texts(captions), model.encode_texts(captions))


def test_another_image_size_interpolates_the_positions_and_says_so(
    clip: Any, clip_folder: Path, caplog: pytest.LogCaptureFixture, pictures: list[Image.Image]
) -> None:
    with caplog.at_level(logging.WARNING):
        model = load_model(clip_folder, image_size=(96, 32))
    assert "position table resized from 7x7 to 12x4 patches" in caplog.text
    assert model.encode_images(pictures).shape == (13, 12)
    before = clip.vision_model.embeddings.position_embedding.weight.detach()
    after = model.encoder.vision_model.embeddings.position_embedding.weight.detach()
    assert torch.equal(after[0], before[0])
    # By hand, at one place: row 5 of 12 lies at 2.7083 of 7, column 1 of 4 at 2.125.
    grid = before[1:].reshape(7, 7, -1)
    y, x = (5 + 0.5) * 7 / 12 - 0.5, (1 + 0.5) * 7 / 4 - 0.5
    expected = sum(
        weight_y * weight_x * grid[row, column]
        for row, weight_y in ((int(y), 1 - y % 1), (int(y) + 1, y % 1))
        for column, weight_x in ((int(x), 1 - x % 1), (int(x) + 1, x % 1))
    )
    torch.testing.assert_close(after[1 + 5 * 4 + 1], expected)
    with pytest.raises(ConfigError, match=r"model\.image_height: 50 is not a multiple"):
        load_model(clip_folder, image_size=(50, 32))


def test_old_checkpoints_with_a_pickle_and_counters_load(
    clip: Any, clip_folder: Path, pictures: list[Image.Image]
) -> None:
    expected = load_model(clip_folder).encode_images(pictures)
    (clip_folder / "model.safetensors").unlink()
    state = clip.state_dict() | {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    torch.save(state, clip_folder / "pytorch_model.bin")
    assert np.array_equal(load_model(clip_folder).encode_images(pictures), expected)

    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return (Path(clip_folder / "sprung").touch, ())

    torch.save({"x": Trap()}, clip_folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: cannot be read"):
        load_model(clip_folder)
    assert not (clip_folder / "sprung").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "siglip"}, "a model of type 'siglip'; of foreign models only CLIP"),
        ({"text_config": {"vocab_size": 1000}}, "a text tower with 1000 tokens"),
        ({"text_config": {"hidden_act": "gelu"}}, "the towers have two activations"),
        ({"vision_config": {"hidden_act": "relu"}, "text_config": {"hidden_act": "relu"}}, r"model\.activation"),
        ({"vision_config": {"intermediate_size": 48}}, "an MLP 4 times as wide"),
        ({"vision_config": {"num_hidden_layers": 2}}, r"16 not part of this model: vision_model\.encoder\.layers\.2"),
        ({"vision_config": {"image_size": 64}}, "position_embedding.weight 50x16 instead of 65x16"),
        ({"vision_config": {"patch_size": "x"}}, r"model\.patch_size: expected a whole number, got 'x'"),
        ({"vision_config": {"hidden_size": None, "intermediate_size": "x"}}, "an MLP 4 times as wide"),
        ({"vision_config": 3}, "not a CLIP configuration"),
    ],
)
def test_foreign_models_are_refused(values: dict[str, Any], message: str, clip_folder: Path) -> None:
    config = read_json(clip_folder / "config.json")
    for name, value in values.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
    write_json(clip_folder / "config.json", config)
    with pytest.raises(ModelError, match=message):
        load_model(clip_folder)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"projection_dim": 8, "vision_config": {"patch_size": 16}, "text_config": {"num_hidden_layers": 3}},
        {"vision_config": {"hidden_size": 96, "intermediate_size": 384}, "vision_config_dict": None},
        {"text_config": {"num_hidden_layers": 3, "vocab_size": 9}, "text_config_dict": {"num_attention_heads": 4}},
    ],
)
def test_what_a_configuration_leaves_out_is_as_in_transformers(values: dict[str, Any], tmp_path: Path) -> None:
    values = {"text_config": {"vocab_size": 49408}, **values}
    write_json(tmp_path / "config.json", {"model_type": "clip", **values})
    found = read_hugging_face(tmp_path / "config.json")
    expected: Any = CLIPConfig(**values)
    vision, text = expected.vision_config, expected.text_config
    assert found.embedding_dim == expected.projection_dim
    assert (found.image_height, found.patch_size, found.activation, found.vision_width) == (
        vision.image_size, vision.patch_size, vision.hidden_act, vision.hidden_size,
    )  # fmt: skip
    assert (found.vision_layers, found.vision_heads) == (vision.num_hidden_layers, vision.num_attention_heads)
    assert (found.text_width, found.text_layers, found.text_heads, found.text_length, found.vocabulary_size) == (
        text.hidden_size, text.num_hidden_layers, text.num_attention_heads, text.max_position_embeddings,
        text.vocab_size,
    )  # fmt: skip


@pytest.mark.slow
def test_no_model_needs_transformers(clip_folder: Path) -> None:
    script = f"""
import sys
sys.modules["transformers"] = None
from textreid import load_model
print(len(load_model().encode_texts(["a"])), len(load_model({str(clip_folder)!r}).encode_texts(["a"])))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "1 1\n"


def test_another_vocabulary_is_refused(clip_folder: Path) -> None:
    ours = json.loads(Tokenizer.clip().to_json())["model"]["vocab"]
    theirs = {name: index for name, index in ours.items() if index != 49405} | {"jekyll</w>": 49405}
    write_json(clip_folder / "vocab.json", theirs)
    assert load_model(clip_folder).tokenizer.mask_id == 49405
    write_json(clip_folder / "vocab.json", theirs | {"the</w>": 1, "a</w>": 2})
    with pytest.raises(ModelError, match=r"vocab\.json: not CLIP's vocabulary"):
        load_model(clip_folder)
    (clip_folder / "model.safetensors").unlink()
    (clip_folder / "vocab.json").unlink()
    with pytest.raises(ModelError, match="no file of weights"):
        load_model(clip_folder)


def test_training_starts_from_the_weights_of_the_configuration(
    clip_folder: Path, folder: Path, model: Model, captions: list[str]
) -> None:
    config = replace(load_model(clip_folder).config, weights=str(clip_folder), image_height=96, image_width=32)
    encoder = initialize(config, seed=1)
    assert encoder.config == config
    expected = load_model(clip_folder, image_size=(96, 32))
    started = Model(encoder, Tokenizer.clip())
    assert np.array_equal(started.encode_texts(captions), expected.encode_texts(captions))
    own = initialize(replace(model.config, weights=str(folder)))
    assert np.array_equal(Model(own, model.tokenizer).encode_texts(captions), model.encode_texts(captions))


def test_a_configuration_may_read_shorter_texts_than_its_weights(
    folder: Path, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = initialize(replace(model.config, weights=str(folder), text_length=9))
    assert encoder.text_model.embeddings.position_embedding.weight.shape == (9, 48)
    assert "texts cut to 9 of 24 tokens" in caplog.text
    with pytest.raises(ModelError, match=r"text_length at most 24 \(not 30\)"):
        initialize(replace(model.config, weights=str(folder), text_length=30))


def test_a_configuration_of_another_shape_names_what_differs(folder: Path, model: Model) -> None:
    config = replace(model.config, weights=str(folder), vision_width=64, text_layers=3)
    with pytest.raises(ModelError, match=r"vision_width 32 \(not 64\), text_layers 2 \(not 3\)$"):
        initialize(config)


class Hub:
    """As much of the Hugging Face hub's interface as its client uses to fetch a model, on this machine."""

    def __init__(self, folder: Path) -> None:
        self.served: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                prefix, files = "/someone/clip/resolve/", {path.name: path for path in folder.iterdir()}
                if self.path.startswith(prefix):
                    name = self.path.split("?")[0].rsplit("/", 1)[1]
                    if name in files:
                        hub.served += [name] if self.command == "GET" else []
                        return self.answer(200, files[name].read_bytes(), etag=f'"{name}"')
                elif self.path.startswith("/api/models/someone/clip"):
                    siblings = [{"rfilename": name} for name in files]
                    found = {"id": "someone/clip", "sha": COMMIT, "siblings": siblings}
                    tree = [
                        {"type": "file", "path": name, "size": path.stat().st_size, "oid": name}
                        for name, path in files.items()
                    ]
                    return self.answer(200, json.dumps(tree if "/tree/" in self.path else found).encode())
                return self.answer(404, b"{}", code="RepoNotFound")

            def answer(self, status: int, body: bytes, etag: str = '"x"', code: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", etag)
                self.send_header("X-Repo-Commit", COMMIT)
                if code:
                    self.send_header("X-Error-Code", code)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def hub(clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    (clip_folder / "tf_model.h5").write_bytes(b"large, and of no use here")
    hub = Hub(clip_folder)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield hub
    hub.close()


@pytest.mark.slow
def test_a_hub_name_fetches_only_what_is_needed_and_then_works_offline(
    hub: Hub, clip_folder: Path, captions: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    expected = load_model(clip_folder).encode_texts(captions)
    assert np.array_equal(load_model("someone/clip").encode_texts(captions), expected)
    assert sorted(hub.served) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    hub.close()
    assert np.array_equal(load_model("someone/clip").encode_texts(captions), expected)
    assert "the hub did not answer; using the files downloaded before" in caplog.text


@pytest.mark.slow
def test_a_hub_repository_of_open_clip(hub: Hub, clip_folder: Path, captions: list[str]) -> None:
    for path in clip_folder.iterdir():
        path.unlink()
    open_clip_folder(random_weights(), clip_folder)
    expected = load_model(clip_folder).encode_texts(captions)
    model = load_model("someone/clip")
    assert np.array_equal(model.encode_texts(captions), expected)
    assert model.report
    assert model.report.source == "someone/clip"
    assert sorted(hub.served) == ["open_clip_config.json", "open_clip_pytorch_model.bin"]


def test_a_name_that_the_hub_does_not_know(hub: Hub) -> None:
    with pytest.raises(
        DownloadError, match=r"someone/else: neither a file or folder here nor a model on the Hugging Face hub"
    ):
        load_model("someone/else")


@pytest.mark.slow
def test_an_unreachable_hub_is_one_clear_sentence_soon(hub: Hub) -> None:
    hub.close()
    begin = time.monotonic()
    with pytest.raises(DownloadError) as caught:
        load_model("someone/clip")
    assert time.monotonic() - begin < 5
    message = str(caught.value)
    assert message.startswith("someone/clip: not a file or folder here, and the Hugging Face hub did not give it (")
    assert message.endswith("give the path of a folder that holds the model instead")
    assert "\n" not in message


@pytest.mark.slow
def test_a_download_that_was_broken_off_is_refused(hub: Hub, tmp_path: Path) -> None:
    load_model("someone/clip")
    weights = next((tmp_path / "cache").rglob("model.safetensors"))
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content[: len(content) // 2])
    hub.close()
    with pytest.raises(ModelError, match=r"model\.safetensors: cannot be read"):
        load_model("someone/clip")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(DownloadError):
        load_model("someone/clip")


@pytest.mark.slow
def test_loading_a_model_does_not_import_the_compiler_of_torch() -> None:
    script = """
import sys, torch
before = {"torch._dynamo", "sympy"} & set(sys.modules)
import textreid
textreid.load_model()
print({"torch._dynamo", "sympy"} & set(sys.modules) - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
