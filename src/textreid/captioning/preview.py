"""What a captioning job would send, and about what it would cost; nothing is sent."""

import textwrap
from collections.abc import Mapping, Sequence

from textreid.captioning.asking import Settings, Slot, requests_for
from textreid.captioning.requests import Usage
from textreid.captioning.spending import Price, Spent

_SHOWN = 3
# What the estimate assumes: English text, a small picture, a caption of two or three sentences.
CHARACTERS_PER_TOKEN = 4.5
PICTURE_TOKENS = 200
CAPTION_TOKENS = 60


def preview(images: Sequence[str], slots: Sequence[Slot], settings: Settings, prices: Mapping[str, Price]) -> str:
    """The first instructions for three images, and the estimate, as text; ``prices`` by MLLM."""
    lines = []
    for image in images[:_SHOWN]:
        lines.append(image)
        for slot in slots:
            request = requests_for(image, slot, settings)[0]
            template = f", template {request.instruction.template_id}" if request.instruction.template_id else ""
            lines.append(f"  {slot.name} (seed {request.seed}{template})")
            lines += textwrap.wrap(request.instruction.text, 110, initial_indent="    ", subsequent_indent="    ")
    lines.append(f"{len(images)} images, {len(slots)} slots each: {len(images) * len(slots)} captions")
    for mllm, usage in estimate(len(images), slots).items():
        price = prices.get(mllm)
        tokens = f"about {usage.prompt_tokens:,} tokens read and {usage.completion_tokens:,} written"
        if price is None:
            cost = "unknown (no price of it in --prices)"
        else:
            cost = f"{price.cost(Spent(usage)):,.2f}" + (f", and {price.hour:g} an hour" if price.hour else "")
        lines.append(f"{mllm}: {tokens}; cost: {cost}")
    lines.append(
        f"(at {PICTURE_TOKENS} tokens a picture and {CAPTION_TOKENS} a caption, every answer usable; "
        "run with --limit 200 to measure both, and the rate)"
    )
    return "\n".join(lines) + "\n"


def estimate(images: int, slots: Sequence[Slot]) -> dict[str, Usage]:
    """About how many tokens each MLLM reads and writes for ``images``."""
    totals: dict[str, Usage] = {}
    for slot in slots:
        characters = sum(len(choice.text) for choice in slot.choices) / len(slot.choices)
        prompt = PICTURE_TOKENS + round(characters / CHARACTERS_PER_TOKEN)
        usage = Usage(images * prompt, images * CAPTION_TOKENS)
        totals[slot.mllm] = totals[slot.mllm] + usage if slot.mllm in totals else usage
    return totals
