"""``textreid finetune``: a model and described people in, a better model for such people out."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textreid.datasets.benchmarks import read_named
from textreid.errors import ConfigError

if TYPE_CHECKING:
    from textreid.config import Config
    from textreid.datasets.records import Benchmark
    from textreid.evaluation.splits import Validation

_BENCHMARK = "cuhk-pedes=, icfg-pedes= or rstpreid= and the folder as it is distributed; any other name, or none, "
_BENCHMARK += "for your own data: a folder in CUHK-PEDES form, or a table."


def finetune(
    model: str = typer.Argument(help="What to start from: a model folder, an imported checkpoint, CLIP on the hub."),
    benchmark: str | None = typer.Option(
        None, "--benchmark", metavar="[NAME=]PATH", help=f"Annotated people: {_BENCHMARK}"
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
    resume: bool = typer.Option(False, "--resume", help="Continue the run in OUT from its last checkpoint."),
    tensorboard: bool = typer.Option(False, "--tensorboard", help="Also write OUT/tensorboard, from the same log."),
) -> None:
    """Fine-tune a model on described people: similarity, identities and masked words (the recipe of IRRA).

    The epoch with the best R1 on the validation split is kept; a benchmark without one sets 10 % of its training people
    aside. --set training.select=last trains on everybody and keeps the last epoch.
    """
    benchmark = benchmark or dataset
    if (benchmark is None) == (images is None) or (images is None) != (captions is None):
        raise ConfigError("give either --benchmark, or --images and --captions")
    annotated = read_named(benchmark) if benchmark else None
    other = read_named(validate) if validate else None
    settings = _settings(model, config, assignments, out if resume else None)
    watched = _validation(annotated, other, settings.training.select == "validation")

    from textreid.runlog import RunLog
    from textreid.training.dataset import annotated_people, captioned_images
    from textreid.training.processes import first_of_run
    from textreid.training.recipe import train

    if annotated:
        data = annotated_people(_people(annotated, aside=watched is not None and other is None))
    elif images and captions:
        data = captioned_images(images, captions)
    log = RunLog(out, tensorboard=tensorboard)
    train(settings, data, out, resume, watched, watched.words if watched else None, log)
    if first_of_run():
        typer.echo(out / "model")


def _settings(model: str, file: Path | None, assignments: list[str], resumed: Path | None) -> "Config":
    """The finetune preset for the network of ``model``; a run that goes on has its shape in its folder."""
    from textreid.config import Config
    from textreid.presets import finetune as preset

    if resumed and (resumed / "config.json").is_file():
        shape = Config.load(resumed / "config.json").model
    else:
        from textreid.models import load_model

        shape = load_model(model).config
    settings = replace(preset(), model=replace(shape, weights=model))
    return (Config.load(file, settings) if file else settings).override(assignments)


def _validation(annotated: "Benchmark | None", other: "Benchmark | None", chooses: bool) -> "Validation | None":
    """What is measured after each epoch; people are set aside for it only where the epoch is chosen by it."""
    from textreid.evaluation.splits import OWN_VALIDATION, validation

    if other:
        return validation(other)
    return validation(annotated) if annotated and (chooses or OWN_VALIDATION in annotated.splits) else None


def _people(annotated: "Benchmark", aside: bool) -> "Benchmark":
    """The people to train on: without those that `_validation` set aside."""
    from textreid.evaluation.splits import OWN_VALIDATION, SEED

    people = annotated.split("train")
    return people.validation_split(SEED)[0] if aside and OWN_VALIDATION not in annotated.splits else people
