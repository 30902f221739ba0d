"""Templates from a dialogue with an LLM over several turns (Tan et al. 2024, §3.2 and supplement).

Captions of a sample, made with the static instruction, go in; the LLM extracts their sentence patterns, writes more,
varies the openings, shuffles the attributes, and prunes. Every turn is on disk before the next one begins.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textreid.artifacts import fingerprint, read_json, write_json, write_text
from textreid.captioning.backends.addresses import Key
from textreid.captioning.backends.connection import AttemptError, Connection, retrying
from textreid.captioning.backends.dialect import Dialect, ask
from textreid.captioning.engine import run_to_end
from textreid.captioning.requests import Caption
from textreid.captioning.templates import Template, distinct_structures, parse_templates, read_templates
from textreid.errors import CaptionError, ResumeError, RunStoppedError

DIALOGUE = "dialogue.json"
TEMPLATES = "templates.toml"
WANTED = 46  # as many as Tan et al. 2024 kept
KIND = "template dialogue"
FORMAT_VERSION = 1
_TRIES = 3  # of a turn whose answer has no template
_BACKOFF, _LONGEST_WAIT = 0.5, 60.0  # seconds before the second attempt at a request, and before any

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
    key: Key = field(default_factory=Key)
    temperature: float = 0.8
    timeout: float = 300.0
    retries: int = 4
    dialect: Dialect = field(default_factory=Dialect, repr=False)

    def reply(self, messages: Sequence[Mapping[str, str]]) -> Caption:
        """Return the LLM's answer to a conversation.

        Raises:
            CaptionError: there was none; says what the endpoint did instead.
            ConfigError: the URL, or a proxy of the environment, cannot be used.
        """

        # A connection for each reply: it belongs to the event loop that it was made in, which ends with the reply.
        async def reply() -> Caption:
            connection = Connection(self.url, self.key, self.timeout)
            standard = {"temperature": self.temperature}
            try:
                return await retrying(
                    1 + self.retries, _BACKOFF, _LONGEST_WAIT,
                    lambda: ask(connection, self.dialect, self.model, lambda: messages, standard),
                )  # fmt: skip
            finally:
                await connection.aclose()

        try:
            return run_to_end(reply)
        except AttemptError as error:
            go_on = "; go on later with the same command" if error.passing else ""
            raise CaptionError(f"{self.model}: {error.failure.message}{go_on}") from None


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
        RunStoppedError: it was stopped by Ctrl-C.
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
            try:
                reply = llm.reply([*_conversation(turns), {"role": "user", "content": text}])
            except KeyboardInterrupt:
                told = f"stopped; {len(turns)} turns are in {out}: run the same command to go on"
                raise RunStoppedError(told) from None
            parsed = parse_templates(reply.text, reply.cut_off)
            turns.append(
                {
                    "name": name,
                    "request": text,
                    "answer": reply.text,
                    "cut_off": reply.cut_off,
                    "tokens": [reply.usage.prompt_tokens, reply.usage.completion_tokens],
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
    """Read the dialogue in ``path``, or begin a new one."""
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


def _conversation(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    # With the answers that had no template: the reminder after them speaks of what was said.
    return [
        {"role": role, "content": turn[said]}
        for turn in turns
        for role, said in (("user", "request"), ("assistant", "answer"))
    ]


def _fill(request: str, captions: Sequence[str], wanted: int) -> str:
    lines = "\n".join(" ".join(caption.split()) for caption in captions)
    return request.replace("{wanted}", str(wanted)).replace("{captions}", lines)


def _as_toml(llm: ChatModel, patterns: Sequence[str]) -> str:
    entries = []
    # Control characters, which TOML would want escaped as well, are gone since `parse_templates`.
    for number, pattern in enumerate(patterns, 1):
        escaped = pattern.replace("\\", "\\\\").replace('"', '\\"')
        entries.append(f'd{number:02} = "{escaped}"\n')
    # `ascii`, for a line break in the model's name would end the comment.
    return (
        f"# Templates from a dialogue with {ascii(llm.model)[1:-1]}, which stands in {DIALOGUE}.\n"
        "# Read through them: delete what is awkward, and what invites the captioner to invent.\n\n[templates]\n"
        + "".join(entries)
    )
