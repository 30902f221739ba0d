"""What servers refuse is learnt: small servers in the dialects of the known ones, and the fields that users set."""

import asyncio
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from examples.mllm_server import read_question
from PIL import Image
from tests.captioning.server import Server

from textreid.captioning.backends.dialect import Rename, read_fields
from textreid.captioning.backends.openai_compatible import OpenAICompatible, ServingOptions
from textreid.captioning.instructions import static_instruction
from textreid.captioning.requests import Caption, CaptionFailure, Request
from textreid.errors import ConfigError

Body = Mapping[str, Any]
Refusal = tuple[int, object]
REQUESTS = [Request(static_instruction(), seed) for seed in range(1, 4)]


def without(*names: str) -> Callable[[Body], bool]:
    return lambda body: not any(name in body for name in names)


def longest_side(body: Body) -> int:
    with Image.open(io.BytesIO(read_question(body).images[0])) as picture:
        return max(picture.size)


def openai(body: Body) -> Refusal | None:
    """OpenAI of today: reasoning models."""
    if "max_tokens" in body:
        told = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return 400, error(told, param="max_tokens", code="unsupported_parameter")
    if body.get("temperature", 1) != 1:
        told = (
            "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) is supported."
        )
        return 400, error(told, param="temperature", code="unsupported_value")
    return None


def openai_in_few_words(body: Body) -> Refusal | None:
    """A gateway before it, without the name of the parameter."""
    if "max_tokens" in body:
        return 400, {"error": {"message": "max_tokens is deprecated, max_completion_tokens is wanted", "code": "x"}}
    return None


def needs_the_other_name(body: Body) -> Refusal | None:
    return (400, error("max_completion_tokens is required")) if "max_completion_tokens" not in body else None


def camel_case(body: Body) -> Refusal | None:
    return (400, error("maxTokens: unexpected property")) if "max_tokens" in body else None


def python_server(body: Body) -> Refusal | None:
    """A handler whose function has no such parameter."""
    told = "create_chat_completion() got an unexpected keyword argument 'seed'"
    return (500, {"detail": told}) if "seed" in body else None


def router(body: Body) -> Refusal | None:
    return (404, error("unknown field: seed")) if "seed" in body else None


def mistral(body: Body) -> Refusal | None:
    extra = [name for name in body if name not in ("model", "messages", "max_tokens", "temperature", "random_seed")]
    detail = [
        {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"} for name in extra
    ]
    whole = {"object": "error", "message": {"detail": detail}, "type": "invalid_request_error", "param": None}
    return (422, whole) if extra else None


def azure(body: Body) -> Refusal | None:
    """The words of one server, as a string in the JSON of another."""
    told = 'Invalid input: {"detail":[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra inputs"}]}'
    return (400, {"error": {"message": told}}) if "seed" in body else None


def gemini(body: Body) -> Refusal | None:
    unknown = [name for name in body if name not in ("model", "messages", "max_tokens", "temperature")]
    told = "\n".join(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.' for name in unknown)
    whole = [{"error": {"code": 400, "message": told, "status": "INVALID_ARGUMENT", "details": [{}]}}]
    return (400, whole) if unknown else None


def vllm(body: Body) -> Refusal | None:
    """A strict vLLM before 0.9, which says it in the form of Python."""
    told = "[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs are not permitted'}]"
    whole = {"object": "error", "message": told, "type": "BadRequestError", "param": None, "code": 400}
    return (400, whole) if "seed" in body else None


def ollama(body: Body) -> Refusal | None:
    if any(message["role"] == "system" for message in body["messages"]):
        return 400, error("System role not supported")
    if not isinstance(body["messages"][0]["content"][0]["image_url"], str):
        return 400, error("json: cannot unmarshal object into Go struct field .image_url of type string")
    return None


def lm_studio(body: Body) -> Refusal | None:
    return (400, {"error": "Unrecognized key(s) in object: 'seed'"}) if "seed" in body else None


def llama_cpp(body: Body) -> Refusal | None:
    if body.get("temperature", 0) > 0.5:
        return 400, {
            "error": {"code": 400, "message": "temperature must be at most 0.5", "type": "invalid_request_error"}
        }
    return None


def tgi(body: Body) -> Refusal | None:
    """text-generation-inference wants the detail of a picture, and says so as pydantic does."""
    if "detail" not in body["messages"][0]["content"][0]["image_url"]:
        loc = ["body", "messages", 0, "content", 0, "image_url", "detail"]
        return 422, {"detail": [{"type": "missing", "loc": loc, "msg": "Field required"}]}
    return None


def model_scope(body: Body) -> Refusal | None:
    side = longest_side(body)
    return (
        (400, {"errors": {"message": f"input size exceed limit 96x96,current input:({side},70)"}})
        if side > 96
        else None
    )


def nginx(body: Body) -> Refusal | None:
    large = b"<html><head><title>413 Request Entity Too Large</title></head></html>"
    return (413, large) if longest_side(body) > 150 else None


def dash_scope(body: Body) -> Refusal | None:
    with Image.open(io.BytesIO(read_question(body).images[0])) as picture:
        small = min(picture.size)
    told = f"The image length and width do not meet the model restrictions. [height:{small} must be larger than 28]"
    return (400, error(told)) if small <= 28 else None


def error(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def ask(
    server: Server, image: Path, options: ServingOptions, requests: list[Request] = REQUESTS
) -> list[Caption | CaptionFailure]:
    async def run() -> list[Caption | CaptionFailure]:
        captioner = OpenAICompatible("qwen", "sim", [server.url], options)
        try:
            first = await captioner.caption(image, requests)
            return first + await captioner.caption(image, requests)
        finally:
            await captioner.aclose()

    return asyncio.run(run())


def kinds_of(answers: list[Caption | CaptionFailure]) -> list[tuple[str, bool]]:
    """Kind of each failure, and whether it is fatal; all must be failures."""
    failures = [answer for answer in answers if isinstance(answer, CaptionFailure)]
    assert len(failures) == len(answers)
    return [(failure.kind, failure.fatal) for failure in failures]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.effect_noise((130, 300), 60).save(tmp_path / "crop.png")
    return tmp_path / "crop.png"


@pytest.mark.parametrize(
    ("refuses", "holds", "told"),
    [
        (openai, lambda body: body["max_completion_tokens"] == 160 and without("max_tokens", "temperature")(body),
         ["sends max_completion_tokens in place of max_tokens", "leaves out temperature"]),
        (openai_in_few_words, lambda body: body["max_completion_tokens"] == 160, ["sends max_completion_tokens"]),
        (needs_the_other_name, lambda body: body["max_completion_tokens"] == 160, ["sends max_completion_tokens"]),
        (camel_case, without("max_tokens"), ["leaves out max_tokens"]),
        (python_server, without("seed"), ["leaves out seed"]),
        (router, without("seed"), ["leaves out seed"]),
        (mistral, without("seed"), ["leaves out seed"]),
        (azure, without("seed"), ["leaves out seed"]),
        (gemini, without("seed"), ["leaves out seed"]),
        (vllm, without("seed"), ["leaves out seed"]),
        (lm_studio, without("seed"), ["leaves out seed"]),
        (ollama, lambda body: body["seed"] in (1, 2, 3), ["sends the picture as a plain string"]),
        (llama_cpp, lambda body: body["temperature"] == 0.5, ["keeps temperature to 0.5 at most"]),
        (tgi, lambda body: body["messages"][0]["content"][0]["image_url"]["detail"] == "auto", ["sends the detail"]),
        (model_scope, lambda body: longest_side(body) == 96, ["at most 96 pixels"]),
        (nginx, lambda body: longest_side(body) == 112, ["at most 224 pixels", "at most 112 pixels"]),
    ],
)  # fmt: skip
def test_a_server_gets_what_it_takes_and_the_user_is_told_once(
    refuses: Callable[[Body], Refusal | None], holds: Callable[[Body], bool], told: list[str], picture: Path
) -> None:
    with Server(refuses=refuses) as server:
        answers = ask(server, picture, ServingOptions(temperature=0.7, backoff=0.01))
        assert [type(answer) for answer in answers] == [Caption] * 6
        assert len(server.questions) == 6
        assert all(holds(question.body) for question in server.questions)
        # Those that were under way together were all refused; nothing was after it was learnt.
        assert len(server.bodies) <= 3 * len(told)
    notices = [notice for answer in answers for notice in answer.notices]
    assert len(notices) == len(told)
    for notice, words in zip(notices, told, strict=True):
        assert notice.startswith("qwen: from now on textreid ")
        assert words in notice
        assert server.url in notice  # with the server's own words


def test_small_pictures_are_sent_larger_to_a_server_that_wants_them(tmp_path: Path) -> None:
    path = tmp_path / "small.png"
    Image.new("RGB", (20, 50), "red").save(path)
    with Server(refuses=dash_scope) as server:
        answers = ask(server, path, ServingOptions(backoff=0.01))
        sizes = {Image.open(io.BytesIO(question.images[0])).size for question in server.questions}
    assert [type(answer) for answer in answers] == [Caption] * 6
    assert sizes == {(29, 72)}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"error": {"code": 500, "message": "image input is not supported - hint: provide the mmproj"}}),
        (400, {"error": "Model does not support images. Please use a model that does."}),
        (400, error("Invalid content type. image_url is only supported by certain models.")),
        (400, {"object": "error", "message": "At most 0 image(s) may be provided in one prompt.", "code": 400}),
        (400, {"object": "error", "message": "llama is not a multimodal model", "code": 400}),
        (500, error("this model is missing data required for image input")),
    ],
)
def test_a_model_that_sees_nothing_is_told_at_once(status: int, body: object, picture: Path) -> None:
    with Server(refuses=lambda _: (status, body)) as server:
        answers = ask(server, picture, ServingOptions(), REQUESTS[:1])
    assert {(answer.kind, answer.fatal) for answer in answers if isinstance(answer, CaptionFailure)} == {
        ("no-pictures", True)
    }
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    "body",
    [
        error(
            "'max_tokens' is too large: 160. This model's maximum context length is 128 tokens and your request has 90"
        ),
        error("the request exceeds the available context size, try increasing it"),
        error("At most 1 image(s) may be provided in one prompt."),
        error("no idea"),
    ],
)
def test_what_cannot_be_mended_ends_the_job_after_a_few(body: object, picture: Path) -> None:
    with Server(refuses=lambda _: (400, body)) as server:
        answers = ask(server, picture, ServingOptions(backoff=0.01))
        assert len(server.bodies) == 6
        assert all("max_tokens" in body for body in server.bodies)
    # Of those that are under way together any may come first.
    assert sorted((a.kind, a.fatal) for a in answers if isinstance(a, CaptionFailure)) == [
        ("http-400", n > 4) for n in range(1, 7)
    ]


def test_a_field_of_the_users_is_not_changed_but_named(picture: Path) -> None:
    with Server(refuses=mistral) as server:
        answers = ask(server, picture, ServingOptions(fields={"top_k": 5, "seed": Rename()}))
        assert all(body["top_k"] == 5 for body in server.bodies)
    assert set(kinds_of(answers)) == {("refused-field", True)}
    assert "see --field top_k" in next(a.message for a in answers if isinstance(a, CaptionFailure))


def test_the_users_fields_are_sent(picture: Path) -> None:
    fields = read_fields(
        ["top_p=0.5", "seed:random_seed", "max_tokens=", 'chat_template_kwargs={"enable_thinking": false}']
    )
    with Server(refuses=mistral_without_limits) as server:
        ask(server, picture, ServingOptions(fields=fields))
        bodies = [question.body for question in server.questions]
    assert len(bodies) == 6
    for body in bodies:
        assert body.keys() - {"model", "messages"} == {"top_p", "random_seed", "chat_template_kwargs"}
        assert body["random_seed"] in (1, 2, 3)
        assert body["chat_template_kwargs"] == {"enable_thinking": False}


def mistral_without_limits(body: Body) -> Refusal | None:
    return (422, error("seed")) if "seed" in body else None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["top_p"], "--field top_p: expected NAME=JSON"),
        (["=1"], "expected NAME=JSON"),
        (["model=x"], "textreid needs it itself"),
        (["messages="], "textreid needs it itself"),
        (["a=1", "a=2"], "given twice"),
        (['a={"b": }'], "is not JSON"),
    ],
)
def test_fields_that_cannot_be_meant(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_fields(given)


TEXT = {"type": "text", "text": "A man."}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "A man.", "reasoning_content": "Let me look."}, "A man."),
        ({"content": [{"type": "text", "text": "A "}, {"type": "text", "text": "man."}]}, "A man."),
        ({"content": [{"type": "thinking", "thinking": [TEXT]}, TEXT]}, "A man."),
        ({"content": None, "reasoning_content": "Let me look."}, "<think>Let me look.</think>"),
        ({"content": "", "reasoning": "Let me look."}, "<think>Let me look.</think>"),
        ({"content": None}, ""),
        ({"content": None, "refusal": "I cannot help with that."}, "I cannot help with that."),
        ({"content": {"type": "text", "text": "A man."}}, "A man."),
    ],
)  # fmt: skip
def test_the_text_of_an_answer_in_its_many_forms(message: dict[str, Any], text: str, picture: Path) -> None:
    with Server(message=lambda _: message) as server:
        answers = ask(server, picture, ServingOptions(), REQUESTS[:1])
    assert {answer.text for answer in answers if isinstance(answer, Caption)} == {text}
