"""Service, database or indexer killed at any moment: what was answered is in the log, and what was taken is indexed."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.service.conftest import MakeGallery, serving

from textreid import Client
from textreid.service import ServiceError
from textreid.service.audit import entries, verify

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("TEXTREID_KILLS", "1"))  # of each kind; 50 for the full form


class Load:
    """Clients that search until they are stopped, or nobody answers."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self.refused: list[ServiceError] = []
        self.stop = threading.Event()

    def ask(self, url: str, client_number: int) -> None:
        with Client(url) as client:
            number = 0
            while not self.stop.is_set():
                number += 1
                query = f"a man with {len(self.answered)} bags, said client {client_number} at {number} of {url}"
                try:
                    client.search(query)
                except ServiceError as error:
                    self.refused.append(error)
                    if error.status is None:
                        return
                else:
                    self.answered.append(query)

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 120
        while len(self.answered) < count:
            assert time.monotonic() < deadline, self.refused[-3:]
            time.sleep(0.001)


def children(process: int) -> list[int]:
    return [
        int(number) for path in Path(f"/proc/{process}/task").glob("*/children") for number in path.read_text().split()
    ]


def upload(client: Client, folder: Path, number: int) -> int:
    blocks = Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 4, 3), np.uint8))
    blocks.resize((24, 56), Image.Resampling.NEAREST).save(folder / f"{number}.png")
    return client.upload("crops", [folder / f"{number}.png"]).id


def wait_for_jobs(client: Client, numbers: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(client.job(number).state in ("waiting", "running") for number in numbers):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_what_was_answered_is_logged_and_what_was_taken_is_indexed(make_gallery: MakeGallery, tmp_path: Path) -> None:
    demo = make_gallery("killed", 12, seed=13)
    load, taken = Load(), list[int]()
    for kill in range(KILLS):
        with serving(demo) as (url, process):
            threads = [threading.Thread(target=load.ask, args=(url, number)) for number in range(4)]
            for thread in threads:
                thread.start()
            with Client(url) as client:
                if kill % 10 == 9:  # twenty may wait
                    wait_for_jobs(client, taken, 60 + 120 * len(taken))
                taken.append(upload(client, tmp_path, kill))
            deadline = time.monotonic() + 120
            while not (running := children(process.pid)):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            load.wait_for(len(load.answered) + 1 + 7 * kill % 40)  # each time at another moment
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(running[0], signal.SIGKILL)
            load.wait_for(len(load.answered) + 3)
            # Clients of the service see that it is slow, or 503, and then go on.
            os.kill(int(next(demo.data.rglob("postmaster.pid")).read_text().split()[0]), signal.SIGKILL)
            load.wait_for(len(load.answered) + 5 + 11 * kill % 40)
            process.kill()
            for thread in threads:
                thread.join()
    answered, refused = load.answered, load.refused
    assert {error.status for error in refused} <= {None, 503}
    assert len([error for error in refused if error.status is None]) == 4 * KILLS
    with serving(demo) as (url, _), Client(url) as client:
        wait_for_jobs(client, taken, 60 + 120 * len(taken))
        told = [client.job(number) for number in taken]
        assert {(one.state, one.done, one.crops) for one in told} == {("done", 1, 1)}, told
    for opened in demo.opened():
        chain = list(entries(opened))
        verify(chain)
    logged = {entry.facts.get("query") for entry in chain}
    assert set(answered) <= logged
    # What was logged and not answered was under way when the process was killed: one for each client at most.
    ours = {query for query in logged if query and query.startswith("a man with") and "said client" in query}
    assert 0 <= len(ours) - len(answered) <= 4 * KILLS + len(refused)
