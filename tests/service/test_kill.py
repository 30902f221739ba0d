"""Killed at any moment: what was answered is in the log, the chain is whole, and clients go on."""

import threading
import time

import pytest
from tests.service.conftest import MakeGallery, serving

from textreid import Client
from textreid.service import ServiceError
from textreid.service.audit import entries, verify

pytestmark = pytest.mark.slow
KILLS = 2


def test_no_answered_search_is_missing_from_the_log(make_gallery: MakeGallery) -> None:
    demo = make_gallery("killed", 12, seed=13)
    answered: list[str] = []
    refused: list[ServiceError] = []

    def ask(url: str, client_number: int) -> None:
        with Client(url) as client:
            for number in range(10_000):
                query = f"a man with {len(answered)} bags, said client {client_number} at {number} of {url}"
                try:
                    client.search(query)
                except ServiceError as error:
                    refused.append(error)
                    return
                answered.append(query)

    for kill in range(KILLS):
        with serving(demo) as (url, process):
            threads = [threading.Thread(target=ask, args=(url, number)) for number in range(4)]
            before = len(answered)
            for thread in threads:
                thread.start()
            while len(answered) < before + 5 + 20 * kill:  # each time at another moment
                time.sleep(0.001)
            process.kill()
            for thread in threads:
                thread.join()
    assert len(refused) == 4 * KILLS
    assert all(error.status is None for error in refused)
    for opened in demo.opened():
        chain = list(entries(opened))
        verify(chain)
    logged = {entry.facts.get("query") for entry in chain}
    assert set(answered) <= logged
    # What was logged and not answered was under way when the process was killed: one for each client at most.
    ours = {query for query in logged if query and query.startswith("a man with") and "said client" in query}
    assert 0 <= len(ours) - len(answered) <= 4 * KILLS
