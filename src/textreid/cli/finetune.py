"""``textreid finetune``: a model and described people in, a better model for such people out."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textreid.cli.evaluate import BENCHMARK_HELP
from textreid.errors import ConfigError

if TYPE_CHECKING:
    from textreid.config import Config


def finetune(
    model: str = typer.Argument(help="What to start from: a model folder, an imported checkpoint, CLIP on the hub."),
    benchmark: str | None = typer.Option(
        None, "--benchmark", metavar="[NAME=]PATH", help=f"Annotated people: {BENCHMARK_HELP}"
    ),
    dataset: str | None = typer.Option(None, "--dataset", hidden=True),  # what the option was called once
    images: Path | None = typer.Option(None, metavar="FOLDER", help="Without identities: the root of the images, …"),
    captions: Path | None = typer.Option(None, metavar="FOLDER", help="… and the folder of their caption table."),
    validate: str | None = typer.Option(
        None, metavar="[NAME=]PATH", help="Choose the epoch on the validation split of this benchmark instead."
    ),
    out: Path = typer.Option(..., help="Run folder: checkpoints, metrics.jsonl, plots, and the model in OUT/model."),
    config: Path | None = typer.Option(None, help="Settings in JSON or TOML, on top of the finetune preset."),
    assignments: list[str] = typer.Option([], "--set", metavar="SECTION.NAME=VALUE", help="Override one setting."),
    resume: bool = typer.Option(
        False, "--resume", help="Continue the run in OUT from its last checkpoint, with its own settings."
    ),
    tensorboard: bool = typer.Option(False, "--tensorboard", help="Also write OUT/tensorboard, from the same log."),
) -> None:
    """Fine-tune a model on described people: similarity, identities and masked words (the recipe of IRRA).

    The epoch with the best R1 on the validation split is kept; a benchmark without one sets 10 % of its training people
    aside. --set training.select=last trains on everybody and keeps the last epoch.
    """
    benchmark = benchmark or dataset
    if (benchmark is None) == (images is None) or (images is None) != (captions is None):
        raise ConfigError("give either --benchmark, or --images and --captions")
    # Settings first: one that is mistyped is told before the benchmark is read.
    settings = _settings(model, config, assignments, out if resume else None)
    people, validation = None, None
    if benchmark or validate:
        from textreid.datasets.benchmarks import read_named
        from textreid.evaluation.splits import split_for_training, validation as validation_of

        if benchmark:
            set_aside = settings.training.select == "validation" and not validate
            people, validation = split_for_training(read_named(benchmark), set_aside)
        if validate:
            validation = validation_of(read_named(validate))

    from textreid.images import silence_decoders
    from textreid.runlog import RunLog, first_of_run
    from textreid.training.dataset import annotated_people, captioned_images
    from textreid.training.recipe import train

    silence_decoders()
    if people:
        data = annotated_people(people)
    elif images and captions:
        data = captioned_images(images, captions)
    log = RunLog(out, tensorboard=tensorboard)
    train(settings, data, out, validation=validation, resume=resume, log=log)
    # Of several processes that train together, one prints.
    if first_of_run():
        typer.echo(out / "model")


def _settings(model: str, file: Path | None, assignments: list[str], resumed: Path | None) -> "Config":
    """Return the finetune preset for the network of ``model``; a run that goes on has its own settings."""
    from textreid.config import Config
    from textreid.presets import finetune as preset, settings_of_run

    settings = settings_of_run(resumed) if resumed else None
    if settings is None:
        from textreid.models import load_model

        settings = replace(preset(), model=load_model(model).config)
    settings = replace(settings, model=replace(settings.model, weights=model))
    return (Config.load(file, settings) if file else settings).override(assignments)
