"""To whom alerts go, as the administrator's file names them: webhooks, and brokers of MQTT.

No address that a client gives is ever asked. A destination says why it did not take an alert, or nothing.
"""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx2

from textreid.config_values import read_secrets
from textreid.errors import ConfigError

_TIMEOUT_S = 10.0
_SHORTEST_SECRET = 16
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_IN_A_TOPIC = frozenset("+#\0")  # have a meaning of their own there


class Destination(Protocol):
    """Somebody who is told of alerts."""

    def tell(self, number: int, told: Mapping[str, Any]) -> str | None:
        """Send an alert; returns why it was not taken, and None once it was."""


@dataclass(frozen=True)
class Webhook:
    """Address that is sent a signed POST."""

    url: str
    secret: bytes

    def tell(self, number: int, told: Mapping[str, Any]) -> str | None:
        """Send an alert; see `Destination`."""
        body = json.dumps({"alert": number, **told}).encode()
        headers = {
            "Content-Type": "application/json",
            "Textreid-Alert": str(number),
            "Textreid-Signature": signature(self.secret, int(time.time()), body),
        }
        try:
            # Not through a proxy of the environment, and not where an answer says: the file tells where to.
            with httpx2.Client(timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False) as http:
                answer = http.post(self.url, content=body, headers=headers)
        except httpx2.HTTPError as error:
            return f"no answer: {type(error).__name__}"
        return None if answer.is_success else f"answered {answer.status_code}"


@dataclass(frozen=True)
class Mqtt:
    """Broker to which each saved search publishes on a topic of its own: at least once, by an acknowledged message.

    Attributes:
        host, port: of the broker.
        tls: whether to speak TLS.
        topic: under which ``searches/NUMBER`` stands.
        discovery: under which Home Assistant looks for what there is; empty tells it nothing.
        user, password: of the broker; empty for none.
        certificate: that vouches for the broker's (PEM), where none of the system's does.
    """

    host: str
    port: int
    tls: bool
    topic: str = "textreid"
    discovery: str = "homeassistant"
    user: str = ""
    password: str = ""
    certificate: str = ""

    def messages(self, number: int, told: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
        """Return topic, text and whether it is retained of what is published for an alert."""
        search = told["search"]
        topic, name = f"{self.topic}/searches/{search['id']}", f"textreid_{search['id']}"
        # An event of Home Assistant names its type; what else there is becomes its attributes.
        event = {"event_type": "arrival", "alert": number, **told}
        described = {
            "name": search["name"], "unique_id": name, "state_topic": topic, "event_types": ["arrival"], "qos": 1,
            "icon": "mdi:account-search", "device": {"identifiers": ["textreid"], "name": "textreid"},
        }  # fmt: skip
        known = (f"{self.discovery}/event/{name}/config", json.dumps(described), True)
        return [*([known] if self.discovery else []), (topic, json.dumps(event), False)]

    def tell(self, number: int, told: Mapping[str, Any]) -> str | None:
        """Send an alert; see `Destination`."""
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        answered, refused = threading.Event(), ""

        def on_connect(client: object, data: object, flags: object, code: Any, properties: object) -> None:
            nonlocal refused
            refused = str(code) if code.is_failure else ""
            answered.set()

        client = Client(CallbackAPIVersion.VERSION2)
        client.on_connect = on_connect
        client.connect_timeout = _TIMEOUT_S
        try:
            if self.user:
                client.username_pw_set(self.user, self.password)
            if self.tls:
                client.tls_set(self.certificate or None)
            client.connect(self.host, self.port, keepalive=30)
            client.loop_start()
            if not answered.wait(_TIMEOUT_S):
                return "the broker does not answer"
            if refused:
                return f"the broker refuses: {refused}"
            for topic, text, retained in self.messages(number, told):
                sent = client.publish(topic, text, qos=1, retain=retained)
                sent.wait_for_publish(_TIMEOUT_S)
                if not sent.is_published():
                    return "the broker does not acknowledge it"
        except (OSError, ValueError, RuntimeError) as error:
            return f"the broker cannot be reached: {type(error).__name__}"
        finally:
            client.disconnect()
            client.loop_stop()
        return None


@dataclass(frozen=True)
class Destinations:
    """Where alerts go, by name, and how often one is tried.

    Attributes:
        known: webhooks and brokers, by name.
        attempts: after so many that fail an alert is dead, until somebody retries it.
        pause_s: before the second attempt; it doubles each time, up to an hour.
    """

    known: Mapping[str, Destination]
    attempts: int = 10
    pause_s: float = 5.0

    @classmethod
    def read(cls, path: Path) -> "Destinations":
        """Read an administrator's file.

        Raises:
            ConfigError: it cannot be read, others may read it, or an entry is wrong; names file and entry.
        """
        expected = "webhook, mqtt, attempts and pause_s"
        told = read_secrets("--alerts", path, {"webhook", "mqtt", "attempts", "pause_s"}, expected)
        known: dict[str, Destination] = {}
        for kind, make in (("webhook", _webhook), ("mqtt", _mqtt)):
            entries = told.get(kind, {})
            for name, entry in (entries if isinstance(entries, dict) else {"": None}).items():
                if name in known:
                    raise ConfigError(f"--alerts {path}: {kind}.{name}: another destination has that name")
                try:
                    known[name] = make(entry if isinstance(entry, dict) else {})
                except ConfigError as error:
                    raise ConfigError(f"--alerts {path}: {kind}.{name}.{error}") from error
        try:
            return cls(known, int(told.get("attempts", 10)), float(told.get("pause_s", 5.0)))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"--alerts {path}: attempts and pause_s are numbers: {error}") from error


def _webhook(entry: Mapping[str, Any]) -> Webhook:
    url, secret = (str(entry.get(key, "")) for key in ("url", "secret"))
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"url: expected http:// or https://, got {url!r}")
    if len(secret) < _SHORTEST_SECRET:
        raise ConfigError(f"secret: expected {_SHORTEST_SECRET} signs or more")
    return Webhook(url, secret.encode())


def _mqtt(entry: Mapping[str, Any]) -> Mqtt:
    try:
        import paho.mqtt.client  # noqa: F401
    except ImportError as error:
        raise ConfigError("url: MQTT needs another package: pip install 'textreid[mqtt]'") from error
    names = ("topic", "discovery", "user", "password", "certificate")
    if unknown := sorted(entry.keys() - {"url", *names}):
        raise ConfigError(f"{unknown[0]}: expected url, {', '.join(names)}")
    parts = urlsplit(str(entry.get("url", "")))
    try:
        port = parts.port or _PORTS[parts.scheme]
    except (KeyError, ValueError):
        port = 0
    if not port or not parts.hostname or parts.path.strip("/") or parts.username:
        raise ConfigError(f"url: expected mqtt://HOST:PORT or mqtts://HOST:PORT, got {parts.geturl()!r}")
    told = {name: str(entry[name]) for name in names if name in entry}
    for name in ("topic", "discovery"):
        text = told.get(name, "x")
        if _IN_A_TOPIC.intersection(text) or text.startswith(("/", "$")) or text.endswith("/"):
            raise ConfigError(f"{name}: expected the beginning of a topic, as textreid, got {text!r}")
    if not told.get("topic", "x"):
        raise ConfigError("topic: expected the beginning of a topic, as textreid")
    if told.get("certificate") and not Path(told["certificate"]).is_file():
        raise ConfigError(f"certificate: there is no file {told['certificate']}")
    return Mqtt(parts.hostname, port, parts.scheme == "mqtts", **told)


def signature(secret: bytes, moment: int, body: bytes) -> str:
    """Sign a body: HMAC-SHA256 over the time in seconds, a dot and the body; an old one is known by its time."""
    return f"t={moment},v1={hmac.new(secret, f'{moment}.'.encode() + body, hashlib.sha256).hexdigest()}"
