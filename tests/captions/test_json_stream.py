"""A huge JSON file is read entry by entry: the same values as json.load, at a fraction of its memory."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from textreid.captions import json_stream as module
from textreid.captions.json_stream import json_entries
from textreid.errors import CaptionError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(), JSON), st.integers(1, 40), st.booleans(), st.sampled_from([None, 2]))
def test_an_object_has_the_entries_that_json_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: dict[str, Any], block: int, ascii_: bool, indent: int | None
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    path = tmp_path / "object.json"
    text = json.dumps(value, ensure_ascii=ascii_, indent=indent)
    path.write_bytes(text.encode("utf-8", "replace"))
    assert list(json_entries(path)) == list(json.loads(path.read_bytes()).items())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JSON), st.integers(1, 40))
def test_a_list_has_the_items_that_json_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: list[Any], block: int
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    path = tmp_path / "list.json"
    path.write_text("\ufeff" + json.dumps(value), encoding="utf-8")
    assert list(json_entries(path)) == list(enumerate(value))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "at its beginning (character 1): expected a JSON object or list"),
        ("<html>", "at its beginning (character 1): expected a JSON object or list"),
        ('{"a": "b", "c": "d', "after entry 1 (character 17)"),
        ('{"a": "b", "c"', "after entry 1 (character 15): expected ':' after a key"),
        ('{"a": "b" "c": "d"}', "after entry 1 (character 11): expected ',' or '}'"),
        ('{"a": "b"', "after entry 1 (character 10): expected ',' or '}'"),
        ('{"a": "b",}', "after entry 1 (character 11): expected a key in double quotes"),
        ("{'a': 'b'}", "at its beginning (character 2): expected a key"),
        ('{"a": "b"} {}', "after entry 1 (character 12): more text after the end"),
        ("[1, 2, x]", "after entry 2 (character 8): Expecting value"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_it_says_where_the_file_breaks(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CaptionError) as caught:
        list(json_entries(path))
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)


def test_an_endless_entry_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_ENTRY", 1000)
    monkeypatch.setattr(module, "_BLOCK", 100)
    path = tmp_path / "endless.json"
    path.write_text('{"a": "' + "b" * 100_000 + '"}', encoding="utf-8")
    with pytest.raises(CaptionError, match="at its beginning"):
        list(json_entries(path))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(CaptionError, match=r"missing\.json: cannot be read: No such file"):
        list(json_entries(tmp_path / "missing.json"))
    (tmp_path / "latin.json").write_bytes('{"a": "café"}'.encode("latin-1"))
    with pytest.raises(CaptionError, match="not UTF-8 text"):
        list(json_entries(tmp_path / "latin.json"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    entry = '"image-%d.jpg": "' + "a person in a coat " * 10 + '"'
    path.write_text("{" + ",\n".join(entry % number for number in range(100_000)) + "}", encoding="utf-8")
    tracemalloc.start()
    count = sum(1 for _ in json_entries(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000
    assert path.stat().st_size > 20e6
    assert peak < 12e6
