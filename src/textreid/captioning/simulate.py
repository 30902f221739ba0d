"""Caption synthetic corpora with simulated MLLMs."""

import json
from collections.abc import Sequence
from pathlib import Path

from textreid.captioning.backends.simulated import SimulatedMLLM
from textreid.captioning.instructions import Instruction, dynamic_instructions, static_instruction
from textreid.captions.table import CaptionRow, Kind, caption_writer
from textreid.errors import CaptionError
from textreid.seeding import Chance
from textreid.synthetic import read_people

ERRORS_FILE = "errors.jsonl"


def simulate_captions(
    images: Path,
    out: Path,
    mllms: Sequence[str] = ("qwen", "shikra"),
    instructions: Sequence[Kind] = ("static", "dynamic"),
    error_rate: float = 0.15,
    seed: int = 0,
) -> None:
    """Write a caption table with one caption an image for each pair of MLLM and instruction.

    Images are named relative to ``corpus``, a folder with one or more synthetic corpora.

    ``images`` is the image root: a synthetic corpus, or a folder of several; the table's paths are relative to it.
    The wrong words go into ``errors.jsonl`` beside the parts: one line for each caption that has some, with
    ``image``, ``slot`` and ``spans`` (half-open character spans).

    Raises:
        CaptionError: an unknown or repeated MLLM or instruction, or an error rate outside 0–1.
        ArtifactError: ``out`` exists already, or cannot be written.
    """
    truth = read_people(images)
    captioners = [SimulatedMLLM(name, truth, error_rate) for name in mllms]
    choices: dict[str, tuple[Instruction, ...]] = {"static": (static_instruction(),), "dynamic": dynamic_instructions()}
    for kind in instructions:
        if kind not in choices:
            raise CaptionError(f"no instruction {kind!r}; known: {', '.join(choices)}")
    with caption_writer(out) as writer, (writer.folder / ERRORS_FILE).open("w", encoding="utf-8") as errors:
        for image in truth:
            path = Path(image)
            chance = Chance.of(seed, "captions", image)
            for captioner in captioners:
                for kind in instructions:
                    instruction = chance.pick(choices[kind])
                    slot, own_seed = f"{captioner.name}/{kind}", chance.whole(0, 1 << 31)
                    caption = captioner.describe(path, instruction, own_seed)
                    writer.add(
                        CaptionRow(
                            image, slot, caption.text, captioner.name, kind,
                            instruction.template_id, instruction.prompt_hash, own_seed,
                        )
                    )  # fmt: skip
                    if caption.errors:
                        record = {"image": image, "slot": slot, "spans": caption.errors}
                        errors.write(json.dumps(record, ensure_ascii=False) + "\n")
