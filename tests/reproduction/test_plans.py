"""The commands of every row, read by the parsers that a user's commands are read by."""

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from textreid.cli.app import app
from textreid.config import Config
from textreid.presets import preset
from textreid.reproduction import SCALES, Experiment, experiments, make_plan

GIVEN = ("luperson", "luperson-mllm", "clip", "cuhk-pedes", "icfg-pedes", "rstpreid")


@cache
def program() -> Any:
    return typer.main.get_command(app)


def parsed(arguments: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """The command and the values of its options; raises where the command line would refuse."""
    command = program()
    context = command.make_context("textreid", list(arguments), resilient_parsing=False)
    words = []
    while hasattr(command, "commands"):
        word, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        words.append(word)
        context = command.make_context(word, list(rest), parent=context)
    return " ".join(words), dict(context.params)


def config_of(name: str, options: dict[str, Any]) -> Config:
    base = preset("finetune" if name == "finetune" else options["preset"])
    return base.override(options["assignments"])


@pytest.mark.parametrize("scale", list(SCALES))
@pytest.mark.parametrize("experiment", experiments(), ids=lambda one: one.name)
def test_every_command_is_understood(experiment: Experiment, scale: str) -> None:
    plan = make_plan(experiment, SCALES[scale], Path("out"), range(2))
    assert len(plan.rows) == 2 * len(experiment.rows[SCALES[scale].rows])
    names = []
    for planned in plan.rows:
        for step in planned.steps:
            name, options = parsed(step.arguments)
            names.append(name)
            if name in {"pretrain", "finetune"}:
                config = config_of(name, options)
                assert config.training.seed == planned.seed
                assert step.run == options["out"]
        assert names[-1] == "evaluate"
        assert planned.report.parent == options["report"]
        assert len(options["benchmarks"]) == len(SCALES[scale].benchmarks)
    known = {"convert", "synthesize", "caption", "captions import", "captions select", "pretrain", "finetune"}
    assert set(names) <= known | {"evaluate"}
    assert len(names) >= 2 * len(plan.rows)


def test_what_a_command_needs_is_made_before() -> None:
    checked = 0
    for scale in SCALES.values():
        for experiment in experiments():
            data = {name: Path("given") / name for name in GIVEN}
            plan = make_plan(experiment, scale, Path("out"), range(1), data)
            for planned in plan.rows:
                made: list[Path] = []
                for step in planned.steps:
                    for argument in step.arguments[1:]:
                        path = Path(argument.partition("=")[2] or argument)
                        if path.parts[:1] == ("out",) and not any(part.is_relative_to(path) for part in made):
                            assert step.makes.is_relative_to(path), (step, path)
                            checked += 1
                    made.append(step.makes)
    assert checked > 100


def test_rows_say_what_data_they_lack() -> None:
    experiment = next(one for one in experiments() if one.name == "datasets")
    data = {name: Path(name) for name in ("luperson", "luperson-mllm", "cuhk-pedes")}
    needs = {
        planned.row.id: planned.needs for planned in make_plan(experiment, SCALES["paper"], Path("out"), [0], data).rows
    }
    assert needs == {
        "clip": (), "mals": ("mals-images", "mals"), "luperson-t": ("luperson-t-images", "luperson-t"),
        "tde-nam": (), "nam-1.0": (),
    }  # fmt: skip


def test_people_who_are_measured_are_never_trained_on() -> None:
    for name in ("mini", "quick"):
        experiment = next(one for one in experiments() if one.name == "finetuning")
        ranges: dict[str, tuple[int, int]] = {}
        for planned in make_plan(experiment, SCALES[name], Path("out"), [0]).rows:
            for step in planned.steps:
                if step.arguments[0] == "synthesize":
                    _, options = parsed(step.arguments)
                    first = options["first_identity"]
                    ranges[str(step.makes)] = (first, first + options["identities"])
        spans = sorted(ranges.values())
        assert len(spans) == 6
        assert all(low[1] <= high[0] for low, high in pairwise(spans))


def test_weights_and_paths_that_are_given_are_used() -> None:
    experiment = next(one for one in experiments() if one.name == "masking")
    data = {name: Path("given") / name for name in GIVEN}
    planned = make_plan(experiment, SCALES["paper"], Path("out"), [0], data).rows[1]
    (pretrain,) = [step for step in planned.steps if step.arguments[0] == "pretrain"]
    _, options = parsed(pretrain.arguments)
    assert options["images"] == Path("given/luperson")
    assert config_of("pretrain", options).model.weights == "given/clip"
    assert parsed(planned.steps[-1].arguments)[1]["benchmarks"][0] == "cuhk-pedes=given/cuhk-pedes"
