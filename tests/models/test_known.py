"""The list of models that load: what it names is there, or is asked of the hub by its full name."""

import json

import pytest
from tests.test_cli import textreid as command

from textreid.errors import DownloadError
from textreid.models import load_model
from textreid.models.folder import BUNDLED, DEFAULT, training_text_of
from textreid.models.known import ALIASES, KNOWN


def test_the_bundled_models_come_first_and_load() -> None:
    names = [model.name for model in KNOWN]
    assert names[: 1 + len(BUNDLED)] == [DEFAULT, *BUNDLED]
    assert load_model(DEFAULT).fingerprint == load_model().fingerprint


def test_a_short_name_stands_for_one_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(DownloadError, match=ALIASES["clip"]):
        load_model("clip")


def test_a_short_name_has_learned_from_what_the_full_one_has() -> None:
    assert training_text_of("clip") == training_text_of(ALIASES["clip"]) == (ALIASES["clip"],)


def test_the_command_lists_them() -> None:
    listed = json.loads(command("models", "--json").stdout)
    assert [model["name"] for model in listed] == [model.name for model in KNOWN]
    said = command("models").stdout
    for model in KNOWN:
        assert f"\n    licence: {model.licence}\n" in said
        assert model.source in said
    assert "12.65 on CUHK-PEDES" in said
