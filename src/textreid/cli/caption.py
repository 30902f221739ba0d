"""``textreid caption``: a folder of images in, a caption table out."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from textreid.captioning.counts import JobCounts
    from textreid.captioning.engine import Engine
    from textreid.captioning.requests import Settings, Slot
    from textreid.captioning.spending import Price
    from textreid.captions.selecting import Selection

EngineName = Literal["local", "ray"]


def caption(
    images: Path = typer.Argument(help="Folder of images; they are named relative to it."),
    out: Path = typer.Option(..., help="Folder of the caption table; run the same command again to go on."),
    mllm: list[str] = typer.Option(
        [],
        metavar="NAME=URL#MODEL",
        help="Who writes: NAME=URL#MODEL (an OpenAI-compatible server; the same NAME again adds a server), "
        "NAME=transformers:MODEL, NAME=vllm:MODEL (with --engine ray, on GPUs), NAME=describe or NAME=simulated. "
        "Repeat for more. Keys of servers come from the environment: NAME_API_KEY; OPENAI_API_KEY goes to "
        "https://api.openai.com only.",
    ),
    slots: str = typer.Option(
        "static,dynamic", help="Captions of each image by each MLLM: some of static, dynamic, styled."
    ),
    templates: Path | None = typer.Option(None, help="Templates of the dynamic instruction, instead of our own."),
    limit: int | None = typer.Option(None, min=1, help="Only the first images; without it, the job goes on to all."),
    sample: int | None = typer.Option(None, min=1, help="Only a random sample of the images, drawn by --seed."),
    seed: int = typer.Option(0, min=0, help="Of the templates, the sampling of the MLLMs, and --sample."),
    attempts: int = typer.Option(
        3, "--attempts", "--asks", min=1, help="How often a caption is asked for while cleaning rejects it."
    ),
    max_failures: float = typer.Option(0.05, min=0, max=1, help="Share of captions that may be missing in the end."),
    retry_failed: bool = typer.Option(False, "--retry-failed", help="Ask again for captions that stayed missing."),
    in_flight: int = typer.Option(256, min=1, help="Images that an MLLM works on at once, at most."),
    max_tokens: int | None = typer.Option(None, min=1, help="Of a caption; 160 without."),
    temperature: float | None = typer.Option(
        None, min=0, help="Of the sampling; without, a server's own, and 0.7 for transformers."
    ),
    image_size: int | None = typer.Option(
        None, min=16, help="Pixels of the longer side of the picture that is sent, at most; 448 without."
    ),
    timeout: float | None = typer.Option(
        None, min=0.1, help="Seconds that a server may take for one caption; 120 without."
    ),
    batch_size: int | None = typer.Option(
        None, min=1, help="Captions that a model of transformers writes at a time; 16 without."
    ),
    engine: EngineName = typer.Option("local", help="Who asks: this process, or the workers of a Ray cluster."),
    ray_address: str | None = typer.Option(
        None, metavar="HOST:PORT", help="The cluster of --engine ray; without it Ray is started on this machine."
    ),
    workers: int | None = typer.Option(None, min=1, help="Processes of --engine ray; one a CPU when not given."),
    tensor_parallel: int = typer.Option(1, min=1, help="GPUs that one copy of a vllm: model is spread over."),
    prices: Path | None = typer.Option(
        None,
        help='TOML with a table a model: ["MODEL"] prompt = 0.1, completion = 0.4 (a million tokens), hour = 2.5; '
        "without, the cost is unknown.",
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show three images' requests and an estimate; send nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print the counts as JSON."),
) -> None:
    """Describe every image in one caption per MLLM and instruction; can be stopped and started again at any moment."""
    from textreid.captioning.mllms import CaptionerOptions, open_engine, read_mllms
    from textreid.captioning.requests import Settings, slots_of
    from textreid.captioning.spending import read_prices
    from textreid.captioning.templates import read_templates
    from textreid.captions.selecting import select_images

    mllms = read_mllms(mllm)
    options = CaptionerOptions(max_tokens, temperature, image_size, timeout, batch_size)
    options.check(mllms)
    settings = Settings(seed, attempts, max_failures, in_flight)
    asked = slots_of([one.name for one in mllms], slots.split(","), read_templates(templates) if templates else None)
    by_model = read_prices(prices) if prices else {}
    by_name = {one.name: by_model[one.model] for one in mllms if one.model in by_model}
    selection = select_images(images, limit, sample, seed)
    _warn_of_omissions(selection)
    if dry_run:
        from textreid.captioning.spending import preview

        sys.stdout.write(preview(selection.images, asked, settings, by_name))
        return
    asker = open_engine(mllms, images, options, engine, ray_address, workers, tensor_parallel)
    models = {one.name: one.model for one in mllms}
    counts = _run(images, selection, out, asker, models, asked, settings, retry_failed, by_name)
    sys.stderr.write(f"{counts.summary(by_name)}\n")
    sys.stdout.write(json.dumps(counts.to_dict(by_name)) + "\n" if as_json else f"{out}\n")


def _warn_of_omissions(selection: "Selection") -> None:
    for note in selection.notes:
        sys.stderr.write(f"{note}\n")
    if selection.unusable:
        sys.stderr.write(
            f"{len(selection.unusable)} images are left out, for the table cannot hold their names; rename them:\n"
        )
        sys.stderr.writelines(f"  {name!a}\n" for name in selection.unusable)


def _run(
    images: Path,
    selection: "Selection",
    out: Path,
    engine: "Engine",
    models: dict[str, str],
    slots: "list[Slot]",
    settings: "Settings",
    retry_failed: bool,
    prices: "dict[str, Price]",
) -> "JobCounts":
    from textreid.captioning.job import caption_images
    from textreid.runlog import RunLog

    log = RunLog(out)
    told_to_stop = told_of_damage = False

    def watch(counts: "JobCounts") -> None:
        nonlocal told_to_stop, told_of_damage
        if counts.damaged and not told_of_damage:
            told_of_damage = True
            log.say(
                f"{out}: {counts.damaged} captions were damaged on the disk and are asked for again; is it failing?"
            )
        log.note(counts.line(prices))
        log.advance(counts.done)
        if counts.stopping and not told_to_stop:
            told_to_stop = True
            log.say("stopping when the calls under way are answered; once more stops at once and loses them")

    with log.progress("captioning", len(selection.images) * len(slots)):
        return caption_images(
            images,
            selection.images,
            out,
            engine,
            slots,
            settings,
            models=models,
            retry_failed=retry_failed,
            watch=watch,
        )
