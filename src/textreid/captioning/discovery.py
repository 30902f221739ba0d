"""Templates from a dialogue with an LLM over several turns (Tan et al. 2024, §3.2 and supplement).

Captions of a sample, made with the static instruction, go in; the LLM extracts their sentence patterns, writes more,
varies the openings, shuffles the attributes, and prunes. Every turn is on disk before the next one begins.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textreid.artifacts import fingerprint, read_json, write_json, write_text
from textreid.captioning.templates import Template, distinct_structures, parse_templates, read_templates
from textreid.errors import CaptionError, ResumeError

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

DIALOGUE = "dialogue.json"
TEMPLATES = "templates.toml"
WANTED = 46  # as many as Tan et al. 2024 kept
KIND = "template dialogue"
FORMAT_VERSION = 1
_TRIES = 3  # of a turn whose answer has no template

_SLOTS = (
    "[gender], [hair], [clothing], [upper], [lower], [footwear], [accessory], [belongings], [action], "
    "[he/she], [his/her]"
)
_FORM = "Write one pattern a line and nothing else."
# The name of each turn and what is said in it.
TURNS: Mapping[str, str] = {
    "extract": (
        "Below are descriptions of pedestrians, one a line. Find the sentence patterns behind them: keep the words "
        f"that carry the sentence, and put slots in square brackets for what is said of the person. The slots are "
        f"{_SLOTS}; use no others, and not all of them every time. Leave out patterns that you have already. {_FORM}"
        "\n\n{captions}"
    ),
    "extend": (
        "Now write {wanted} further patterns that people could use to describe a pedestrian, with the same slots. "
        f"They should differ in structure from those above and from each other, not only in a word. {_FORM}"
    ),
    "openings": (
        "Rewrite the patterns so far so that no two begin with the same three words: some with the person, some with "
        f"a garment, the hair, the shoes, what is carried, or the situation. {_FORM}"
    ),
    "orders": (
        "Now change the order in which the slots come, differently in each pattern, and spread the slots over one, "
        f"two or three sentences. Some patterns should do without hair, shoes or belongings. {_FORM}"
    ),
    "prune": (
        "Put all patterns of this conversation together. Drop what is awkward, what is not correct English and what "
        f"says the same in the same order as another, and give me the {{wanted}} that differ most. {_FORM}"
    ),
}
_REMINDER = (
    f"I found no pattern with slots in square brackets in your answer. The slots are {_SLOTS}. {_FORM} An example: "
    "A [gender] with [hair] is wearing [clothing] and [footwear]."
)


@dataclass(frozen=True)
class Reply:
    """What the LLM said; ``cut_off`` if it stopped at its limit."""

    text: str
    cut_off: bool
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class ChatModel:
    """An LLM behind an OpenAI-compatible endpoint.

    Args:
        url: base of the API, such as ``http://localhost:8000/v1``.
        model: its name there.
        key: sent as the bearer token; in no message, file or representation.
        temperature: of its sampling.
        timeout: seconds that one answer may take.
        retries: after faults that may pass; waits as the server asks, or longer each time.
    """

    url: str
    model: str
    key: str = field(default="none", repr=False)
    temperature: float = 0.8
    timeout: float = 300.0
    retries: int = 4

    def reply(self, messages: Sequence["ChatCompletionMessageParam"]) -> Reply:
        """The LLM's answer to a conversation.

        Raises:
            CaptionError: there was none; says what the endpoint did instead.
        """
        import openai
        from openai.types.chat import ChatCompletion

        client = openai.OpenAI(
            base_url=self.url,
            api_key=self.key,
            timeout=self.timeout,
            max_retries=self.retries,
            # The client would tell any endpoint what the environment holds for OpenAI.
            default_headers={"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()},  # type: ignore[dict-item]
        )
        try:
            with client:
                answer: Any = client.chat.completions.create(
                    model=self.model, messages=list(messages), temperature=self.temperature
                )
        except openai.APIStatusError as error:
            raise CaptionError(f"{self._place}: {_meaning(error.status_code)}") from error
        except openai.APITimeoutError as error:
            raise CaptionError(f"{self._place}: no answer within {self.timeout:g} s") from error
        except openai.APIConnectionError as error:
            # A key that no header can hold comes back in the words of the HTTP library.
            reason = str(error.__cause__ or error).replace(self.key, "***")
            raise CaptionError(f"{self._place}: cannot be reached: {reason}") from error
        except (openai.OpenAIError, ValueError) as error:
            raise CaptionError(f"{self._place}: its answer is not one of the API: {type(error).__name__}") from error
        choice = answer.choices[0] if isinstance(answer, ChatCompletion) and answer.choices else None
        if choice is None or not choice.message:
            raise CaptionError(f"{self._place}: does not speak the OpenAI API; its base URL often ends in /v1")
        usage = answer.usage
        return Reply(
            choice.message.content or "",
            choice.finish_reason == "length",
            usage.prompt_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
        )

    @property
    def _place(self) -> str:
        return f"{self.model} at {self.url}"


def discover_templates(
    llm: ChatModel,
    captions: Sequence[str],
    out: Path,
    wanted: int = WANTED,
    progress: Callable[[str, int], None] = lambda turn, found: None,
) -> dict[str, Template]:
    """Lead the dialogue, or go on with one that was interrupted, and write its templates.

    ``out/dialogue.json`` holds every word that was said, and is written after each turn; ``out/templates.toml`` holds
    up to ``wanted`` templates of distinct structure, those of the last turn first, for a person to read through
    before `read_templates` takes them.

    Args:
        llm: who is asked.
        captions: what MLLMs said of a sample of pictures under the static instruction.
        out: folder for the two files.
        wanted: number of templates.
        progress: called with the name of each turn, and the number of templates found in it.

    Raises:
        CaptionError: no captions; the LLM cannot be asked; or three answers to one turn had no template.
        ResumeError: ``out`` holds a dialogue with another LLM, other captions or another number.
        ArtifactError: ``out`` cannot be read or written.
    """
    if not captions or wanted < 1:
        raise CaptionError("templates are discovered in captions: give at least one, and want at least one template")
    dialogue = _open(out / DIALOGUE, llm, captions, wanted)
    turns: list[dict[str, Any]] = dialogue["turns"]
    for name, request in TURNS.items():
        while not any(turn["name"] == name and turn["templates"] for turn in turns):
            tries = sum(turn["name"] == name for turn in turns)
            if tries >= _TRIES:
                raise CaptionError(
                    f"{llm.model}: {tries} answers to the turn {name!r} had no usable template; read them in "
                    f"{out / DIALOGUE}, and start again in another folder or with another LLM"
                )
            text = _REMINDER if tries else _fill(request, captions, wanted)
            reply = llm.reply([*_conversation(turns), {"role": "user", "content": text}])
            parsed = parse_templates(reply.text, reply.cut_off)
            turns.append(
                {
                    "name": name,
                    "request": text,
                    "answer": reply.text,
                    "cut_off": reply.cut_off,
                    "tokens": [reply.prompt_tokens, reply.completion_tokens],
                    "templates": list(parsed.patterns),
                    "refused": [list(refused) for refused in parsed.refused],
                }
            )
            write_json(out / DIALOGUE, dialogue)
            progress(name, len(parsed.patterns))
    found = distinct_structures(pattern for turn in reversed(turns) for pattern in turn["templates"])[:wanted]
    write_text(out / TEMPLATES, _as_toml(llm, found))
    return read_templates(out / TEMPLATES)


def _open(path: Path, llm: ChatModel, captions: Sequence[str], wanted: int) -> dict[str, Any]:
    """The dialogue in ``path``, or a new one."""
    settings = {"url": llm.url, "model": llm.model, "temperature": llm.temperature, "wanted": wanted}
    new = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        **settings,
        "requests": fingerprint([*TURNS.items(), _REMINDER]),
        "captions": list(captions),
        "turns": [],
    }
    if not path.exists():
        return new
    old = read_json(path)
    if not isinstance(old, dict) or old.get("kind") != KIND or old.get("format_version") != FORMAT_VERSION:
        raise ResumeError(f"{path}: not a dialogue of this version of textreid; choose another folder")
    # The same LLM may have moved to another address.
    changed = [name for name in new if name not in ("turns", "url") and old.get(name) != new[name]]
    if changed:
        raise ResumeError(
            f"{path}: was begun with other values of {', '.join(changed)}; give the same ones, or choose another folder"
        )
    return {**new, "turns": old["turns"]}


def _conversation(turns: Sequence[Mapping[str, Any]]) -> list["ChatCompletionMessageParam"]:
    messages: list[ChatCompletionMessageParam] = []
    for turn in turns:
        messages.append({"role": "user", "content": turn["request"]})
        messages.append({"role": "assistant", "content": turn["answer"]})
    return messages


def _fill(request: str, captions: Sequence[str], wanted: int) -> str:
    lines = "\n".join(" ".join(caption.split()) for caption in captions)
    return request.replace("{wanted}", str(wanted)).replace("{captions}", lines)


def _as_toml(llm: ChatModel, patterns: Sequence[str]) -> str:
    entries = []
    for number, pattern in enumerate(patterns, 1):
        escaped = pattern.replace("\\", "\\\\").replace('"', '\\"')
        entries.append(f'd{number:02} = "{escaped}"\n')
    return (
        f"# Templates from a dialogue with {ascii(llm.model)[1:-1]}, which stands in {DIALOGUE}.\n"
        "# Read through them: delete what is awkward, and what invites the captioner to invent.\n\n[templates]\n"
        + "".join(entries)
    )


def _meaning(status: int) -> str:
    """What an HTTP status says to the user; what the server wrote may repeat the key."""
    meanings = {
        401: "refused the key; give it in the environment",
        403: "the key may not use this model",
        404: "no such model or path; check the name, and that the URL ends as the server wants it (often /v1)",
        400: "refused the request; is the context too short for the dialogue? A smaller sample helps",
        429: "too many requests, after all retries; go on later with the same command",
    }
    return f"HTTP {status}: {meanings.get(status, 'failed after all retries; go on later with the same command')}"
