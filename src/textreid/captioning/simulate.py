"""Caption a synthetic corpus with simulated MLLMs."""

import json
from collections.abc import Sequence
from pathlib import Path

from textreid.captioning.backends.simulated import SimulatedMLLM
from textreid.captioning.instructions import Kind, dynamic_instructions, static_instruction
from textreid.datasets.captions import CaptionRow, caption_writer
from textreid.datasets.synthetic.chance import Chance

ERRORS_FILE = "errors.jsonl"


def simulate_captions(
    corpus: Path,
    out: Path,
    mllms: Sequence[str] = ("qwen", "shikra"),
    instructions: Sequence[Kind] = ("static", "dynamic"),
    error_rate: float = 0.15,
    seed: int = 0,
) -> None:
    """Write a caption table with one caption an image for each pair of MLLM and instruction.

    The wrong words go into ``errors.jsonl`` beside the parts: one line for each caption that has some, with
    ``image``, ``slot`` and ``spans`` (half-open character spans).

    Raises:
        CaptionError: an unknown MLLM or an error rate outside 0–1.
        ArtifactError: ``out`` exists already, or cannot be written.
    """
    from textreid.datasets.synthetic import read_people

    truth = read_people(corpus)
    captioners = [SimulatedMLLM(name, truth, error_rate) for name in mllms]
    choices = {"static": (static_instruction(),), "dynamic": dynamic_instructions()}
    with caption_writer(out) as writer, (writer.folder / ERRORS_FILE).open("w", encoding="utf-8") as errors:
        for image in truth:
            path = Path(image)
            chance = Chance.of(seed, "captions", image)
            for captioner in captioners:
                for kind in instructions:
                    instruction = chance.pick(choices[kind])
                    slot, own_seed = f"{captioner.name}/{kind}", chance.whole(0, 1 << 31)
                    caption = captioner.caption(path, instruction, own_seed)
                    writer.add(
                        CaptionRow(
                            image, slot, caption.text, captioner.name, kind,
                            instruction.template_id, instruction.prompt_hash, own_seed,
                        )
                    )  # fmt: skip
                    if caption.errors:
                        record = {"image": image, "slot": slot, "spans": caption.errors}
                        errors.write(json.dumps(record, ensure_ascii=False) + "\n")
