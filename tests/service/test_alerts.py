"""Alerts: new arrivals are told once, signed, to where the administrator said; what cannot be told is kept."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.service.conftest import Demo, MakeGallery, new_crops, serving

from textreid import Client
from textreid.errors import ConfigError
from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.store import Database, NewFile
from textreid.service import ServiceError
from textreid.service.audit import newest
from textreid.service.destinations import Destinations, Mqtt, signature

BROKER = """
import asyncio, sys
from amqtt.broker import Broker

async def main():
    listener = {"default": {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}}
    anybody = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    await Broker({"listeners": listener, "plugins": anybody}).start()
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
SECRET = "a secret of sixteen signs"  # noqa: S105


class Receiver(ThreadingHTTPServer):
    """A server that takes webhooks, or refuses them."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def watched(make_gallery: MakeGallery) -> Demo:
    return make_gallery("watched", 12, seed=23)


@pytest.fixture(scope="module")
def database(watched: Demo) -> Iterator[Database]:
    yield from watched.opened()


@pytest.fixture(scope="module")
def broker_port() -> int:
    """A port at which nobody listens yet."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def url(
    watched: Demo, receiver: Receiver, broker_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:  # fmt: skip
    path = tmp_path_factory.mktemp("alerts") / "alerts.toml"
    address = f"http://127.0.0.1:{receiver.server_port}/hook"
    path.write_text(
        f'attempts = 2\npause_s = 0.1\n[webhook.room]\nurl = "{address}"\nsecret = "{SECRET}"\n'
        f'[mqtt.home]\nurl = "mqtt://127.0.0.1:{broker_port}"\n'
    )
    path.chmod(0o600)
    with serving(watched, "--alerts", str(path)) as (served, process):
        yield served
        process.terminate()
        assert process.wait(20) == 0


def arrive(database: Database, watched: Demo, name: str, camera: str) -> list[int]:
    store = database.store(watched.name)
    crops = [replace(crop, camera=camera) for crop in new_crops(2, store.dim, seed=len(name), grain=(8, 16))]
    return store.add("/videos", [NewFile(f"/videos/{name}.avi", FileStamp(1, 2, 3), b"b", crops)])


def wait_for(what: object, seconds: float = 60) -> None:
    assert callable(what)
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_who_is_new_is_told_once_and_signed(url: str, watched: Demo, database: Database, receiver: Receiver) -> None:
    with Client(url) as client:
        made = client.save_search("anybody at the gate", "a man", cameras=["gate"], top=100)
        with pytest.raises(ServiceError, match="did you mean room"):
            client.set_alert(made.id, "rom")
        assert client.set_alert(made.id, "room").alert == "room"
        assert arrive(database, watched, "hall", "hall")  # of a camera that the search leaves out
        new = arrive(database, watched, "gate", "gate")
        wait_for(lambda: [one for one in client.alerts()["alerts"] if one["state"] == "sent"])
        (headers, body), *more = receiver.got
        assert more == []
        told = json.loads(body)
        moment = int(headers["Textreid-Signature"].partition(",")[0].removeprefix("t="))
        assert abs(moment - time.time()) < 300
        assert headers["Textreid-Signature"] == signature(SECRET.encode(), moment, body)
        assert headers["Textreid-Alert"] == str(told["alert"])
        assert sorted(crop["id"] for crop in told["crops"]) == new  # those that were there before are not told
        assert told["search"] == {"id": made.id, "name": "anybody at the gate"}
        entry = next(one.facts for one in newest(database, 20) if one.facts["action"] == "search")
        assert (entry["alert"], entry["saved"], entry["actor"]) == (True, made.id, "local")
        client.set_alert(made.id, None)
        before = len(receiver.got)
        arrive(database, watched, "nobody hears", "gate")
        time.sleep(2.5)
        assert len(receiver.got) == before


@pytest.mark.slow
def test_what_cannot_be_told_is_kept_and_retried(
    url: str, watched: Demo, database: Database, receiver: Receiver
) -> None:
    receiver.status, before = 302, len(receiver.got)
    with Client(url) as client, httpx2.Client(base_url=url, trust_env=False) as browser:
        made = client.save_search("retried", "a man", top=100)
        assert ">room</option>" in browser.get("/searches").text
        assert browser.post(f"/searches/{made.id}/alert", data={"to": "room"}).status_code == 303
        arrive(database, watched, "later", "hall")
        wait_for(lambda: [one for one in client.alerts()["alerts"] if one["state"] == "dead"])
        (dead,) = [one for one in client.alerts()["alerts"] if one["state"] == "dead"]
        assert (dead["attempts"], dead["problem"], len(dead["crops"])) == (2, "answered 302", 2)
        assert len(receiver.got) == before + 2  # no redirection was followed
        assert "could not be told to room: answered 302" in browser.get("/searches").text
        receiver.status = 204
        assert client.retry_alert(dead["id"])["state"] == "waiting"
        wait_for(lambda: client.alerts()["alerts"][0]["state"] == "sent")
        assert receiver.got[-1][0]["Textreid-Alert"] == str(dead["id"])
        # A clock that was a year ahead, and is set back, holds up nothing.
        ahead = "UPDATE alert SET state = 'waiting', next = now() + interval '1 year' WHERE id = %s"
        database.run(lambda c: c.execute(ahead, (dead["id"],)))
        wait_for(lambda: client.alerts()["alerts"][0]["state"] == "sent")
        with pytest.raises(ServiceError, match="no alert 987654"):
            client.retry_alert(987_654)
        client.delete_search(made.id)


@contextmanager
def broker(port: int) -> Iterator[list[tuple[str, bool, dict[str, Any]]]]:
    """A broker of MQTT, and what is published there."""
    from paho.mqtt.client import Client as Subscriber
    from paho.mqtt.enums import CallbackAPIVersion

    got: list[tuple[str, bool, dict[str, Any]]] = []
    command = [sys.executable, "-W", "ignore", "-c", BROKER, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        subscriber, subscribed = Subscriber(CallbackAPIVersion.VERSION2), threading.Event()
        subscriber.on_message = lambda _, __, sent: got.append((sent.topic, sent.retain, json.loads(sent.payload)))
        subscriber.on_subscribe = lambda *_: subscribed.set()
        subscriber.connect("127.0.0.1", port)
        subscriber.subscribe("#", 1)
        subscriber.loop_start()
        assert subscribed.wait(30)
        yield got
        subscriber.disconnect()
        subscriber.loop_stop()
        process.terminate()


@pytest.mark.slow
def test_a_broker_is_told_on_a_topic_of_the_search_as_soon_as_it_is_there(
    url: str, watched: Demo, database: Database, broker_port: int
) -> None:
    with Client(url) as client:
        made = client.save_search("a parcel at the hall", "a man with a parcel", cameras=["hall"], top=100)
        assert client.set_alert(made.id, "home").alert == "home"
        new = arrive(database, watched, "by MQTT", "hall")
        wait_for(lambda: client.alerts()["alerts"][0]["state"] == "dead")
        dead = client.alerts()["alerts"][0]
        assert (dead["to"], dead["problem"]) == ("home", "the broker cannot be reached: ConnectionRefusedError")
        with broker(broker_port) as got:
            client.retry_alert(dead["id"])
            wait_for(lambda: client.alerts()["alerts"][0]["state"] == "sent")
            wait_for(lambda: len(got) == 2)
        client.delete_search(made.id)
    (where, _, known), (topic, retained, event) = got
    # Home Assistant finds the search by itself, as an event.
    assert where == f"homeassistant/event/textreid_{made.id}/config"
    assert (known["name"], known["state_topic"]) == ("a parcel at the hall", topic)
    assert event["event_type"] in known["event_types"]
    assert (topic, retained, event["alert"]) == (f"textreid/searches/{made.id}", False, dead["id"])
    assert sorted(crop["id"] for crop in event["crops"]) == new


@pytest.mark.slow
def test_a_broker_that_does_not_answer_is_given_up() -> None:
    told = {"search": {"id": 1, "name": "x"}}
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.MonkeyPatch.context() as patch:
        patch.setattr("textreid.service.destinations._TIMEOUT_S", 0.5)
        mqtt = Mqtt("127.0.0.1", silent.getsockname()[1], tls=False)
        assert mqtt.tell(1, told) == "the broker does not answer"
    assert [topic for topic, _, _ in Mqtt("h", 1, tls=False, discovery="").messages(1, told)] == ["textreid/searches/1"]


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("[webhook.a]\nurl='http://x/'\nsecret='0123456789abcdef'\n", 0o644, "others may read it"),
        ("[webhook.a]\nurl='file:///etc/passwd'\nsecret='0123456789abcdef'\n", 0o600, "webhook.a.url: expected http"),
        ("[webhook.a]\nurl='http://x/'\nsecret='short'\n", 0o600, "webhook.a.secret: expected 16"),
        ("webhook = {a = 5}\n", 0o600, "webhook.a.url"),
        ("hook = 1\n", 0o600, "hook: expected webhook"),
        ("[mqtt.a]\nurl='http://x/'\n", 0o600, "mqtt.a.url: expected mqtt://HOST:PORT"),
        ("[mqtt.a]\nurl='mqtt://u:p@x'\n", 0o600, "mqtt.a.url: expected mqtt://HOST:PORT"),
        ("[mqtt.a]\nurl='mqtt://x'\ntopic='a/#'\n", 0o600, "mqtt.a.topic: expected the beginning of a topic"),
        ("[mqtt.a]\nurl='mqtt://x'\ntopik='a'\n", 0o600, "mqtt.a.topik: expected url, topic"),
        ("[mqtt.a]\nurl='mqtts://x'\ncertificate='/none'\n", 0o600, "mqtt.a.certificate: there is no file"),
        ("[mqtt.a]\nurl='mqtt://x'\n[webhook.a]\nurl='http://x'\nsecret='0123456789abcdef'\n", 0o600, "has that name"),
        ("attempts = 'many'\n", 0o600, "are numbers"),
        ("[[", 0o600, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, mode: int, said: str) -> None:
    path = tmp_path / "alerts.toml"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=said) as caught:
        Destinations.read(path)
    assert str(path) in str(caught.value)
