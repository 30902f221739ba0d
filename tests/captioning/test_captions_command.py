"""``textreid captions`` and ``textreid templates`` as a user types them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from textreid.captioning.templates import own_templates
from textreid.captions.table import CaptionRow, read_captions, write_captions
from textreid.cli.captions import captions
from textreid.cli.templates import templates
from textreid.errors import CaptionError, ConfigError
from textreid.synthetic import write_corpus

TEXTS = {
    "static": [f"A man in a {colour} coat." for colour in ("red", "blue", "green", "black", "white", "grey")],
    "dynamic": [
        "Wearing a red coat, a man walks.", "The man has black hair.", "He wears jeans and a shirt.",
        "Dressed in a suit, he has a bag.", "With boots on, a man is seen.", "Look for a man with a scarf.",
    ],
}  # fmt: skip

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command as the program does; returns its stdout."""
    app = typer.Typer()
    app.add_typer(captions, name="captions")
    app.add_typer(templates, name="templates")

    def run(*arguments: str | Path) -> str:
        app(args=[str(argument) for argument in arguments], prog_name="textreid", standalone_mode=False)
        return capsys.readouterr().out

    return run


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [
        CaptionRow(f"{number}.jpg", f"qwen/{kind}", text, "qwen", kind, "", "", 0)
        for kind, texts in TEXTS.items()
        for number, text in enumerate(texts)
    ]
    rows.append(CaptionRow("9.jpg", "qwen/static", "I'm sorry, but I cannot see.", "qwen", "static", "", "", 0))
    write_captions(tmp_path / "table", rows)
    return tmp_path / "table"


def test_stats_puts_corpora_side_by_side(run: Run, table: Path, tmp_path: Path) -> None:
    human = tmp_path / "human.json"
    human.write_text(json.dumps([{"file_path": "a.jpg", "captions": ["A lady in a dress.", "She wears black shoes."]}]))
    text = run("captions", "stats", table, f"people={human}")
    assert "table" in text
    assert "people" in text
    assert "self-BLEU" in text
    report = json.loads(run("captions", "stats", table, f"people={human}", "--json"))
    assert [(corpus["name"], corpus["available"], corpus["captions"]) for corpus in report["corpora"]] == [
        ("table", 13, 2),
        ("people", 2, 2),
    ]


def test_stats_by_instruction_with_plots(run: Run, table: Path, tmp_path: Path) -> None:
    plots = tmp_path / "plots.png"
    report = json.loads(run("captions", "stats", table, "--by", "instruction", "--whole", "--plots", plots, "--json"))
    static, dynamic = report["corpora"]
    assert (static["name"], dynamic["name"]) == ("static", "dynamic")
    assert (static["captions"], static["patterns"]) == (7, 2)
    assert (dynamic["captions"], dynamic["patterns"]) == (6, 6)
    assert plots.read_bytes().startswith(b"\x89PNG")


def test_equal_texts_can_be_counted_once(run: Run, tmp_path: Path) -> None:
    same = tmp_path / "same.json"
    same.write_text(json.dumps({f"{number}.jpg": f"A man in coat {number % 3}." for number in range(9)}))
    for options, captions_ in (((), 9), (("--once",), 3)):
        (corpus,) = json.loads(run("captions", "stats", same, "--json", *options))["corpora"]
        assert (corpus["captions"], corpus["different"]) == (captions_, 3)


def test_a_synthetic_corpus_is_read_by_its_annotations(run: Run, table: Path, tmp_path: Path) -> None:
    """Its folder has a manifest as well, which does not make it a caption table."""
    write_corpus(tmp_path / "street", "street", identities=2, images_per_identity=1, seed=0)
    report = json.loads(run("captions", "stats", table, tmp_path / "street", "--json"))
    assert [(corpus["name"], corpus["available"]) for corpus in report["corpora"]] == [("table", 13), ("street", 4)]


def test_stats_of_nothing(run: Run, table: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(CaptionError, match=r"empty\.json: holds no usable caption"):
        run("captions", "stats", table, tmp_path / "empty.json")
    with pytest.raises(CaptionError, match="no such file or folder"):
        run("captions", "stats", tmp_path / "missing")
    with pytest.raises(typer.BadParameter, match="--by shape: expected one of corpus"):
        run("captions", "stats", table, "--by", "shape")


def test_clean_judges_and_counts(run: Run, table: Path, tmp_path: Path) -> None:
    counts = json.loads(run("captions", "clean", table, tmp_path / "clean", "--json"))
    assert counts["refusal"] == 1
    assert sum(counts.values()) == 13
    cleaned = read_captions(tmp_path / "clean")
    assert len(cleaned) == counts["ok"] >= 10
    again = json.loads(run("captions", "clean", tmp_path / "clean", tmp_path / "again", "--json"))
    assert again == counts


def test_export_and_import(run: Run, table: Path, tmp_path: Path) -> None:
    files = run("captions", "export", table, tmp_path / "out").splitlines()
    assert [Path(file).name for file in files] == ["Td-qwen.json", "Ts-qwen.json"]
    out = run("captions", "import", *files, "--out", tmp_path / "back")
    assert out.split() == ["imported", "13"]
    assert read_captions(tmp_path / "back").slots == ("qwen/dynamic", "qwen/static")
    run("captions", "export", table, tmp_path / "parquet", "--as", "datasets")
    counts = json.loads(run("captions", "import", f"x={tmp_path / 'parquet'}", "--out", tmp_path / "third", "--json"))
    assert counts == {"imported": 13}
    with pytest.raises(CaptionError, match="13 of 13 captions cannot be used"):
        run("captions", "import", *files, "--out", tmp_path / "fourth", "--images", tmp_path / "out")


def test_templates_are_listed(run: Run, tmp_path: Path) -> None:
    lines = run("templates", "list").splitlines()
    assert len(lines) == len(own_templates())
    assert lines[0].split("  ", 1) == ["t01", own_templates()["t01"].text]
    (tmp_path / "mine.txt").write_text("A [gender] in [clothing].\n")
    assert json.loads(run("templates", "list", tmp_path / "mine.txt", "--json")) == {
        "line-1": "A [gender] in [clothing]."
    }


@pytest.mark.parametrize("llm", ["http://127.0.0.1:9/v1", "ftp://x#m", "http://user:secret@127.0.0.1/v1#m", "#m"])
def test_discover_refuses_what_is_no_endpoint(run: Run, table: Path, tmp_path: Path, llm: str) -> None:
    with pytest.raises(ConfigError, match="--llm") as caught:
        run("templates", "discover", "--llm", llm, "--captions", table, "--out", tmp_path / "out")
    assert "secret" not in str(caught.value)


def test_discover_needs_static_captions(run: Run, tmp_path: Path) -> None:
    write_captions(tmp_path / "other", [CaptionRow("a.jpg", "q/dynamic", "A man.", "q", "dynamic", "", "", 0)])
    options = ("--llm", "http://127.0.0.1:9/v1#m", "--out", tmp_path / "out")
    with pytest.raises(CaptionError, match="has no static captions"):
        run("templates", "discover", *options, "--captions", tmp_path / "other")


def test_a_folder_of_released_files_is_imported_whole(run: Run, table: Path, tmp_path: Path) -> None:
    """As LUPerson-MLLM comes: four files of one folder, images matched by base name below another."""
    images = [f"videos/{number % 2}/{number}.jpg" for number in range(6)]
    for image in images:
        (tmp_path / "LUPerson" / image).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "LUPerson" / image).touch()
    released = tmp_path / "LUPerson-MLLM"
    released.mkdir()
    (released / "README.json").write_text("{}")
    for name in ("Ts-qwen", "Td-qwen", "Ts-shikra", "Td-shikra"):
        captions = {f"C:\\data\\LUPerson\\{number}.jpg": f"{name} sees person {number}." for number in range(6)}
        (released / f"{name}.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(captions).encode())
    out = run("captions", "import", released, "--images", tmp_path / "LUPerson", "--out", tmp_path / "captions")
    assert out.split() == ["imported", "24"]
    read = read_captions(tmp_path / "captions")
    assert read.slots == ("qwen/dynamic", "qwen/static", "shikra/dynamic", "shikra/static")
    assert read.images == tuple(sorted(images))
