"""A table that another job comes back to: what it may add, what contradicts it, and what all runs used."""

from collections import Counter
from pathlib import Path

import pytest
from tests.captioning.scripted import GOOD, LATER, NEVER, Place, Scripted, tokens

from textreid.artifacts import read_manifest
from textreid.captioning.counts import read_usage
from textreid.captioning.engine import LocalEngine
from textreid.captioning.job import caption_images
from textreid.captioning.requests import CaptionFailure, Settings, Slot, slots_of
from textreid.captions.table import read_captions
from textreid.errors import CaptionError, ResumeError

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "images", tmp_path / "captions")


def test_another_job_in_the_same_folder_is_refused(place: Place) -> None:
    captioner = Scripted(place.root)
    place.run(captioner)
    with pytest.raises(ResumeError, match="seed: 0 there, 5 now"):
        place.run(captioner, settings=Settings(seed=5))
    with pytest.raises(ResumeError, match="images: "):
        Place(place.root / "other", place.out).run(Scripted(place.root / "other"))
    other = [Slot("qwen", "dynamic", slots_of(["qwen"], ["dynamic"])[0].choices[:3])]
    with pytest.raises(ResumeError, match='prompts: qwen/dynamic: "'):
        caption_images(place.root, ["0.jpg"], place.out, LocalEngine([captioner]), other, Settings())
    slots = slots_of(["qwen"], ["static"])
    models = {"qwen": "Qwen-2"}
    caption_images(place.root, ["7.jpg"], place.out, LocalEngine([captioner]), slots, Settings(), models=models)
    models = {"qwen": "Qwen-3"}
    with pytest.raises(ResumeError, match='models: qwen: "Qwen-2" there, "Qwen-3" now'):
        caption_images(place.root, ["8.jpg"], place.out, LocalEngine([captioner]), slots, Settings(), models=models)
    assert len(captioner.asked) == 13


def test_slots_and_mllms_are_added_to_a_finished_table(place: Place) -> None:
    first, second = Scripted(place.root), Scripted(place.root, name="shikra")
    place.run(first, kinds=["static"])
    place.run(first)  # one more slot
    assert len(first.asked) == 12
    assert {request.instruction.kind for _, request in first.asked[6:]} == {"dynamic"}
    place.run(second, images=8)  # another MLLM, and two images that the first did not have
    assert len(second.asked) == 16
    assert read_captions(place.out).slots == ("qwen/dynamic", "qwen/static", "shikra/dynamic", "shikra/static")
    assert len(read_captions(place.out)) == 28
    place.run(first, images=8)
    assert len(first.asked) == 16
    assert len(read_captions(place.out)) == 32
    assert tokens(read_usage(place.out)["shikra"]) == (1600, 160)
    assert tokens(read_usage(place.out)["qwen"]) == (1600, 160)


def test_only_the_failed_slots_of_this_job_are_asked_again(place: Place) -> None:
    failing = Scripted(place.root, lambda *_: NEVER)
    place.run(failing, settings=Settings(max_failures=1.0))
    other = Scripted(place.root, name="shikra")
    place.run(other, retry_failed=True)
    statuses = Counter((row.mllm, row.status) for row in place.rows().values())
    assert statuses == {("qwen", "failed-unreadable-image"): 12, ("shikra", "ok"): 12}


def test_rows_that_the_disk_altered_are_told_and_asked_for_again(place: Place) -> None:
    fatal = CaptionFailure("refused-key", "it wants a key", fatal=True)
    captioner = Scripted(place.root, lambda image, *_: fatal if image == "8.jpg" else GOOD)
    with pytest.raises(CaptionError, match="it wants a key"):
        place.run(captioner, images=40, settings=Settings(in_flight=1))
    journal = place.out / "journal-00000.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 16
    journal.write_bytes(b"".join([*lines[:3], lines[3].replace(b"red", b"rad"), *lines[4:]]))
    counts = place.run(Scripted(place.root), images=40)
    assert counts.damaged == counts.to_dict({})["damaged"] == 1
    assert "1 of an earlier run were damaged on the disk and asked for again" in counts.summary({})
    assert Counter(row.caption for row in place.rows().values()) == {GOOD.text: 80}


def test_tokens_are_counted_over_all_runs(place: Place) -> None:
    place.run(Scripted(place.root), images=3)
    assert tokens(place.run(Scripted(place.root), images=3).usage["qwen"]) == (600, 60)
    counts = place.run(Scripted(place.root), images=5)
    assert tokens(counts.usage["qwen"]) == (1000, 100)
    assert tokens(counts.usage_now["qwen"]) == (400, 40)
    assert read_manifest(place.out, "captions", 1)["files"]["usage.json"] == (place.out / "usage.json").stat().st_size
    with pytest.raises(CaptionError):
        place.run(Scripted(place.root, lambda *_: LATER), images=9)
    assert tokens(read_usage(place.out)["qwen"]) == (1000, 100)
    assert len(read_captions(place.out)) == 10  # as complete as it was
