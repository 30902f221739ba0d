"""``textreid caption`` as a user meets it, and the names that ``--mllm`` understands."""

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from textreid.captioning.backends.addresses import key_variable
from textreid.captioning.mllms import CaptionerSpec, open_captioners, read_mllms
from textreid.captions.selecting import select_images
from textreid.captions.table import read_captions
from textreid.cli.app import app
from textreid.errors import ConfigError, DataError, TextReidError
from textreid.synthetic import write_corpus

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "street"
    write_corpus(folder, "street", identities=6, images_per_identity=2, seed=3)
    return folder


def caption(*arguments: str | Path) -> tuple[str, str]:
    """Standard output and standard error; an error of ours is raised."""
    result = CliRunner().invoke(app, ["caption", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_limit_then_all_then_nothing(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "captions"
    arguments = (corpus, "--out", out, "--mllm", "qwen=simulated", "--mllm", "shikra=simulated")
    assert caption(*arguments, "--limit", "3")[0] == f"{out}\n"
    assert len(read_captions(out)) == 12
    counts = json.loads(caption(*arguments, "--json")[0])
    assert (counts["captions"], counts["this_run"]["captions"]) == (48, 36)
    stdout, stderr = caption(*arguments)
    assert stdout == f"{out}\n"
    assert "48 captions of 12 images; 0 new" in stderr
    assert read_captions(out).slots == ("qwen/dynamic", "qwen/static", "shikra/dynamic", "shikra/static")


def test_a_dry_run_shows_three_images_and_writes_nothing(corpus: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('["some/model"]\nprompt = 1.0\ncompletion = 2.0\nhour = 3.0\n')
    templates = tmp_path / "templates.txt"
    templates.write_text("A [gender] wearing [clothing].\n")
    # Nobody listens at this address: a dry run sends nothing.
    stdout, _ = caption(
        corpus, "--out", tmp_path / "out", "--mllm", "qwen=http://127.0.0.1:9/v1#some/model", "--dry-run",
        "--prices", prices, "--templates", templates,
    )  # fmt: skip
    assert len(re.findall(r"^imgs/", stdout, re.MULTILINE)) == 3
    assert stdout.count('Template: "A [gender]') + stdout.count("template line-1)") >= 3
    assert "12 images, 2 slots each: 24 captions" in stdout
    found = re.search(r"qwen: about ([\d,]+) tokens read and ([\d,]+) written; cost: ([\d.]+), and 3 an hour", stdout)
    assert found
    read, written = (int(number.replace(",", "")) for number in found.groups()[:2])
    assert float(found[3]) == pytest.approx((read + 2 * written) / 1e6, abs=0.006)
    assert written == 24 * 60
    assert not (tmp_path / "out").exists()


def test_samples_are_nested_and_seeded(corpus: Path) -> None:
    all_ = select_images(corpus).images
    small, large = (set(select_images(corpus, sample=count, seed=1).images) for count in (4, 8))
    assert len(small) == 4
    assert small < large < set(all_)
    assert small != set(select_images(corpus, sample=4, seed=2).images)
    assert select_images(corpus, limit=5).images == all_[:5]
    assert select_images(corpus, limit=2, sample=4, seed=1).images == tuple(sorted(small)[:2])


def test_names_that_cannot_be_kept_are_printed(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.jpg")).write_bytes(b"")
    with pytest.raises(DataError, match="no image files in it: names are not UTF-8"):
        select_images(root)
    (root / "ok.jpg").write_bytes(b"")
    _, stderr = caption(root, "--out", tmp_path / "out", "--mllm", "d=describe", "--max-failures", "1")
    assert "1 images are left out" in stderr
    assert "caf\\\\xe9.jpg" in stderr
    assert "failed-unreadable-image 2" in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--mllm: needed at least once"),
        (["--mllm", "http://localhost:8000/v1#m"], "no name"),
        (["--mllm", "qwen=localhost:8000#m"], "--mllm qwen: expected NAME=URL#MODEL"),
        (["--mllm", "qwen=http://localhost:8000/v1"], "--mllm qwen: expected NAME=URL#MODEL"),
        (["--mllm", "d=describe", "--mllm", "d=simulated"], "stands for 'describe' and for 'simulated'"),
        (["--mllm", "d=describe", "--mllm", "d=describe"], "given twice"),
        (["--mllm", "d=describe", "--slots", "static,fancy"], "'fancy': expected some of static, dynamic, styled"),
        (["--mllm", "d=describe", "--slots", "static,static"], "each once"),
        (["--mllm", "d=describe", "--max-tokens", "9"], "--max-tokens: none of these MLLMs takes it"),
        (["--mllm", "d=describe", "--image-size", "64"], "--image-size: .* openai-compatible, transformers, vllm"),
        (["--mllm", "d=transformers:m", "--timeout", "9"], "--timeout: .* it is for openai-compatible"),
        (["--mllm", "d=http://a/v1#m", "--batch-size", "9"], "--batch-size: .* it is for transformers"),
    ],
)
def test_wrong_options_are_told(corpus: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        caption(corpus, "--out", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_secrets_in_addresses_are_refused_and_not_repeated(corpus: Path, tmp_path: Path) -> None:
    for address in ("http://me:hunter2@host/v1#m", "https://host/v1?key=hunter2#m", "=hunter2", "hunter2"):
        for specification in (f"qwen={address}", address):
            with pytest.raises(ConfigError) as refused:
                caption(corpus, "--out", tmp_path / "out", "--mllm", specification)
            assert "hunter2" not in str(refused.value)


def test_endpoints_of_one_model_share_a_name() -> None:
    urls = ("http://a:1/v1", "http://b:1/v1/")
    assert read_mllms([f"qwen={url}#Qwen/VL#7b" for url in urls]) == (
        CaptionerSpec("qwen", "openai-compatible", "Qwen/VL#7b", ("http://a:1/v1", "http://b:1/v1")),
    )
    assert read_mllms(["q-2=transformers:/models/q"]) == (CaptionerSpec("q-2", "transformers", "/models/q"),)
    assert key_variable("q-2") == "Q_2_API_KEY"
    with pytest.raises(ConfigError, match="q-2, Q_2: too much alike: Q_2_API_KEY would be the key of both"):
        read_mllms(["q-2=http://a/v1#m", "Q_2=http://b/v1#m"])


def test_keys_stay_in_the_environment(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN_API_KEY", "hunter2")
    out = tmp_path / "out"
    (captioner,) = open_captioners(read_mllms(["qwen=http://127.0.0.1:9/v1#m"]), corpus)
    assert "hunter2" not in repr(captioner)
    with pytest.raises(TextReidError) as failed:
        caption(corpus, "--out", out, "--mllm", "qwen=http://127.0.0.1:9/v1#m", "--limit", "1")
    assert "hunter2" not in str(failed.value)
    files = list(out.rglob("*"))
    assert files
    assert all(b"hunter2" not in file.read_bytes() for file in files)
