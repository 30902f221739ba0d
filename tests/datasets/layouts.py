"""Writes small benchmarks in the layouts of the public ones: same files, same fields, same folders, same numbering."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ANNOTATIONS = {"cuhk-pedes": "reid_raw.json", "icfg-pedes": "ICFG_PEDES.json", "rstpreid": "data_captions.json"}
FIRST_IDENTITY = {"cuhk-pedes": 1, "icfg-pedes": 0, "rstpreid": 0}
SHOTS = 2  # images of each person

Entry = dict[str, Any]


def image_name(form: str, split: str, identity: int, shot: int) -> str:
    if form == "cuhk-pedes":
        folder = ("CUHK01", "CUHK03", "Market", "cam_a", "cam_b", "test_query", "train_query")[identity % 7]
        return f"{folder}/{identity:04d}_c{shot}s1_{identity:06d}.png"
    if form == "icfg-pedes":  # folders are those of MSMT17 and have nothing to do with the splits
        return f"{('train', 'test')[identity % 2]}/{identity:04d}/{identity:04d}_{shot:03d}_01_0303morning_0015_0.jpg"
    return f"{identity:04d}_c{shot + 1}_{identity:04d}.jpg"


def make_entry(form: str, split: str, identity: int, shot: int) -> Entry:
    texts = [
        f"Person {identity} seen from camera {shot}, sentence {n}." for n in range(1 if form == "icfg-pedes" else 2)
    ]
    image = image_name(form, split, identity, shot)
    if form == "rstpreid":
        return {"id": identity, "img_path": image, "captions": texts, "split": split}
    tokens = [text.lower().rstrip(".").split() for text in texts]
    return {"split": split, "captions": texts, "file_path": image, "processed_tokens": tokens, "id": identity}


def entries_of(form: str, people: Mapping[str, int]) -> list[Entry]:
    """Entries of so many people in each split, numbered through."""
    identity, entries = FIRST_IDENTITY[form], []
    for split, count in people.items():
        for _ in range(count):
            entries += [make_entry(form, split, identity, shot) for shot in range(SHOTS)]
            identity += 1
    return entries


def path_of(entry: Entry) -> str:
    path: str = entry.get("file_path") or entry["img_path"]
    return path


def patchwork(number: int, size: tuple[int, int] = (32, 64)) -> Image.Image:
    """A picture that no other number has, and that shows more than one colour."""
    patches = np.random.default_rng(number).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.NEAREST)


def write_images(root: Path, entries: list[Entry]) -> None:
    """A picture of its own for each entry."""
    for number, entry in enumerate(entries):
        image = root / path_of(entry)
        image.parent.mkdir(parents=True, exist_ok=True)
        patchwork(number).save(image)


def write_benchmark(folder: Path, form: str, people: Mapping[str, int] | None = None) -> list[Entry]:
    """A benchmark of a few people; returns its entries."""
    entries = entries_of(form, people or {"train": 6, "test": 3})
    write_images(folder / "imgs", entries)
    write_annotations(folder, form, entries)
    return entries


def write_annotations(folder: Path, form: str, entries: list[Entry]) -> None:
    (folder / ANNOTATIONS[form]).write_text(json.dumps(entries), encoding="utf-8")
