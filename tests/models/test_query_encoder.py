import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from textreid.artifacts import read_json, write_json
from textreid.config import ModelConfig
from textreid.errors import ArtifactError, ModelError
from textreid.models import Model, QueryEncoder, Tokenizer, initialize

TEXTS = ["a woman in a red jacket", "", "A man!", "é 日本 😀 &amp;", "blue jeans " * 40]


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_features_equal_those_of_the_model(
    config: ModelConfig, tokenizer: Tokenizer, activation: Any, dtype: Any, tmp_path: Path
) -> None:
    encoder = initialize(replace(config, activation=activation), seed=4)
    model = Model(encoder, tokenizer)
    model.save(tmp_path / "m", "card", dtype=dtype)
    queries = QueryEncoder.load(tmp_path / "m")
    expected, found = model.encode_texts(TEXTS), queries.encode_texts(TEXTS)
    assert found.dtype == np.float32
    assert found.shape == (5, 20)
    assert np.abs(found - expected).max() < (1e-5 if dtype == "float32" else 2e-3)
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    assert queries.encode_texts([]).shape == (0, 20)


def test_large_activations_do_not_overflow(config: ModelConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    for activation in ("gelu", "quick_gelu"):
        encoder = initialize(replace(config, activation=activation), seed=4)
        encoder.get_parameter("text_model.encoder.layers.0.mlp.fc1.weight").data *= 3000
        model = Model(encoder, tokenizer)
        model.save(tmp_path / activation, "card")
        found = QueryEncoder.load(tmp_path / activation).encode_texts(TEXTS)
        assert np.abs(found - model.encode_texts(TEXTS)).max() < 1e-4


def test_it_has_the_fingerprint_of_the_model(folder: Path, model: Model) -> None:
    assert QueryEncoder.load(folder).fingerprint == model.fingerprint


def test_one_text_is_not_a_list(folder: Path) -> None:
    with pytest.raises(TypeError, match="a list"):
        QueryEncoder.load(folder).encode_texts("a woman")


def test_a_search_needs_neither_torch_nor_transformers(folder: Path) -> None:
    program = (
        "import sys, time; begin = time.perf_counter();"
        "from textreid.models.query_encoder import QueryEncoder;"
        "shape = QueryEncoder.load(sys.argv[1]).encode_texts(['a red jacket']).shape;"
        "print(shape, time.perf_counter() - begin);"
        "assert not {'torch', 'transformers', 'PIL', 'scipy', 'huggingface_hub'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    shape, seconds = done.stdout.rsplit(" ", 1)
    assert shape == "(1, 20)"
    assert float(seconds) < 3  # about 0.15 on an idle machine; torch alone would take longer on a busy one


def test_tampered_folders_are_refused(folder: Path) -> None:
    manifest = read_json(folder / "manifest.json")

    def accept_sizes() -> None:
        manifest["files"] = {name: (folder / name).stat().st_size for name in manifest["files"]}
        write_json(folder / "manifest.json", manifest)

    file = folder / "model.safetensors"
    whole = load_file(file)
    name = "text_model.encoder.layers.1.mlp.fc1.weight"
    save_file({key: value for key, value in whole.items() if key != name}, file)
    with pytest.raises(ArtifactError, match="truncated or edited"):
        QueryEncoder.load(folder)
    accept_sizes()
    with pytest.raises(ModelError, match=f"1 missing: {name}"):
        QueryEncoder.load(folder)
    save_file(whole | {name: whole[name][:5]}, file)
    accept_sizes()
    with pytest.raises(ModelError, match=f"1 of another shape: {name} 5x48 instead of 192x48"):
        QueryEncoder.load(folder)
    file.write_bytes(b"\0" * 100)
    accept_sizes()
    with pytest.raises(ModelError, match=r"model\.safetensors: cannot be read"):
        QueryEncoder.load(folder)
