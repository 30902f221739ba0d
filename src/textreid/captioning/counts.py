"""The counts of a captioning job: how far it is, how fast, what goes wrong in it, and what it costs."""

import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from textreid.artifacts import read_json, write_json
from textreid.captioning.requests import FAILED, Answer, Usage
from textreid.captions.cleaning import OK
from textreid.captions.table import CaptionRow
from textreid.errors import ArtifactError, ConfigError

USAGE = "usage.json"
_KIND, _VERSION = "caption-usage", 1
_RECENT_SECONDS = 60.0
_SOME = 24  # captions of an MLLM, from which on it is odd that few are usable or all are equal
_FEW_USABLE = 0.5


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
        # Without seconds nothing was asked yet, and that costs nothing.
        if not counted and usage.seconds and (self.prompt or self.completion):
            return None
        tokens = usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion
        return tokens / 1e6 + self.hour * usage.seconds / 3600


def read_prices(path: Path) -> dict[str, Price]:
    """Read a price table: TOML with one table a model, ``["model"]``, of ``prompt``, ``completion`` and ``hour``.

    Raises:
        ConfigError: the file cannot be read, or an entry is not a number of those; names it.
    """
    try:
        # With a byte order mark or without: some editors of Windows write one.
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a price table: {error}") from error
    prices = {}
    for model, entries in table.items():
        known = isinstance(entries, dict) and set(entries) <= {"prompt", "completion", "hour"}
        # By the very type, for true would pass for 1; within bounds, for TOML knows inf and nan.
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
        # The sums raise TypeError where the value is not a number.
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


class JobCounts:
    """Counts of a job: ``total`` captions, those found from earlier runs, and what this run did.

    ``before`` is what earlier runs used, by MLLM.

    Attributes:
        images, images_done: all, and those that have every caption.
        done: captions that are saved.
        statuses: saved captions by status, those of earlier runs included.
        rejected: answers of this run that a cleaning rule rejected and that were asked for again, by rule.
        failures: failures by kind; of this run, and saved ones of earlier runs.
        usage_now: what this run used, by MLLM.
        damaged: rows of an earlier run that were altered on the disk, and are asked for again.
        first_failure: message of the first failure of this run.
        trouble: what goes wrong at this moment, while an MLLM is asked again; else empty.
        notices: what the captioners have found out, each once.
        stopping: whether the job was asked to stop.
    """

    def __init__(self, total: int, before: Mapping[str, Usage] | None = None) -> None:
        self.total = total
        self._before = dict(before or {})
        self.damaged = 0
        self.images = self.images_done = self.done = 0
        self.statuses: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.usage_now: dict[str, Usage] = {}
        self.first_failure = self.trouble = ""
        self.notices: dict[str, None] = {}
        self.stopping = False
        self.answered_now = self.failed_now = self.saved_now = 0
        self._started = time.monotonic()
        self._marks: list[tuple[float, int]] = []
        self._usable: dict[str, Counter[bool]] = {}
        self._said: dict[str, set[str]] = {}  # by each MLLM, two captions at most

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
        mllm = answer.mllm
        self.answered_now += 1
        self.rejected.update(answer.rejected)
        self.notices.update(dict.fromkeys(answer.notices))
        # By the clock: hundreds of requests are under way at once, and the sum of their times is no machine's hours.
        self.usage_now[mllm] = replace(self.usage_now.get(mllm, Usage()) + answer.usage, seconds=self.seconds)
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
        for row in rows:
            if not row.status.startswith(FAILED):
                self._usable.setdefault(row.mllm, Counter())[row.status == OK] += 1
                said = self._said.setdefault(row.mllm, set())
                if len(said) < 2:
                    said.add(row.caption)
        self.images_done += image_done
        now = time.monotonic()
        # A mark a second, so that there are some sixty of them however fast captions come.
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
    def usage(self) -> dict[str, Usage]:
        """What all runs used, by MLLM, those of earlier runs included."""
        mllms = dict.fromkeys([*self._before, *self.usage_now])
        return {mllm: self._before.get(mllm, Usage()) + self.usage_now.get(mllm, Usage()) for mllm in mllms}

    def cost(self, prices: Mapping[str, Price]) -> float | None:
        """Return what the MLLMs of this run have cost over all runs; ``prices`` by MLLM. None if one has no price."""
        usage = self.usage
        costs = [prices[mllm].cost(usage[mllm]) if mllm in prices else None for mllm in self.usage_now]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if known and len(known) == len(costs) else None

    def line(self, prices: Mapping[str, Price]) -> str:
        """Return what to show beside the progress."""
        parts = [f"{self.images_done} images", f"{self.rate:.1f} captions/s", *self._spending(prices)]
        parts += [f"{self.rejected.total()} rejected ({_listed(self.rejected)})"] if self.rejected else []
        parts += [f"{self.failures.total()} failed ({_listed(self.failures)})"] if self.failures else []
        parts += [f"at the moment {self.trouble}"] if self.trouble else []
        return ", ".join([*parts, *self._oddities()])

    def summary(self, prices: Mapping[str, Price]) -> str:
        """Return what to show at the end."""
        kept = Counter({status: count for status, count in self.statuses.items() if status != OK})
        parts = [f"{self.statuses[OK]} captions of {self.images} images"]
        parts += [f"{kept.total()} rows without a usable one ({_listed(kept)})"] if kept else []
        parts += [f"{self.saved_now} new in {self.seconds:.0f} s"]
        parts += [f"{self.rejected.total()} asked again ({_listed(self.rejected)})"] if self.rejected else []
        damaged = f"{self.damaged} of an earlier run were damaged on the disk and asked for again"
        parts += [damaged] if self.damaged else []
        return "; ".join([*parts, *self._spending(prices), *self._oddities()])

    def _oddities(self) -> list[str]:
        """Return what a person should look at before training on the captions of this run."""
        odd = []
        for mllm, usable in self._usable.items():
            count = usable.total()
            if count >= _SOME and len(self._said[mllm]) == 1:
                odd.append(f"look at {mllm}: it says the same of every image; does it see them?")
            elif count >= _SOME and usable[True] < _FEW_USABLE * count:
                odd.append(f"look at {mllm}: only {usable[True] / count:.0%} of its {count} captions can be used")
        return odd

    def to_dict(self, prices: Mapping[str, Price]) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "images": self.images,
            "captions": self.total,
            "statuses": dict(sorted(self.statuses.items())),
            "damaged": self.damaged,
            "this_run": {
                "captions": self.saved_now,
                "seconds": round(self.seconds, 3),
                "asked_again": dict(sorted(self.rejected.items())),
                "spent": usage_values(self.usage_now),
            },
            "all_runs": {"spent": usage_values(self.usage), "cost": self.cost(prices)},
        }

    def _spending(self, prices: Mapping[str, Price]) -> list[str]:
        """Return tokens and cost of all runs, where there are any."""
        usage = sum((self.usage[mllm] for mllm in self.usage_now), Usage())
        tokens, cost = usage.prompt_tokens + usage.completion_tokens, self.cost(prices)
        if not tokens and not cost:
            return []
        shown = "unknown (no price of it in --prices)" if cost is None else f"{cost:,.2f}"
        return [f"{tokens:,} tokens", f"cost {shown}"]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())
