"""What a job costs: prices, an estimate before it is run, and the record of what all its runs have used."""

import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from textreid.artifacts import read_json, write_json
from textreid.captioning.requests import Settings, Slot, Usage, requests_for
from textreid.errors import ArtifactError, ConfigError

USAGE = "usage.json"
_KIND, _VERSION = "caption-usage", 1
_SHOWN = 3  # images of a preview
# What the estimate assumes: English text, a small picture, a caption of two or three sentences.
_CHARACTERS_PER_TOKEN = 4.5
_PICTURE_TOKENS = 200
_CAPTION_TOKENS = 60


@dataclass(frozen=True)
class Price:
    """Price of a model, in one currency of the user's choice.

    Attributes:
        prompt: for a million tokens read.
        completion: for a million tokens written.
        hour: for an hour of the machine, where that is rented.
    """

    prompt: float = 0.0
    completion: float = 0.0
    hour: float = 0.0

    def cost(self, usage: Usage) -> float | None:
        """Return the price of it; None where tokens have a price and the server did not count them."""
        counted = usage.prompt_tokens or usage.completion_tokens
        if not counted and usage.seconds and (self.prompt or self.completion):
            return None
        tokens = usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion
        return tokens / 1e6 + self.hour * usage.seconds / 3600


def total_cost(usage: Mapping[str, Usage], prices: Mapping[str, Price]) -> float | None:
    """Return the cost of all MLLMs; None if there is nothing to pay for, or one has no price."""
    costs = [prices[mllm].cost(used) if mllm in prices else None for mllm, used in usage.items()]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None


def read_prices(path: Path) -> dict[str, Price]:
    """Read a price table: TOML with one table a model, ``["model"]``, of ``prompt``, ``completion`` and ``hour``.

    Raises:
        ConfigError: the file cannot be read, or an entry is not a number of those; names it.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a price table: {error}") from error
    prices = {}
    for model, entries in table.items():
        known = isinstance(entries, dict) and set(entries) <= {"prompt", "completion", "hour"}
        if not known or not all(type(value) in {int, float} and 0 <= value < 1e9 for value in entries.values()):
            raise ConfigError(
                f'{path}: {model}: expected ["{model}"] with prompt, completion (for a million tokens) or hour, '
                "as numbers from 0"
            )
        prices[model] = Price(**entries)
    return prices


def read_usage(folder: Path) -> dict[str, Usage]:
    """Read what earlier runs of the job in ``folder`` used, by MLLM.

    Raises:
        ArtifactError: the record is damaged, or of another version.
    """
    path = folder / USAGE
    if not path.exists():
        return {}
    record = read_json(path)
    if not isinstance(record, dict) or (record.get("kind"), record.get("format_version")) != (_KIND, _VERSION):
        raise ArtifactError(f"{path}: not a record of usage that this version reads; remove it to count from zero")
    try:
        return {
            mllm: Usage(used["prompt_tokens"] + 0, used["completion_tokens"] + 0, used["seconds"] + 0.0)
            for mllm, used in record["mllms"].items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: damaged; remove it to count from zero") from error


def write_usage(folder: Path, usage: Mapping[str, Usage]) -> None:
    """Replace the record of ``folder``, whole or not at all.

    Raises:
        ArtifactError: it cannot be written.
    """
    write_json(folder / USAGE, {"kind": _KIND, "format_version": _VERSION, "mllms": usage_values(usage)})


def usage_values(usage: Mapping[str, Usage]) -> dict[str, dict[str, float]]:
    """Return what each MLLM used as JSON values."""
    return {mllm: {**asdict(used), "seconds": round(used.seconds, 1)} for mllm, used in sorted(usage.items())}


def preview(images: Sequence[str], slots: Sequence[Slot], settings: Settings, prices: Mapping[str, Price]) -> str:
    """Show the first instructions for three images and an estimate of the cost; ``prices`` by MLLM. Sends nothing."""
    lines = []
    for image in images[:_SHOWN]:
        lines.append(image)
        for slot in slots:
            request = requests_for(image, slot, settings)[0]
            template = f", template {request.instruction.template_id}" if request.instruction.template_id else ""
            lines.append(f"  {slot.name} (seed {request.seed}{template})")
            lines += textwrap.wrap(request.instruction.text, 110, initial_indent="    ", subsequent_indent="    ")
    lines.append(f"{len(images)} images, {len(slots)} slots each: {len(images) * len(slots)} captions")
    for mllm, usage in _estimate(len(images), slots).items():
        price = prices.get(mllm)
        tokens = f"about {usage.prompt_tokens:,} tokens read and {usage.completion_tokens:,} written"
        if price is None:
            cost = "unknown (no price of it in --prices)"
        else:
            cost = f"{price.cost(usage):,.2f}" + (f", and {price.hour:g} an hour" if price.hour else "")
        lines.append(f"{mllm}: {tokens}; cost: {cost}")
    lines.append(
        f"(at {_PICTURE_TOKENS} tokens a picture and {_CAPTION_TOKENS} a caption, every answer usable; "
        "run with --limit 200 to measure both, and the rate)"
    )
    return "\n".join(lines) + "\n"


def _estimate(images: int, slots: Sequence[Slot]) -> dict[str, Usage]:
    """Estimate how many tokens each MLLM reads and writes for ``images``."""
    totals: dict[str, Usage] = {}
    for slot in slots:
        characters = sum(len(choice.text) for choice in slot.choices) / len(slot.choices)
        prompt = _PICTURE_TOKENS + round(characters / _CHARACTERS_PER_TOKEN)
        totals[slot.mllm] = totals.get(slot.mllm, Usage()) + Usage(images * prompt, images * _CAPTION_TOKENS)
    return totals
