"""Import and export of captions in the released form: seconds and peak memory.

Writes four files as Tan et al. 2024 released them (``Ts-qwen.json``, ``Td-qwen.json``, ``Ts-shikra.json``,
``Td-shikra.json``), an object of captions by image path each, then imports each alone and all four together, and
exports the result in every form. Every command is a process of its own.

    python benchmarks/interchange.py --entries 1000000            # in each file; about 1 GB on the disk
    python benchmarks/interchange.py --entries 1000000 --root     # images are looked up in a folder of as many files
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from textreid.captioning import caption as caption_folder
from textreid.captions.exporting import FORMS
from textreid.captions.importing import RELEASED
from textreid.captions.table import read_captions
from textreid.synthetic import write_corpus

_IDENTITIES = 500  # whose captions are dealt out, each with a number of its own


def image_path(number: int) -> str:
    """A path such as those of the release: a few folders of many files."""
    return f"images/{number // 100_000:02d}/{number:08d}_c{number % 7}.jpg"


def write_released(folder: Path, entries: int) -> None:
    """Four files of ``entries`` captions each."""
    write_corpus(folder / "people", "street", _IDENTITIES, 1, seed=0)
    caption_folder(folder / "people", folder / "few", ["qwen=simulated", "shikra=simulated"])
    few = read_captions(folder / "few")
    texts: dict[str, list[str]] = {slot: [] for slot in few.slots}
    for row in range(len(few)):
        texts[few.slots[few.slot_index[row]]].append(few.caption(row))
    letters = {instruction: letter for letter, instruction in RELEASED.items()}
    for slot, known in texts.items():
        mllm, _, instruction = slot.partition("/")
        with (folder / f"T{letters[instruction]}-{mllm}.json").open("w") as stream:
            stream.write("{")
            for number in range(entries):
                caption = f"{known[number % len(known)]} Picture {number}."
                stream.write(f"{', ' if number else ''}{json.dumps(image_path(number))}: {json.dumps(caption)}")
            stream.write("}")


def write_root(folder: Path, entries: int) -> None:
    """As many empty files as there are entries; an import looks at their names alone."""
    for number in range(entries):
        path = folder / image_path(number)
        if number % 100_000 == 0:
            path.parent.mkdir(parents=True)
        path.touch()


def measure(title: str, arguments: Iterable[object]) -> None:
    """Run ``textreid captions`` with ``arguments`` and print what it took."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "textreid", "captions", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds, cpu = time.monotonic() - begin, usage.ru_utime + usage.ru_stime
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    print(f"{title:<24}{seconds:>8.1f} s, {cpu:>6.1f} s of CPU, peak {usage.ru_maxrss / 1024:>6.0f} MiB", flush=True)


def main() -> None:
    """Write the files, import, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, required=True, help="in each of the four files")
    parser.add_argument("--root", action="store_true", help="find every image in a folder, as a user would")
    given = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {vars(given)}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: one that is started counts the memory of its parent as its own.
        writer = multiprocessing.get_context("spawn").Process(target=write_released, args=(folder, given.entries))
        writer.start()
        writer.join()
        files = sorted(folder.glob("T*.json"))
        size = sum(file.stat().st_size for file in files) / 1e6
        print(f"{len(files)} files, {given.entries:,} captions each, {size:,.0f} MB in all", flush=True)
        options: list[object] = []
        if given.root:
            write_root(folder / "root", given.entries)
            options = ["--images", folder / "root"]
        for file in files:
            measure(f"import {file.name}", ["import", file, "--out", folder / file.stem, *options])
        measure("import all four", ["import", *files, "--out", folder / "table", *options])
        for form in FORMS:
            measure(f"export --as {form}", ["export", folder / "table", folder / f"as-{form}", "--as", form])


if __name__ == "__main__":
    main()
