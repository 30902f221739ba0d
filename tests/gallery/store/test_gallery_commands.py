"""``textreid index``, ``textreid search --gallery`` and ``textreid gallery`` one after the other."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.commands import Run

from textreid.cli.index import LookedAt
from textreid.gallery.store import Database
from textreid.gallery.store.indexing import exclusively
from textreid.progress import Progress

pytestmark = pytest.mark.slow
MakeCrops = Callable[..., Path]
QUERY = "a woman in a red jacket"


def test_a_gallery_from_the_first_crop_to_its_end(
    database: Database, make_crops: MakeCrops, model_folder: Path, tmp_path: Path, ok: Run, textreid: Run
) -> None:
    crops = make_crops(5)
    os.renames(crops / "0.png", crops / "gate" / "2026-05-31" / "14-05-09.png")
    (crops / "bad.png").write_bytes(b"no picture")
    arguments = ("index", crops, "--gallery", "demo", "--pattern", "{camera}/{date}/{time}.png", "--tag", "may")
    done = ok(*arguments, "--model", model_folder)
    assert "5 embedded, 1 left out in " in done.stderr
    assert "5 files do not fit the pattern" in done.stderr
    assert "bad.png: not an image" in done.stderr
    assert json.loads(ok(*arguments, "--json").stdout)["unchanged"] == 5

    # Of noise a model with random weights sees one picture.
    lines = ok("search", QUERY, "--gallery", "demo", "--top", "3", "--no-group").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["1", "2", "3"]
    sheet = tmp_path / "sheet.png"
    first = ok("search", QUERY, "--gallery", "demo", "--top", "3", "--no-group")
    token = first.stderr.splitlines()[-1].removeprefix("next page: the same command with --page ")
    second = ("search", QUERY, "--gallery", "demo", "--top", "3", "--no-group", "--page", token)
    rest = ok(*second, "--sheet", sheet)
    assert "--page" not in rest.stderr
    assert [line.split("\t")[0] for line in rest.stdout.splitlines()] == ["4", "5"]
    assert len({line.split("\t")[2] for line in lines + rest.stdout.splitlines()}) == 5
    answer = json.loads(ok(*second[:5], "2", "--no-group", "--json", "--page", token).stdout)
    assert ([hit["rank"] for hit in answer["results"]], answer["next"].split("@")[0]) == ([4, 5], "5")
    assert ok(*second[:-1], answer["next"]).stderr == "there are no more results\n"
    filters = ("--camera", "gate", "--since", "2026-05-31", "--until", "2026-05-31", "--hours", "14-15", "--tag", "may")
    found = ok("search", QUERY, "--gallery", "demo", *filters, "--source", crops, "--sheet", sheet, "--json")
    (hit,) = json.loads(found.stdout)["results"]
    assert (hit["camera"], hit["time"], hit["tags"]) == ("gate", "2026-05-31T14:05:09", ["may"])
    with Image.open(sheet) as picture:
        assert picture.width > 500
    nobody = ok("search", QUERY, "--gallery", "demo", "--camera", "yard")
    assert (nobody.stdout, nobody.stderr) == ("", "nobody in gallery 'demo' passes the filters; its cameras: gate\n")
    ok("index", make_crops(2, "others", seed=1), "--gallery", "bare", "--model", model_folder)
    nobody = ok("search", QUERY, "--gallery", "bare", "--camera", "gate", "--hours", "13-18")
    assert nobody.stderr == (
        "nobody in gallery 'bare' passes the filters; none of its crops has a camera; none of its crops has a time\n"
    )
    ok("gallery", "delete", "bare", "--yes")

    assert ok("gallery", "list").stdout.split("\t")[:2] == ["demo", "5"]
    info = json.loads(ok("gallery", "info", "demo", "--json").stdout)
    assert (info["crops"], info["cameras"], len(info["quarantined"])) == (5, {"gate": 1}, 1)
    assert "bad.png: not an image" in ok("gallery", "info", "demo").stdout
    ok("gallery", "export", "demo", tmp_path / "demo.jsonl", "--vectors", tmp_path / "demo.npy")
    assert len((tmp_path / "demo.jsonl").read_text().splitlines()) == 5
    ok("gallery", "backup", "demo", tmp_path / "demo.gallery")
    refused = textreid("gallery", "delete", "demo")
    assert (refused.returncode, refused.stderr) == (
        2, "textreid: gallery 'demo' holds 5 crops; --yes deletes it for good\n"
    )  # fmt: skip
    ok("gallery", "delete", "demo", "--yes")
    ok("gallery", "restore", tmp_path / "demo.gallery", "--gallery", "again")
    assert ok("search", QUERY, "--gallery", "again", "--top", "3", "--no-group").stdout.count("\n") == 3


def test_a_video_tells_how_much_of_it_was_looked_at_and_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Progress("index gate.avi", "seconds") as progress:
        looked_at = LookedAt(progress)
        looked_at(600, None, 0)  # by an earlier run
        now += 20
        looked_at(700, 1200, 8)
        now += 20
        looked_at(900, None, 12)
        now += 20
        looked_at(1200, 1200, 15)
    assert capsys.readouterr().err.splitlines() == [
        "index gate.avi: 700 of 1,200 seconds, 8 crops, 5.0 times real time, 1:40 left",
        "index gate.avi: 900 seconds, 12 crops, 7.5 times real time",
    ]


def test_a_gallery_moves_to_another_model(
    database: Database, make_crops: MakeCrops, model_folder: Path, other_model_folder: Path, ok: Run, textreid: Run
) -> None:
    crops = make_crops(3)
    ok("index", crops, "--gallery", "demo", "--model", model_folder)
    for command in (("index", crops), ("search", QUERY)):
        refused = textreid(*command, "--gallery", "demo", "--model", other_model_folder)
        assert f"textreid gallery reindex demo --model {other_model_folder} embeds" in refused.stderr
    (crops / "0.png").rename(crops / "away")
    words = ("gallery", "reindex", "demo", "--model", other_model_folder, "--precision", "fp32")
    refused = textreid(*words)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert "0.png cannot be embedded again: cannot be read: No such file" in refused.stderr
    info = json.loads(ok("gallery", "info", "demo", "--json").stdout)
    assert (info["model"], info["embedded again"]) == (str(model_folder), {str(other_model_folder): 2})
    (crops / "away").rename(crops / "0.png")
    done = ok(*words, "--json")
    assert json.loads(done.stdout) == {
        "gallery": "demo", "model": str(other_model_folder), "embedded": 1, "kept": 2, "left_out": []
    }  # fmt: skip
    assert f"gallery 'demo': 1 crops embedded by model {other_model_folder} in " in done.stderr
    assert ok("search", QUERY, "--gallery", "demo", "--top", "3", "--no-group").stdout.count("\n") == 3
    assert "is embedded by model" in ok(*words).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search", QUERY), "search where? --images FOLDER, or --gallery NAME"),
        (("search", QUERY, "--images", ".", "--gallery", "a"), "--images and --gallery: search one of them"),
        (("search", QUERY, "--images", ".", "--camera", "a"), "--camera: only a gallery knows that"),
        (("search", QUERY, "--images", ".", "--page", "3@0x1p-1,1,1"), "--page: only a gallery knows that"),
        (("search", QUERY, "--gallery", "a", "--page", "2"), "--page '2': is not what a search named"),
        (("search", QUERY, "--gallery", "a", "--hours", "noon"), "--hours: 'noon': write FROM-TO"),
        (("search", QUERY, "--gallery", "a", "--since", "noon"), "--since: 'noon' is no time"),
        (("index", "nowhere", "--gallery", "a"), "nowhere: there is no such file or folder"),
        (("index", ".", "--gallery", "a", "--pattern", "{x}"), "{x} is not known"),
        (("gallery", "info", "none", "--database", "postgresql://127.0.0.1:9/x"), "the database cannot be reached"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], message: str, textreid: Run) -> None:
    done = textreid(*arguments)
    assert (done.returncode in {1, 2, 75}, done.stdout, done.stderr.count("\n")) == (True, "", 1)
    assert message in done.stderr


def test_what_passes_by_itself_has_an_exit_code_of_its_own(
    database: Database, make_crops: MakeCrops, model_folder: Path, ok: Run, textreid: Run
) -> None:
    crops = make_crops(2)
    arguments = ("index", crops, "--gallery", "demo", "--model", model_folder)
    ok(*arguments)
    with exclusively(database.store("demo"), str(crops), "busy"):
        busy = textreid(*arguments)
    away = textreid(*arguments, "--database", "postgresql://127.0.0.1:9/x")
    assert (busy.returncode, away.returncode) == (75, 75)
    assert "another process indexes it into gallery 'demo'" in busy.stderr
    assert "Connection refused" in away.stderr
    ok(*arguments)
