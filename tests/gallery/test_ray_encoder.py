"""Crops embedded by the workers of a real Ray come into the same database with the same vectors."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.commands import Run

from textreid.captioning.cluster.connection import connect
from textreid.gallery.ray_encoder import RayEncoder
from textreid.gallery.store import Database

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),  # of its own defaults
]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of two workers on this machine."""
    assert connect(None, 2)
    import ray

    yield ray
    ray.shutdown()


def test_a_cluster_embeds_as_this_process_does_also_when_a_worker_is_killed(
    ray: Any,
    database: Database,
    make_crops: Callable[..., Path],
    model_folder: Path,
    ok: Run,
    textreid: Run,
) -> None:
    crops = make_crops(40)
    words = ("--model", model_folder, "--precision", "fp32")
    ok("index", crops, "--gallery", "here", *words)
    done = ok("index", crops, "--gallery", "there", *words, "--engine", "ray", "--workers", "2")
    assert "40 embedded" in done.stderr
    here, there = database.store("here"), database.store("there")
    assert here.fingerprint == there.fingerprint

    def vectors(name: str) -> dict[str, np.ndarray[Any, Any]]:
        store = database.store(name)
        found = store.search(np.eye(1, store.dim, dtype=np.float32)[0], top=100).hits
        return {hit.crop.path.name: store.vectors([hit.crop.id])[0] for hit in found}

    mine, theirs = vectors("here"), vectors("there")
    assert mine.keys() == theirs.keys()
    for name, vector in mine.items():
        np.testing.assert_allclose(theirs[name], vector, atol=2e-3)
    refused = textreid("index", crops, "--gallery", "here", "--workers", "2")
    assert refused.stderr == "textreid: --ray-address and --workers: are of --engine ray\n"

    encoder = RayEncoder(model_folder, "fp32", workers=2)
    assert (encoder.batch_size, encoder.space) == (128, here.fingerprint)
    pixels = np.stack([encoder.decode(crops / f"{number}.png")[0] for number in range(40)])
    expected = encoder.encode_pixels(pixels)
    np.testing.assert_allclose(expected, [mine[f"{number}.png"] for number in range(40)], atol=2e-3)
    victim = ray.get(encoder._actors[0].process.remote())
    os.kill(victim, signal.SIGKILL)
    np.testing.assert_allclose(encoder.encode_pixels(pixels), expected, atol=1e-5)
    assert ray.get(encoder._actors[0].process.remote()) != victim
