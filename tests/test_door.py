"""The front door as a whole: what every public function refuses, and what it leaves as it found it."""

import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import textreid
from textreid.errors import ArgumentError, ConfigError, DataError, TextReidError
from textreid.synthetic import write_corpus

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SENTENCES = ["a woman in a red jacket", "a man with a backpack"]
QUICK = [
    "training.epochs=1", "training.batch_size=8", "optimizer.min_warmup_steps=1", "optimizer.warmup_epochs=0",
    "model.image_height=64", "model.image_width=32", "model.vision_width=32", "model.vision_layers=2",
    "model.vision_heads=2", "model.text_width=32", "model.text_layers=2", "model.text_heads=2",
    "model.embedding_dim=32",
]  # fmt: skip
Call = Callable[[Path], object]


def untyped(name: str) -> Any:
    """A public name, past the type checker: these tests hand over what it would refuse."""
    return getattr(textreid, name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``crops`` in the form of CUHK-PEDES, ``captions`` of them, an empty folder and a file that is no image."""
    folder = tmp_path_factory.mktemp("place")
    write_corpus(folder / "crops", "street", 12, 2, seed=0, split="train")
    textreid.caption(folder / "crops", folder / "captions", ["draft=describe"])
    (folder / "empty").mkdir()
    (folder / "file.jpg").write_text("not an image")
    return folder


def pictures(place: Path) -> list[Path]:
    return sorted((place / "crops").rglob("*.jpg"))


def people(place: Path) -> Any:
    return textreid.read_benchmark("generic", place / "crops")


def quick_run(place: Path, out: Path) -> object:
    config = textreid.presets.tiny().override(QUICK)
    return textreid.train(config, textreid.captioned_images(place / "crops", place / "captions"), out)


REFUSED: dict[str, tuple[type[TextReidError], Call]] = {
    # A wrong type.
    "load_model(5)": (ArgumentError, lambda p: untyped("load_model")(5)),
    "load_model(image_size=384)": (ArgumentError, lambda p: untyped("load_model")(image_size=384)),
    "load_model(device=5)": (ArgumentError, lambda p: untyped("load_model")(device=5)),
    "load_model(precision=5)": (ArgumentError, lambda p: untyped("load_model")(precision=5)),
    "load_model(precision)": (ConfigError, lambda p: untyped("load_model")(precision="fp64")),
    "load_model(activation)": (ConfigError, lambda p: untyped("load_model")(activation="relu")),
    "load_model(device)": (ConfigError, lambda p: untyped("load_model")(device="nowhere")),
    "load_model(device=meta)": (ConfigError, lambda p: untyped("load_model")(device="meta")),
    "load_model(device=cuda:99)": (ConfigError, lambda p: untyped("load_model")(device="cuda:99")),
    "load_model(image_size=0)": (ConfigError, lambda p: untyped("load_model")(image_size=(0, 0))),
    "load_model(image_size=one)": (ConfigError, lambda p: untyped("load_model")(image_size=(384,))),
    "similarity(one sentence)": (ArgumentError, lambda p: untyped("load_model")().similarity("a man", pictures(p))),
    "similarity(one picture)": (ArgumentError, lambda p: untyped("load_model")().similarity(SENTENCES, pictures(p)[0])),
    "similarity(None)": (ArgumentError, lambda p: untyped("load_model")().similarity(None, pictures(p))),
    "encode_texts([5])": (ArgumentError, lambda p: untyped("load_model")().encode_texts(["a man", 5])),
    "encode_images([5])": (ArgumentError, lambda p: untyped("load_model")().encode_images([5])),
    "encode_images(array)": (ArgumentError, lambda p: untyped("load_model")().encode_images(np.zeros((2, 3)))),
    "search(5)": (ArgumentError, lambda p: untyped("search")(5, p / "crops")),
    "search(folder=None)": (ArgumentError, lambda p: untyped("search")("a man", None)),
    "search(top='ten')": (ArgumentError, lambda p: untyped("search")("a man", p / "crops", top="ten")),
    "caption(5)": (ArgumentError, lambda p: untyped("caption")(5, p / "new", ["draft=describe"])),
    "caption(out=None)": (ArgumentError, lambda p: untyped("caption")(p / "crops", None, ["draft=describe"])),
    "caption(mllms=one)": (ArgumentError, lambda p: untyped("caption")(p / "crops", p / "new", "draft=describe")),
    "caption(mllms=[5])": (ArgumentError, lambda p: untyped("caption")(p / "crops", p / "new", [5])),
    "read_captions(5)": (ArgumentError, lambda p: untyped("read_captions")(5)),
    "captioned_images(None)": (ArgumentError, lambda p: untyped("captioned_images")(None, p / "captions")),
    "captioned_images(captions=5)": (ArgumentError, lambda p: untyped("captioned_images")(p / "crops", 5)),
    "annotated_people(path)": (ArgumentError, lambda p: untyped("annotated_people")(p / "crops")),
    "train('tiny')": (
        ArgumentError,
        lambda p: untyped("train")("tiny", textreid.captioned_images(p / "crops", p / "captions"), p / "new"),
    ),
    "train(data=path)": (ArgumentError, lambda p: untyped("train")(textreid.presets.tiny(), p / "crops", p / "new")),
    "train(out=None)": (
        ArgumentError,
        lambda p: untyped("train")(
            textreid.presets.tiny(), textreid.captioned_images(p / "crops", p / "captions"), None
        ),
    ),
    "train(validation=path)": (
        ArgumentError,
        lambda p: untyped("train")(
            textreid.presets.tiny(),
            textreid.captioned_images(p / "crops", p / "captions"), p / "new", validation=p / "crops",
        ),
    ),
    "evaluate('tiny')": (ArgumentError, lambda p: untyped("evaluate")("tiny", people(p))),
    "evaluate(path)": (ArgumentError, lambda p: untyped("evaluate")(textreid.load_model(), p / "crops")),
    "read_benchmark(5)": (ArgumentError, lambda p: untyped("read_benchmark")(5, p / "crops")),
    "read_benchmark(path=5)": (ArgumentError, lambda p: untyped("read_benchmark")("generic", 5)),
    "override(text)": (ArgumentError, lambda p: untyped("presets").tiny().override("training.epochs=1")),
    "override([5])": (ArgumentError, lambda p: untyped("presets").tiny().override([5])),
    "Config.load(5)": (ArgumentError, lambda p: untyped("Config").load(5)),
    # What is not there.
    "load_model(nowhere)": (TextReidError, lambda p: textreid.load_model(p / "nowhere")),
    "similarity(nowhere)": (DataError, lambda p: textreid.load_model().similarity(SENTENCES, [p / "nowhere.jpg"])),
    "similarity(no image)": (DataError, lambda p: textreid.load_model().similarity(SENTENCES, [p / "file.jpg"])),
    "search(nowhere)": (DataError, lambda p: textreid.search("a man", p / "nowhere")),
    "search(model=nowhere)": (TextReidError, lambda p: textreid.search("a man", p / "crops", model=p / "nowhere")),
    "caption(nowhere)": (DataError, lambda p: textreid.caption(p / "nowhere", p / "new", ["draft=describe"])),
    "caption(unknown)": (ConfigError, lambda p: textreid.caption(p / "crops", p / "new", ["draft=describer"])),
    "read_captions(nowhere)": (TextReidError, lambda p: textreid.read_captions(p / "nowhere")),
    "captioned_images(nowhere)": (
        TextReidError, lambda p: textreid.captioned_images(p / "nowhere", p / "captions"),
    ),
    "captioned_images(captions=nowhere)": (
        TextReidError, lambda p: textreid.captioned_images(p / "crops", p / "nowhere"),
    ),
    "read_benchmark(nowhere)": (TextReidError, lambda p: textreid.read_benchmark("cuhk-pedes", p / "nowhere")),
    "read_benchmark(unknown)": (ConfigError, lambda p: textreid.read_benchmark("cuhk-pedez", p / "crops")),
    "evaluate(split)": (
        TextReidError, lambda p: textreid.evaluate(textreid.load_model(), people(p), split="nowhere"),
    ),
    "Config.load(nowhere)": (ConfigError, lambda p: textreid.Config.load(p / "nowhere.json")),
    # What is empty.
    "similarity([])": (DataError, lambda p: textreid.load_model().similarity([], pictures(p))),
    "similarity(images=[])": (DataError, lambda p: textreid.load_model().similarity(SENTENCES, [])),
    "search('')": (DataError, lambda p: textreid.search("", p / "crops")),
    "search(empty)": (DataError, lambda p: textreid.search("a man", p / "empty")),
    "search(top=0)": (ConfigError, lambda p: textreid.search("a man", p / "crops", top=0)),
    "caption(mllms=[])": (ConfigError, lambda p: textreid.caption(p / "crops", p / "new", [])),
    "caption(empty)": (DataError, lambda p: textreid.caption(p / "empty", p / "new", ["draft=describe"])),
    "read_captions(empty)": (TextReidError, lambda p: textreid.read_captions(p / "empty")),
    "read_benchmark(empty)": (TextReidError, lambda p: textreid.read_benchmark("generic", p / "empty")),
    "annotated_people(nobody)": (
        DataError, lambda p: textreid.annotated_people(replace(people(p), records=())),
    ),
    "evaluate(nobody)": (
        TextReidError, lambda p: textreid.evaluate(textreid.load_model(), replace(people(p), records=())),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(what: str, place: Path) -> None:
    expected, call = REFUSED[what]
    with pytest.raises(expected) as caught:
        call(place)
    said = str(caught.value)
    assert 10 < len(said) < 500
    assert "\n" not in said
    assert not (place / "new").exists()


CALLS: dict[str, Callable[[Path, Path], object]] = {
    "load_model": lambda place, out: textreid.load_model(),
    "similarity": lambda place, out: textreid.load_model().similarity(SENTENCES * 20, pictures(place)),
    "search": lambda place, out: textreid.search(SENTENCES[0], place / "crops"),
    "caption": lambda place, out: textreid.caption(place / "crops", out, ["draft=describe"]),
    "read_captions": lambda place, out: textreid.read_captions(place / "captions"),
    "captioned_images": lambda place, out: textreid.captioned_images(place / "crops", place / "captions"),
    "annotated_people": lambda place, out: textreid.annotated_people(people(place)),
    "read_benchmark": lambda place, out: people(place),
    "evaluate": lambda place, out: textreid.evaluate(textreid.load_model(), people(place), "train"),
    "train": quick_run,
}


def host_handler(number: int, frame: object) -> None:
    """What a host program does at a signal."""


@pytest.mark.slow
def test_a_host_program_finds_its_signals_and_threads_as_they_were(place: Path, tmp_path: Path) -> None:
    assert set(CALLS) | {"Model", "Config", "presets", "errors", "TextReidError", "__version__"} == {
        *(set(dir(textreid)) - {"Client", "AsyncClient"}),
        "similarity",
    }  # fmt: skip; the clients need a service, whose tests use them
    before = {number: signal.signal(number, host_handler) for number in SIGNALS}
    threads = torch.get_num_threads()
    try:
        for count in (threads, threads + 1):
            torch.set_num_threads(count)
            for name, call in CALLS.items():
                call(place, tmp_path / f"{name}-{count}")
                assert {number: signal.getsignal(number) for number in SIGNALS} == dict.fromkeys(
                    SIGNALS, host_handler
                ), name
                assert torch.get_num_threads() == count, name
    finally:
        torch.set_num_threads(threads)
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.slow
def test_eight_threads_at_once_find_it_so_too(place: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    names = [*CALLS, *CALLS]

    def work(number: int) -> set[int]:
        seen = set()
        for turn in range(2):
            name = names[(number + 5 * turn) % len(names)]
            CALLS[name](place, tmp_path / f"{name}-{number}-{turn}")
            seen.add(torch.get_num_threads())
        return seen

    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(work, range(2 * len(CALLS))))
        assert found == [{before + 1}] * len(found)
        assert torch.get_num_threads() == before + 1
        with ThreadPoolExecutor(1) as pool:  # a new thread takes over what the process has
            assert pool.submit(torch.get_num_threads).result() == before + 1
    finally:
        torch.set_num_threads(before)
    shutil.rmtree(tmp_path)
