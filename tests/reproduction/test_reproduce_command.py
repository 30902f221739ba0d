"""``textreid reproduce``: printing, running, being killed and going on."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.commands import Run

from textreid.artifacts import write_json
from textreid.config import ModelConfig
from textreid.models import Model, Tokenizer, initialize
from textreid.reproduction import SCALES, experiments, make_plan
from textreid.synthetic import write_corpus

pytestmark = pytest.mark.slow


def commands(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("$ ")]


def kill_in_training(arguments: list[str], run: Path) -> None:
    """Start the command and end it, without a word, once the run has a checkpoint and before it has a model."""
    process = subprocess.Popen(
        [sys.executable, "-m", "textreid", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list(run.glob("step-*/manifest.json")):
        assert process.poll() is None, "ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_experiment_goes_on_and_what_is_done_is_kept(textreid: Run, tmp_path: Path) -> None:
    arguments = ["reproduce", "table2", "--quick", "--seeds", "1", "--out", str(tmp_path / "out")]
    own = tmp_path / "out" / "quick" / "seed-0"
    kill_in_training(arguments, own / "runs" / "luperson-t")
    assert not (own / "reports").exists()

    code, data, said = textreid(*arguments, "--json")
    assert code == 0
    ran = commands(said)
    assert ran[0].startswith("$ textreid pretrain --preset tiny")
    assert ran[0].endswith(" --resume")
    assert sum(line.split()[2] == "pretrain" for line in ran) == 2
    assert sum(line.endswith("--resume") for line in ran) == 1
    results = json.loads(data)
    measured = {row["id"]: row["measured"] for row in results["rows"]}
    assert measured.keys() == {"luperson-t", "tde-nam"}
    assert all(set(found) == {"campus", "station", "all unseen domains"} for found in measured.values())

    code, data, said = textreid(*arguments)
    assert (code, commands(said)) == (0, [])
    assert "of equal seeds: the same people and captions" in " ".join(data.split())
    assert json.loads((tmp_path / "out" / "quick" / "datasets" / "report.json").read_text()) == results

    note = next((tmp_path / "out" / "quick" / "steps").glob("*tde-nam*manifest*"))
    note.write_text(json.dumps({"arguments": ["pretrain", "--preset", "paper"]}))
    code, _, said = textreid(*arguments)
    assert code == 1
    assert "made by other arguments" in said


def test_printing_is_a_script_with_the_published_figures(textreid: Run) -> None:
    code, data, _ = textreid("reproduce", "table3", "--scale", "paper")
    assert code == 0
    assert "# published on cuhk-pedes: R1 52.64, mAP 46.48\n" in data
    assert "# needs --data luperson=PATH --data luperson-mllm=PATH --data cuhk-pedes=PATH" in data
    lines = [line for line in data.splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(set(lines)) == 1 + 1 + 2 * 4
    assert all(line.startswith("textreid ") for line in lines)
    code, data, _ = textreid("reproduce")
    assert (code, len(data.splitlines())) == (0, len(experiments()))


def test_all_experiments_are_one_command_that_writes_every_table(textreid: Run, tmp_path: Path) -> None:
    # Every row is done: that rows run is in the other tests.
    out = tmp_path / "out"
    plans = [make_plan(one, SCALES["quick"], out, [0]) for one in experiments() if one.rows["mini"]]
    for step in {step.makes: step for plan in plans for planned in plan.rows for step in planned.steps}.values():
        note = out / "quick" / "steps" / ("-".join(step.makes.relative_to(out / "quick").parts) + ".json")
        write_json(note, {"arguments": list(step.arguments)})
        evaluation = {
            "benchmark": "campus", "form": "generic",
            "text_to_image": {"scores": {"R1": 0.3, "mAP": 0.2}, "chance": {"R1": 0.01}},
        }  # fmt: skip
        write_json(step.makes, {"evaluations": [evaluation], "published": []})
    arguments = ["reproduce", "all", "--quick", "--seeds", "1", "--out", out]
    code, data, said = textreid(*arguments)
    assert (code, commands(said)) == (0, [])
    for one in experiments():
        folder = out / "quick" / one.name
        assert {file.name for file in folder.iterdir()} == {"report.json", "report.md", "report.tex", "plot.png"}
        assert one.title in data
    code, data, _ = textreid(*arguments, "--json")
    assert [one["experiment"] for one in json.loads(data)] == [one.name for one in experiments()]
    code, data, _ = textreid(*arguments, "--print")
    lines = [line for line in data.splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(set(lines)) == len(list((out / "quick" / "steps").iterdir()))


def test_at_the_papers_scale_rows_run_whose_data_is_there(textreid: Run, tmp_path: Path) -> None:
    # The folder has the form of CUHK-PEDES and not its people, and the weights are random.
    write_corpus(tmp_path / "people", "street", 4, 2, seed=0)
    tokenizer = Tokenizer.learn(["a man in a red coat", "a woman with a bag"], 300, text_length=16)
    shape = ModelConfig(
        image_height=32, image_width=32, vision_width=16, vision_layers=1, vision_heads=2, text_width=16,
        text_layers=1, text_heads=2, text_length=16, embedding_dim=8, tokenizer="own",
    )  # fmt: skip
    shape = replace(shape, vocabulary_size=tokenizer.vocabulary_size)
    Model(initialize(shape), tokenizer).save(tmp_path / "clip", "# Random\n")
    given = ["--data", f"clip={tmp_path / 'clip'}", "--data", f"cuhk-pedes={tmp_path / 'people'}"]
    code, data, said = textreid(
        "reproduce", "table2", "--scale", "paper", "--run", "--json", "--out", tmp_path / "out", *given
    )
    assert code == 0
    assert [line.split()[2] for line in commands(said)] == ["convert", "evaluate"]
    assert "left out: all four (TDE), NAM: give --data luperson=PATH --data luperson-mllm=PATH" in said
    results = json.loads(data)
    assert [row["id"] for row in results["rows"] if row["measured"]] == ["clip"]
    assert "3,074 images" in results["not_comparable"]["cuhk-pedes"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table9"], "no experiment 'table9'"),
        (["table1", "--scale", "paper", "--data", "luperson"], "--data luperson: expected NAME=PATH"),
        (["table1", "--scale", "paper", "--data", "lup=x"], "NAME one of luperson,"),
        (["table1", "--scale", "paper", "--data", "luperson=/nowhere"], "no such file or folder"),
        (["table1", "--data", "luperson=/"], "--data is for --scale paper"),
        (["table1", "--scale", "paper", "--quick"], "--quick needs --scale mini"),
        (["table1", "--scale", "paper", "--run"], "nothing to run: CLIP, no training: give --data cuhk-pedes=PATH"),
    ],
)
def test_refusals(textreid: Run, arguments: list[str], message: str) -> None:
    code, data, said = textreid("reproduce", *arguments)
    assert (code, data) == (2, "")
    assert message in said
