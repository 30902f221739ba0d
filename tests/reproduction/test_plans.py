"""The commands of every row, read by the parsers that a user's commands are read by."""

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from textreid.cli.app import app
from textreid.config import Config
from textreid.errors import ConfigError
from textreid.presets import preset
from textreid.reproduction import SCALES, Experiment, experiments, find_experiment, make_plan

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
    if not experiment.rows[SCALES[scale].rows]:
        with pytest.raises(ConfigError, match=f"{experiment.name}: an experiment of drawn people only"):
            make_plan(experiment, SCALES[scale], Path("out"), range(2))
        return
    plan = make_plan(experiment, SCALES[scale], Path("out"), range(2))
    assert len(plan.rows) == 2 * len(experiment.rows[SCALES[scale].rows])
    names = []
    for planned in plan.rows:
        for step in planned.steps:
            name, options = parsed(step.arguments)
            names.append(name)
            if name in {"pretrain", "finetune"}:
                config = config_of(name, options)
                # There is one CLIP, and one stand-in for it, whatever the seed.
                assert config.training.seed == (0 if "lab" in step.makes.parts else planned.seed)
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
        for experiment in (one for one in experiments() if one.rows[scale.rows]):
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
                # The stand-in for CLIP has seen other domains, where number 0 is somebody else.
                if step.arguments[0] == "synthesize" and "lab" not in step.makes.parts:
                    _, options = parsed(step.arguments)
                    first = options["first_identity"]
                    ranges[str(step.makes)] = (first, first + options["identities"])
        spans = sorted(ranges.values())
        assert len(spans) == 6
        assert all(low[1] <= high[0] for low, high in pairwise(spans))


def test_a_table_that_is_stopped_has_whole_seeds() -> None:
    plan = make_plan(find_experiment("noise"), SCALES["mini"], Path("out"), range(3))
    seeds = [planned.seed for planned in plan.rows]
    assert seeds == sorted(seeds)


def test_rows_of_one_error_rate_share_their_captions_and_all_start_from_one_model() -> None:
    plan = make_plan(find_experiment("noise"), SCALES["mini"], Path("out"), [0])
    captions, starts, rates = {}, set(), {}
    for planned in plan.rows:
        for step in planned.steps:
            name, options = parsed(step.arguments)
            if name == "caption":
                rates[options["out"]] = options["mllm"]
            if name == "pretrain" and planned.row.id in step.makes.parts:
                captions[planned.row.id] = options["captions"]
                starts.add(config_of(name, options).model.weights)
    assert starts == {"out/mini/lab/run/model"}
    assert captions["em-50"] == captions["oracle-50"] != captions["em-30"]
    assert rates[captions["em-50"]] == ["qwen=simulated:0.5", "shikra=simulated:0.5"]
    kinds = make_plan(find_experiment("kinds"), SCALES["mini"], Path("out"), [0])
    asked = {
        row.row.id: step
        for row in kinds.rows
        for step in row.steps
        if step.arguments[0] == "caption" and "lab" not in step.makes.parts
    }
    assert asked["none-bag"] == asked["oracle-bag"] != asked["none-gender"]
    assert asked["none-bag"].makes == Path("out/mini/seed-0/data/luperson-mllm-0.5-bag/manifest.json")
    assert parsed(asked["none-bag"].arguments)[1]["mllm"] == ["qwen=simulated:0.5:bag", "shikra=simulated:0.5:bag"]
    assert rates[captions["tde-em"]] == ["qwen=simulated", "shikra=simulated"]
    assert rates[Path("out/mini/lab/captions")] == ["qwen=simulated:0", "shikra=simulated:0"]


def test_weights_and_paths_that_are_given_are_used() -> None:
    experiment = next(one for one in experiments() if one.name == "masking")
    data = {name: Path("given") / name for name in GIVEN}
    planned = make_plan(experiment, SCALES["paper"], Path("out"), [0], data).rows[1]
    (pretrain,) = [step for step in planned.steps if step.arguments[0] == "pretrain"]
    _, options = parsed(pretrain.arguments)
    assert options["images"] == Path("given/luperson")
    assert config_of("pretrain", options).model.weights == "given/clip"
    assert parsed(planned.steps[-1].arguments)[1]["benchmarks"][0] == "cuhk-pedes=given/cuhk-pedes"
