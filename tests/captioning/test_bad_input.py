"""``textreid caption`` against what goes wrong outside: real servers, real files, the real command."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.captioning.server import Behaviour, Server
from typer.testing import CliRunner

from textreid.artifacts import read_json, write_json
from textreid.captions.table import read_captions
from textreid.captions.writer import caption_rows
from textreid.cli.app import app
from textreid.errors import ArtifactError, CaptionError, ResumeError, TextReidError

pytestmark = pytest.mark.slow

KEY = "correct-horse-battery-staple"
OTHER = "another-programs-key"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", OTHER)


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    return pictures(tmp_path / "crops", [f"{number}.png" for number in range(4)])


def pictures(folder: Path, names: list[str]) -> Path:
    """A folder of pictures, no two alike."""
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (32, 16, 3), dtype=np.uint8)).save(folder / name, "PNG")
    return folder


def caption(images: Path, out: Path, url: str, *options: str, model: str = "sim", name: str = "qwen") -> str:
    """Standard error of the command; an error of ours is raised."""
    arguments = ["caption", str(images), "--out", str(out), "--mllm", f"{name}={url}#{model}", *options]
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, TextReidError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stderr


def in_a_process(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from textreid.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def all_bytes(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_key_is_written_or_said_whether_all_is_well_or_not(crops: Path, tmp_path: Path) -> None:
    out, bad = tmp_path / "captions", tmp_path / "refused"
    with Server(key=KEY) as right, Server(key="different") as wrong:
        asked = ("caption", crops, "--mllm", f"qwen={right.url}#sim", "--out", out)
        runs = [
            in_a_process(*asked, "--dry-run"),
            in_a_process(*asked, "--json", "--debug"),
            in_a_process("caption", crops, "--mllm", f"qwen={wrong.url}#sim", "--out", bad, "--debug"),
        ]
        assert [run.returncode for run in runs] == [0, 0, 1], runs[0].stderr
        assert right.outcomes == {"ok": 8}
        assert wrong.outcomes == {"401": 1}
    assert "Traceback" in runs[2].stderr
    assert runs[2].stderr.splitlines()[-1].endswith("check the key in the environment variable QWEN_API_KEY")
    assert {"job.json", "manifest.json", "part-00000.parquet", "usage.json"} <= set(all_bytes(out))
    for key in (KEY, OTHER):
        assert not any(key.encode() in content for folder in (out, bad) for content in all_bytes(folder).values())
        assert not any(key in run.stdout + run.stderr for run in runs)


def test_a_missing_key_names_its_variable(crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QWEN_API_KEY")
    with Server(key=OTHER) as server, pytest.raises(CaptionError) as refused:
        caption(crops, tmp_path / "out", server.url)
    assert "HTTP 401" in str(refused.value)
    assert "set the environment variable QWEN_API_KEY (OPENAI_API_KEY is sent to" in str(refused.value)
    assert server.headers  # something was asked, without any key
    assert all("authorization" not in headers for headers in server.headers)


@pytest.mark.parametrize(
    ("html", "path", "model", "message"),
    [
        (0.0, "/v2", "sim", "does not know the model 'sim'.*is the URL right, up to /v1"),
        (0.0, "/v1", "sum", "does not know the model 'sum'.*it serves: sim"),
        (1.0, "/v1", "sim", "answers with text/html, not JSON: .*is the URL right"),
    ],
)
def test_a_wrong_address_or_model_is_told_and_leaves_nothing_in_the_way(
    html: float, path: str, model: str, message: str, crops: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with Server(behaviour=Behaviour(html=html)) as server:
        with pytest.raises(CaptionError, match=message):
            caption(crops, out, server.url.replace("/v1", path), model=model)
        server.set(html=0.0)
        caption(crops, out, server.url)
    assert len(read_captions(out)) == 8


GOOD = json.dumps({"choices": [{"message": {"content": "A man in a red coat."}, "finish_reason": "stop"}]})


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (GOOD.encode(), "text/plain"),
        (GOOD.encode(), "text/html; charset=utf-8"),
        (b"\xef\xbb\xbf" + GOOD.encode(), "application/json"),
        (GOOD.encode("utf-16"), "application/json; charset=utf-16"),
        (GOOD.replace("red", "rouge caf\u00e9").encode("latin-1"), "application/json; charset=latin-1"),
    ],
)
def test_an_answer_is_read_whatever_its_header_says(body: bytes, kind: str, crops: Path, tmp_path: Path) -> None:
    with Server(behaviour=Behaviour(raw=(body, kind))) as server:
        caption(crops, tmp_path / "out", server.url)
    assert len(read_captions(tmp_path / "out")) == 8


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"the model is being loaded", "text/plain", "answers with text/plain, not JSON: 'the model is being loaded'"),
        (b'{"choices": "caf\xe9"}', "application/json", "an answer that is not UTF-8"),
        (b"<html></html>", "text/html", "answers with text/html, not JSON"),
        (b"", "", "answers with no content type, not JSON"),
        (b'data: {"choices": []}\n\n', "text/event-stream", "text/event-stream, not JSON: .*--field stream=false"),
        (b"\x1f\x8bgarbage", "application/json\r\ncontent-encoding: gzip", "not compressed as its header says"),
        (b'{"choices": [', "application/json", "an answer that is not whole JSON"),
        (b"[]", "application/json", "an answer that is not a JSON object"),
        (b'{"choices": []}', "application/json", "an answer without a choice"),
        (b'{"error": {"message": "no credit"}}', "application/json", "without a choice: .*no credit"),
    ],
)
def test_a_server_that_gives_nothing_else_is_told_after_a_few(
    body: bytes, kind: str, message: str, crops: Path, tmp_path: Path
) -> None:
    with Server(behaviour=Behaviour(raw=(body, kind))) as server:
        began = time.monotonic()
        with pytest.raises(CaptionError, match=message):
            caption(crops, tmp_path / "out", server.url)
        assert time.monotonic() - began < 10
        assert server.outcomes.total() <= 16
        server.set(raw=None)
        caption(crops, tmp_path / "out", server.url)


def test_nobody_at_the_address(crops: Path, tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:9/v1", "http://nowhere.invalid/v1"):
        with pytest.raises(CaptionError, match=f"{url}: no connection.*is the URL right"):
            caption(crops, tmp_path / "out", url)


def test_a_mistyped_addition_leaves_a_finished_table_finished(crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Server() as server:
        caption(crops, out, server.url)
        with pytest.raises(CaptionError, match="does not know the model"):
            caption(crops, out, server.url, name="shikra", model="skihra")
        assert len(read_captions(out)) == 8
        caption(crops, out, server.url, name="shikra")
        assert server.outcomes == {"ok": 16, "404": 1}
    assert read_captions(out).slots == ("qwen/dynamic", "qwen/static", "shikra/dynamic", "shikra/static")
    assert len(read_captions(out)) == 16


def test_answers_that_are_cut_or_broken_are_asked_for_until_they_are_whole(crops: Path, tmp_path: Path) -> None:
    with Server(behaviour=Behaviour(truncated=0.15, cut=0.15, html=0.1, error_500=0.1), seed=1) as server:
        caption(crops, tmp_path / "out", server.url)
        assert set(server.outcomes) > {"ok", "truncated", "cut"}
        assert server.outcomes["ok"] == 8
    assert len(read_captions(tmp_path / "out")) == 8


def test_hard_names_and_junk_among_the_images(tmp_path: Path) -> None:
    names = [
        "a/1.jpg",
        "b/1.jpg",
        "with space.jpg",
        "quo\"te's.jpg",
        "\U0001f9e5 coat.jpg",
        "new\nline.jpg",
        "#1?%20.jpg",
    ]
    root, out = pictures(tmp_path / "crops", names), tmp_path / "out"
    (root / "notes.txt").write_text("not an image")
    (root / "folder.jpg").mkdir()
    (root / "gone.jpg").symlink_to(root / "nowhere")
    (root / "empty.jpg").write_bytes(b"")
    (root / "cut.jpg").write_bytes((root / "a/1.jpg").read_bytes()[:100])
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.jpg")).write_bytes(b"")
    with Server() as server:
        stderr = caption(root, out, server.url, "--max-failures", "0.5")
        assert len({question.images for question in server.questions}) == len(names)
    rows = list(caption_rows(out))
    good = [row for row in rows if row.status == "ok"]
    assert {row.image for row in good} == set(names)
    assert len({row.caption for row in good}) == 2 * len(names)  # no picture got the caption of another
    bad = {row.image for row in rows} - set(names)
    assert {"empty.jpg", "cut.jpg"} <= bad <= {"empty.jpg", "cut.jpg", "gone.jpg"}
    assert {row.status for row in rows if row.image in bad} == {"failed-unreadable-image"}
    assert "1 images are left out" in stderr
    assert "caf\\\\xe9.jpg" in stderr


def test_output_that_cannot_be_written(crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    places = [tmp_path / "crops/0.png/out", Path("/proc/captions"), *([] if os.geteuid() == 0 else [out, out / "in"])]
    with Server() as server:
        for place in places:
            with pytest.raises(ArtifactError, match="cannot be written: "):
                caption(crops, place, server.url)
        assert not server.questions


def test_output_of_another_version_or_of_another_job(crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    templates = tmp_path / "mine.txt"
    templates.write_text("A [gender] wearing [clothing].\n")
    with Server() as server:
        caption(crops, out, server.url)
        asked = len(server.questions)
        with pytest.raises(ResumeError, match=r'prompts: qwen/dynamic: ".*" there, ".*" now'):
            caption(crops, out, server.url, "--templates", str(templates))
        with pytest.raises(ResumeError, match="seed: 0 there, 1 now"):
            caption(crops, out, server.url, "--seed", "1")
        with pytest.raises(ResumeError, match="models: qwen: "):
            caption(crops, out, server.url, model="other")
        write_json(out / "job.json", {**read_json(out / "job.json"), "format_version": 1})
        with pytest.raises(ResumeError, match=r"another version of textreid \(format 1, this one writes 2\)"):
            caption(crops, out, server.url)
        assert len(server.questions) == asked


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        (["--max-tokens", "33"], "max_tokens", 33),
        (["--temperature", "0.25"], "temperature", 0.25),
        ([], "max_tokens", 160),
        ([], "temperature", None),
    ],
)
def test_options_reach_the_server(
    options: list[str], field: str, value: float | None, crops: Path, tmp_path: Path
) -> None:
    with Server() as server:
        caption(crops, tmp_path / "out", server.url, *options)
    assert [question.body.get(field) for question in server.questions] == [value] * 8
