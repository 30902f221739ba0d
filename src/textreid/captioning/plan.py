"""A captioning job as its user describes it: planned, shown before anything is sent, and run."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textreid.captioning.checking import Checks
from textreid.captioning.counts import JobCounts, Price, read_prices
from textreid.captioning.engine import Engine, LocalEngine
from textreid.captioning.job import caption_images
from textreid.captioning.mllms import (
    CaptionerOptions,
    CaptionerSpec,
    EngineName,
    destinations,
    open_captioners,
    open_engine,
    read_mllms,
)
from textreid.captioning.requests import Settings, Slot, Usage, requests_for, slots_of
from textreid.captioning.templates import read_templates
from textreid.captions.selecting import Selection, select_images
from textreid.errors import check_list, check_path, check_type
from textreid.progress import Progress

StrPath = str | os.PathLike[str]

_SHOWN = 3  # images of a preview
# What the estimate assumes: English text, a small picture, a caption of two or three sentences. Models read from 10 to
# 256 tokens in a crop (docs/captioning.md), so a user is told to measure.
_CHARACTERS_PER_TOKEN = 4.5
_PICTURE_TOKENS = 200
_CAPTION_TOKENS = 60


def caption(
    images: StrPath,
    out: StrPath,
    mllms: Sequence[str],
    slots: Sequence[str] = ("static", "dynamic"),
    *,
    templates: StrPath | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    attempts: int = 3,
    max_failures: float = 0.05,
    retry_failed: bool = False,
    in_flight: int = 256,
    options: CaptionerOptions | None = None,
    engine: EngineName = "local",
    ray_address: str | None = None,
    workers: int | None = None,
    tensor_parallel: int = 1,
    prices: StrPath | None = None,
    show: bool = True,
) -> JobCounts:
    """Describe every image of a folder in one caption per MLLM and instruction, as ``textreid caption`` does.

    The call may be stopped with Ctrl-C and made again: it goes on where it was. It leaves signal handlers as they were,
    and works in any thread and in a notebook.

    >>> import textreid
    >>> counts = textreid.caption("crops", "drafts", ["draft=describe"])  # twice an image: static and dynamic
    >>> counts.done == 2 * len(textreid.read_captions("drafts").images)
    True

    Args:
        images: folder of images; the table names them relative to it.
        out: folder of the caption table, new or begun by an equal call.
        mllms: who writes, each as ``--mllm`` has it: ``"qwen=http://localhost:8000/v1#Qwen/Qwen3-VL-8B-Instruct"``.
        slots: captions of each image by each MLLM: some of ``"static"``, ``"dynamic"``, ``"styled"``.
        templates: file of templates of the dynamic instruction; our own when None.
        limit: only the first images.
        sample: only so many images, drawn by ``seed``.
        seed: of the templates, the sampling of the MLLMs and ``sample``.
        attempts: how often a caption is asked for while cleaning rejects it.
        max_failures: share of captions that may be missing in the end.
        retry_failed: ask again for captions that stayed missing.
        in_flight: images that an MLLM works on at once, at most.
        options: how MLLMs are asked where that differs from a backend's defaults.
        engine: ``"local"``: this process; ``"ray"``: the workers of a Ray cluster, see ``ray_address``, ``workers`` and
            ``tensor_parallel`` in docs/captioning.md.
        ray_address: of the cluster.
        workers: processes of the cluster.
        tensor_parallel: GPUs of one copy of a ``vllm:`` model.
        prices: TOML file of prices by model.
        show: whether destinations, progress and news are shown on standard error.

    Returns:
        What was done, in this call and before.

    Raises:
        ConfigError: a setting is wrong.
        DataError: there are no images.
        CaptionError, ResumeError, ArtifactError, CaptioningStoppedError: as `caption_images`.
    """
    plan = plan_captions(
        images, out, mllms, slots=slots, templates=templates, limit=limit, sample=sample, seed=seed,
        settings=Settings(seed, attempts, max_failures, in_flight), options=options, prices=prices,
    )  # fmt: skip
    ray = {"address": ray_address, "workers": workers, "tensor_parallel": tensor_parallel}
    return plan.run(engine, ray, retry_failed, show)


@dataclass(frozen=True)
class CaptionPlan:
    """Captioning job that nothing has been sent for yet; made by `plan_captions`."""

    images: Path
    out: Path
    specs: tuple[CaptionerSpec, ...]
    slots: tuple[Slot, ...]
    selection: Selection
    settings: Settings
    options: CaptionerOptions
    prices: Mapping[str, Price] = field(default_factory=dict)  # by MLLM
    checks: Checks | None = None  # of the captions of another table; None where captions are written

    def preview(self) -> str:
        """Show where pictures would go, the instructions for three images, and an estimate of the cost."""
        images, slots = self.selection.images, self.slots
        lines = destinations(self.specs)
        for image in images[:_SHOWN]:
            lines.append(image)
            for slot in slots:
                request = requests_for(image, slot, self.settings)[0]
                template = f", template {request.instruction.template_id}" if request.instruction.template_id else ""
                lines.append(f"  {slot.name} (seed {request.seed}{template})")
                lines += textwrap.wrap(request.instruction.text, 110, initial_indent="    ", subsequent_indent="    ")
        lines.append(f"{len(images)} images, {len(slots)} slots each: {len(images) * len(slots)} captions")
        for mllm, usage in _estimate(len(images), slots).items():
            price = self.prices.get(mllm)
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

    def run(
        self,
        engine: EngineName = "local",
        ray: Mapping[str, Any] | None = None,
        retry_failed: bool = False,
        show: bool = True,
    ) -> JobCounts:
        """Run the job; see `caption`."""
        with Progress("captioning", "captions", visible=show) as progress:
            display = _Display(progress, self)
            # Before the engine is opened: the user is told where pictures go while none has gone there.
            display.begin()
            if self.checks:
                asking: Engine = LocalEngine(open_captioners(self.specs, self.images, self.options), self.checks.ask)
            else:
                asking = open_engine(self.specs, self.images, self.options, engine, **(ray or {}))
            return caption_images(
                self.images,
                self.selection.images,
                self.out,
                asking,
                self.slots,
                self.settings,
                models={one.name: one.model for one in self.specs},
                checks=self.checks,
                retry_failed=retry_failed,
                watch=display.update,
            )


def plan_captions(
    images: StrPath,
    out: StrPath,
    mllms: Sequence[str],
    *,
    slots: Sequence[str],
    settings: Settings,
    templates: StrPath | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    options: CaptionerOptions | None = None,
    prices: StrPath | None = None,
) -> CaptionPlan:
    """Check the settings of a job and list its images; see `caption` for the arguments.

    Raises:
        ConfigError: a setting is wrong.
        DataError: there are no images.
    """
    check_path("images", images)
    check_path("out", out)
    check_list("mllms", mllms, str, "strings like NAME=URL#MODEL")
    check_list("slots", slots, str, "slots")
    check_type("seed", seed, int, "a whole number")
    specs = read_mllms(mllms)
    options = options or CaptionerOptions()
    options.check(specs)
    asked = slots_of([one.name for one in specs], slots, read_templates(Path(templates)) if templates else None)
    by_model = read_prices(Path(prices)) if prices else {}
    # The images last, so that a slip in another setting is told before a large folder is looked through.
    return CaptionPlan(
        Path(images), Path(out), specs, tuple(asked), select_images(Path(images), limit, sample, seed), settings,
        options, {one.name: by_model[one.model] for one in specs if one.model in by_model},
    )  # fmt: skip


def _estimate(images: int, slots: Sequence[Slot]) -> dict[str, Usage]:
    """Estimate how many tokens each MLLM reads and writes for ``images``."""
    totals: dict[str, Usage] = {}
    for slot in slots:
        characters = sum(len(choice.text) for choice in slot.choices) / len(slot.choices)
        prompt = _PICTURE_TOKENS + round(characters / _CHARACTERS_PER_TOKEN)
        totals[slot.mllm] = totals.get(slot.mllm, Usage()) + Usage(images * prompt, images * _CAPTION_TOKENS)
    return totals


class _Display:
    """View of a running job for its user."""

    def __init__(self, progress: Progress, plan: CaptionPlan) -> None:
        self._progress, self._plan = progress, plan
        self._told: set[str] = set()
        self._begun = False

    def begin(self) -> None:
        """Name what is left out, and every place that pictures go to."""
        for line in destinations([spec for spec in self._plan.specs if spec.urls]):
            self._say_once(line)
        for note in self._plan.selection.notes:
            self._progress.say(note)
        if unusable := self._plan.selection.unusable:
            names = "".join(f"\n  {name!a}" for name in unusable)
            self._progress.say(f"{len(unusable)} images are left out, for the table cannot hold their names:{names}")

    def update(self, counts: JobCounts) -> None:
        """Show the counts, and what is new."""
        # With what earlier runs did as the start, so that the rate and the time left are those of this run.
        if not self._begun:
            self._begun = True
            self._progress.start(counts.done)
        # The counts keep every notice, and come again every second.
        for notice in counts.notices:
            self._say_once(notice)
        if counts.damaged:
            self._say_once(
                f"{self._plan.out}: {counts.damaged} captions were damaged on the disk; asking for them again"
            )
        if counts.stopping:
            self._say_once("stopping when the calls under way are answered; once more stops at once and loses them")
        self._progress.update(counts.done, counts.total, counts.line(self._plan.prices))

    def _say_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._progress.say(line)
