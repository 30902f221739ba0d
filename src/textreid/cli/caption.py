"""``textreid caption``: a folder of images in, a caption table out."""

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from textreid.errors import ConfigError

if TYPE_CHECKING:
    from textreid.captioning.mllms import CaptionerOptions
    from textreid.captioning.requests import Settings
    from textreid.captioning.verification import VerificationPlan

EngineName = Literal["local", "ray"]


def caption(
    images: Path = typer.Argument(help="Folder of images; they are named relative to it."),
    out: Path = typer.Option(..., help="Folder of the caption table; run the same command again to go on."),
    mllm: list[str] = typer.Option(
        [],
        metavar="NAME=URL#MODEL",
        help="Who writes: NAME=URL#MODEL (an OpenAI-compatible server; the same NAME again adds a server), "
        "NAME=transformers:MODEL, NAME=vllm:MODEL (with --engine ray, on GPUs), NAME=describe or "
        "NAME=simulated; without NAME=, the latter go by their own. Repeat for more. "
        "Keys of servers come from the environment: NAME_API_KEY; OPENAI_API_KEY goes to https://api.openai.com only.",
    ),
    slots: str = typer.Option(
        "static,dynamic", help="Captions of each image by each MLLM: some of static, dynamic, styled."
    ),
    templates: Path | None = typer.Option(
        None, help="Templates of the dynamic instruction, instead of our own; general: short ones; own:N: N of our own."
    ),
    limit: int | None = typer.Option(None, min=1, help="Only the first images; without it, the job goes on to all."),
    sample: int | None = typer.Option(None, min=1, help="Only a random sample of the images, drawn by --seed."),
    seed: int = typer.Option(0, min=0, help="Of the templates, the sampling of the MLLMs, and --sample."),
    # --asks is what the option was called once.
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
    field: list[str] = typer.Option(
        [],
        metavar="NAME=JSON",
        help="A field of the request to a server: NAME=JSON sets it, NAME= leaves it out, NAME:OTHER renames it. "
        """Repeat for more, as --field top_p=0.9 --field chat_template_kwargs='{"enable_thinking": false}'.""",
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
    verify: Path | None = typer.Option(
        None,
        metavar="FOLDER",
        help="Check the captions of this table in place of writing new ones: the MLLM is asked again about the phrases "
        "that a scorer takes for wrong, and its answers confirm or repair them.",
    ),
    scored_by: str = typer.Option(
        "small", metavar="MODEL", help="Of --verify: the model that looks at the pictures for the scorer."
    ),
    scorer: str = typer.Option(
        "votes+discriminant+content",
        help="Of --verify: a value of masking.scorer that says how probably a word is wrong.",
    ),
    threshold: float = typer.Option(
        0.5, min=0, max=1, help="Of --verify: asks about phrases with a word that is wrong with this probability."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show three images' requests and an estimate; send nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print the counts as JSON."),
) -> None:
    """Describe every image in one caption per MLLM and instruction; can be stopped and started again at any moment."""
    from textreid.captioning.backends.dialect import read_fields
    from textreid.captioning.mllms import CaptionerOptions
    from textreid.captioning.plan import plan_captions
    from textreid.captioning.requests import Settings
    from textreid.images import silence_decoders

    silence_decoders()
    fields = read_fields(field) if field else None
    settings = Settings(seed, attempts, max_failures, in_flight)
    options = CaptionerOptions(max_tokens, temperature, image_size, timeout, batch_size, fields)
    if verify:
        refused = {"--limit": limit, "--sample": sample, "--templates": templates}
        given = [name for name, value in refused.items() if value is not None]
        given += ["--engine ray"] if engine != "local" else []
        if given:
            raise ConfigError(f"--verify: checks a whole table from this process; it goes without {', '.join(given)}")
        checking = _plan_verification(
            images, verify, out, mllm, (scored_by, scorer, threshold), settings, options, prices
        )
        if dry_run:
            typer.echo(checking.preview(), nl=False)
            return
        counts = checking.job.run(retry_failed=retry_failed)
        changed = checking.repairs()
        typer.echo(counts.summary(checking.job.prices), err=True)
        typer.echo(
            f"{checking.phrases} suspicious phrases, in {checking.suspected} captions; changed: "
            f"{changed['phrases']} phrases, in {changed['captions']} captions",
            err=True,
        )
        asked = {"suspicious": {"phrases": checking.phrases, "captions": checking.suspected}, "changed": dict(changed)}
        typer.echo(dumps(counts.to_dict(checking.job.prices) | asked) if as_json else out)
        return
    plan = plan_captions(
        images, out, mllm, slots=[slot.strip().lower() for slot in slots.split(",")], templates=templates,
        limit=limit, sample=sample, seed=seed,
        settings=settings, prices=prices, options=options,
    )  # fmt: skip
    if dry_run:
        typer.echo(plan.preview(), nl=False)
        return
    ray = {"address": ray_address, "workers": workers, "tensor_parallel": tensor_parallel}
    counts = plan.run(engine, ray, retry_failed)
    # The folder, or the counts as JSON, is all that stdout gets: the next command can take it.
    typer.echo(counts.summary(plan.prices), err=True)
    typer.echo(dumps(counts.to_dict(plan.prices)) if as_json else out)


def _plan_verification(
    images: Path, table: Path, out: Path, mllm: list[str], by: tuple[str, str, float], settings: "Settings",
    options: "CaptionerOptions", prices: Path | None,
) -> "VerificationPlan":  # fmt: skip
    """Plan what is asked about the captions of a table, by a model, its scorer and a threshold."""
    from textreid.captioning.repairing import Span
    from textreid.captioning.verification import plan_verification
    from textreid.inspection.suspicion import score_phrases, scorer_settings, suspicious
    from textreid.models import load_model
    from textreid.training import captioned_images

    name, scorer, threshold = by
    looking = load_model(name)
    judging = scorer_settings(looking, scorer)
    facts = {"model": looking.fingerprint, "scorer": scorer, "threshold": threshold}

    def find_phrases() -> dict[int, tuple[Span, ...]]:
        data = captioned_images(images, table)
        scored = score_phrases(looking, data, judging, lambda line: typer.echo(line, err=True))
        return suspicious(scored, threshold)

    return plan_verification(
        images, table, out, mllm, find_phrases, facts, settings=settings, options=options, prices=prices
    )
