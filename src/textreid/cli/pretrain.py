"""``textreid pretrain``: captioned images in, a model folder out."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from textreid.config import Config
    from textreid.runlog import RunLog

_NAMED = 5  # settings of a preset that the run has otherwise


def pretrain(
    images: Path = typer.Option(..., help="Root folder of the images named in the caption table."),
    captions: Path = typer.Option(..., help="Folder of the caption table."),
    out: Path = typer.Option(..., help="Run folder: checkpoints, metrics.jsonl, plots, and the model in OUT/model."),
    preset: str | None = typer.Option(
        None,
        help="tiny (if nothing is given); small, above the bundled trunk; paper, from CLIP ViT-B/16; or fast, as paper "
        "in a third of the work.",
        show_default=False,
    ),
    config: Path | None = typer.Option(None, help="Settings in JSON or TOML, on top of the preset."),
    masking: Literal["nam", "em", "none", "oracle"] | None = typer.Option(
        None, help="nam: noisy words more often; em: all alike; none; oracle: the errors that a captioner knows."
    ),
    assignments: list[str] = typer.Option([], "--set", metavar="SECTION.NAME=VALUE", help="Override one setting."),
    resume: bool = typer.Option(
        False, "--resume", help="Continue the run in OUT from its last checkpoint, with its own settings."
    ),
    tensorboard: bool = typer.Option(False, "--tensorboard", help="Also write OUT/tensorboard, from the same log."),
    benchmark: str | None = typer.Option(
        None, metavar="[NAME=]PATH", help="Measure on the validation split of this data set after each epoch."
    ),
    validate: str | None = typer.Option(None, hidden=True),  # what the option was called once
    validate_on_test: bool = typer.Option(
        False, "--validate-on-test", help="Measure on its test split instead; the model and every report of it say so."
    ),
) -> None:
    """Train a model on captioned images, with Noise-Aware Masking."""
    from textreid.images import silence_decoders
    from textreid.listing import list_images
    from textreid.runlog import RunLog, first_of_run

    silence_decoders()
    log = RunLog(out, tensorboard=tensorboard)
    if masking:
        assignments = [*assignments, f"masking.method={masking}"]
    settings = _settings(preset, config, assignments, out if resume else None, log)
    benchmark = benchmark or validate
    if validate_on_test and benchmark is None:
        raise typer.BadParameter("--validate-on-test needs --benchmark, the data set to measure on")
    validation = None
    if benchmark:
        from textreid.datasets.benchmarks import read_named
        from textreid.evaluation.splits import validation as validation_of

        validation = validation_of(read_named(benchmark), validate_on_test)

    from textreid.training.dataset import captioned_images
    from textreid.training.recipe import train

    data = captioned_images(images, captions)
    # Once a run and from one process: a resumed run told it when it began.
    if first_of_run() and not resume:
        for note in list_images(images).notes():
            log.say(note)
    train(settings, data, out, validation=validation, resume=resume, log=log)
    if first_of_run():
        typer.echo(out / "model")


def _settings(
    preset: str | None, file: Path | None, assignments: list[str], resumed: Path | None, log: "RunLog"
) -> "Config":
    """Return the settings given; a run that goes on has its own, with which a file and assignments are compared."""
    from textreid.config import Config
    from textreid.presets import preset as find_preset, settings_of_run

    def apply(start: Config) -> Config:
        return (Config.load(file, start) if file else start).override(assignments)

    # Made even if the run has its own: what it refuses is refused with --resume as well.
    fresh = apply(find_preset(preset or "tiny"))
    own = settings_of_run(resumed) if resumed else None
    if own is None:
        return fresh
    settings = apply(own)
    # Only where a preset was asked for: without one nobody expects another's settings.
    others = settings.differences(fresh) if preset else []
    if others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        log.say(f"goes on with the settings of {resumed}; in --preset {preset}, {'; '.join(others[:_NAMED])}{more}")
    return settings
