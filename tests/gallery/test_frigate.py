"""Frigate's events into a gallery: a small server speaks the API as its documentation describes it."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from PIL import Image

from textreid.errors import ConfigError
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.frigate import AwayError, Credentials, Frigate, FrigateError
from textreid.gallery.store import Database, Filters, Store, StoreError, open_database
from textreid.gallery.store.indexing import exclusively
from textreid.gallery.watching import Watched, WatchReport, index_events, zone_of
from textreid.people import load_detector
from textreid.seeding import generator
from textreid.synthetic import sample_person
from textreid.synthetic.domains import DOMAINS
from textreid.synthetic.drawing.render import render

NOW = 1_780_000_000.0
BERLIN = ZoneInfo("Europe/Berlin")


class FakeFrigate(ThreadingHTTPServer):
    """Events, newest first, at most ``limit`` of those between ``after`` and ``before``; frames and thumbnails."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.rows: list[dict[str, Any]] = []
        self.odd: list[object] = []
        self.pictures: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.broken: set[str] = set()  # paths that answer 500
        self.token, self.password = "", ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, number: int, **changes: object) -> str:
        """Somebody who came ``number`` minutes after the beginning, with a frame that Frigate keeps."""
        start = NOW - 86_400 + 60 * number
        name = f"{start:.6f}-abc{number:03d}"
        row = {
            "id": name, "label": "person", "sub_label": "Alice", "camera": "gate", "start_time": start,
            "end_time": start + 9.5, "false_positive": None, "zones": ["yard"], "thumbnail": "",
            "has_clip": True, "has_snapshot": True, "retain_indefinitely": False, "plus_id": None,
            "data": {"box": [0.25, 0.125, 0.5, 0.75], "region": [0, 0, 1, 1], "score": 0.7, "top_score": 0.8},
        }  # fmt: skip
        self.rows.append(row | changes)
        self.pictures[f"/api/events/{name}/snapshot-clean.png"] = frame(number)
        return name


class Handler(BaseHTTPRequestHandler):
    server: FakeFrigate

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.asked.append(parts.path)
        asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        cookie = f"frigate_token={self.server.password}"
        open_to = (f"Bearer {self.server.token}", cookie)
        if (self.server.token or self.server.password) and not {
            self.headers.get("Authorization", ""), self.headers.get("Cookie", ""),
        }.intersection(open_to):  # fmt: skip
            self.answer(401, b"")
        elif parts.path in self.server.broken:
            self.answer(500, b"")
        elif parts.path == "/api/events":
            after, before = float(asked.get("after", 0)), float(asked.get("before", "inf"))
            rows = [
                row for row in sorted(self.server.rows, key=lambda row: -row["start_time"])
                if row["label"] == asked["label"] and after < row["start_time"] < before
            ]  # fmt: skip
            self.answer(200, json.dumps(self.server.odd + rows[: int(asked["limit"])]).encode())
        elif parts.path in self.server.pictures:
            self.answer(200, self.server.pictures[parts.path])
        else:
            self.answer(404, b'{"success":false,"message":"Event not found"}')

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        right = self.path == "/api/login" and told == {"user": "admin", "password": self.server.password}
        self.answer(200 if right else 401, b"{}", [("Set-Cookie", f"frigate_token={self.server.password}; HttpOnly")])

    def answer(self, status: int, content: bytes, headers: list[tuple[str, str]] | None = None) -> None:
        self.send_response(status)
        for name, value in headers or []:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def frame(seed: int) -> bytes:
    stream = io.BytesIO()
    blocks = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(blocks).resize((160, 160), Image.Resampling.NEAREST).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def server() -> Iterator[FakeFrigate]:
    with FakeFrigate() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def encoder(model_folder: Path) -> GalleryEncoder:
    return GalleryEncoder(model_folder, "fp32")


@pytest.fixture
def store(database: Database, encoder: GalleryEncoder, model_folder: Path) -> Store:
    return database.create("seen", str(model_folder), encoder.space, encoder.dim)


def watch(
    server: FakeFrigate, store: Store, encoder: GalleryEncoder, watched: Watched | None = None, now: float = NOW
) -> WatchReport:
    with Frigate(server.url, Credentials(server.token)) as frigate:
        return index_events(frigate, store, encoder, load_detector, watched or Watched(zone=BERLIN), now)


def links(store: Store) -> list[str]:
    vector = np.zeros(store.dim, np.float32)
    return sorted(str(hit.crop.link) for hit in store.search(vector, Filters(), 1000).hits)


def test_events_come_with_camera_time_zone_and_a_link_and_none_comes_twice(
    server: FakeFrigate, store: Store, encoder: GalleryEncoder
) -> None:
    names = [server.add(number) for number in range(3)]
    server.add(3, label="car")
    report = watch(server, store, encoder)
    assert (report.indexed, report.waiting, report.quarantined) == (3, 0, [])
    assert links(store) == sorted(f"{server.url}/explore?event_id={name}" for name in names)
    crop = next(hit.crop for hit in store.search(np.zeros(store.dim, np.float32)).hits if names[0] in hit.crop.origin)
    assert (crop.camera, crop.source, crop.tags) == ("gate", server.url, ("yard",))
    assert crop.confidence == pytest.approx(0.8)
    assert crop.time == datetime.fromtimestamp(NOW - 86_400, BERLIN).replace(tzinfo=None)
    assert crop.box == (40.0, 20.0, 80.0, 120.0)
    assert store.picture(crop.id).size == (80, 120)
    server.asked.clear()
    assert watch(server, store, encoder).indexed == 0
    assert server.asked == ["/api/events"]  # no picture is fetched again


def test_pages_that_share_a_moment_lose_nobody(server: FakeFrigate, store: Store, encoder: GalleryEncoder) -> None:
    server.pictures = {}
    for number in range(230):
        server.add(number if number < 100 else 100, id=f"e{number}", has_snapshot=False)
    with Frigate(server.url) as frigate:
        events, wrong = frigate.events(0)
    assert sorted(int(event.id[1:]) for event in events) == list(range(230))
    assert [event.start for event in events] == sorted(event.start for event in events)
    assert wrong == []


def test_what_is_late_in_sight_or_not_answered_is_made_up_for(
    server: FakeFrigate, store: Store, encoder: GalleryEncoder
) -> None:
    begin = NOW - 86_400
    first, second = server.add(0, end_time=None), server.add(1)
    server.add(30)
    server.broken.add(f"/api/events/{second}/snapshot-clean.png")
    report = watch(server, store, encoder, now=begin + 1900)
    assert (report.indexed, report.waiting) == (1, 2)
    late = server.add(2)  # told of after a later one
    server.broken.clear()
    assert watch(server, store, encoder, now=begin + 2000).indexed == 2
    server.rows[0]["end_time"] = begin + 2050
    report = watch(server, store, encoder, now=begin + 2100)
    assert (report.indexed, report.waiting) == (1, 0)
    assert {first, second, late} <= {link.rpartition("=")[2] for link in links(store)}
    # One that has had no end for an hour is taken as it is; a clock that was set back holds nobody up.
    server.add(40, end_time=None)
    assert watch(server, store, encoder, now=begin + 40 * 60 + 3700).indexed == 1
    server.add(35)
    assert watch(server, store, encoder, now=begin + 36 * 60).indexed == 1


def test_what_cannot_be_used_is_quarantined_and_the_rest_goes_on(
    server: FakeFrigate, store: Store, encoder: GalleryEncoder
) -> None:
    names = [server.add(number) for number in range(6)]
    pictures = [f"/api/events/{name}/snapshot-clean.png" for name in names]
    server.pictures[pictures[0]] = b"<html>"
    grey = io.BytesIO()
    Image.new("RGB", (160, 160), (90, 90, 90)).save(grey, "PNG")
    server.pictures[pictures[1]] = grey.getvalue()
    del server.pictures[pictures[2]]  # gone: neither frame nor thumbnail
    server.rows[3]["data"] = {"box": [424, 500, 536, 712]}  # in pixels: not of the frame that is kept
    server.pictures[f"/api/events/{names[3]}/thumbnail.jpg"] = frame(3)  # noise, which shows nobody
    server.odd = ["nonsense", {"id": "../../etc/passwd", "camera": "x", "start_time": 1.0}, {"id": "a", "camera": 5}]
    report = watch(server, store, encoder)
    assert report.indexed == 2
    reasons = {link.rpartition("=")[2]: reason for link, reason in report.quarantined if "=" in link}
    assert "no picture" in reasons[names[0]]
    assert reasons[names[1]].startswith("shows nothing")
    assert "is not there" in reasons[names[2]]
    assert "nobody is found in its thumbnail" in reasons[names[3]]
    assert len([link for link, _ in report.quarantined if link == server.url]) == 3
    assert len(store.quarantine()) == 4
    assert len(watch(server, store, encoder).quarantined) == 3  # those of the list itself; no other is asked for again


@pytest.mark.slow
def test_somebody_is_found_in_a_thumbnail(server: FakeFrigate, store: Store, encoder: GalleryEncoder) -> None:
    name = server.add(0, has_snapshot=False)
    domain, stream = DOMAINS["plaza"], io.BytesIO()
    thumbnail = Image.new("RGB", (175, 175), (120, 120, 120))
    somebody = render(sample_person(domain, generator("person", 1)), 1, domain, 0, 1)
    thumbnail.paste(somebody.image.resize((60, 150)), (55, 12))
    thumbnail.save(stream, "JPEG")
    server.pictures[f"/api/events/{name}/thumbnail.jpg"] = stream.getvalue()
    assert watch(server, store, encoder).indexed == 1
    (hit,) = store.search(np.zeros(store.dim, np.float32)).hits
    assert hit.crop.box is not None
    assert 100 < hit.crop.box[3] < 170


def test_only_wanted_cameras_and_times_come(server: FakeFrigate, store: Store, encoder: GalleryEncoder) -> None:
    server.add(0)
    hall = server.add(10, camera="hall")
    server.add(20)
    server.add(200, camera="hall")
    wanted = Watched(frozenset({"hall", "gate"}), NOW - 86_400 + 500, BERLIN)
    assert watch(server, store, encoder, Watched(frozenset({"hall"}), zone=BERLIN)).indexed == 2
    assert hall in {link.rpartition("=")[2] for link in links(store)}
    assert watch(server, store, encoder, wanted).indexed == 1


def test_who_may_not_ask_is_told_so(server: FakeFrigate, tmp_path: Path) -> None:
    server.token, server.password = "a token", "correct horse"
    server.add(0)
    for credentials, refused in (
        (Credentials(), "name who asks"), (Credentials("wrong"), "name who asks"),
        (Credentials(user="admin", password="wrong"), "do not open it"),  # noqa: S106
        (Credentials("a token"), ""), (Credentials(user="admin", password="correct horse"), ""),  # noqa: S106
    ):  # fmt: skip
        with Frigate(server.url, credentials) as frigate:
            if refused:
                with pytest.raises(FrigateError, match=refused):
                    frigate.events(0)
            else:
                assert len(frigate.events(0)[0]) == 1
    path = tmp_path / "frigate.toml"
    path.write_text('user = "admin"\npassword = "x"\n[headers]\nX-Proxy-Secret = "y"\n')
    path.chmod(0o600)
    assert Credentials.read(path) == Credentials("", "admin", "x", {"X-Proxy-Secret": "y"})
    for text, said in (("user = 'a'", "belong together"), ("tokn = 'a'", "tokn: expected"), ("token = 5", "a text")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            Credentials.read(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read it"):
        Credentials.read(path)


@pytest.mark.parametrize("url", ["frigate", "file:///etc/passwd", "http://u:p@frigate", "http://frigate?x=1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"expected the address|keeps passwords"):
        Frigate(url)


def test_what_does_not_belong_to_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--certificate .*none\.pem: cannot be read"):
        Frigate("https://frigate", certificate=tmp_path / "none.pem")
    with pytest.raises(ConfigError, match="no time zone of this machine"):
        zone_of("Nowhere/City")


def test_what_is_not_frigate_is_told(server: FakeFrigate) -> None:
    with Frigate("http://127.0.0.1:1") as frigate, pytest.raises(AwayError, match="does not answer"):
        frigate.events(0)
    with Frigate(f"{server.url}/elsewhere") as frigate, pytest.raises(FrigateError, match="the address of Frigate"):
        frigate.events(0)
    server.broken.add("/api/events")
    with Frigate(server.url) as frigate, pytest.raises(AwayError, match="answers 500"):
        frigate.events(0)


def test_one_process_watches_a_frigate_for_a_gallery(
    server: FakeFrigate, store: Store, encoder: GalleryEncoder, gallery_data: Path
) -> None:
    with (
        open_database() as another,
        exclusively(another.store("seen"), f"frigate {server.url}", "busy"),
        pytest.raises(StoreError, match="another process watches it"),
    ):
        watch(server, store, encoder)


@pytest.mark.slow
def test_the_command_goes_on_after_a_kill_and_ends_on_a_signal(
    server: FakeFrigate, store: Store, gallery_data: Path
) -> None:
    for number in range(40):
        server.add(number)
    command = [sys.executable, "-m", "textreid", "watch", "frigate", server.url, "--gallery", "seen", "--every", "1"]
    environment = {**os.environ, "TEXTREID_DATA": os.fspath(gallery_data)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not store.counts().crops:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while store.counts().crops < 40:
            assert process.poll() is None
            time.sleep(0.05)
        server.add(50)
        while store.counts().crops < 41:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert "people came" in process.stderr.read()
    assert len(set(links(store))) == store.counts().crops == 41
