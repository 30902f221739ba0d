"""The job: every caption once, whatever fails, is rejected, is killed or is stopped in between."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from tests.captioning.scripted import GOOD, LATER, NEVER, Place, Scripted, tokens

from textreid.captioning.engine import Job, LocalEngine
from textreid.captioning.job import caption_images
from textreid.captioning.requests import (
    Answer,
    Caption,
    CaptionFailure,
    Request,
    Settings,
    Slot,
    Usage,
    requests_for,
    slots_of,
)
from textreid.captions.selecting import select_images
from textreid.captions.table import CaptionRow, read_captions
from textreid.captions.writer import caption_rows
from textreid.errors import ArtifactError, CaptionError


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "images", tmp_path / "captions")


def test_every_image_gets_one_caption_a_slot_with_its_provenance(place: Place) -> None:
    captioners = [Scripted(place.root, name=name) for name in ("qwen", "shikra")]
    slots = slots_of(["qwen", "shikra"], ["static", "dynamic"])
    names = [f"{number}.jpg" for number in range(30)]
    counts = caption_images(place.root, names, place.out, LocalEngine(captioners), slots, Settings(seed=3))
    rows = place.rows()
    assert set(rows) == {(name, slot.name) for name in names for slot in slots}
    for slot in slots:
        for name in names:
            request = requests_for(name, slot, Settings(seed=3))[0]
            assert rows[name, slot.name] == CaptionRow(
                name, slot.name, GOOD.text, slot.mllm, request.instruction.kind,
                request.instruction.template_id, request.instruction.prompt_hash, request.seed, "ok",
            )  # fmt: skip
    assert len({row.template_id for row in rows.values()}) > 20
    assert len(read_captions(place.out)) == 120
    assert (counts.done, counts.total, counts.images_done, counts.failed) == (120, 120, 30, 0)
    assert {mllm: tokens(used) for mllm, used in counts.usage.items()} == dict.fromkeys(["qwen", "shikra"], (6000, 600))
    assert all(captioner.closed for captioner in captioners)


def test_what_is_asked_depends_on_seed_image_and_slot_alone() -> None:
    slot = slots_of(["qwen"], ["dynamic"])[0]
    first = requests_for("a/1.jpg", slot, Settings(attempts=60))
    assert first == requests_for("a/1.jpg", slot, Settings(attempts=60))
    assert first[:3] == requests_for("a/1.jpg", slot, Settings(attempts=3))
    count = len(slot.choices)
    assert len({each.instruction.template_id for each in first[:count]}) == count  # no template twice before all
    assert first[0] != requests_for("b/1.jpg", slot, Settings())[0]
    assert first[0] != requests_for("a/1.jpg", slot, Settings(seed=1))[0]
    assert first[0] != requests_for("a/1.jpg", Slot("shikra", "dynamic", slot.choices), Settings())[0]
    static = requests_for("a/1.jpg", slots_of(["qwen"], ["static"])[0], Settings())
    assert len({each.seed for each in static}) == 3


@pytest.mark.slow
def test_a_rejected_caption_is_asked_for_again_with_another_template(place: Place) -> None:
    def reply(image: str, request: Request, times: int) -> Caption:
        dirty = {"0.jpg": 1, "1.jpg": 99}.get(image, 0)
        return Caption("A man with [hair].", usage=Usage(5, 5)) if times < dirty else GOOD

    captioner = Scripted(place.root, reply)
    counts = place.run(captioner, settings=Settings(attempts=3))
    asked = Counter(image for image, _ in captioner.asked)
    assert asked == {"0.jpg": 4, "1.jpg": 6, "2.jpg": 2, "3.jpg": 2, "4.jpg": 2, "5.jpg": 2}
    rows = place.rows()
    assert rows["0.jpg", "qwen/dynamic"].status == "ok"
    kept = rows["1.jpg", "qwen/dynamic"]
    assert (kept.status, kept.caption) == ("unfilled-slot", "A man with [hair].")
    asked_for = [request.instruction for image, request in captioner.asked if image == "1.jpg"]
    templates = [instruction.template_id for instruction in asked_for if instruction.template]
    assert len(set(templates)) == 3
    assert kept.template_id == templates[-1]
    assert counts.rejected == {"unfilled-slot": 6}
    assert tokens(counts.usage["qwen"]) == (10 * 100 + 8 * 5, 10 * 10 + 8 * 5)
    assert read_captions(place.out).rejected == {"unfilled-slot": 2}


def test_only_the_rejected_slot_is_asked_for_again(place: Place) -> None:
    captioner = Scripted(
        place.root, lambda image, r, times: Caption("") if r.instruction.kind == "static" and not times else GOOD
    )
    place.run(captioner, images=1)
    assert [request.instruction.kind for _, request in captioner.asked] == ["static", "dynamic", "static"]


def test_captions_are_made_fit_for_the_table(place: Place) -> None:
    text = " A man in a\n caf\u0065\u0301 uniform,\x00 smiling \ud83d broadly. "
    place.run(Scripted(place.root, lambda *_: Caption(text)), images=1, kinds=["static"])
    assert place.rows()["0.jpg", "qwen/static"].caption == "A man in a caf\u00e9 uniform, smiling broadly."


def test_an_image_that_cannot_be_captioned_is_a_row_with_a_reason(place: Place) -> None:
    captioner = Scripted(place.root, lambda image, *_: NEVER if image == "2.jpg" else GOOD)
    counts = place.run(captioner, images=50)
    rows = place.rows()
    assert len(rows) == 100
    assert rows["2.jpg", "qwen/static"].status == "failed-unreadable-image"
    assert rows["2.jpg", "qwen/static"].caption == ""
    assert Counter(image for image, _ in captioner.asked)["2.jpg"] == 2  # never again, in this run
    assert place.run(captioner, images=50).failed == counts.failed == 2
    assert len(captioner.asked) == 100  # nor in the next
    assert read_captions(place.out).rejected == {"failed-unreadable-image": 2}
    assert place.run(Scripted(place.root), images=50, retry_failed=True).failed == 0
    assert read_captions(place.out).rejected == {}
    assert len(place.rows()) == 100


def test_a_passing_failure_is_mended_at_the_end(place: Place) -> None:
    captioner = Scripted(place.root, lambda image, r, times: LATER if image == "3.jpg" and not times else GOOD)
    counts = place.run(captioner)
    assert len(place.rows()) == 12
    assert counts.statuses == {"ok": 12}
    assert (counts.failures, counts.failed_now, counts.answered_now) == (Counter(), 0, 12)
    assert [image for image, _ in captioner.asked[-2:]] == ["3.jpg", "3.jpg"]
    assert len(captioner.asked) == 14


def test_a_failure_that_stays_is_a_row_if_there_are_few(place: Place) -> None:
    captioner = Scripted(place.root, lambda image, *_: LATER if image == "3.jpg" else GOOD)
    counts = place.run(captioner, settings=Settings(max_failures=0.2))
    assert counts.statuses == {"ok": 10, "failed-time-out": 2}
    assert (counts.done, counts.saved_now, counts.failures) == (12, 12, {"time-out": 2})
    assert read_captions(place.out).rejected == {"failed-time-out": 2}


def test_too_many_failures_fail_the_job_and_lose_nothing(place: Place) -> None:
    captioner = Scripted(place.root, lambda image, *_: LATER if image in {"1.jpg", "3.jpg"} else GOOD)
    message = r"4 of 12 captions failed \(time-out 4\), more than the 5\.0% .* first: no answer within 5 s"
    with pytest.raises(CaptionError, match=message):
        place.run(captioner)
    assert len(place.rows()) == 8
    mended = Scripted(place.root)
    place.run(mended)
    assert sorted({image for image, _ in mended.asked}) == ["1.jpg", "3.jpg"]
    assert len(read_captions(place.out)) == 12


def test_permanent_failures_above_the_rate_fail_it_every_time(place: Place) -> None:
    captioner = Scripted(place.root, lambda image, *_: NEVER if image == "2.jpg" else GOOD)
    for _ in range(2):
        with pytest.raises(CaptionError, match=r"2 of 12 captions failed \(unreadable-image 2\)"):
            place.run(captioner)
    assert len(captioner.asked) == 12
    assert place.run(captioner, settings=Settings(max_failures=0.5)).failed == 2


def test_a_hopeless_job_stops_early(place: Place) -> None:
    captioner = Scripted(place.root, lambda *_: LATER)
    with pytest.raises(CaptionError, match="captions failed"):
        place.run(captioner, images=5_000, settings=Settings(in_flight=8))
    assert len(captioner.asked) < 100


def test_a_refused_key_stops_it_at_once(place: Place) -> None:
    fatal = CaptionFailure("refused-key", "http://x/v1 refuses the key in OPENAI_API_KEY", fatal=True)
    captioner = Scripted(place.root, lambda image, *_: GOOD if image in {"0.jpg", "1.jpg"} else fatal)
    with pytest.raises(CaptionError, match="qwen: http://x/v1 refuses the key"):
        place.run(captioner, images=1_000, settings=Settings(in_flight=1))
    assert len(captioner.asked) == 6
    assert len(place.rows()) == 4
    assert captioner.closed


def test_a_failing_disk_stops_it_with_a_clear_error(place: Place) -> None:
    journal = place.out / "journal-00001.jsonl"
    place.run(Scripted(place.root), images=2)

    def fill(image: str, request: Request, times: int) -> Caption:
        if not journal.is_symlink():
            journal.symlink_to("/dev/full")
        return GOOD

    captioner = Scripted(place.root, fill)
    with pytest.raises(ArtifactError, match="No space left on device; what was written before is safe"):
        place.run(captioner, images=500, settings=Settings(in_flight=4))
    assert len(captioner.asked) < 30
    journal.unlink()
    place.run(Scripted(place.root), images=20)
    assert len(place.rows()) == 40


def test_no_more_images_are_under_way_than_allowed(place: Place) -> None:
    captioner = Scripted(place.root)
    place.run(captioner, images=60, settings=Settings(in_flight=7))
    assert captioner.busiest == 7


@pytest.mark.slow
def test_a_complete_job_asks_nothing_and_a_larger_one_only_what_is_new(place: Place) -> None:
    captioner = Scripted(place.root)
    place.run(captioner, images=4)
    manifest = (place.out / "manifest.json").read_bytes()
    assert place.run(captioner, images=4).done == 8
    assert place.run(captioner, images=2).done == 4  # a smaller job is contained in it
    assert (place.out / "manifest.json").read_bytes() == manifest
    assert len(captioner.asked) == 8
    place.run(captioner, images=7)
    assert [image for image, _ in captioner.asked[8:]] == ["4.jpg"] * 2 + ["5.jpg"] * 2 + ["6.jpg"] * 2
    assert len(read_captions(place.out)) == 14


def test_styles_and_templates_are_compared_in_one_run(place: Place) -> None:
    place.run(Scripted(place.root), images=40, kinds=["dynamic", "styled"])
    rows = place.rows().values()
    ids = {slot: {row.template_id for row in rows if row.slot == f"qwen/{slot}"} for slot in ("dynamic", "styled")}
    assert len(ids["dynamic"]) > 10
    assert len(ids["styled"]) > 10
    assert ids["dynamic"].isdisjoint(ids["styled"])


def test_files_with_hard_names_are_captioned_or_named(tmp_path: Path) -> None:
    root = tmp_path / "images"
    names = ["a/1.jpg", "b/1.jpg", "with space.JPG", "quo\"te's.png", "\U0001f9e5 coat.jpeg", "new\nline.jpg", "é.webp"]
    for name in [*names, "notes.txt", ".hidden.jpg", "C:drive.jpg"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"not an image")
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.jpg")).write_bytes(b"")
    selection = select_images(root)
    assert sorted(selection.images) == sorted(names)
    assert sorted(selection.unusable) == ["C:drive.jpg", "caf\\xe9.jpg"]
    slots = slots_of(["qwen"], ["static"])
    caption_images(root, selection.images, tmp_path / "out", LocalEngine([Scripted(root)]), slots, Settings())
    assert set(read_captions(tmp_path / "out").images) == set(names)


SLOW_JOB = """
import asyncio, sys
from pathlib import Path
from textreid.captioning.requests import Settings, slots_of
from textreid.captioning.requests import Caption
from textreid.captioning.engine import LocalEngine
from textreid.captioning.job import caption_images

class Slow:
    name = "slow"
    asked = open(sys.argv[2], "a", buffering=1)
    async def caption(self, image, requests):
        for request in requests:
            self.asked.write(f"{image.name} slow/{request.instruction.kind}\\n")
        await asyncio.sleep(0.02)
        return [Caption(f"A man in a red coat, {image.name}.") for _ in requests]
    async def aclose(self): pass

names = [f"{n}.jpg" for n in range(int(sys.argv[3]))]
def watch(counts):
    print(counts.done, flush=True)
try:
    caption_images(Path("/nowhere"), names, Path(sys.argv[1]), LocalEngine([Slow()]),
                   slots_of(["slow"], ["static", "dynamic"]), Settings(in_flight=4), watch=watch)
except Exception as error:
    print(error, file=sys.stderr)
    sys.exit(getattr(error, "exit_code", 9))
"""


def start(out: Path, log: Path, images: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SLOW_JOB, str(out), str(log), str(images)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_again_and_again_it_asks_nothing_twice_but_what_was_under_way(tmp_path: Path) -> None:
    out, log, images = tmp_path / "captions", tmp_path / "asked", 150
    saved_before: set[str] = set()
    kills = (3, 17, 30)
    for saves in kills:
        with start(out, log, images) as process:
            assert process.stdout
            acknowledged = [int(process.stdout.readline()) for _ in range(saves)][-1]
            process.send_signal(signal.SIGKILL)
        rows = list(caption_rows(out))
        saved = {f"{row.image} {row.slot}" for row in rows}
        assert len(saved) == len(rows) >= acknowledged  # none lost, none twice
        assert saved_before < saved
        saved_before = saved
    with start(out, log, images) as process:
        process.communicate()
    assert process.returncode == 0
    asked_times = Counter(log.read_text().splitlines())
    assert len(asked_times) == 2 * images
    assert sum(asked_times.values()) - 2 * images <= len(kills) * 4 * 2  # four images under way, two slots each
    assert len(read_captions(out)) == 2 * images


@pytest.mark.slow
def test_a_saved_caption_is_never_asked_for_again(tmp_path: Path) -> None:
    out, log = tmp_path / "captions", tmp_path / "asked"
    with start(out, log, 200) as process:
        assert process.stdout
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    saved = {f"{row.image} {row.slot}" for row in caption_rows(out)}
    log.unlink()
    with start(out, log, 200) as process:
        process.communicate()
    asked = Counter(log.read_text().splitlines())
    assert set(asked).isdisjoint(saved)
    assert len(asked) + len(saved) == 400
    assert set(asked.values()) == {1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_finishes_what_is_under_way_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    out, log = tmp_path / "captions", tmp_path / "asked"
    with start(out, log, 500) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == 130
    rows = list(caption_rows(out))
    assert {f"{row.image} {row.slot}" for row in rows} == set(log.read_text().splitlines())
    assert f"stopped; {len(rows)} of 1000 captions are saved in {out}: run the same command to go on" in errors
    assert 0 < len(rows) < 1000


class Careless:
    """An engine that delivers the first image twice and 5.jpg never."""

    trouble = ""

    async def run(self, job: Job) -> None:
        works = [work for work in job.pending({"qwen"}) if work.image != "5.jpg"]
        for work in [*works, *works[:1]]:
            answers = [
                Answer(CaptionRow(work.image, slot.name, GOOD.text, "qwen", "static", "", "", 0, "ok"))
                for slot in work.slots
            ]
            await job.deliver(work.number, answers)

    async def aclose(self) -> None:
        pass


def test_what_comes_twice_is_written_once_and_what_never_comes_is_missed(place: Place) -> None:
    names, slots = [f"{number}.jpg" for number in range(6)], slots_of(["qwen"], ["static", "dynamic"])
    with pytest.raises(CaptionError, match=r"2 of 12 captions came back neither written nor failed; .* to go on"):
        caption_images(place.root, names, place.out, Careless(), slots, Settings())
    assert len(place.rows()) == 10
    place.run(Scripted(place.root))
    assert len(read_captions(place.out)) == 12


def test_it_works_outside_the_main_thread(place: Place) -> None:
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(place.run(Scripted(place.root)).done))
    thread.start()
    thread.join()
    assert results == [12]


def test_the_record_of_the_job_is_plain(place: Place) -> None:
    place.run(Scripted(place.root))
    record = json.loads((place.out / "job.json").read_text())
    assert record["images"] == str(place.root)
    assert list(record["prompts"]) == ["qwen/static", "qwen/dynamic"]
