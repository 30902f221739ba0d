"""What a job has used over all its runs: ``usage.json`` beside the captions, a few numbers for each MLLM."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from textreid.artifacts import read_json, write_json
from textreid.captioning.requests import NO_USAGE, Usage
from textreid.errors import ArtifactError, ConfigError

USAGE = "usage.json"
_KIND, _VERSION = "caption-usage", 1


@dataclass(frozen=True)
class Spent:
    """What one MLLM used: tokens, and seconds from the start of a run to its last answer in it."""

    usage: Usage = NO_USAGE
    seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.usage + other.usage, self.seconds + other.seconds)


@dataclass(frozen=True)
class Price:
    """What a model costs, in one currency of the user's choice.

    Attributes:
        prompt: for a million tokens read.
        completion: for a million tokens written.
        hour: for an hour of the machine, where that is rented.
    """

    prompt: float = 0.0
    completion: float = 0.0
    hour: float = 0.0

    def cost(self, spent: Spent) -> float | None:
        """The price of it; None where tokens have a price and the server did not count them."""
        if spent.usage == NO_USAGE and spent.seconds and (self.prompt or self.completion):
            return None
        tokens = spent.usage.prompt_tokens * self.prompt + spent.usage.completion_tokens * self.completion
        return tokens / 1e6 + self.hour * spent.seconds / 3600


def total_cost(spent: Mapping[str, Spent], prices: Mapping[str, Price]) -> float | None:
    """The cost of all MLLMs; None if there is nothing to pay for, or one has no price."""
    costs = [prices[mllm].cost(used) if mllm in prices else None for mllm, used in spent.items()]
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


def read_spent(folder: Path) -> dict[str, Spent]:
    """What earlier runs of the job in ``folder`` used, by MLLM.

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
            mllm: Spent(Usage(used["prompt_tokens"] + 0, used["completion_tokens"] + 0), used["seconds"] + 0.0)
            for mllm, used in record["mllms"].items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: damaged; remove it to count from zero") from error


def write_spent(folder: Path, spent: Mapping[str, Spent]) -> None:
    """Replace the record of ``folder``, whole or not at all.

    Raises:
        ArtifactError: it cannot be written.
    """
    mllms = {mllm: {**asdict(used.usage), "seconds": round(used.seconds, 1)} for mllm, used in spent.items()}
    write_json(folder / USAGE, {"kind": _KIND, "format_version": _VERSION, "mllms": mllms})
