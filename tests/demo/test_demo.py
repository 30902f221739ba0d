import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from textreid.cli import main
from textreid.demo import DemoResult, DemoSettings, run_demo
from textreid.demo.report import captions_with_noise
from textreid.demo.sizes import Costs, Size, fit
from textreid.errors import ArtifactError
from textreid.runlog import read_records

SETTINGS = DemoSettings(
    unseen_identities=6, unseen_images=2, first_identities=8, least_identities=10, most_identities=10,
    epochs=2, most_epochs=2, workers=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    said: list[str] = []
    result = run_demo(tmp_path_factory.mktemp("demo") / "out", SETTINGS, said.append)
    assert [line[:3] for line in said if line[1] == "/"] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
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


def test_the_page_shows_masked_and_wrong_words_and_answers_before_and_after(page: _Page) -> None:
    assert page.classes.count("word") > 40
    assert page.classes.count("wrong") >= 4
    assert page.classes.count("search") == 3
    assert page.classes.count("hit") + page.classes.count("miss") == 3 * 2 * 10
    assert page.classes.count("curve") >= 2


def test_the_table_holds_the_figures_and_what_was_gained(result: DemoResult) -> None:
    cells = re.findall(r"<td>([-+\d.]+)</td>", result.report.read_text(encoding="utf-8"))
    expected = [f"{100 * value:.1f}" for row in result.figures.values() for value in row.values()]
    expected += [f"{100 * mean:+.1f}" for mean, _, _ in result.gain.values()]
    assert len(expected) == 4 * 5
    assert cells[: len(expected)] == expected
    for score, (mean, low, high) in result.gain.items():
        assert mean == pytest.approx(result.figures["after"][score] - result.figures["before"][score])
        assert low <= mean <= high


def test_the_words_of_a_caption_put_together_are_the_caption(result: DemoResult) -> None:
    noise = captions_with_noise(result.report.parent / "captions", result.report.parent / "run")
    assert len(noise.table) == result.size.images * 4 == 10 * 2 * 4
    for index in range(len(noise.table)):
        words = noise.words(index)
        assert "".join(word.text for word in words) == noise.table.caption(index)
        assert all(word.probability is None or 0 <= word.probability <= 1 for word in words)
    assert noise.errors


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="exists already"):
        run_demo(tmp_path, SETTINGS)


def test_a_demo_with_other_settings_is_not_gone_on_with(result: DemoResult) -> None:
    with pytest.raises(ArtifactError, match="exists already"):
        run_demo(result.report.parent, replace(SETTINGS, seed=1))


def test_the_command_goes_on_and_prints_the_figures_as_json(
    result: DemoResult, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = result.report.parent
    # As if it had been stopped after its last checkpoint.
    shutil.rmtree(result.model)
    result.report.unlink()
    monkeypatch.setattr(
        "textreid.demo.DemoSettings", lambda seed, minutes: replace(SETTINGS, seed=seed, minutes=minutes)
    )
    monkeypatch.setattr("sys.argv", ["textreid", "demo", "--out", str(folder), "--json"])
    with pytest.raises(SystemExit, match="0"):
        main()
    printed = json.loads(capsys.readouterr().out)
    assert printed["report"] == str(folder / "report.html")
    assert printed["images"] == 20
    assert printed["figures"] == result.figures
    assert tuple(printed["gain"]["R1"].values()) == result.gain["R1"]
    assert result.report.is_file()
    steps = [record["step"] for record in read_records(folder / "run" / "metrics.jsonl") if record["event"] == "train"]
    assert steps == [1, 2]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (300, Size(1500, 8)),  # all people, as often as is allowed
        (150, Size(1500, 5)),
        (60, Size(708, 4)),
        (20, Size(150, 3)),  # too short for four epochs of the fewest
        (1, Size(150, 1)),
    ],
)
def test_as_much_is_learned_from_as_there_is_time_for(seconds: float, expected: Size) -> None:
    settings = DemoSettings()
    costs = Costs(before=0.01, visit=0.005, once=8.5)
    assert fit(costs, seconds, settings) == expected
