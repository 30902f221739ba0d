"""A table that grows: what was acknowledged survives anything, and nothing is there twice."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from textreid.artifacts import LOCK, read_json, write_json
from textreid.captions.sidecars import ERRORS, RAW, error_spans, raw_answers
from textreid.captions.table import CaptionRow, read_captions, read_part
from textreid.captions.writer import GrowingTable, caption_rows
from textreid.errors import ArtifactError, CaptionError, ResumeError

FACTS: dict[str, Any] = {"images": "/somewhere", "prompts": {"qwen/static": "0123"}, "seed": 0}

APPENDER = """
import sys
from pathlib import Path
from textreid.captions.table import CaptionRow
from textreid.captions.writer import GrowingTable
if len(sys.argv) > 3:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
facts = {"images": "/somewhere", "prompts": {"qwen/static": "0123"}, "seed": 0}
with GrowingTable(Path(sys.argv[1]), facts, part_rows=int(sys.argv[2])) as table:
    there = [image for block in table.stored() for image in block[0].to_pylist()]
    number = max((int(Path(image).stem) for image in there), default=-1) + 1
    print("ready", flush=True)
    while True:
        names = [f"{n}.jpg" for n in range(number, number + 3)]
        table.append([CaptionRow(n, "qwen/static", f"Man {n} in a coat.", "qwen", "static", "", "0", 1) for n in names])
        print(*names, sep="\\n", flush=True)
        number += 3
"""


def row(image: str, caption: str = "A man in a red coat.", status: str = "ok") -> CaptionRow:
    return CaptionRow(image, "qwen/static", caption, "qwen", "static", "", "0123", 7, status)


def rows(*numbers: int) -> list[CaptionRow]:
    return [row(f"{number}.jpg", f"Man {number} in a «red» coat.\u2028New line.\n") for number in numbers]


def grow(folder: Path, part_rows: int = 100) -> GrowingTable:
    return GrowingTable(folder, FACTS, part_rows)


def images(folder: Path) -> list[str]:
    return [each.image for each in caption_rows(folder)]


@pytest.mark.parametrize("part_rows", [1, 4, 100])
def test_what_is_appended_is_read_back_growing_and_complete(tmp_path: Path, part_rows: int) -> None:
    expected = rows(*range(10))
    for start in range(0, 10, 2):
        with grow(tmp_path / "t", part_rows) as table:
            table.append(expected[start : start + 2])
        assert list(caption_rows(tmp_path / "t")) == expected[: start + 2]
    with pytest.raises(ArtifactError, match=r"no manifest\.json"):
        read_captions(tmp_path / "t")
    with grow(tmp_path / "t", part_rows) as table:
        assert table.finish() == {"ok": 10}
        assert table.complete
    assert list(caption_rows(tmp_path / "t")) == expected
    assert [str(text) for text in read_captions(tmp_path / "t").captions] == [each.caption for each in expected]
    assert not list((tmp_path / "t").glob("journal-*"))


def test_a_complete_table_can_grow_again(tmp_path: Path) -> None:
    for numbers in ((0, 1), (), (2, 3, 4)):
        with grow(tmp_path / "t") as table:
            table.append(rows(*numbers))
            assert table.complete == (not numbers)
            table.finish()
        with grow(tmp_path / "t") as table:
            assert table.complete
    assert images(tmp_path / "t") == [f"{n}.jpg" for n in range(5)]
    assert len(read_captions(tmp_path / "t")) == 5


def test_a_torn_tail_is_dropped_wherever_it_was_torn(tmp_path: Path) -> None:
    with grow(tmp_path / "whole") as table:
        table.append(rows(0, 1))
    content = (tmp_path / "whole/journal-00000.jsonl").read_bytes()
    second = content.index(b"\n") + 1
    cuts = range(second, len(content), 2)
    assert len(cuts) > 40
    for cut in cuts:
        folder = tmp_path / str(cut)
        folder.mkdir()
        write_json(folder / "job.json", read_json(tmp_path / "whole/job.json"))
        (folder / "journal-00000.jsonl").write_bytes(content[:cut])
        assert images(folder) == ["0.jpg"]
        with grow(folder) as table:
            assert table.damaged == 0
            table.append(rows(1, 2))
        assert images(folder) == ["0.jpg", "1.jpg", "2.jpg"]


def test_an_altered_line_is_left_out_and_counted(tmp_path: Path) -> None:
    with grow(tmp_path / "t") as table:
        table.append(rows(0, 1, 2))
    path = tmp_path / "t/journal-00000.jsonl"
    path.write_bytes(path.read_bytes().replace(b"Man 1", b"Man 7"))
    with grow(tmp_path / "t") as table:
        assert table.damaged == 1
        assert [block[0].to_pylist() for block in table.stored()] == [["0.jpg", "2.jpg"]]
        table.append(rows(1))
        table.finish()
    assert images(tmp_path / "t") == ["0.jpg", "2.jpg", "1.jpg"]


def test_a_crash_between_a_part_and_the_removal_of_its_journal_doubles_nothing(tmp_path: Path) -> None:
    with grow(tmp_path / "t") as table:
        table.append(rows(0, 1))
        journal = (tmp_path / "t/journal-00000.jsonl").read_bytes()
        table.finish()
    (tmp_path / "t/journal-00000.jsonl").write_bytes(journal)
    (tmp_path / "t/manifest.json").unlink()
    assert images(tmp_path / "t") == ["0.jpg", "1.jpg"]
    with grow(tmp_path / "t") as table:
        table.append(rows(2))
        table.finish()
    assert images(tmp_path / "t") == ["0.jpg", "1.jpg", "2.jpg"]


@pytest.mark.slow
def test_killed_at_random_moments_it_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(5)  # noqa: S311 (moments to kill at)
    acknowledged: list[str] = []
    for _ in range(4):
        command = [sys.executable, "-c", APPENDER, str(tmp_path / "t"), "40"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            acknowledged += [process.stdout.readline().strip() for _ in range(chance.randrange(1, 120))]
            process.send_signal(signal.SIGKILL)
            acknowledged += process.stdout.read().split()
        there = images(tmp_path / "t")
        assert set(acknowledged) <= set(there)
        assert len(set(there)) == len(there)
    assert len(acknowledged) > 100
    with grow(tmp_path / "t", 40) as table:
        assert sum(table.finish().values()) == len(there)
    assert len(read_captions(tmp_path / "t")) == len(there)
    assert len(list((tmp_path / "t").glob("*.parquet"))) > 1


def test_when_the_disk_is_full_it_says_so_and_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", APPENDER, str(tmp_path / "t"), "100000", "6000"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "ArtifactError" in result.stderr
    assert "cannot be written: File too large; what was written before is safe" in result.stderr
    acknowledged = result.stdout.split()[1:]
    assert len(acknowledged) > 10
    assert images(tmp_path / "t") == acknowledged  # nothing of the append that failed
    with grow(tmp_path / "t") as table:
        assert sum(table.finish().values()) == len(acknowledged)


def test_no_space_for_a_new_journal_leaves_the_parts(tmp_path: Path) -> None:
    with grow(tmp_path / "t", 2) as table:
        table.append(rows(0, 1))
        (tmp_path / "t/journal-00001.jsonl").symlink_to("/dev/full")
        with pytest.raises(ArtifactError, match="No space left on device; what was written before is safe"):
            table.append(rows(2))
    (tmp_path / "t/journal-00001.jsonl").unlink()
    with grow(tmp_path / "t", 2) as table:
        table.append(rows(2))
    assert images(tmp_path / "t") == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written: Not a directory"):
        grow(tmp_path / "file" / "t")


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    with grow(tmp_path / "t") as table:
        table.append(rows(0))
    other = {"images": "/elsewhere", "prompts": {"qwen/static": "4567", "qwen/dynamic": "89"}, "seed": 0, "asks": 2}
    with pytest.raises(ResumeError) as refused:
        GrowingTable(tmp_path / "t", other)
    message = str(refused.value)
    assert 'images: "/somewhere" there, "/elsewhere" now' in message
    assert 'prompts: qwen/static: "0123" there, "4567" now' in message
    assert "qwen/dynamic" not in message
    assert "asks: nothing there, 2 now" in message
    assert "seed" not in message
    assert images(tmp_path / "t") == ["0.jpg"]


def test_a_mapping_of_facts_may_grow_and_does_with_the_next_row(tmp_path: Path) -> None:
    other = {**FACTS, "prompts": {"shikra/static": "4567"}}
    with grow(tmp_path / "t") as table:
        table.append(rows(0))
        table.finish()
    before = read_json(tmp_path / "t/job.json")
    with GrowingTable(tmp_path / "t", other) as table:
        assert table.complete  # nothing is touched yet
        assert read_json(tmp_path / "t/job.json") == before
        table.append([replace(row("0.jpg"), slot="shikra/static", mllm="shikra")])
        assert not (tmp_path / "t/manifest.json").exists()
        table.finish()
    assert read_json(tmp_path / "t/job.json")["prompts"] == {"qwen/static": "0123", "shikra/static": "4567"}
    assert read_captions(tmp_path / "t").slots == ("qwen/static", "shikra/static")
    grow(tmp_path / "t").__exit__()
    with pytest.raises(ResumeError, match='prompts: shikra/static: "4567" there, "0" now'):
        GrowingTable(tmp_path / "t", {**FACTS, "prompts": {"shikra/static": "0"}})


def test_a_larger_job_is_not_begun_beside_a_running_one(tmp_path: Path) -> None:
    with grow(tmp_path / "t") as table:
        table.append(rows(0))
        with pytest.raises(ResumeError, match="another process is writing to it"):
            GrowingTable(tmp_path / "t", {**FACTS, "prompts": {"shikra/static": "4567"}})
    assert images(tmp_path / "t") == ["0.jpg"]


def test_a_table_without_rows_takes_other_settings(tmp_path: Path) -> None:
    grow(tmp_path / "t").__exit__()
    other = {**FACTS, "seed": 1}
    for _ in range(2):
        with GrowingTable(tmp_path / "t", other) as table:
            table.append([])
    assert read_json(tmp_path / "t/job.json")["seed"] == 1


def test_other_versions_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    grow(tmp_path / "t").__exit__()
    write_json(tmp_path / "t/job.json", read_json(tmp_path / "t/job.json") | {"format_version": 99})
    with pytest.raises(ResumeError, match=r"another version of textreid \(format 99, this one writes 2\)"):
        grow(tmp_path / "t")
    write_json(tmp_path / "t/job.json", ["something"])
    with pytest.raises(ResumeError, match="not the record of a captioning job"):
        grow(tmp_path / "t")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/me.jpg").write_text("")
    with pytest.raises(ResumeError, match=r"holds me\.jpg but no job\.json"):
        grow(tmp_path / "photos")
    with pytest.raises(ArtifactError, match="not a caption table"):
        images(tmp_path / "photos")


def test_only_one_process_writes(tmp_path: Path) -> None:
    with grow(tmp_path / "t") as table:
        with pytest.raises(ResumeError, match="another process is writing to it"):
            grow(tmp_path / "t")
        table.append(rows(0))
    grow(tmp_path / "t").__exit__()


def test_a_table_that_was_written_before_there_were_lock_files_goes_on(tmp_path: Path) -> None:
    with grow(tmp_path / "t") as table:
        table.append(rows(0, 1))
        table.finish()
    (tmp_path / "t" / LOCK).unlink(missing_ok=True)
    assert LOCK not in read_json(tmp_path / "t/manifest.json")["files"]
    assert len(read_captions(tmp_path / "t")) == 2
    with grow(tmp_path / "t") as table:
        table.append(rows(2))
        table.finish()
    assert images(tmp_path / "t") == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_lock_is_no_stranger_in_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / LOCK).write_text("")
    (tmp_path / "t" / ".job.json.77.partial").write_text("")
    with grow(tmp_path / "t") as table:
        table.append(rows(0))
    assert images(tmp_path / "t") == ["0.jpg"]


def test_what_is_known_beside_a_row_is_read_back_and_the_later_line_counts(tmp_path: Path) -> None:
    def known(number: int, *spans: tuple[int, int]) -> tuple[str, dict[str, Any]]:
        return ERRORS, {"image": f"{number}.jpg", "slot": "qwen/static", "spans": spans}

    assert (error_spans(tmp_path), raw_answers(tmp_path)) == ({}, {})
    with grow(tmp_path / "t") as table:
        table.append(rows(0, 1), [known(0, (2, 5)), known(1, (0, 1), (3, 9))])
    with (tmp_path / "t" / ERRORS).open("a") as stream:
        stream.write('{"image": "2.jpg", "slot": "qw')  # a crash
    with grow(tmp_path / "t") as table:
        table.append(rows(2), [known(2, (1, 2)), known(0, (7, 8)), (RAW, {**known(2)[1], "raw": "</s>"})])
        table.finish()
    key = "qwen/static"
    assert error_spans(tmp_path / "t") == {
        ("0.jpg", key): [(7, 8)],
        ("1.jpg", key): [(0, 1), (3, 9)],
        ("2.jpg", key): [(1, 2)],
    }
    assert raw_answers(tmp_path / "t") == {("2.jpg", key): "</s>"}
    assert len(read_captions(tmp_path / "t")) == 3


def test_rows_can_be_dropped_and_written_again(tmp_path: Path) -> None:
    with grow(tmp_path / "t", 2) as table:
        table.append([row("0.jpg"), row("1.jpg", "", "failed-time-out")])
        table.append([row("2.jpg", "", "failed-http-500"), row("3.jpg")])
        table.append([row("4.jpg", "", "failed-time-out")])
        table.finish()
        assert table.drop(lambda slot, status: (slot, status) == ("qwen/static", "failed-time-out")) == 2
        assert not table.complete
        table.append(rows(1, 4))
        assert table.finish() == {"ok": 4, "failed-http-500": 1}
    assert sorted(images(tmp_path / "t")) == [f"{n}.jpg" for n in range(5)]
    assert read_captions(tmp_path / "t").rejected == {"failed-http-500": 1}


def test_an_image_that_the_table_cannot_name_is_refused_at_once(tmp_path: Path) -> None:
    with grow(tmp_path / "t") as table:
        for name in (os.fsdecode(b"caf\xe9.jpg"), "../a.jpg", "C:/a.jpg"):
            with pytest.raises(CaptionError, match="not a path that the table can hold"):
                table.append([row(name)])
        with pytest.raises(CaptionError, match="at least one row"):
            table.finish()


def test_a_part_of_many_blocks_names_the_row_that_leaves_the_root(tmp_path: Path) -> None:
    from textreid.captions.table import write_part

    good = [row(f"{n}.jpg") for n in range(20_000)]
    assert write_part(tmp_path / "part.parquet", iter(good)) == {"ok": 20_000}
    assert read_part(tmp_path / "part.parquet").num_rows == 20_000
    with pytest.raises(CaptionError, match="row 20000: image '/a' leaves"):
        write_part(tmp_path / "part.parquet", [*good, row("/a")])
