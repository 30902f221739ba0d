"""``textreid finetune``: a model and described people in, a better model for such people out."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from textreid.errors import ConfigError

if TYPE_CHECKING:
    from textreid.config import Config
    from textreid.datasets.records import Benchmark
    from textreid.models import Model

_BENCHMARK = "cuhk-pedes=, icfg-pedes= or rstpreid= and the folder as it is distributed; without a name your own data: "
_BENCHMARK += "a folder in CUHK-PEDES form, or a table."
_SEED = 0  # of the people set aside: the same for all runs, so that their figures compare


def finetune(
    model: str = typer.Argument(help="What to start from: a model folder, an imported checkpoint, CLIP on the hub."),
    benchmark: str | None = typer.Option(
        None, "--benchmark", "--dataset", metavar="[NAME=]PATH", help=f"Annotated people: {_BENCHMARK}"
    ),
    images: Path | None = typer.Option(None, metavar="FOLDER", help="Without identities: the root of the images, …"),
    captions: Path | None = typer.Option(None, metavar="FOLDER", help="… and the folder of their caption table."),
    validate: str | None = typer.Option(
        None, metavar="[NAME=]PATH", help="Choose the epoch on the validation split of this benchmark instead."
    ),
    out: Path = typer.Option(..., help="Run folder: checkpoints, metrics.jsonl, plots, and the model in OUT/model."),
    config: Path | None = typer.Option(None, help="Settings in JSON or TOML, on top of the finetune preset."),
    assignments: list[str] = typer.Option([], "--set", metavar="SECTION.NAME=VALUE", help="Override one setting."),
    resume: bool = typer.Option(False, "--resume", help="Continue the run in OUT from its last checkpoint."),
) -> None:
    """Fine-tune a model on described people: similarity, identities and masked words (the recipe of IRRA).

    The epoch with the best R1 on the validation split is kept; a benchmark without one sets 10 % of its training people
    aside. --set training.select=last trains on everybody and keeps the last epoch.
    """
    if (benchmark is None) == (images is None) or (images is None) != (captions is None):
        raise ConfigError("give either --benchmark, or --images and --captions")
    annotated = _read(benchmark) if benchmark else None
    watched = _validation_split(_read(validate)) if validate else None
    settings = _settings(model, config, assignments, out if resume else None)

    from textreid.training.recipe import train
    from textreid.training.training_set import annotated_people, captioned_images

    if annotated:
        people, own = _divide(annotated, set_aside=watched is None and settings.training.select == "validation")
        data, watched = annotated_people(people), watched or own
    elif images and captions:
        data = captioned_images(images, captions)
    train(settings, data, out, resume, *(_evaluation(watched) if watched else ()))
    typer.echo(out / "model")


def _read(argument: str) -> "Benchmark":
    from textreid.datasets.benchmarks import GENERIC, read_benchmark

    name, equals, path = argument.partition("=")
    if not equals or Path(argument).exists():
        name, path = GENERIC, argument
    return read_benchmark(name, Path(path))


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


def _divide(benchmark: "Benchmark", set_aside: bool) -> "tuple[Benchmark, Benchmark | None]":
    """The people to train on, and the validation split; one is set aside if there is none and it is asked for."""
    people = benchmark.split("train")
    if "val" in benchmark.splits:
        return people, benchmark.split("val")
    return people.validation_split(_SEED) if set_aside else (people, None)


def _validation_split(benchmark: "Benchmark") -> "Benchmark":
    return benchmark.split("val") if "val" in benchmark.splits else benchmark.split("train").validation_split(_SEED)[1]


def _evaluation(part: "Benchmark") -> "tuple[Callable[[Model], Mapping[str, float]], str]":
    from textreid.evaluation import evaluate_model

    split = part.records[0].split
    kind = "the validation split" if split == "val" else f"10 % of the training people (seed {_SEED})"
    return lambda model: evaluate_model(model, part, split).scores(), f"{kind} of {part.name}"
