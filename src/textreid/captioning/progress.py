"""How far a captioning job is, how fast, and what it costs."""

import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from textreid.captioning.asking import FAILED, Answer
from textreid.captioning.captioner import NO_USAGE, Usage
from textreid.datasets.captions import CaptionRow
from textreid.errors import ConfigError

_RECENT_SECONDS = 60.0


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

    def cost(self, usage: Usage, seconds: float) -> float:
        """The price of ``usage`` in ``seconds`` of a machine's time."""
        tokens = usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion
        return tokens / 1e6 + self.hour * seconds / 3600


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
        if not known or not all(type(value) in {int, float} and value >= 0 for value in entries.values()):
            raise ConfigError(
                f'{path}: {model}: expected ["{model}"] with prompt, completion (for a million tokens) or hour, '
                "as numbers from 0"
            )
        prices[model] = Price(**entries)
    return prices


class Tally:
    """The counts of a job: ``total`` captions, those found from earlier runs, and what this run did.

    Attributes:
        images, images_done: all, and those that have every caption.
        done: captions that are saved.
        statuses: saved captions by status, those of earlier runs included.
        rejected: answers of this run that a cleaning rule rejected and that were asked for again, by rule.
        failures: failures by kind; of this run, and saved ones of earlier runs.
        usage: tokens of this run, by MLLM.
        first_failure: message of the first failure of this run.
        stopping: whether the job was asked to stop.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.images = self.images_done = self.done = 0
        self.statuses: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.usage: dict[str, Usage] = {}
        self.first_failure = ""
        self.stopping = False
        self.answered_now = self.failed_now = self.saved_now = 0
        self._started = time.monotonic()
        self._marks: list[tuple[float, int]] = []

    @property
    def failed(self) -> int:
        """Saved rows without a caption."""
        return sum(count for status, count in self.statuses.items() if status.startswith(FAILED))

    @property
    def seconds(self) -> float:
        """Time since the start of this run."""
        return time.monotonic() - self._started

    def start(self, images: int, images_done: int) -> None:
        """Begin to measure time."""
        self.images, self.images_done = images, images_done
        self._started = time.monotonic()
        self._marks = [(self._started, 0)]

    def found(self, status: str) -> None:
        """Count a caption of an earlier run."""
        self.done += 1
        self.statuses[status] += 1
        if status.startswith(FAILED):
            self.failures[status.removeprefix(FAILED)] += 1

    def answered(self, answer: Answer) -> None:
        """Count an answer, saved or not."""
        mllm = answer.row.mllm
        self.answered_now += 1
        self.rejected.update(answer.rejected)
        self.usage[mllm] = self.usage.get(mllm, NO_USAGE) + answer.usage
        if answer.failure:
            self.failed_now += 1
            self.failures[answer.failure.kind] += 1
            self.first_failure = self.first_failure or answer.failure.message

    def forget_failures(self, statuses: Iterable[str]) -> None:
        """Take back failures of this run that are asked for again."""
        for status in statuses:
            self.answered_now -= 1
            self.failed_now -= 1
            self.failures[status.removeprefix(FAILED)] -= 1
        self.failures += Counter()  # leaves out the zeros

    def saved(self, rows: Sequence[CaptionRow], image_done: bool) -> None:
        """Count rows that are on the disk."""
        self.done += len(rows)
        self.saved_now += len(rows)
        self.statuses.update(row.status for row in rows)
        self.images_done += image_done
        now = time.monotonic()
        if now - self._marks[-1][0] >= 1:
            self._marks.append((now, self.saved_now))
            while now - self._marks[0][0] > _RECENT_SECONDS:
                self._marks.pop(0)

    def gave_up(self, statuses: Iterable[str]) -> None:
        """Count rows that were saved without a caption at the end."""
        given_up = Counter(statuses)
        self.done += given_up.total()
        self.saved_now += given_up.total()
        self.statuses += given_up

    @property
    def rate(self) -> float:
        """Captions a second, over the last minute."""
        then, count = self._marks[0]
        elapsed = time.monotonic() - then
        return (self.saved_now - count) / elapsed if elapsed > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time until all is done at the present rate; None without one."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    def cost(self, prices: Mapping[str, Price]) -> float | None:
        """What this run has cost so far; ``prices`` by MLLM. None if one has no price."""
        if not self.usage or not set(self.usage) <= set(prices):
            return None
        return sum(prices[mllm].cost(usage, self.seconds) for mllm, usage in self.usage.items())

    def line(self, prices: Mapping[str, Price]) -> str:
        """What to show beside the progress."""
        tokens = sum(usage.prompt_tokens + usage.completion_tokens for usage in self.usage.values())
        parts = [f"{self.images_done} images", f"{self.rate:.1f} captions/s"]
        cost = self.cost(prices)
        parts += [f"{tokens:,} tokens"] if tokens else []
        parts += [f"cost {cost:,.2f}"] if cost is not None else []
        parts += [f"{counts.total()} {what} ({_listed(counts)})" for what, counts in self._troubles() if counts]
        return ", ".join(parts)

    def summary(self, prices: Mapping[str, Price]) -> str:
        """What to show at the end."""
        ok = self.statuses["ok"]
        kept = Counter({status: count for status, count in self.statuses.items() if status != "ok"})
        parts = [f"{ok} captions of {self.images} images"]
        parts += [f"{kept.total()} rows without a usable one ({_listed(kept)})"] if kept else []
        parts += [f"{self.saved_now} new in {self.seconds:.0f} s"]
        parts += [f"{self.rejected.total()} asked again ({_listed(self.rejected)})"] if self.rejected else []
        cost = self.cost(prices)
        parts += [f"cost of this run {cost:,.2f}"] if cost is not None else []
        return "; ".join(parts)

    def to_dict(self, prices: Mapping[str, Price]) -> dict[str, Any]:
        """The counts as JSON values."""
        return {
            "images": self.images,
            "captions": self.total,
            "statuses": dict(sorted(self.statuses.items())),
            "this_run": {
                "captions": self.saved_now,
                "seconds": round(self.seconds, 3),
                "asked_again": dict(sorted(self.rejected.items())),
                "tokens": {mllm: asdict(usage) for mllm, usage in sorted(self.usage.items())},
                "cost": self.cost(prices),
            },
        }

    def _troubles(self) -> tuple[tuple[str, Counter[str]], ...]:
        return ("rejected", self.rejected), ("failed", self.failures)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())
