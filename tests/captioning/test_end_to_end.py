"""Caption, pretrain, evaluate: the commands of the README, with a real server, and one kill on the way."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from examples import mllm_server
from PIL import Image
from tests import commands

from textreid.captioning.backends.openai_compatible import OpenAICompatible, ServingOptions
from textreid.captioning.backends.simulated import SimulatedMLLM
from textreid.captioning.instructions import Instruction, dynamic_instructions, static_instruction
from textreid.captioning.requests import Caption, CaptionFailure, Request, encode_picture
from textreid.captioning.templates import Template
from textreid.captions.cleaning import clean
from textreid.captions.table import read_captions
from textreid.captions.writer import JOB, caption_rows
from textreid.errors import CaptionError, ImageError
from textreid.images import as_data_uri
from textreid.synthetic import read_people, write_corpus

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PEOPLE, SHOTS = 20, 2
# A network of seconds; everything else is the preset's.
SMALL = [
    part
    for setting in (
        "model.image_height=64", "model.image_width=32", "model.vision_width=32", "model.vision_layers=2",
        "model.vision_heads=2", "model.text_width=32", "model.text_layers=2", "model.text_heads=2",
        "model.embedding_dim=32", "masking.layer=1", "training.batch_size=16", "training.epochs=2",
        "optimizer.min_warmup_steps=0",
    )
    for part in ("--set", setting)
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``people/`` to caption, and ``unseen/``, others before other cameras, to evaluate on."""
    folder = tmp_path_factory.mktemp("end-to-end")
    write_corpus(folder / "people", "street", PEOPLE, SHOTS, seed=5)
    write_corpus(folder / "unseen", "station", 8, 2, seed=5, first_identity=1000)
    return folder


def start(*arguments: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "textreid", *map(str, arguments)]
    return subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def textreid(*arguments: str | Path) -> str:
    """What the command printed on its standard output."""
    done = commands.textreid(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def server(corpus: Path, *options: str) -> Iterator[str]:
    """The URL of the example server."""
    command = [sys.executable, str(ROOT / "examples" / "mllm_server.py"), str(corpus), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def train_and_evaluate(images: Path, captions: Path, unseen: Path, out: Path) -> dict[str, Any]:
    printed = textreid("pretrain", "--images", images, "--captions", captions, "--out", out, *SMALL)
    assert printed == f"{out / 'model'}\n"
    report = json.loads(textreid("evaluate", out / "model", "--benchmark", unseen, "--json"))
    measured: dict[str, Any] = report["evaluations"][0]["text_to_image"]
    return measured


def test_served_captions_survive_a_kill_and_train_a_model(data: Path, tmp_path: Path) -> None:
    people, out = data / "people", tmp_path / "captions"
    total = PEOPLE * SHOTS * 4
    with server(people, "--latency", "0.3", "--error-rate", "0.2") as url:
        asked = ("caption", people, "--out", out, "--mllm", f"qwen={url}#qwen", "--mllm", f"shikra={url}#shikra")
        with start(*asked) as process:
            while process.poll() is None and not ((out / JOB).exists() and len(list(caption_rows(out))) >= 8):
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        saved = list(caption_rows(out))
        assert 8 <= len(saved) < total
        counts = json.loads(textreid(*asked, "--json"))
    assert counts["statuses"] == {"ok": total}
    assert counts["this_run"]["captions"] == total - len(saved)

    rows = list(caption_rows(out))
    assert len(rows) == len({(row.image, row.slot) for row in rows}) == total
    assert set(saved) < set(rows)
    assert_said_by_the_simulation(people, rows)

    report = json.loads(textreid("captions", "stats", out, "--by", "instruction", "--json"))
    entropy = {corpus["name"]: corpus["pattern_entropy"] for corpus in report["corpora"]}
    assert entropy["static"] < entropy["dynamic"]

    measured = train_and_evaluate(people, out, data / "unseen", tmp_path / "run")
    assert (measured["gallery"], measured["queries"]) == (16, 32)
    assert 0 < measured["scores"]["mAP"] <= 1


def assert_said_by_the_simulation(corpus: Path, rows: Sequence[Any]) -> None:
    """The server recognised every picture, instruction and seed: else it would have said something else."""
    truth = read_people(corpus)
    mllms = {name: SimulatedMLLM(name, truth, error_rate=0.2) for name in mllm_server.MODELS}
    instructions = {each.template_id: each for each in (static_instruction(), *dynamic_instructions())}
    for row in rows:
        said = mllms[row.mllm].describe(Path(row.image), instructions[row.template_id], row.seed).text
        assert row.caption == clean(said).caption, row
    assert len({row.template_id for row in rows}) > 20


def test_photographs_without_any_model(data: Path, tmp_path: Path) -> None:
    # Crops as a user has them: nothing beside the pictures that tells who is in them.
    crops, out = tmp_path / "my crops", tmp_path / "captions"
    shutil.copytree(data / "people" / "imgs", crops)
    (crops / "notes.txt").write_text("no picture")
    (crops / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    printed = textreid("caption", crops, "--out", out, "--mllm", "draft=describe", "--json")
    assert json.loads(printed)["statuses"] == {"failed-unreadable-image": 2, "ok": 2 * PEOPLE * SHOTS}
    table = read_captions(out)
    assert table.slots == ("draft/dynamic", "draft/static")
    assert "broken.jpg" not in table.images
    measured = train_and_evaluate(crops, out, data / "unseen", tmp_path / "run")
    assert (measured["gallery"], measured["queries"]) == (16, 32)


def answers_of(url: str, image: Path, requests: Sequence[Request], model: str = "qwen") -> Sequence[Any]:
    async def ask() -> list[Caption | CaptionFailure]:
        captioner = OpenAICompatible("q", model, [url], options=ServingOptions(tries=1, longest_side=100))
        try:
            return await captioner.caption(image, requests)
        finally:
            await captioner.aclose()

    return asyncio.run(ask())


def test_the_server_refuses_what_it_cannot_answer(data: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.png"
    Image.new("RGB", (60, 120), (255, 0, 255)).save(stranger)
    known = next((data / "people" / "imgs").iterdir())
    own = Template("own", "Seen: [gender] in [clothing].")
    unknown_slot = Request(Instruction("dynamic", 'Answer. Template: "A [gender] on a [vehicle]."'), 1)
    with server(data / "people") as url:
        wrong_model = answers_of(url, known, [Request(static_instruction(), 1)], model="gpt")[0]
        assert isinstance(wrong_model, CaptionFailure)
        assert "qwen, shikra" in wrong_model.message
        refused = answers_of(url, stranger, [Request(static_instruction(), 1)])[0]
        assert isinstance(refused, CaptionFailure)
        assert "not of the corpus" in refused.message
        users, refused = answers_of(url, known, [Request(dynamic_instructions({"own": own})[0], 1), unknown_slot])
        assert users.text.startswith("Seen: ")
        assert min(users.usage.prompt_tokens, users.usage.completion_tokens) > 0
        assert "vehicle" in refused.message


def test_a_picture_is_recognised_however_it_is_encoded(data: Path) -> None:
    corpus = mllm_server.Corpus(data / "people", error_rate=0.0, dirt_rate=0.0)
    images = [Path(name) for name in read_people(data / "people")]
    recognised = 0
    for image in images:
        for side in (448, 64):
            assert corpus._recognise(encode_picture(data / "people" / image, side)) == image
            recognised += 1
    assert recognised == 2 * PEOPLE * SHOTS
    with pytest.raises(ImageError, match="not a picture"):
        corpus._recognise(b"GIF89a")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"model": "qwen"}, LookupError),
        ({"model": "qwen", "messages": [{"content": [{"type": "image_url", "image_url": "x"}]}]}, ValueError),
        ({"model": "qwen", "messages": [{"content": [{"type": "image_url", "image_url": 5}]}]}, TypeError),
        (
            {
                "model": "qwen",
                "messages": [{"content": [{"type": "image_url", "image_url": {"url": "http://h/a.jpg"}}]}],
            },
            ValueError,
        ),
    ],
)
def test_a_malformed_request_is_told(body: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        mllm_server.read_question(body)


def test_a_request_is_read_whole(data: Path) -> None:
    jpeg = encode_picture(next((data / "people" / "imgs").iterdir()), 100)
    content = [{"type": "image_url", "image_url": {"url": as_data_uri(jpeg)}}, {"type": "text", "text": "Describe."}]
    body = {"model": "qwen", "seed": 7, "messages": [{"role": "user", "content": content}]}
    question = mllm_server.read_question(body)
    assert (question.text, question.images, question.seed) == ("Describe.", (jpeg,), 7)
    usage = mllm_server.completion(question, "two words")["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + 2
    corpus = mllm_server.Corpus(data / "people", error_rate=0.0, dirt_rate=0.0)
    with pytest.raises(CaptionError, match="2 pictures; expected one"):
        corpus.answer(mllm_server.read_question({**body, "messages": body["messages"] * 2}))  # type: ignore[operator]
