"""Service or database killed at any moment: what was answered is in the log, the chain is whole, and clients go on."""

import os
import signal
import threading
import time

import pytest
from tests.service.conftest import MakeGallery, serving

from textreid import Client
from textreid.service import ServiceError
from textreid.service.audit import entries, verify

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("TEXTREID_KILLS", "2"))  # 50 for the full form


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


def test_no_answered_search_is_missing_from_the_log(make_gallery: MakeGallery) -> None:
    demo = make_gallery("killed", 12, seed=13)
    load = Load()
    for kill in range(KILLS):
        load.stop.clear()
        with serving(demo) as (url, process):
            threads = [threading.Thread(target=load.ask, args=(url, number)) for number in range(4)]
            before = len(load.answered)
            for thread in threads:
                thread.start()
            load.wait_for(before + 5 + 7 * kill % 40)  # each time at another moment
            if kill % 2:
                # The database: clients of the service see that it is slow, or 503, and then go on.
                parent = int(next(demo.data.rglob("postmaster.pid")).read_text().split()[0])
                os.kill(parent, signal.SIGKILL)
                load.wait_for(len(load.answered) + 8)
                load.stop.set()
            else:
                process.kill()
            for thread in threads:
                thread.join()
    answered, refused = load.answered, load.refused
    assert {error.status for error in refused} <= {None, 503}
    assert len([error for error in refused if error.status is None]) == 4 * ((KILLS + 1) // 2)
    for opened in demo.opened():
        chain = list(entries(opened))
        verify(chain)
    logged = {entry.facts.get("query") for entry in chain}
    assert set(answered) <= logged
    # What was logged and not answered was under way when the process was killed: one for each client at most.
    ours = {query for query in logged if query and query.startswith("a man with") and "said client" in query}
    assert 0 <= len(ours) - len(answered) <= 4 * KILLS + len(refused)
