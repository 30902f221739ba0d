"""``textreid pretrain``: captioned images in, a model folder out."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from textreid.evaluation.splits import Validation


class Masking(StrEnum):
    """How words are masked."""

    NAM = "nam"
    EM = "em"
    NONE = "none"


def pretrain(
    images: Path = typer.Option(..., help="Root folder of the images named in the caption table."),
    captions: Path = typer.Option(..., help="Folder of the caption table."),
    out: Path = typer.Option(..., help="Run folder: checkpoints, metrics.jsonl, plots, and the model in OUT/model."),
    preset: str = typer.Option(
        "tiny", help="tiny; paper, from CLIP ViT-B/16; or fast, as paper in a third of the work."
    ),
    config: Path | None = typer.Option(None, help="Settings in JSON or TOML, on top of the preset."),
    masking: Masking | None = typer.Option(None, help="nam: noisy words more often; em: all alike; none."),
    assignments: list[str] = typer.Option([], "--set", metavar="SECTION.NAME=VALUE", help="Override one setting."),
    resume: bool = typer.Option(False, "--resume", help="Continue the run in OUT from its last checkpoint."),
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
    from textreid.config import Config
    from textreid.presets import preset as find_preset

    settings = find_preset(preset)
    if config:
        settings = Config.load(config, settings)
    if masking:
        assignments = [*assignments, f"masking.method={masking.value}"]
    settings = settings.override(assignments)
    benchmark = benchmark or validate
    if validate_on_test and benchmark is None:
        raise typer.BadParameter("--validate-on-test needs --benchmark, the data set to measure on")
    watched = _validation(benchmark, validate_on_test) if benchmark else None

    from textreid.runlog import RunLog
    from textreid.training.processes import first_of_run
    from textreid.training.recipe import pretrain as run

    log = RunLog(out, tensorboard=tensorboard)
    run(settings, images, captions, out, resume, watched, watched.words if watched else None, log)
    if first_of_run():
        typer.echo(out / "model")


def _validation(benchmark: str, on_test: bool) -> "Validation":
    from textreid.datasets.benchmarks import read_named
    from textreid.evaluation.splits import validation

    return validation(read_named(benchmark), on_test)
