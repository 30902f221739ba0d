"""``textreid caption --verify`` as a user meets it, on drawn people whose captions' errors are known."""

import json
from pathlib import Path

import pytest
from tests.captioning.test_caption_command import caption

from textreid.captions.sidecars import error_spans, repairs_of
from textreid.captions.writer import caption_rows
from textreid.errors import ConfigError, ResumeError
from textreid.synthetic import write_corpus

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "people"
    write_corpus(folder, "station", identities=20, images_per_identity=2, seed=3)
    return folder


@pytest.fixture(scope="module")
def table(people: Path) -> Path:
    out = people.parent / "captions"
    caption(people, "--out", out, "--mllm", "qwen=simulated:0.3", "--mllm", "shikra=simulated:0.3")
    return out


def test_asked_again_by_one_who_knows_there_are_fewer_errors(people: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "checked"
    arguments = (people, "--verify", table, "--out", out, "--mllm", "qwen=simulated:0", "--scored-by", "tiny", "--json")
    stdout, stderr = caption(*arguments)
    counts = json.loads(stdout)
    assert counts["statuses"] == {"ok": 160}
    assert f"changed: {counts['changed']['phrases']} phrases" in stderr
    repairs, before, after = repairs_of(out), error_spans(table), error_spans(out)
    assert counts["changed"]["captions"] == len(repairs) > 40
    assert counts["suspicious"]["phrases"] >= counts["changed"]["phrases"]
    assert sum(map(len, after.values())) < 0.8 * sum(map(len, before.values()))
    # Who is asked makes no mistake, so that no caption without an error has one now.
    assert after.keys() <= before.keys()
    old = {(row.image, row.slot): row for row in caption_rows(table)}
    for row in caption_rows(out):
        key = row.image, row.slot
        assert (row.caption != old[key].caption) == (key in repairs)
        assert old[key].caption == repairs.get(key, {"before": row.caption})["before"]
    again = json.loads(caption(*arguments)[0])
    assert (again["this_run"]["captions"], again["changed"]) == (0, counts["changed"])
    with pytest.raises(ResumeError, match=r"threshold: 0\.5 there, 0\.9 now"):
        caption(*arguments, "--threshold", "0.9")


def test_a_dry_run_tells_what_would_be_asked(people: Path, table: Path, tmp_path: Path) -> None:
    # Nobody listens at this address: a dry run sends nothing.
    stdout, _ = caption(
        people, "--verify", table, "--out", tmp_path / "out", "--mllm", "qwen=http://127.0.0.1:9/v1#some/model",
        "--scored-by", "tiny", "--dry-run",
    )  # fmt: skip
    assert "qwen: pictures go to http://127.0.0.1:9/v1 (this machine)" in stdout
    assert stdout.count("  asked: ") >= 3
    assert "160 captions, " in stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--limit", "3", "--engine", "ray"), "--verify: checks a whole table .* goes without --limit, --engine ray"),
        (("--scorer", "patches"), "masking.shift: false needs a scorer"),
    ],
)
def test_what_does_not_go_together(
    more: tuple[str, ...], message: str, people: Path, table: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        caption(
            people,
            "--verify",
            table,
            "--out",
            tmp_path / "out",
            "--mllm",
            "qwen=simulated",
            "--scored-by",
            "tiny",
            *more,
        )
    assert not (tmp_path / "out").exists()
