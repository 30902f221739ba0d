"""Captions that are there are asked about again: by a real server with faults, stopped and gone on with."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from examples.mllm_server import Question
from PIL import Image
from tests.captioning.scripted import LATER, Scripted
from tests.captioning.server import Behaviour, Server

from textreid.captioning.checking import Checks, Suspect, checked_slots
from textreid.captioning.counts import JobCounts
from textreid.captioning.engine import LocalEngine
from textreid.captioning.job import caption_images
from textreid.captioning.questions import asked_phrase
from textreid.captioning.requests import Caption, CaptionFailure, Request, Settings
from textreid.captioning.verification import VerificationPlan, plan_verification
from textreid.captions.sidecars import error_spans, repairs_of
from textreid.captions.table import CaptionRow, read_captions, write_captions
from textreid.captions.writer import caption_rows
from textreid.errors import CaptionError, ConfigError, ResumeError

TEXT = "A man in a red coat and black boots."
COAT, BOOTS = (9, 19), (24, 35)
SLOTS = ("m/static", "n/dynamic")


def row(image: str, slot: str = SLOTS[0], text: str = TEXT, status: str = "ok") -> CaptionRow:
    return CaptionRow(image, slot, text, slot[0], slot[2:], "t", "0123", 7, status)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (16, 32), (20 * number, 0, 0)).save(folder / f"{number}.jpg")
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Captions of both slots; the last picture has one slot only, and another caption of it was rejected."""
    rows = [row(f"{number}.jpg", slot) for number in range(11) for slot in SLOTS]
    rows += [row("11.jpg"), row("11.jpg", SLOTS[1], "I'm sorry.", "refusal")]
    write_captions(tmp_path / "captions", rows)
    with (tmp_path / "captions" / "errors.jsonl").open("w") as stream:
        for each in rows[:4]:
            spans = [[TEXT.index("red"), TEXT.index("red") + 3], [TEXT.index("black"), TEXT.index("black") + 5]]
            stream.write(json.dumps({"image": each.image, "slot": each.slot, "spans": spans}) + "\n")
    return tmp_path / "captions"


def suspect_coats(table: Path) -> Callable[[], Mapping[int, tuple[tuple[int, int], ...]]]:
    """The coat in every other caption of a table, and the boots of the first."""
    return lambda: {index: (COAT, BOOTS) if not index else (COAT,) for index in range(0, len(read_captions(table)), 2)}


def plan(root: Path, table: Path, out: Path, *mllms: str, facts: Mapping[str, Any] | None = None) -> VerificationPlan:
    settings = Settings(attempts=3)
    return plan_verification(root, table, out, list(mllms), suspect_coats(table), facts or {}, settings=settings)


def run(
    root: Path, table: Path, out: Path, captioner: Scripted, settings: Settings | None = None, **more: Any
) -> JobCounts:
    """Run a job with a captioner of the test's own."""
    job = plan(root, table, out, "qwen=describe").job
    engine = LocalEngine([captioner], job.checks.ask if job.checks else None)  # type: ignore[arg-type]
    return caption_images(
        root, job.selection.images, out, engine, job.slots, settings or Settings(), checks=job.checks, **more
    )


def rows_of(out: Path) -> dict[tuple[str, str], CaptionRow]:
    return {(each.image, each.slot): each for each in caption_rows(out)}


def test_suspicious_phrases_are_repaired_and_nothing_else(root: Path, table: Path, tmp_path: Path) -> None:
    def reply(image: str, request: Request, times: int) -> Caption:
        phrase = asked_phrase(request.instruction.text)
        return Caption("No, a navy blue jacket.", errors=((6, 10),)) if phrase == "a red coat" else Caption("yes")

    captioner = Scripted(root, reply)
    counts = run(root, table, tmp_path / "out", captioner)
    # 23 captions, of which 12 have a suspicious phrase; the rejected one is not there.
    assert (counts.total, counts.done, counts.failed) == (23, 23, 0)
    assert len(captioner.asked) == 13
    before, after = rows_of(table), rows_of(tmp_path / "out")
    assert after.keys() == {key for key, each in before.items() if each.status == "ok"}
    repairs = repairs_of(tmp_path / "out")
    assert len(repairs) == 12
    for key, each in after.items():
        fixed = "A man in a navy blue jacket and black boots."
        assert each.caption == (fixed if key in repairs else TEXT)
        # Where a caption comes from stays.
        assert (each.mllm, each.template_id, each.seed) == (before[key].mllm, "t", 7)
    assert repairs["0.jpg", SLOTS[0]] == {
        "image": "0.jpg", "slot": SLOTS[0], "before": TEXT, "repairs": [["a red coat", "a navy blue jacket"]],
        "by": "qwen",
    }  # fmt: skip
    wrong = {
        key: [after[key].caption[low:high] for low, high in spans]
        for key, spans in error_spans(tmp_path / "out").items()
    }
    assert wrong["0.jpg", SLOTS[0]] == ["navy", "black"]
    assert wrong["0.jpg", SLOTS[1]] == ["red", "black"]  # it was not asked about
    assert wrong["4.jpg", SLOTS[0]] == ["navy"]


def test_a_second_run_asks_nothing(root: Path, table: Path, tmp_path: Path) -> None:
    captioner = Scripted(root, lambda image, request, times: Caption("a blue coat"))
    run(root, table, tmp_path / "out", captioner)
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name != "usage.json"}
    asked = len(captioner.asked)
    counts = run(root, table, tmp_path / "out", captioner)
    assert (len(captioner.asked), counts.saved_now, counts.done) == (asked, 0, 23)
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name != "usage.json"}


def test_what_cannot_be_understood_is_asked_again_and_then_kept_apart(root: Path, table: Path, tmp_path: Path) -> None:
    def reply(image: str, request: Request, times: int) -> Caption:
        if image == "2.jpg":
            return Caption("I would rather not say.")
        return Caption("Hm?" if times == 0 else "yes")

    captioner = Scripted(root, reply)
    counts = run(root, table, tmp_path / "out", captioner, Settings(attempts=2, max_failures=0.1))
    assert counts.statuses == {"ok": 22, "failed-unclear": 1}
    asked = [request.seed for image, request in captioner.asked if image == "2.jpg"]
    # Twice, and once more at the end of the job.
    assert len(asked) == 4
    assert len(set(asked)) == 2
    (apart,) = [each for each in caption_rows(tmp_path / "out") if each.status != "ok"]
    assert (apart.image, apart.caption) == ("2.jpg", TEXT)
    assert len(read_captions(tmp_path / "out")) == 22
    again = Scripted(root, lambda image, request, times: Caption("a blue coat"))
    counts = run(root, table, tmp_path / "out", again, Settings(attempts=2, max_failures=0.1), retry_failed=True)
    assert [image for image, _ in again.asked] == ["2.jpg"]
    assert counts.statuses == {"ok": 23}


def test_an_mllm_that_never_answers_the_question_fails_the_job(root: Path, table: Path, tmp_path: Path) -> None:
    captioner = Scripted(root, lambda image, request, times: Caption("A man in a coat is what I can see."))
    with pytest.raises(CaptionError, match=r"12 of 23 captions failed \(unclear 12\).*neither yes nor another phrase"):
        run(root, table, tmp_path / "out", captioner)


def test_no_caption_says_of_somebody_that_he_is_nothing() -> None:
    text = "A man in a red coat waits."
    captions = {("1.jpg", "m/static"): Suspect(row("1.jpg", text=text), ((0, 5),))}

    async def ask(answer: str) -> str:
        captioner = Scripted(Path(), lambda image, request, times: Caption(answer))
        slots = checked_slots("qwen", ["m/static"])
        (found,) = await Checks(captions, {}).ask(captioner, Path(), "1.jpg", slots, Settings(attempts=1), None)
        return found.row.caption if found.row.status == "ok" else found.row.status

    import asyncio

    assert asyncio.run(ask("nothing")) == "failed-unclear"
    assert asyncio.run(ask("a woman")) == "A woman in a red coat waits."


def test_a_failure_that_passes_is_asked_again_and_a_damaged_picture_is_not(
    root: Path, table: Path, tmp_path: Path
) -> None:
    damaged = CaptionFailure("unreadable-image", "4.jpg: damaged", permanent=True)

    def reply(image: str, request: Request, times: int) -> Caption | CaptionFailure:
        if image == "4.jpg":
            return damaged
        return LATER if image == "2.jpg" and times == 0 else Caption("yes")

    captioner = Scripted(root, reply)
    counts = run(root, table, tmp_path / "out", captioner, Settings(max_failures=0.1))
    assert counts.statuses == {"ok": 22, "failed-unreadable-image": 1}
    assert [image for image, _ in captioner.asked].count("4.jpg") == 1


def answer_of_server(question: Question) -> str:
    return "yes" if asked_phrase(question.text) == "black boots" else "a blue coat"


def test_a_server_with_faults_gives_the_table_of_one_without(root: Path, table: Path, tmp_path: Path) -> None:
    tables = {}
    faults = Behaviour(truncated=0.08, cut=0.08, html=0.08, error_500=0.08, too_many=0.08)
    for name, behaviour in (("faults", faults), ("none", Behaviour())):
        with Server(behaviour=behaviour, seed=1, answer=answer_of_server) as server:
            counts = plan(root, table, tmp_path / name, f"qwen={server.url}#sim").job.run(show=False)
            assert counts.statuses == {"ok": 23}
            assert len(server.questions) >= 13
            assert (server.outcomes.total() > server.outcomes["ok"] + 5) == (behaviour is faults)
            assert {asked_phrase(each.text) for each in server.questions if each.images} == {
                "a red coat",
                "black boots",
            }
        tables[name] = rows_of(tmp_path / name)
    assert tables["faults"] == tables["none"]
    assert sum("a blue coat" in each.caption for each in tables["none"].values()) == 12


def test_a_table_goes_on_with_the_same_questions_only(root: Path, table: Path, tmp_path: Path) -> None:
    with Server(answer=answer_of_server) as server:
        mllm = f"qwen={server.url}#sim"
        plan(root, table, tmp_path / "out", mllm, facts={"threshold": 0.3}).job.run(show=False)
        with pytest.raises(ResumeError, match=r"checked: threshold: 0\.3 there, 0\.5 now"):
            plan(root, table, tmp_path / "out", mllm, facts={"threshold": 0.5}).job.run(show=False)
    with pytest.raises(ConfigError, match="one --mllm is asked, not a, b"):
        plan(root, table, tmp_path / "more", "a=describe", "b=describe")
    with pytest.raises(ConfigError, match="holds the captions to verify; choose another folder"):
        plan(root, table, table, "a=describe")
