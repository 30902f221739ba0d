"""The client against a real server over real connections, with real faults."""

import asyncio
import io
import logging
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.captioning.server import Behaviour, Server

from textreid.captioning.backends.addresses import key_for
from textreid.captioning.backends.openai_compatible import OpenAICompatible, ServingOptions
from textreid.captioning.instructions import dynamic_instructions, static_instruction
from textreid.captioning.requests import Caption, CaptionFailure, Request
from textreid.errors import ConfigError

pytestmark = pytest.mark.slow

KEY = "correct-horse-battery-staple"
FAST = ServingOptions(timeout=20.0, backoff=0.02, longest_wait=5.0, outage=60.0)
REQUESTS = [Request(static_instruction(), 1), Request(dynamic_instructions()[3], 2)]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"crop {number} ü'\".png" for number in range(8)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (128, 48, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "QWEN_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


def ask(
    urls: Sequence[str],
    images: Sequence[Path],
    options: ServingOptions = FAST,
    model: str = "sim",
    requests: Sequence[Request] = REQUESTS,
) -> tuple[list[list[Caption | CaptionFailure]], OpenAICompatible]:
    """The answers about all images, asked at once, and the captioner that got them."""
    captioner = OpenAICompatible("qwen", model, urls, options)

    async def run() -> list[list[Caption | CaptionFailure]]:
        try:
            return await asyncio.gather(*(captioner.caption(image, requests) for image in images))
        finally:
            await captioner.aclose()

    return asyncio.run(run()), captioner


def captions(answers: Sequence[Sequence[Caption | CaptionFailure]]) -> list[str]:
    """The texts of answers that are all captions."""
    found = [answer for image in answers for answer in image]
    assert [answer for answer in found if isinstance(answer, CaptionFailure)] == []
    return [answer.text for answer in found if isinstance(answer, Caption)]


def only_failure(answers: Sequence[Sequence[Caption | CaptionFailure]]) -> CaptionFailure:
    """The failure that is the answer to everything."""
    found = {answer for image in answers for answer in image}
    assert len(found) == 1
    failure = found.pop()
    assert isinstance(failure, CaptionFailure)
    return failure


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_the_picture_comes_first_and_once_for_all_requests_of_an_image(pictures: list[Path]) -> None:
    with Server() as server:
        answers, captioner = ask([server.url], pictures[:2])
    assert len(set(captions(answers))) == 4
    assert len(server.questions) == 4
    for question in server.questions:
        parts = question.body["messages"][0]["content"]
        assert [part["type"] for part in parts] == ["image_url", "text"]
        assert parts[0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert len({question.images for question in server.questions}) == 2
    assert {question.text for question in server.questions} == {request.instruction.text for request in REQUESTS}
    assert {question.seed for question in server.questions} == {1, 2}
    assert captioner.outcomes() == {server.url: {"ok": 4}}


def test_answers_keep_the_order_of_the_requests_and_tell_tokens(pictures: list[Path]) -> None:
    requests = [Request(static_instruction(), seed) for seed in range(20)]
    with Server(answer=lambda question: f"Seed {question.seed}.") as server:
        [answers], _ = ask([server.url], pictures[:1], requests=requests)
    assert [answer.text for answer in answers if isinstance(answer, Caption)] == [f"Seed {n}." for n in range(20)]
    usage = answers[0].usage if isinstance(answers[0], Caption) else None
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (256 + len(static_instruction().text) // 4, 2)


def test_large_pictures_are_sent_smaller_and_small_ones_as_they_are(tmp_path: Path) -> None:
    sizes = {(1000, 2000): (50, 100), (40, 80): (40, 80), (300, 100): (100, 33)}
    paths = [tmp_path / f"{width}x{height}.png" for width, height in sizes]
    for path, size in zip(paths, sizes, strict=True):
        Image.new("RGB", size, "red").save(path)
    for path, expected in zip(paths, sizes.values(), strict=True):
        with Server() as server:
            ask([server.url], [path], ServingOptions(longest_side=100))
        with Image.open(io.BytesIO(server.questions[0].images[0])) as sent:
            assert (sent.format, sent.size) == ("JPEG", expected)


def test_an_unreadable_image_is_a_failure_and_sends_nothing(tmp_path: Path, pictures: list[Path]) -> None:
    junk = tmp_path / "junk.jpg"
    junk.write_bytes(b"not a picture")
    with Server() as server:
        answers, _ = ask([server.url], [junk])
        assert len(server.questions) == 0
    failure = only_failure(answers)
    assert (failure.kind, failure.permanent, failure.fatal) == ("unreadable-image", True, False)
    assert "junk.jpg" in failure.message


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("error_500", "http-500"),
        ("too_many", "http-429"),
        ("html", "not-json"),
        ("truncated", "broken-json"),
        ("cut", "no-connection"),
        ("hang", "time-out"),
    ],
)
def test_every_caption_arrives_through_faults(fault: str, kind: str, pictures: list[Path]) -> None:
    options = ServingOptions(timeout=0.5 if fault == "hang" else 20.0, backoff=0.02, tries=20)
    requests = [Request(static_instruction(), seed) for seed in range(6)]
    with Server() as server:
        server.set(**{fault: 0.25})
        answers, captioner = ask([server.url], pictures, options, requests=requests)
        outcomes = captioner.outcomes()[server.url]
    assert len(set(captions(answers))) == 48
    assert outcomes["ok"] == 48
    assert set(outcomes) == {"ok", kind}
    assert outcomes[kind] >= 3


def test_a_fault_that_stays_is_reported_by_its_name(pictures: list[Path]) -> None:
    options = ServingOptions(backoff=0.01, tries=3)
    with Server(behaviour=Behaviour(error_500=1.0)) as server:
        answers, captioner = ask([server.url], pictures[:1], options, requests=REQUESTS[:1])
    failure = only_failure(answers)
    assert (failure.kind, failure.permanent, failure.fatal) == ("http-500", False, False)
    assert "Internal server error" in failure.message
    assert captioner.outcomes() == {server.url: {"http-500": 3}}


def test_a_cut_off_answer_says_so_and_is_not_tried_again(pictures: list[Path]) -> None:
    with Server(behaviour=Behaviour(finish_reason="length")) as server:
        answers, _ = ask([server.url], pictures[:1])
        assert server.outcomes == {"ok": 2}
    assert [answer.finish_reason for answer in answers[0] if isinstance(answer, Caption)] == ["length"] * 2


def test_an_empty_answer_is_a_caption_for_the_cleaning_rules(pictures: list[Path]) -> None:
    with Server(behaviour=Behaviour(no_content=1.0)) as server:
        answers, _ = ask([server.url], pictures[:1])
    assert captions(answers) == ["", ""]


@pytest.mark.parametrize(("retry_after", "attempts", "least"), [(0.4, 2, 0.4), (1.0, 2, 1.0)])
def test_retry_after_is_honoured(retry_after: float, attempts: int, least: float, pictures: list[Path]) -> None:
    options = ServingOptions(backoff=0.01, tries=attempts)
    with Server(behaviour=Behaviour(too_many=1.0, retry_after=retry_after)) as server:
        start = time.monotonic()
        answers, _ = ask([server.url], pictures[:1], options, requests=REQUESTS[:1])
        assert time.monotonic() - start >= least
        assert server.outcomes == {"429": attempts}
    assert only_failure(answers).kind == "http-429"


def test_a_server_that_asks_to_wait_for_very_long_is_not_waited_for(pictures: list[Path]) -> None:
    with Server(behaviour=Behaviour(too_many=1.0, retry_after=3600)) as server:
        answers, _ = ask([server.url], pictures[:1], requests=REQUESTS[:1])
        assert server.outcomes == {"429": 1}
    assert only_failure(answers).kind == "http-429"


def test_a_server_that_dies_and_comes_back_loses_no_caption(pictures: list[Path]) -> None:
    requests = [Request(static_instruction(), seed) for seed in range(15)]
    with Server(behaviour=Behaviour(capacity=150.0)) as server:
        captioner = OpenAICompatible("qwen", "sim", [server.url], options=FAST)

        async def run() -> list[list[Caption | CaptionFailure]]:
            everything = asyncio.gather(*(captioner.caption(image, requests) for image in pictures))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(server.die, 1.0)
            answers = await everything
            await captioner.aclose()
            return answers

        answers = asyncio.run(run())
        # The breaker is open most of the time: only what was under way and a few probes went to waste.
        outcomes = captioner.outcomes()[server.url]
    assert len(set(captions(answers))) == 120
    assert 0 < outcomes["no-connection"] <= 60


def test_an_endpoint_that_stays_dead_is_left_to_the_other(pictures: list[Path]) -> None:
    requests = [Request(static_instruction(), seed) for seed in range(25)]
    with Server(behaviour=Behaviour(latency=0.02)) as dying, Server(behaviour=Behaviour(latency=0.02)) as other:
        captioner = OpenAICompatible("qwen", "sim", [dying.url, other.url], options=FAST)

        async def run() -> list[list[Caption | CaptionFailure]]:
            await captioner.first_contact()
            everything = asyncio.gather(*(captioner.caption(image, requests) for image in pictures))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(dying.die, 60)
            answers = await everything
            await captioner.aclose()
            return answers

        answers = asyncio.run(run())
        outcomes = captioner.outcomes()
    assert len(set(captions(answers))) == 200
    assert outcomes[other.url]["ok"] >= 100


def test_no_endpoint_for_too_long_is_a_failure(pictures: list[Path]) -> None:
    options = ServingOptions(backoff=0.01, outage=0.5)
    with Server() as server:
        captioner = OpenAICompatible("qwen", "sim", [server.url], options=options)

        async def run() -> list[list[Caption | CaptionFailure]]:
            assert await captioner.first_contact() is None
            await asyncio.to_thread(server.die, 60)
            answers = await asyncio.gather(*(captioner.caption(image, REQUESTS) for image in pictures))
            await captioner.aclose()
            return answers

        answers = asyncio.run(run())
    kinds = {answer.kind for image in answers for answer in image if isinstance(answer, CaptionFailure)}
    assert "endpoint-down" in kinds
    assert kinds <= {"endpoint-down", "no-connection"}


def test_an_images_requests_meet_at_one_of_two_endpoints(pictures: list[Path]) -> None:
    with Server(behaviour=Behaviour(latency=0.01)) as first, Server(behaviour=Behaviour(latency=0.01)) as second:
        answers, _ = ask([first.url, second.url], pictures)
        seen = [{question.images for question in server.questions} for server in (first, second)]
    assert len(captions(answers)) == 16
    assert len(seen[0]) + len(seen[1]) == 8  # no picture went to both
    assert min(len(seen[0]), len(seen[1])) >= 2


def test_concurrency_grows_to_the_capacity_and_not_far_beyond(pictures: list[Path]) -> None:
    requests = [Request(static_instruction(), seed) for seed in range(100)]
    options = ServingOptions(start_limit=2)
    with Server(behaviour=Behaviour(latency=0.2, capacity=100.0, queue=30)) as server:
        answers, _ = ask([server.url], pictures[:3], options, requests=requests)
        refused = server.outcomes["429"]
        most = server.most_at_once
    assert len(captions(answers)) == 300
    assert most <= 70
    assert most >= 4
    assert refused <= 15


def test_what_is_wrong_at_first_contact_is_fatal_and_names_the_endpoint(
    pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"http://127.0.0.1:{closed_port()}/v1"
    with Server(key=KEY) as locked, Server(behaviour=Behaviour(html=1.0)) as web, Server(models=("a", "b")) as other:
        cases: list[tuple[str, str, str, str, tuple[str, ...]]] = [
            (nobody, "sim", "", "no-connection", ("is the URL right",)),
            (locked.url, "sim", "wrong-" + KEY, "refused-key", ("check the key in", "QWEN_API_KEY")),
            (locked.url, "sim", "", "refused-key", ("set the environment variable QWEN_API_KEY",)),
            (web.url, "sim", "", "not-json", ("text/html",)),
            (other.url, "sim", "", "unknown-model", ("it serves: a, b",)),
            (other.url.removesuffix("/v1"), "a", "", "unknown-model", ("up to /v1",)),
        ]
        for url, model, key, kind, words in cases:
            monkeypatch.setenv("QWEN_API_KEY", key)
            answers, _ = ask([url], pictures[:2], model=model)
            failure = only_failure(answers)
            assert (failure.kind, failure.fatal) == (kind, True), url
            assert url in failure.message
            assert all(each in failure.message for each in words), failure.message
            assert KEY not in failure.message
        assert locked.questions + web.questions + other.questions == []


def test_a_server_that_lists_no_models_is_asked_a_short_question(pictures: list[Path]) -> None:
    with Server(lists_models=False) as server:
        answers, _ = ask([server.url], pictures[:1])
        assert len(captions(answers)) == 2
        assert server.questions[0].images == ()
        answers, _ = ask([server.url], pictures[:1], model="other")
    assert only_failure(answers).kind == "unknown-model"


def test_a_key_shows_nowhere(
    pictures: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("QWEN_API_KEY", KEY)
    shown: list[str] = []
    with caplog.at_level(logging.DEBUG), Server(key=KEY) as right, Server(key="another") as wrong:
        for server in (right, wrong):
            answers, captioner = ask([server.url], pictures[:1])
            shown += [repr(answers), repr(captioner), str(vars(captioner)), str(captioner.outcomes())]
        assert (right.outcomes, wrong.outcomes) == ({"ok": 2}, {"401": 1})
    assert "refused-key" in shown[4]
    assert "[key]" in shown[4]  # the server repeated it
    assert caplog.records
    assert KEY not in "".join(shown) + caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@host/v1",
        "http://host/v1?api_key=hunter2",
        "host:8000/v1",
        "http://",
        "http://host:99999/v1",
        "http://[host/v1",
    ],
)
def test_a_url_that_cannot_be_right_is_refused_without_repeating_secrets(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAICompatible("qwen", "sim", [url])
    assert "hunter2" not in str(caught.value)


def test_each_endpoint_gets_the_key_of_its_name_and_no_other(
    pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai-" + KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-" + KEY)
    monkeypatch.setenv("SHIKRA_API_KEY", "of-shikra-" + KEY)
    with Server() as server:
        ask([server.url], pictures[:1])
        assert len(server.headers) == 3  # the models, and two questions
        assert all("authorization" not in headers for headers in server.headers)
        assert KEY not in str(server.headers)
        monkeypatch.setenv("QWEN_API_KEY", f" of-qwen-{KEY}\n")
        ask([server.url], pictures[:1])
        assert [headers["authorization"] for headers in server.headers[3:]] == [f"Bearer of-qwen-{KEY}"] * 3
        assert KEY not in str([{**headers, "authorization": ""} for headers in server.headers])


@pytest.mark.parametrize(
    ("name", "url", "expected"),
    [
        ("qwen", "https://api.openai.com/v1", "openai"),
        ("openai", "https://api.openai.com:443/v1", "openai"),
        ("own", "https://api.openai.com/v1", "own"),
        ("own", "http://localhost:8000/v1", "own"),
        ("qwen", "http://api.openai.com/v1", ""),  # in the clear
        ("qwen", "https://api.openai.com.example.org/v1", ""),
        ("qwen", "https://example.org/api.openai.com/v1", ""),
        ("qwen", "https://api.openai.com:8443/v1", ""),
        ("openai", "http://localhost:8000/v1", ""),
    ],
)
def test_the_key_of_openai_goes_to_openai_only(
    name: str, url: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "openai")
    monkeypatch.setenv("OWN_API_KEY", "own")
    key = key_for(name, url)
    assert key.value == expected
    assert key.headers == ({"authorization": f"Bearer {expected}"} if expected else {})
    if not expected:
        assert "OPENAI_API_KEY is sent to https://api.openai.com only" in key.advice


@pytest.mark.parametrize("value", ["hunter2 hunter2", "hunter2\nHost: elsewhere", "hünter2", "hunter2\x7f"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN_API_KEY", value)
    with pytest.raises(ConfigError, match="QWEN_API_KEY holds characters") as caught:
        OpenAICompatible("qwen", "sim", ["http://localhost:1/v1"])
    assert "unter2" not in str(caught.value)


def test_a_captioner_needs_an_endpoint() -> None:
    with pytest.raises(ConfigError, match="no URL"):
        OpenAICompatible("qwen", "sim", [])
