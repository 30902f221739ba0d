import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import textreid
from textreid.artifacts import read_json
from textreid.config import ModelConfig
from textreid.errors import ArgumentError, ArtifactError, ModelError
from textreid.models import Model, OnnxModel, Tokenizer, initialize
from textreid.models.export.onnx import export_onnx

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "export.md"
SENTENCES = ["a woman in a red jacket", "", "He wears a navy puffer jacket, faded jeans &amp; white trainers. " * 9]


def card(_: OnnxModel) -> str:
    return "# Card\n"


@pytest.fixture(scope="module")
def random_model(config: ModelConfig, tokenizer: Tokenizer) -> Model:
    return Model(
        initialize(
            replace(
                config, stem="patch", activation="quick_gelu", vision_layers=1, text_layers=1,
                interpolation="bilinear", reduced_decoding=False,
            ),
            seed=5,
        ),
        tokenizer,
    )  # fmt: skip


@pytest.fixture(scope="module")
def random_folder(random_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "random"
    export_onnx(random_model, folder, card)
    return folder


@pytest.fixture(scope="module")
def bundled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "bundled"
    export_onnx(textreid.load_model("small", device="cpu"), folder, card)
    return folder


def test_a_random_model_is_the_same(random_model: Model, random_folder: Path, pictures: list[Image.Image]) -> None:
    exported = OnnxModel.load(random_folder)
    many = pictures * 2  # more than one batch, the last one smaller
    assert np.abs(exported.encode_images(many) - random_model.encode_images(many)).max() < 1e-4
    assert np.abs(exported.encode_images(many[:1]) - random_model.encode_images(many[:1])).max() < 1e-4
    assert np.abs(exported.encode_texts(SENTENCES * 9) - random_model.encode_texts(SENTENCES * 9)).max() < 1e-4
    large = many[0].resize((512, 1024), Image.Resampling.NEAREST)
    large.save(random_folder.parent / "large.jpg")
    of_file = [model.encode_images([random_folder.parent / "large.jpg"]) for model in (exported, random_model)]
    assert np.abs(of_file[0] - of_file[1]).max() < 1e-4
    with pytest.raises(ArgumentError, match="texts: expected a list of sentences"):
        exported.encode_texts("a woman")
    assert exported.encode_images([]).shape == exported.encode_texts([]).shape == (0, 20)


def test_the_bundled_model_is_the_same(bundled_folder: Path, pictures: list[Image.Image]) -> None:
    model, exported = textreid.load_model("small"), OnnxModel.load(bundled_folder)
    assert model.config.stem == "efficientnet-lite0"  # its trunk is exported too
    images, texts = model.encode_images(pictures), model.encode_texts(SENTENCES)
    assert np.abs(exported.encode_images(pictures) - images).max() < 1e-4
    assert np.abs(exported.encode_texts(SENTENCES) - texts).max() < 1e-4
    assert np.abs(images[0] - images[5]).max() > 1e-2


def test_batch_and_length_are_free_and_padding_is_not_seen(random_model: Model, random_folder: Path) -> None:
    session = onnxruntime.InferenceSession(random_folder / "text.onnx")
    expected = random_model.encode_texts(["red coat"])
    ids = random_model.tokenizer.encode(["red coat"]).ids
    checked = 0
    for batch in (1, 3, 17):
        for padding in (0, 1, 24 - ids.shape[1]):
            padded = np.pad(np.repeat(ids, batch, axis=0), ((0, 0), (0, padding)), constant_values=7)
            (features,) = session.run(None, {"ids": padded})
            assert features.shape == (batch, 20)
            assert np.abs(features - expected).max() < 1e-4
            checked += 1
    assert checked == 9


def test_the_folder_says_what_it_is(random_model: Model, random_folder: Path) -> None:
    names = {file.name for file in random_folder.iterdir()}
    assert names == {
        "card.md", "image.onnx", "text.onnx", "manifest.json", "preprocessing.json", "tokenizer.json",
    }  # fmt: skip
    manifest = read_json(random_folder / "manifest.json")
    assert (manifest["kind"], manifest["fingerprint"]) == ("converted model", random_model.fingerprint)
    said = read_json(random_folder / "preprocessing.json")
    assert (said["image"]["height"], said["image"]["width"]) == (64, 32)
    assert said["text"]["end_id"] == random_model.tokenizer.end_id
    for name in ("image.onnx", "text.onnx"):
        onnx.checker.check_model(onnx.load(random_folder / name))
        assert str(Path(textreid.__file__).parent).encode() not in (random_folder / name).read_bytes()
    with pytest.raises(ArtifactError, match="holds a converted model folder, not a model folder"):
        textreid.load_model(random_folder)


def test_8_bit_integers_are_smaller_and_close(
    random_model: Model, random_folder: Path, pictures: list[Image.Image], tmp_path: Path
) -> None:
    seen: list[float] = []

    def measure(exported: OnnxModel) -> str:
        seen.extend((exported.encode_texts(SENTENCES) * random_model.encode_texts(SENTENCES)).sum(axis=1).tolist())
        return f"# Card\n\ncosine {min(seen):.6f}\n"

    export_onnx(random_model, tmp_path / "int8", measure, int8=True)
    exported = OnnxModel.load(tmp_path / "int8")
    cosines = (exported.encode_images(pictures) * random_model.encode_images(pictures)).sum(axis=1)
    assert 0.98 < cosines.min() < 0.9999999
    assert (tmp_path / "int8" / "card.md").read_text() == f"# Card\n\ncosine {min(seen):.6f}\n"
    assert len(seen) == len(SENTENCES)
    assert min(seen) > 0.98
    quantized = {node.op_type for node in onnx.load(tmp_path / "int8" / "text.onnx").graph.node}
    assert "MatMulInteger" in quantized


def test_the_example_of_the_documentation(bundled_folder: Path, pictures: list[Image.Image], tmp_path: Path) -> None:
    code = DOCS.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 16
    pictures[0].save(tmp_path / "person.png")
    command = [sys.executable, "-c", code, str(bundled_folder), str(tmp_path / "person.png"), SENTENCES[0]]
    score = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    model = textreid.load_model("small")
    expected = model.encode_texts(SENTENCES[:1])[0] @ model.encode_images(pictures[:1])[0]
    assert score == pytest.approx(float(expected), abs=1e-4)


def test_only_exact_models_are_exported(config: ModelConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    rounded = Model(initialize(config), tokenizer, precision="bf16")
    with pytest.raises(ModelError, match="precision='fp32'"):
        export_onnx(rounded, tmp_path / "out", card)


def test_what_is_missing_is_named(random_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="not a converted model folder"):
        OnnxModel.load(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    with pytest.raises(ModelError, match=r"pip install 'textreid\[onnx\]'"):
        OnnxModel.load(random_folder)
