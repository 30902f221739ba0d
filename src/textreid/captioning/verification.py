"""A job that checks the captions of a table: planned from its suspicious phrases, and what came of it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textreid.captioning.checking import Checks, Suspect, checked_slots
from textreid.captioning.counts import Price, read_prices
from textreid.captioning.mllms import CaptionerOptions, destinations, read_mllms
from textreid.captioning.plan import CaptionPlan
from textreid.captioning.questions import QUESTION
from textreid.captioning.repairing import Span
from textreid.captioning.requests import Settings
from textreid.captions.cleaning import OK
from textreid.captions.selecting import Selection
from textreid.captions.sidecars import error_spans, repairs_of
from textreid.captions.table import read_captions
from textreid.captions.writer import caption_rows
from textreid.errors import ConfigError

_SHOWN = 3  # captions of a preview
FindPhrases = Callable[[], Mapping[int, tuple[Span, ...]]]


@dataclass(frozen=True)
class VerificationPlan:
    """A checking job that nothing has been sent for yet.

    Attributes:
        job: to be run.
        captions: that are checked.
        suspected: of them, with a suspicious phrase.
        phrases: that are asked about.
    """

    job: CaptionPlan
    captions: int
    suspected: int
    phrases: int

    def preview(self) -> str:
        """Show where pictures would go, how much is asked, and the first questions."""
        asked = [suspect for suspect in _suspects(self.job) if suspect.phrases]
        lines = [*destinations(self.job.specs)]
        for suspect in asked[:_SHOWN]:
            row = suspect.row
            lines.append(f"{row.image} ({row.slot}): {row.caption}")
            lines += [f"  asked: {row.caption[start:end]}" for start, end in suspect.phrases]
        lines.append(f"each as: {QUESTION}")
        lines.append(f"{self.captions} captions, {self.suspected} with suspicious phrases: {self.phrases} questions")
        return "\n".join(lines) + "\n"

    def repairs(self) -> Counter[str]:
        """Count the ``captions`` that were changed so far, and the ``phrases`` in them."""
        found = repairs_of(self.job.out)
        return Counter(captions=len(found), phrases=sum(len(line["repairs"]) for line in found.values()))


def plan_verification(
    images: Path, table: Path, out: Path, mllms: list[str], find_phrases: FindPhrases, facts: Mapping[str, Any], *,
    settings: Settings, options: CaptionerOptions | None = None, prices: Path | None = None,
) -> VerificationPlan:  # fmt: skip
    """Read the captions of a table and find what is to be asked about them.

    Args:
        images: root of the images that the table names.
        table: folder of the captions; those that a rule rejects are left out.
        out: folder of the checked captions, new or begun by an equal call.
        mllms: who is asked, one as ``--mllm`` has it.
        find_phrases: finds the suspicious phrases, by index of the caption in the table.
        facts: what decides them: JSON values.
        settings, options, prices: as `textreid.captioning.plan.plan_captions` takes them.

    Raises:
        ConfigError: a setting is wrong, or there is more than one MLLM.
        CaptionError, ArtifactError: as `read_captions`.
    """
    specs = read_mllms(mllms)
    if len(specs) > 1:
        raise ConfigError(f"--verify: one --mllm is asked, not {', '.join(one.name for one in specs)}")
    if table.resolve() == out.resolve():
        raise ConfigError(f"--out: {out} holds the captions to verify; choose another folder")
    options = options or CaptionerOptions()
    options.check(specs)
    by_model = read_prices(prices) if prices else {}
    captions = read_captions(table)
    phrases = find_phrases()
    keys = [
        (captions.images[image], captions.slots[slot])
        for image, slot in zip(captions.image_index, captions.slot_index, strict=True)
    ]
    by_key = {keys[index]: found for index, found in phrases.items()}
    usable, errors = frozenset(keys), error_spans(table)
    suspects = {
        key: Suspect(row, by_key.get(key, ()), tuple(errors.get(key, ())))
        for row in caption_rows(table)
        if (key := (row.image, row.slot)) in usable and row.status == OK
    }
    left_out = sum(captions.rejected.values())
    notes = (f"{left_out} captions of {table} that a rule rejects are left out",) if left_out else ()
    job = CaptionPlan(
        images, out, specs, checked_slots(specs[0].name, captions.slots), Selection(captions.images, (), notes),
        settings, options, _prices(specs[0].name, specs[0].model, by_model),
        Checks(suspects, {"captions": captions.fingerprint, **facts}),
    )  # fmt: skip
    return VerificationPlan(job, len(suspects), len(by_key), sum(map(len, by_key.values())))


def _suspects(job: CaptionPlan) -> list[Suspect]:
    return list(job.checks.suspects.values()) if job.checks else []


def _prices(name: str, model: str, by_model: Mapping[str, Price]) -> dict[str, Price]:
    return {name: by_model[model]} if model in by_model else {}
