import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from textreid.cli import main
from textreid.demo import DemoResult, DemoSettings, run_demo
from textreid.demo.report import captions_with_noise
from textreid.errors import ArtifactError

pytestmark = pytest.mark.slow

SETTINGS = DemoSettings(
    train_domains=("street", "mall"), identities=8, images_per_identity=2, unseen_identities=6,
    unseen_images_per_identity=2, epochs=3, workers=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    said: list[str] = []
    result = run_demo(tmp_path_factory.mktemp("demo") / "out", SETTINGS, said.append)
    assert [line[:3] for line in said] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    return result


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.classes: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.addresses += [value for name in ("src", "href") if (value := values.get(name))]
        self.classes += (values.get("class") or "").split()
        if tag not in {"img", "meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(result: DemoResult) -> _Page:
    parser = _Page()
    parser.feed(result.report.read_text(encoding="utf-8"))
    return parser


def test_the_page_is_whole_and_carries_its_pictures(page: _Page) -> None:
    assert page.open == []
    assert len(page.addresses) > 40
    assert all(address.startswith("data:image/") for address in page.addresses)


def test_the_page_shows_masked_and_wrong_words_and_answers(page: _Page) -> None:
    assert page.classes.count("word") > 40
    assert page.classes.count("wrong") >= 4
    assert page.classes.count("search") == 3
    assert page.classes.count("hit") + page.classes.count("miss") == 3 * 10
    assert page.classes.count("curve") >= 2


def test_the_table_holds_the_figures(result: DemoResult) -> None:
    cells = re.findall(r"<td>([\d.]+)</td>", result.report.read_text(encoding="utf-8"))
    expected = [f"{100 * value:.1f}" for row in result.figures.values() for value in row.values()]
    assert len(expected) == 3 * 5
    assert cells[: len(expected)] == expected


def test_the_words_of_a_caption_put_together_are_the_caption(result: DemoResult) -> None:
    noise = captions_with_noise(result.report.parent / "captions", result.report.parent / "run")
    assert len(noise.table) == 2 * 8 * 2 * 4
    for index in range(len(noise.table)):
        words = noise.words(index)
        assert "".join(word.text for word in words) == noise.table.caption(index)
        assert all(word.probability is None or 0 <= word.probability <= 1 for word in words)
    assert noise.errors


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="exists already"):
        run_demo(tmp_path, SETTINGS)


def test_the_command_prints_the_figures_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("textreid.demo.DemoSettings", lambda seed: replace(SETTINGS, seed=seed))
    monkeypatch.setattr("sys.argv", ["textreid", "demo", "--out", str(tmp_path / "out"), "--seed", "3", "--json"])
    with pytest.raises(SystemExit, match="0"):
        main()
    printed = json.loads(capsys.readouterr().out)
    assert printed["report"] == str(tmp_path / "out" / "report.html")
    assert list(printed["figures"]) == ["random order (expected)", "before training", "after training"]
    assert 0 < printed["figures"]["after training"]["R1"] <= 1
