"""Queries in other words: what is sent, what is made of the answer, and what is said when there is none."""

import pytest
from hypothesis import given, strategies as st
from tests.captioning.server import Behaviour, Server

from textreid.captioning.rewriting import COUNT, Rewriter, read_rewriter, read_rewrites, rewrite_all
from textreid.errors import CaptionError, ConfigError

QUERY = "homme en veste   rouge"
ANSWER = (
    """<think>Let me see:
a man</think>
Here are four ways:
1. "A man in a red jacket."
2. A man wears a red jacket.
- A man in a red jacket
A male pedestrian, red jacket.
Hope this helps you, and here is one more that is far too long: """
    + 40 * "and a red jacket "
)


def rewriter(server: Server) -> Rewriter:
    return read_rewriter(f"qwen={server.url}#sim")


def test_a_server_is_asked_once_and_its_lines_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN_API_KEY", "secret")
    with Server(key="secret", answer=lambda question: ANSWER) as server:
        found = rewriter(server).rewrite(QUERY)
        assert found == ["A man in a red jacket.", "A man wears a red jacket.", "A male pedestrian, red jacket."]
        (question,) = server.questions
    assert question.text.endswith("\n\nhomme en veste rouge")
    assert f"in {COUNT} ways" in question.text
    assert question.images == ()


def test_each_sentence_has_its_rewrites() -> None:
    with Server(answer=lambda question: f"somebody who is {question.text.split()[-1]}") as server:
        found = rewrite_all(rewriter(server), ["a man in red", "a man in blue"])
    assert found == ["somebody who is red", "somebody who is blue"]


def test_an_answer_without_a_sentence_is_an_error() -> None:
    with Server(answer=lambda question: "Sorry.") as server, pytest.raises(CaptionError, match="no rewrite of the qu"):
        rewriter(server).rewrite(QUERY)


def test_a_server_that_refuses_is_named() -> None:
    with Server(models=("other",)) as server, pytest.raises(CaptionError, match="sim"):
        rewriter(server).rewrite(QUERY)
    with pytest.raises(CaptionError, match=r"127\.0\.0\.1"):
        rewriter(server).rewrite(QUERY)


@pytest.mark.parametrize("fault", ["error_500", "html", "truncated", "cut", "no_content"])
def test_a_server_with_a_fault_is_told_in_one_line(fault: str) -> None:
    behaviour = Behaviour(**{fault: 1.0})  # type: ignore[arg-type]
    with Server(behaviour=behaviour, answer=lambda question: ANSWER) as server, pytest.raises(CaptionError) as refused:
        rewriter(server).rewrite(QUERY)
    assert "\n" not in str(refused.value)
    assert server.questions or server.outcomes
    assert not server.outcomes["ok"]


def test_where_queries_go_is_told() -> None:
    assert read_rewriter("a=http://127.0.0.1:1/v1#m").place == "http://127.0.0.1:1/v1 (this machine)"


@pytest.mark.parametrize(
    "given", ["", "qwen", "http://h/v1#m", "qwen=http://h/v1", "qwen=#m", "qwen=h:80/v1#m", "=http://h/v1#m"]
)
def test_another_form_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="--rewrite: expected NAME=URL#MODEL"):
        read_rewriter(given)


def test_a_secret_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="--rewrite qwen") as caught:
        read_rewriter("qwen=http://user:hush@h/v1#m")
    assert "hush" not in str(caught.value)


@given(st.text(max_size=300), st.text(max_size=60))
def test_any_answer_can_be_read(answer: str, query: str) -> None:
    found = read_rewrites(answer, query)
    assert len({" ".join(line.lower().split()) for line in found}) == len(found)
    assert all(len(line.split()) > 1 and "\n" not in line for line in found)
