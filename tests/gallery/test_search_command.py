"""``textreid search`` and ``textreid cache`` as processes: what goes where, and what an error looks like."""

import json
import os
import pty
import pwd
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from PIL import Image
from tests.commands import Done, Run, textreid

from textreid.cli.search import BETTER
from textreid.gallery.encoder import GalleryEncoder

pytestmark = pytest.mark.slow

MakeCrops = Callable[..., Path]
QUERY = "a woman in a red jacket"
COMMAND = [sys.executable, "-c", "from textreid.cli import main; main()"]


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "crops"
    folder.mkdir()
    for number in range(4):
        noise = Image.effect_noise((4 + number, 8), 90).convert("RGB")
        noise.resize((24, 56), Image.Resampling.NEAREST).save(folder / f"{number}.jpg")
    return folder


@pytest.fixture(scope="module")
def indexed(crops: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that a first search filled."""
    cache = tmp_path_factory.mktemp("cache")
    first = textreid("search", QUERY, "--images", crops, "--model", model_folder, TEXTREID_CACHE=str(cache))
    assert (first.returncode, first.stdout.count("\n")) == (0, 4)
    assert first.stderr.startswith("embedded 4 images in ")
    return cache


@pytest.fixture
def search(crops: Path, model_folder: Path, indexed: Path) -> Run:
    def run(*options: str | Path, cache: Path = indexed) -> Done:
        arguments = ("search", QUERY, "--images", crops, "--model", model_folder, *options)
        return textreid(*arguments, TEXTREID_CACHE=str(cache))

    return run


def test_a_pipe_gets_lines_and_nothing_else(search: Run, crops: Path) -> None:
    result = search("--top", "3")
    assert (result.returncode, result.stderr) == (0, "")
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    scores = [float(row[1]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert {Path(row[2]).parent for row in rows} == {crops}


def test_only_the_first_search_with_the_bundled_model_says_that_there_are_larger_ones(
    make_crops: MakeCrops, tmp_path: Path
) -> None:
    arguments = ("search", QUERY, "--images", make_crops(2))
    first, second = (textreid(*arguments, TEXTREID_CACHE=str(tmp_path / "cache")) for _ in range(2))
    assert (first.returncode, first.stdout.count("\n")) == (0, 2)
    assert first.stderr.splitlines()[-1] == BETTER
    assert second.stdout == first.stdout
    assert BETTER not in second.stderr


def test_json_is_one_object_on_stdout(search: Run, crops: Path, model_folder: Path) -> None:
    answer = json.loads(search("--json", "--top", "2").stdout)
    assert list(answer) == ["query", "unread", "model", "images", "rejected", "results", "notes"]
    assert (answer["query"], answer["model"], answer["images"]) == (QUERY, str(model_folder), 4)
    assert [list(hit) for hit in answer["results"]] == [["rank", "score", "path", "seems_empty"]] * 2
    assert Path(answer["results"][0]["path"]).parent == crops


def test_a_terminal_gets_a_table(crops: Path, model_folder: Path, indexed: Path) -> None:
    steering = crops.parent / "steering"
    steering.mkdir()
    shutil.copy(crops / "0.jpg", steering / "\x1b[31mred[bold].jpg")
    main, terminal = pty.openpty()
    command = [*COMMAND, "search", QUERY, "--images", str(steering), "--model", str(model_folder)]
    environment = {**os.environ, "TEXTREID_CACHE": str(indexed), "TERM": "dumb", "COLUMNS": "200"}
    subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, check=True, env=environment)
    os.close(terminal)
    shown = os.read(main, 10_000).decode()
    os.close(main)
    assert shown.split()[:3] == ["rank", "score", "image"]
    assert "".join(shown.split()).endswith("�[31mred[bold].jpg")
    assert "\x1b[31m" not in shown


def test_the_sheet_is_drawn_and_announced_on_stderr(search: Run, tmp_path: Path) -> None:
    result = search("--sheet", tmp_path / "out.png")
    assert result.stderr == f"contact sheet: {tmp_path / 'out.png'}\n"
    assert result.stdout.count("\n") == 4
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.width > 800


def test_unreadable_images_are_named_on_stderr(crops: Path, model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(crops, folder)
    for copy in range(3):
        shutil.copy(crops / "0.jpg", folder / f"more{copy}.jpg")
    for number in range(7):
        (folder / f"bad{number}.jpg").write_bytes(b"")
    result = textreid("search", QUERY, "--images", folder, "--model", model_folder)
    assert result.returncode == 0
    notes = [line for line in result.stderr.splitlines() if not line.startswith("embedded")]
    assert notes[0] == "7 images could not be used:"
    assert notes[1:6] == [f"  {folder}/bad{number}.jpg: the file is empty" for number in range(5)]
    assert notes[6:] == ["  and 2 more; --json names all"]
    again = textreid("search", QUERY, "--images", folder, "--model", model_folder, "--json")
    assert len(json.loads(again.stdout)["rejected"]) == 7


def test_pictures_that_lack_their_end_are_named_at_each_search(crops: Path, model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(crops, folder)
    noise = Image.merge("RGB", [Image.effect_noise((4, 8), 90) for _ in range(3)]).resize((96, 192))
    for name, options, cut in (
        *((f"cut{number}.png", {}, 30 + number) for number in range(4)),
        ("cut.tif", {"compression": "tiff_lzw"}, 1000),
    ):
        noise.save(folder / name, **options)
        (folder / name).write_bytes((folder / name).read_bytes()[:-cut])
    noise.save(folder / "damaged.tif", compression="tiff_lzw")
    content = bytearray((folder / "damaged.tif").read_bytes())
    content[600:900] = b"\xff" * 300  # libtiff would write of it to standard error
    (folder / "damaged.tif").write_bytes(content)
    for _ in range(2):
        result = textreid("search", QUERY, "--images", folder, "--model", model_folder)
        notes = [line for line in result.stderr.splitlines() if not line.startswith("embedded")]
        assert (result.returncode, result.stdout.count("\n")) == (0, 8)
        assert notes[:2] == [
            "4 images lack their end, ranked by what is there: cut0.png, cut1.png, cut2.png, …",
            "2 images could not be used:",
        ]
        assert len(notes) == 4
        assert notes[2].startswith(f"  {folder}/cut.tif: cut short: ")
    facts = json.loads(textreid("cache", "--json").stdout)
    assert (facts["embeddings"], facts["unreadable"]) == (8, 2)


def test_pictures_that_show_nothing_are_named_and_counted(crops: Path, model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(crops, folder)
    for number in range(7):
        Image.new("RGB", (24, 56), (0, 0, number)).save(folder / f"blank{number}.png")
    result = textreid("search", QUERY, "--images", folder, "--model", model_folder)
    notes = [line for line in result.stderr.splitlines() if not line.startswith("embedded")]
    assert notes[0] == "7 images left out, because no person can be seen:"
    assert notes[1] == f"  {folder}/blank0.png: shows nothing: one colour"
    assert notes[6:] == ["  and 2 more; --json names all"]
    assert "blank" not in result.stdout


def test_a_query_in_another_language_is_noted_once(crops: Path, model_folder: Path, indexed: Path) -> None:
    arguments = ("search", "rote Jacke", "--images", crops, "--model", model_folder)
    result = textreid(*arguments, TEXTREID_CACHE=str(indexed))
    assert result.stderr.startswith("the query does not read as English, and the model reads English")
    assert (result.returncode, result.stderr.count("\n"), result.stdout.count("\n")) == (0, 1, 4)
    answer = json.loads(textreid(*arguments, "--json", TEXTREID_CACHE=str(indexed)).stdout)
    assert answer["notes"] == [result.stderr.strip()]


def test_a_query_needs_no_quotation_marks(crops: Path, model_folder: Path, indexed: Path, search: Run) -> None:
    options = ("--images", crops, "--model", model_folder)
    result = textreid("search", *options, *QUERY.split(), TEXTREID_CACHE=str(indexed))
    assert (result.returncode, result.stdout) == (0, search().stdout)
    refused = textreid("search", QUERY, crops / "0.jpg", *options, TEXTREID_CACHE=str(indexed))
    assert refused.returncode == 2
    assert "--images takes one folder" in refused.stderr


def leave_home() -> None:
    """As in `docker run --user 1234`: no HOME, and a user that the machine does not know."""

    def unknown(number: int) -> NoReturn:
        raise KeyError(number)

    pwd.getpwuid = unknown
    for name in os.environ.keys() - {"PATH", "PYTHONPATH"}:
        del os.environ[name]


def test_a_user_without_a_home_can_search(crops: Path, model_folder: Path) -> None:
    result = textreid("search", QUERY, "--images", crops, "--model", model_folder, before=leave_home)
    assert (result.returncode, result.stdout.count("\n")) == (0, 4)
    first, second = result.stderr.splitlines()
    assert first.startswith("embeddings are not kept: this user has no home folder")
    assert second.startswith("embedded 4 images in ")
    for arguments in (["cache"], ["cache", "clear"]):
        result = textreid(*arguments, before=leave_home)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("textreid: this user has no home folder")


def test_a_cut_query_is_noted(crops: Path, model_folder: Path, indexed: Path) -> None:
    query = QUERY + " and a man with a black coat and blue trousers and a backpack and a final word"
    result = textreid("search", query, "--images", crops, "--model", model_folder, TEXTREID_CACHE=str(indexed))
    assert result.returncode == 0
    assert result.stderr.startswith("the query is longer than the model reads; left out: '")
    assert result.stderr.splitlines()[0].endswith("final word'")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["search", QUERY, "--images", "/nowhere"], 1, "textreid: /nowhere: "),
        (["search", " ", "--images", "."], 1, "textreid: the query has no words"),
        (
            ["search", QUERY],
            2,
            "textreid: search where? --images FOLDER, or --gallery NAME\n",
        ),
        (["search", "--images", "."], 2, "textreid: nothing to look for: give a sentence, or a picture with --like"),
        (["search", QUERY, "--images", ".", "--top", "0"], 2, "textreid: Invalid value for '--top'"),
        (["search", QUERY, "--image", "."], 2, "textreid: No such option: --image"),
    ],
)
def test_an_error_is_one_line(arguments: list[str], code: int, message: str, model_folder: Path) -> None:
    result = textreid(*arguments, *(["--model", str(model_folder)] if code == 1 else []))
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback_wherever_it_stands(place: str, model_folder: Path) -> None:
    arguments = ["search", QUERY, "--images", "/nowhere", "--model", str(model_folder)]
    result = textreid(*(["--debug", *arguments] if place == "before" else [*arguments, "--debug"]))
    lines = result.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("textreid: /nowhere: ")


def test_debug_may_be_searched_for(search: Run, crops: Path, model_folder: Path, indexed: Path) -> None:
    options = ("--images", crops, "--model", model_folder, "--json")
    result = textreid("search", *options, "--", "--debug", TEXTREID_CACHE=str(indexed))
    assert json.loads(result.stdout)["query"] == "--debug"


def test_a_cache_that_cannot_be_written_is_done_without(search: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    place = tmp_path / "file" / "cache"
    result = search(cache=place)
    assert (result.returncode, result.stdout) == (0, search().stdout)
    assert result.stderr.startswith(f"embeddings are not kept: {place}: ")


@pytest.mark.parametrize("limit", [0, 60_000])
def test_a_full_disk_costs_no_answer(limit: int, make_crops: MakeCrops, model_folder: Path, tmp_path: Path) -> None:
    arguments = ("search", QUERY, "--images", make_crops(150), "--model", model_folder, "--top", "150")
    expected = textreid(*arguments, "--no-cache").stdout
    place = tmp_path / "cache"
    fill = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    for _ in range(2):
        result = textreid(*arguments, before=fill, TEXTREID_CACHE=str(place))
        assert (result.returncode, result.stdout) == (0, expected)
        notes = [line for line in result.stderr.splitlines() if "embedded" not in line]
        assert len(notes) == 1
        assert notes[0].startswith(f"embeddings are not kept: {place}: ")
        assert "set TEXTREID_CACHE" in notes[0]
    assert textreid(*arguments, TEXTREID_CACHE=str(place)).stdout == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function that mounts a disk with such options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no disk may be mounted here")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)  # noqa: S607


@pytest.mark.parametrize("size", [4, 40, 100])
def test_a_small_or_read_only_disk_costs_no_answer(
    size: int, small_disk: Callable[[str], Path], make_crops: MakeCrops, model_folder: Path
) -> None:
    place = small_disk(f"size={size}k") / "cache"
    arguments = ("search", QUERY, "--images", make_crops(150), "--model", model_folder, "--top", "150")
    expected = textreid(*arguments, "--no-cache").stdout
    for mode in ("rw", "rw", "ro"):
        small_disk(f"remount,{mode}")
        result = textreid(*arguments, TEXTREID_CACHE=str(place))
        assert (result.returncode, result.stdout) == (0, expected)
        notes = [line for line in result.stderr.splitlines() if "embedded" not in line]
        assert len(notes) == 1
        assert notes[0].startswith(f"embeddings are not kept: {place}: ")
    for command in (["cache"], ["cache", "clear"], ["cache", "clear", "--older-than", "0"]):
        result = textreid(*command, TEXTREID_CACHE=str(place))
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert result.stderr.startswith(f"textreid: {place}: ")


def test_no_cache_leaves_nothing(search: Run, tmp_path: Path) -> None:
    result = search("--no-cache", cache=tmp_path / "cache")
    assert result.stdout == search().stdout
    assert not (tmp_path / "cache").exists()


def test_a_reader_that_leaves_early_is_no_error(search: Run, crops: Path, model_folder: Path, indexed: Path) -> None:
    command = [*COMMAND, "search", QUERY, "--images", str(crops), "--model", str(model_folder)]
    environment = {**os.environ, "TEXTREID_CACHE": str(indexed)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1
    process.stderr.close()


def interrupt_the_second_batch() -> None:
    """The fourth image of the second batch takes the signal of Ctrl-C."""
    encode, calls = GalleryEncoder.encode_pixels, []

    def interrupted(self: GalleryEncoder, pixels: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return encode(self, pixels)

    GalleryEncoder.encode_pixels = interrupted  # type: ignore[method-assign]


def test_an_interrupted_search_says_how_to_go_on(make_crops: MakeCrops, model_folder: Path) -> None:
    arguments = ("search", QUERY, "--images", make_crops(150), "--model", model_folder)
    result = textreid(*arguments, before=interrupt_the_second_batch)
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr == "stopped after 64 images; the same command continues from there\n"
    assert textreid(*arguments).stderr.startswith("embedded 86 images in ")


def test_the_cache_is_shown_and_cleared(crops: Path, model_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    empty = json.loads(textreid("cache", "--json").stdout)
    assert (empty["path"], empty["embeddings"]) == (str(place / "embeddings.sqlite3"), 0)
    assert not place.exists()
    textreid("search", QUERY, "--images", crops, "--model", model_folder)
    facts = json.loads(textreid("cache", "--json").stdout)
    assert (facts["files"], facts["embeddings"], facts["models"], facts["unreadable"]) == (4, 4, 1, 0)
    assert facts["bytes"] > 4096
    assert textreid("cache").stdout.splitlines()[3].split() == ["embeddings", "4"]
    assert textreid("cache", "clear", "--older-than", "1").stdout == "deleted 0 embeddings\n"
    assert textreid("cache", "clear", "--older-than", "0").stdout == "deleted 4 embeddings\n"
    assert textreid("cache", "clear").stdout.startswith("freed ")
    assert list(place.iterdir()) == []
    assert textreid("cache", "clear").stdout == f"freed 0 bytes in {place}\n"


def test_a_damaged_cache_can_be_cleared(search: Run, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    place.mkdir()
    (place / "embeddings.sqlite3").write_bytes(b"damaged" * 1000)
    for result in (search(cache=place), textreid("cache")):
        assert result.returncode == 1
        assert "embeddings.sqlite3: the embedding cache is damaged" in result.stderr
        assert "`textreid cache clear`" in result.stderr
    assert textreid("cache", "clear").returncode == 0
    assert search(cache=place).returncode == 0
