"""The dialogue with an LLM: against a real HTTP server that follows a script."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from textreid.captioning.backends.addresses import Key
from textreid.captioning.discovery import DIALOGUE, TEMPLATES, TURNS, ChatModel, discover_templates
from textreid.captioning.templates import read_templates
from textreid.captions.table import CaptionRow, write_captions
from textreid.cli.templates import templates
from textreid.errors import CaptionError, ResumeError

CAPTIONS = ("A man in a red coat.", "The person in the image is a woman.\nShe wears a dress.")
KEY = "sk-secret-0123456789"
EXTRACTED = "1. A [gender] in [clothing].\n2. The person in the image is a [gender]. [He/She] wears [clothing]."
PRUNED = "A [gender] in [clothing].\nWith [belongings] in hand, a [gender] walks in [clothing] and [footwear]."
ANSWERS = {
    "extract": EXTRACTED,
    "extend": "- With [hair], a [gender] wears [clothing].\n- A [person] in [outfit].",
    "openings": "Dressed in [clothing], a [gender] has [hair].",
    "orders": "[footwear] and [clothing] are worn by this [gender]. The hair: [hair].",
    "prune": PRUNED,
}


class Script:
    """Answers each request with the next of ``steps``: a text, or a status with a body, or the two with headers."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.requests: list[Any] = []
        self.keys: list[str | None] = []
        self.organizations: set[str | None] = set()
        self.finish_reason = "stop"
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                script.keys.append(self.headers["Authorization"])
                script.organizations.add(self.headers["OpenAI-Organization"])
                script.requests.append(body)
                step = script.steps.pop(0)
                status, text, kind = (200, script.completion(step), "application/json")
                if isinstance(step, tuple):
                    status, text, kind = step
                content = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def completion(self, text: Any) -> str:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": self.finish_reason, "message": message}
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        return json.dumps(
            {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        )

    def llm(self, **options: Any) -> ChatModel:
        return ChatModel(f"http://127.0.0.1:{self.server.server_port}/v1", "m", Key(KEY, "check the key"), **options)


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    thread = threading.Thread(target=script.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield script
    script.server.shutdown()
    thread.join()
    script.server.server_close()


def test_the_dialogue_and_what_is_kept(script: Script, tmp_path: Path) -> None:
    script.steps = list(ANSWERS.values())
    seen: list[tuple[str, int]] = []
    found = discover_templates(
        script.llm(), CAPTIONS, tmp_path / "out", wanted=5, progress=lambda turn, count: seen.append((turn, count))
    )
    assert [template.pattern for template in found.values()] == [
        *PRUNED.splitlines(),
        "[footwear] and [clothing] are worn by this [gender]. The hair: [hair].",
        "Dressed in [clothing], a [gender] has [hair].",
        "With [hair], a [gender] wears [clothing].",
    ]
    assert read_templates(tmp_path / "out" / TEMPLATES) == found
    assert seen == [("extract", 2), ("extend", 2), ("openings", 1), ("orders", 1), ("prune", 2)]
    first, *_, last = script.requests
    assert first["messages"][0]["content"].endswith(
        "A man in a red coat.\nThe person in the image is a woman. She wears a dress."
    )
    assert "{" not in first["messages"][0]["content"]
    assert "give me the 5 that differ most" in last["messages"][-1]["content"]
    assert [message["role"] for message in last["messages"]] == ["user", "assistant"] * 4 + ["user"]
    assert last["messages"][1]["content"] == EXTRACTED
    assert set(script.keys) == {f"Bearer {KEY}"}
    dialogue = json.loads((tmp_path / "out" / DIALOGUE).read_text())
    assert [turn["answer"] for turn in dialogue["turns"]] == list(ANSWERS.values())
    assert KEY not in (tmp_path / "out" / DIALOGUE).read_text() + repr(script.llm())


@pytest.mark.parametrize("done", range(len(TURNS)))
def test_it_goes_on_where_it_stopped(script: Script, tmp_path: Path, done: int) -> None:
    answers = list(ANSWERS.values())
    script.steps = [*answers[:done], (401, "{}", "application/json")]
    with pytest.raises(CaptionError, match="does not accept the request"):
        discover_templates(script.llm(), CAPTIONS, tmp_path)
    assert not (tmp_path / TEMPLATES).exists()
    script.steps = answers[done:]
    script.requests.clear()
    discover_templates(script.llm(), CAPTIONS, tmp_path)
    assert len(script.requests) == len(TURNS) - done
    said = [message["content"] for message in script.requests[-1]["messages"] if message["role"] == "assistant"]
    assert said == answers[:-1]
    # A dialogue that is over is not led again.
    (tmp_path / TEMPLATES).unlink()
    discover_templates(script.llm(), CAPTIONS, tmp_path)
    assert len(script.requests) == len(TURNS) - done
    assert (tmp_path / TEMPLATES).exists()


def test_another_dialogue_in_the_folder_is_not_continued(script: Script, tmp_path: Path) -> None:
    script.steps = list(ANSWERS.values())
    discover_templates(script.llm(), CAPTIONS, tmp_path)
    with pytest.raises(ResumeError, match="other values of captions"):
        discover_templates(script.llm(), CAPTIONS[:1], tmp_path)
    with pytest.raises(ResumeError, match="other values of temperature, wanted"):
        discover_templates(script.llm(temperature=0.1), CAPTIONS, tmp_path, wanted=3)
    (tmp_path / DIALOGUE).write_text("[]")
    with pytest.raises(ResumeError, match="not a dialogue of this version"):
        discover_templates(script.llm(), CAPTIONS, tmp_path)


def test_an_answer_without_templates_is_asked_for_again(script: Script, tmp_path: Path) -> None:
    script.steps = ["Happy to help!", "", *ANSWERS.values()]
    assert discover_templates(script.llm(), CAPTIONS, tmp_path)
    assert "I found no pattern" in script.requests[1]["messages"][-1]["content"]
    assert len(script.requests) == len(TURNS) + 2
    script.steps = ["No."] * 3
    with pytest.raises(CaptionError, match="3 answers to the turn 'extract' had no usable template"):
        discover_templates(script.llm(), CAPTIONS, tmp_path / "other")
    assert len(json.loads((tmp_path / "other" / DIALOGUE).read_text())["turns"]) == 3


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS"])
def test_an_answer_that_was_cut_off_loses_its_last_line(reason: str, script: Script, tmp_path: Path) -> None:
    script.finish_reason = reason
    script.steps = [f"{answer}\nA [gender] who has [hair] and" for answer in ANSWERS.values()]
    found = discover_templates(script.llm(), CAPTIONS, tmp_path)
    assert len(found) == 6
    assert not [template for template in found.values() if "who has" in template.pattern]


@pytest.mark.parametrize("fault", [(500, "oh", "text/plain"), (429, "{}", "application/json")])
def test_faults_that_pass_are_waited_for(script: Script, tmp_path: Path, fault: tuple[int, str, str]) -> None:
    script.steps = [fault, *ANSWERS.values()]
    assert discover_templates(script.llm(), CAPTIONS, tmp_path)
    assert len(script.requests) == len(TURNS) + 1


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ((401, json.dumps({"error": {"message": f"Incorrect API key: {KEY}"}}), "application/json"), "HTTP 401: Incor"),
        ((404, "{}", "application/json"), "HTTP 404: {}"),
        ((400, '{"error": "context too long"}', "application/json"), "HTTP 400: context too long"),
        ((500, "oh", "text/plain"), "HTTP 500: oh; go on later with the same command"),
        ((200, "<html></html>", "text/html"), "answers with text/html, not JSON"),
        ((200, '{"choices": [', "application/json"), "an answer that is not whole JSON"),
        ((200, '{"choices": []}', "application/json"), "an answer without a choice"),
    ],
)
def test_endpoints_that_do_not_answer(script: Script, tmp_path: Path, step: tuple[int, str, str], problem: str) -> None:
    script.steps = [step]
    with pytest.raises(CaptionError, match=problem) as caught:
        discover_templates(script.llm(retries=0), CAPTIONS, tmp_path)
    assert KEY not in str(caught.value)
    assert not (tmp_path / TEMPLATES).exists()


def test_the_command_shows_static_captions_and_its_progress(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        CaptionRow(f"{number}.jpg", f"{mllm}/{kind}", f"{kind} words on {number}.", mllm, kind, "", "", 0)
        for mllm in ("qwen", "shikra") for kind in ("static", "dynamic") for number in range(5)
    ]  # fmt: skip
    write_captions(tmp_path / "table", rows)
    monkeypatch.setenv("LLM_API_KEY", f"{KEY}\n")
    monkeypatch.setenv("OPENAI_API_KEY", "for-another")
    monkeypatch.setenv("OPENAI_ORG_ID", "for-another")
    script.steps = list(ANSWERS.values())
    llm = script.llm()
    arguments = ["--llm", f"{llm.url}#{llm.model}", "--captions", tmp_path / "table", "--out", tmp_path / "out"]
    templates(
        args=["discover", "--sample", "8", *map(str, arguments)], prog_name="textreid templates", standalone_mode=False
    )
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'out' / TEMPLATES}\n"
    assert "turn 5 of 5, prune: 2 templates" in printed.err
    said = script.requests[0]["messages"][0]["content"]
    assert said.count("static words on") == 8
    assert "dynamic words on" not in said
    assert set(script.keys) == {f"Bearer {KEY}"}
    assert script.organizations == {None}


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(CaptionError, match="no connection, or it was cut"):
        discover_templates(ChatModel("http://127.0.0.1:9/v1", "m", Key(KEY), retries=0), CAPTIONS, tmp_path)
    with pytest.raises(CaptionError, match="give at least one"):
        discover_templates(ChatModel("http://127.0.0.1:9/v1", "m"), [], tmp_path)
