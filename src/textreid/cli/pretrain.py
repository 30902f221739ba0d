"""``textreid pretrain``: captioned images in, a model folder out."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from textreid.models import Model


class Masking(StrEnum):
    """How words are masked."""

    NAM = "nam"
    EM = "em"
    NONE = "none"


def pretrain(
    images: Path = typer.Option(..., help="Root folder of the images named in the caption table."),
    captions: Path = typer.Option(..., help="Folder of the caption table."),
    out: Path = typer.Option(..., help="Run folder: checkpoints, metrics.jsonl, plots, and the model in OUT/model."),
    preset: str = typer.Option("tiny", help="tiny, or paper (CLIP ViT-B/16; clip-vit-b16 is the same)."),
    config: Path | None = typer.Option(None, help="Settings in JSON or TOML, on top of the preset."),
    masking: Masking | None = typer.Option(None, help="nam: noisy words more often; em: all alike; none."),
    assignments: list[str] = typer.Option([], "--set", metavar="SECTION.NAME=VALUE", help="Override one setting."),
    resume: bool = typer.Option(False, "--resume", help="Continue the run in OUT from its last checkpoint."),
    validate: Path | None = typer.Option(None, help="Folder in CUHK-PEDES form to measure on after each epoch."),
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
    evaluate = _evaluation(validate) if validate else None

    from textreid.training.recipe import pretrain as run

    run(settings, images, captions, out, resume, evaluate)
    typer.echo(out / "model")


def _evaluation(folder: Path) -> "Callable[[Model], Mapping[str, float]]":
    from textreid.datasets.annotations import read_cuhk_form
    from textreid.evaluation import evaluate_model

    benchmark = read_cuhk_form(folder)
    split = "val" if any(record.split == "val" for record in benchmark.records) else "test"
    return lambda model: evaluate_model(model, benchmark, split).scores()
