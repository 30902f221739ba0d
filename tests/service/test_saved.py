"""Saved searches: run again they find what a search finds; nobody sees another's; erased crops leave them."""

import asyncio
import base64
import hashlib
import inspect
import json
import re
import zipfile
from pathlib import Path

import httpx2
import pytest
from tests.service.conftest import Demo

import textreid
from textreid import AsyncClient, Client
from textreid.gallery.query.evidence import check_evidence
from textreid.service import ServiceError
from textreid.service.audit import newest
from textreid.service.exporting import exports_of

pytestmark = pytest.mark.slow
QUERY = "a woman in a red jacket"


def test_a_saved_search_is_run_again(address: str, demo: Demo) -> None:
    right, wrong = demo.of("gate")[:2], demo.of("hall")[:1]
    with Client(address) as client:
        made = client.save_search("red, gate", QUERY, cameras=["gate"], hours=[9, 20], right=right, wrong=wrong, top=5)
        assert [one.name for one in client.saved_searches()] == ["red, gate"]
        direct = client.search(QUERY, cameras=["gate"], hours=[9, 20], right=right, wrong=wrong, top=5)
        page = client.run_search(made.id)
        assert page == direct
        assert page.next
        following = client.run_search(made.id, after=page.next, top=3)
        assert not {hit.crop.id for hit in following.hits} & {hit.crop.id for hit in page.hits}
        assert made.search["filters"]["hours"] == [9, 20]
        with pytest.raises(ServiceError, match="have a saved search 'red, gate' already"):
            client.save_search(" red, gate ", "a man")
        with pytest.raises(ServiceError, match="needs a name"):
            client.save_search(" \t", "a man")
        for opened in demo.opened():
            entry = newest(opened, 1)[0].facts
        assert (entry["action"], entry["saved"], entry["query"]) == ("search", made.id, QUERY)
        client.delete_search(made.id)
        assert client.saved_searches() == []
        with pytest.raises(ServiceError, match="no saved search"):
            client.run_search(made.id)


def test_a_saved_search_is_kept_run_and_deleted_on_the_page(address: str) -> None:
    with httpx2.Client(base_url=address, headers={"Accept": "text/html"}, trust_env=False) as browser:
        page = browser.get("/", params={"q": "a man", "camera": "gate", "tag": "bag"}).text
        keep = re.search(r'class="keep" method="post" action="([^"]+)"', page)
        assert keep
        answer = browser.post(keep[1].replace("&amp;", "&"), data={"name": "<b>bags</b>"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/searches")
        listed = browser.get("/searches").text
        assert "&lt;b&gt;bags&lt;/b&gt;" in listed
        assert "cameras: gate · tags: bag" in listed
        place = re.search(r'href="(/searches/\d+)"', listed)
        assert place
        found = browser.get(place[1]).text
        assert found.count('class="card"') == 15
        assert browser.post(f"{place[1]}/delete").headers["location"] == "/searches"
        assert browser.get(place[1]).status_code == 404


def test_a_result_is_exported_with_hashes_and_the_log_keeps_them(address: str, demo: Demo, tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    with Client(address) as client:
        path.write_bytes(client.export(QUERY, top=3, cameras=["gate"], purpose="case 5"))
        found = [hit.crop.id for hit in client.search(QUERY, top=3, cameras=["gate"]).hits]
        with pytest.raises(ServiceError, match="nothing was found"):
            client.export(QUERY, cameras=["no such camera"])
        track = client.track(found[0])
    assert check_evidence(path) == 5
    with zipfile.ZipFile(path) as archive:
        told = json.loads(archive.read("results.json"))
        assert archive.read("crops/0001.jpg") == demo.crops[found[0]].jpeg
    assert (told["exported by"], told["purpose"]) == ("local", "case 5")
    assert [one["facts"]["crop"] for one in told["results"]] == found
    for opened in demo.opened():
        entries = [one.facts for one in newest(opened, 20) if one.facts["action"] == "export"]
        assert exports_of(opened, demo.name, [found[1]])[-1].digest == entries[0]["sha256"]
        assert exports_of(opened, demo.name, [max(demo.crops) + 1]) == exports_of(opened, "other", found) == ()
    assert entries[0]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert entries[0]["shown"] == found
    of_walk = [number for number, crop in demo.crops.items() if crop.track == demo.crops[found[0]].track]
    assert [one.id for one in track] == of_walk
    with httpx2.Client(base_url=address, trust_env=False) as browser:
        page = browser.get("/", params={"q": "a man"}).text
        button = re.search(r'action="(/export[^"]+)"', page)
        assert button
        answer = browser.post(button[1].replace("&amp;", "&"))
        assert answer.headers["content-disposition"].startswith('attachment; filename="evidence-2')
        digest = base64.b64encode(hashlib.sha256(answer.content).digest()).decode()
        assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
        assert browser.get(f"/crops/{found[0]}").text.count("/thumbnail") == len(of_walk)


def test_the_client_for_asyncio_has_every_method_of_the_other(address: str) -> None:
    names = {name for name in vars(Client) if not name.startswith("_")}
    assert names == {name for name in vars(AsyncClient) if not name.startswith("_")}
    assert len(names) >= 13
    assert list(inspect.signature(AsyncClient.crop).parameters) == ["self", "number"]

    async def ask() -> tuple[object, ...]:
        async with textreid.AsyncClient(address) as client:
            pages = await asyncio.gather(*(client.search(QUERY, top=3) for _ in range(4)))
            found = [hit.crop.id async for hit in client.search_all(QUERY, top=40)]
            with pytest.raises(ServiceError, match="no crop 999999"):
                await client.picture(999_999)
            return *pages, found

    *pages, found = asyncio.run(ask())
    with Client(address) as client:
        assert pages == [client.search(QUERY, top=3)] * 4
        assert found == [hit.crop.id for hit in client.search_all(QUERY)]
