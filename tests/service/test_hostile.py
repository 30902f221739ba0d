"""Clients that send too much, too slowly, or go away in the middle are refused or forgotten, and others are served."""

import io
import json
import socket
import struct
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import pytest
from PIL import Image
from tests.service.conftest import Demo, MakeGallery, serving

from textreid import Client
from textreid.gallery.store import Database

pytestmark = pytest.mark.slow
SLOWEST_S = 10.0  # that a body may take


@pytest.fixture(scope="module")
def tried(make_gallery: MakeGallery) -> Demo:
    return make_gallery("tried", 12, seed=41)


@pytest.fixture(scope="module")
def database(tried: Demo) -> Iterator[Database]:
    yield from tried.opened()


@pytest.fixture(scope="module")
def url(tried: Demo) -> Iterator[str]:
    with serving(tried, "--upload-mb", "8") as (address, process):
        yield address
        process.terminate()
        assert process.wait(20) == 0


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def head(path: str, length: int, kind: str = "application/json") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def test_slow_bodies_closed_connections_and_ten_thousand_files_disturb_nobody(url: str, tried: Demo) -> None:
    begun = time.monotonic()
    slow = [connected(url) for _ in range(3)]
    for path, one in zip(("/api/v1/search", "/api/v1/crops/1/similar", "/api/v1/searches"), slow, strict=True):
        one.sendall(head(path, 5000) + b'{"query": "a')
    body = json.dumps({"query": "a man"}).encode()
    asked = head("/api/v1/search", len(body)) + body
    for number in range(60):
        with connected(url) as gone:
            # In the head, in the body, and before the answer; half of them without a goodbye.
            gone.sendall((asked[:40], asked[:-5], asked)[number % 3])
            if number % 2:
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream = io.BytesIO()
    Image.effect_noise((24, 56), 90).convert("RGB").save(stream, "PNG")
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="%d.png"\r\n\r\n%b\r\n'
    many = b"".join(part % (number, b"p" * 300) for number in range(10_000)) + b"--x--\r\n"
    with httpx2.Client(base_url=url, trust_env=False, timeout=60) as http:
        sent = {"content": many, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}
        answer = http.post("/api/v1/uploads", **sent)  # type: ignore[arg-type]
        assert (answer.status_code, "Too many files" in answer.json()["detail"]) == (400, True)
        assert http.get("/api/v1/jobs").json() == {"jobs": []}
    with Client(url) as client:
        assert len(client.search("a man", top=50).hits) == 12
    for one in slow:
        with one, one.makefile("rb") as said:
            assert b" 408 " in said.readline()
    assert time.monotonic() - begun >= SLOWEST_S


def test_a_page_after_a_crop_that_was_deleted_is_the_one_that_it_was(url: str, tried: Demo, database: Database) -> None:
    with Client(url) as client:
        page = client.search("a man", top=3)
        following = client.search("a man", top=3, after=page.next)
        database.store(tried.name).delete([page.hits[-1].crop.id])
        again = client.search("a man", top=3, after=page.next)
    assert [hit.crop.id for hit in again.hits] == [hit.crop.id for hit in following.hits]
