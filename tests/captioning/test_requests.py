"""What becomes of an answer: judged in one place, whoever gave it; and when none of the first can be used."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from examples.mllm_server import Question
from PIL import Image
from tests.captioning.scripted import GOOD, Place, Scripted
from tests.captioning.server import Behaviour, Server
from tests.captioning.test_transformers_local import make_model

from textreid.captioning.backends.transformers_local import LocalMLLM, LocalOptions
from textreid.captioning.cluster.vllm_batch import caption_of
from textreid.captioning.instructions import static_instruction
from textreid.captioning.plan import caption
from textreid.captioning.requests import Answer, Caption, Request, Settings, Usage, answer_of, slots_of
from textreid.captions.table import read_captions
from textreid.errors import CaptionError

SLOT = slots_of(["qwen"], ["static"])[0]
REQUEST = Request(static_instruction(), 1)
THOUGHTS = "Okay, the user wants me to look at the picture. There is somebody."


def judged(answer: Caption) -> Answer:
    return answer_of("1.jpg", SLOT, REQUEST, answer, None)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("stop", "ok"), ("", "ok"), ("eos_token", "ok"), ("length", "failed-cut-off"), ("MAX_TOKENS", "failed-cut-off"),
        ("model_length", "failed-cut-off"), ("content_filter", "failed-withheld"), ("SAFETY", "failed-withheld"),
    ],
)  # fmt: skip
def test_a_caption_that_was_cut_or_withheld_is_none(reason: str, status: str) -> None:
    answer = judged(Caption("A man in a red coat.", usage=Usage(5, 7), finish_reason=reason))
    assert answer.row.status == status
    assert answer.row.caption == ("" if status != "ok" else "A man in a red coat.")
    assert (answer.failure is None) == (status == "ok")
    assert answer.usage == Usage(5, 7)  # it was paid for
    if "cut-off" in status:
        assert answer.failure
        assert "raise --max-tokens" in answer.failure.message


def test_thoughts_that_were_cut_name_the_way_to_turn_them_off() -> None:
    failure = judged(Caption(f"<think>{THOUGHTS}", finish_reason="length")).failure
    assert failure
    assert """--field chat_template_kwargs='{"enable_thinking": false}'""" in failure.message


@pytest.mark.parametrize(("written", "status"), [(159, "ok"), (160, "failed-cut-off"), (161, "failed-cut-off")])
def test_vllm_batches_tell_of_a_cut(written: int, status: str) -> None:
    row = {"generated_text": GOOD.text, "num_input_tokens": 9, "num_generated_tokens": written}
    caption = caption_of(row, 160)
    assert isinstance(caption, Caption)
    assert judged(caption).row.status == status


def test_a_local_model_tells_of_a_cut(tmp_path: Path) -> None:
    make_model(tmp_path / "llava")
    Image.new("RGB", (20, 60), "red").save(tmp_path / "red.png")
    reasons: dict[int, str] = {}
    for length in (3, 300):
        options = LocalOptions(temperature=1.5, max_tokens=length, device="cpu")
        captioner = LocalMLLM("llava", str(tmp_path / "llava"), options)
        [answer] = asyncio.run(captioner.caption(tmp_path / "red.png", [REQUEST]))
        assert isinstance(answer, Caption)
        reasons[length] = answer.finish_reason
        assert answer.usage.completion_tokens <= length
    assert reasons == {3: "length", 300: "stop"}  # of 28 words, the end comes at last


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "images", tmp_path / "captions")


def test_an_mllm_that_gives_nothing_usable_is_stopped_after_a_few_dozen(place: Place) -> None:
    captioner = Scripted(place.root, lambda *_: Caption(f"<think>{THOUGHTS}</think>"))
    with pytest.raises(CaptionError) as stopped:
        place.run(captioner, images=400, settings=Settings(in_flight=8))
    told = str(stopped.value)
    assert re.match(r"qwen: none of its first (\d+) answers can be used \(empty \1\); one, about \d+\.jpg: ", told)
    assert repr(f"<think>{THOUGHTS}</think>") in told
    assert "does the model only think" in told
    assert "then run the command again: nothing of them was saved" in told
    assert stopped.value.exit_code == 1
    assert len(captioner.asked) < 100
    assert place.rows() == {}
    mended = place.run(Scripted(place.root), images=400)  # all that were rejected are asked for again
    assert mended.statuses == {"ok": 800}


def test_several_reasons_are_counted_and_the_commonest_shown(place: Place) -> None:
    texts = ("A man with [hair].", "Man.", "Man.")
    captioner = Scripted(place.root, lambda _, request, __: Caption(texts[request.seed % 3]))
    with pytest.raises(CaptionError, match=r"\(too-short \d+, unfilled-slot \d+\); .*: 'Man\.'; is this a model"):
        place.run(captioner, images=100)


@pytest.mark.parametrize("images", [1, 3])
def test_a_small_run_that_yields_nothing_fails_too(images: int, place: Place) -> None:
    captioner = Scripted(place.root, lambda *_: Caption("Man."))
    for _ in range(2):
        with pytest.raises(CaptionError, match=f"none of its first {2 * images} answers can be used"):
            place.run(captioner, images=images)
    assert len(captioner.asked) == 2 * 6 * images
    assert not place.rows()


def test_one_good_caption_is_enough(place: Place) -> None:
    captioner = Scripted(place.root, lambda image, *_: GOOD if image == "5.jpg" else Caption("Man."))
    counts = place.run(captioner, images=60, settings=Settings(attempts=1))
    assert counts.statuses == {"ok": 2, "too-short": 118}
    assert len(place.rows()) == 120
    late = place.run(captioner, images=200, settings=Settings(attempts=1))
    assert late.statuses["too-short"] == 398


def test_another_mllm_does_not_excuse_it(place: Place) -> None:
    place.run(Scripted(place.root), images=20)
    with pytest.raises(CaptionError, match="shikra: none of its first"):
        place.run(Scripted(place.root, lambda *_: Caption("Man."), name="shikra"), images=20)


@pytest.mark.slow
def test_the_command_on_a_thinking_model(tmp_path: Path) -> None:
    (tmp_path / "crops").mkdir()
    for number in range(100):
        Image.new("RGB", (16, 32), (number, 0, 0)).save(tmp_path / "crops" / f"{number}.png")
    out = tmp_path / "out"

    def thinks(question: Question) -> str:
        thought = question.body.get("chat_template_kwargs", {}).get("enable_thinking", True)
        return json.dumps({"thought": "Hm."}) if thought else "A man in a red coat."

    with Server(answer=thinks, behaviour=Behaviour(latency=0.01)) as server:
        with pytest.raises(CaptionError, match=r"none of its first .* answers can be used"):
            caption(tmp_path / "crops", out, [f"q={server.url}#sim"], show=False)
        assert server.outcomes["ok"] < 150
        from textreid.captioning import CaptionerOptions

        options = CaptionerOptions(fields={"chat_template_kwargs": {"enable_thinking": False}})
        caption(tmp_path / "crops", out, [f"q={server.url}#sim"], options=options, show=False)
    assert len(read_captions(out)) == 200
