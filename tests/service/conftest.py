"""A gallery of drawn noise by three cameras, and real processes that serve it."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.gallery.conftest import gallery_data, model_folder, other_model_folder

from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.store import Database, NewCrop, NewFile, open_database

__all__ = ["gallery_data", "model_folder", "other_model_folder"]
CAMERAS = ("gate", "hall", None)
START = datetime(2026, 5, 1, 8)
COMMAND = (sys.executable, "-m", "textreid")


@dataclass
class Demo:
    """A gallery: what its crops were made of, by number."""

    name: str
    data: Path
    crops: dict[int, NewCrop]

    def of(self, camera: str | None) -> list[int]:
        return [number for number, crop in self.crops.items() if crop.camera == camera]

    def opened(self) -> Iterator[Database]:
        """The database that holds it; for a fixture to yield from."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TEXTREID_DATA", os.fspath(self.data))
            patch.delenv("TEXTREID_DATABASE", raising=False)
            with open_database() as database:
                yield database

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "TEXTREID_DATA": os.fspath(self.data), "NO_COLOR": "1"}


def new_crops(count: int, dim: int, seed: int, grain: tuple[int, int]) -> list[NewCrop]:
    generator = np.random.default_rng(seed)
    crops = []
    for i in range(count):
        vector = generator.normal(size=dim).astype(np.float32)
        stream = io.BytesIO()
        blocks = Image.fromarray(generator.integers(0, 256, (*grain[::-1], 3), np.uint8))
        blocks.resize((240, 480), Image.Resampling.NEAREST).save(stream, "JPEG")
        time = START + timedelta(minutes=37 * i)
        crop = NewCrop(
            vector / np.linalg.norm(vector), generator.bytes(32), stream.getvalue(), i, i / 10, time, CAMERAS[i % 3],
            (1, 2, 3, 4), i // 6, ("bag",) if i % 2 else (),
        )  # fmt: skip
        crops.append(crop)
    return crops


MakeGallery = Callable[..., Demo]


@pytest.fixture(scope="session")
def make_gallery(gallery_data: Path, model_folder: Path) -> MakeGallery:
    """A function that makes a gallery of so many crops."""

    def make(name: str, count: int = 90, seed: int = 0, grain: tuple[int, int] = (8, 16)) -> Demo:
        encoder = GalleryEncoder(model_folder)
        dim = encoder.encode_query("a person")[0].shape[0]
        crops = new_crops(count, dim, seed, grain)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TEXTREID_DATA", os.fspath(gallery_data))
            patch.delenv("TEXTREID_DATABASE", raising=False)
            with open_database() as database:
                store = database.create(name, str(model_folder), encoder.spaces[-1], dim)
                ids = store.add("/videos", [NewFile("/videos/a.avi", FileStamp(1, 2, 3), b"a", crops)])
        return Demo(name, gallery_data, dict(zip(ids, crops, strict=True)))

    return make


@pytest.fixture(scope="session")
def demo(make_gallery: MakeGallery) -> Demo:
    return make_gallery("demo")


@contextmanager
def serving(demo: Demo, *options: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The address of a process that serves a gallery, and the process; it is told to stop at the end."""
    command = [*COMMAND, "serve", "--gallery", demo.name, "--port", "0", *options]
    with subprocess.Popen(command, env=demo.environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert " is served at http://" in line, line + process.stderr.read()
            yield line.split()[-1], process
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def address(demo: Demo) -> Iterator[str]:
    """The address of a service of the demo gallery that everybody on this machine may use."""
    with serving(demo) as (url, process):
        yield url
        process.terminate()
        assert process.wait(20) == 0
