"""Where pictures go: never through a proxy to this machine, elsewhere through the one that was named."""

import re
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest
from PIL import Image
from tests.captioning.server import Server
from typer.testing import CliRunner

from textreid.captioning.backends.addresses import checked_url, destination, is_loopback, proxy_for
from textreid.captioning.mllms import _environment_of, read_mllms
from textreid.captioning.plan import caption
from textreid.captions.table import read_captions
from textreid.cli.app import app
from textreid.errors import CaptionError, ConfigError

pytestmark = pytest.mark.slow

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class RecordingProxy:
    """A proxy that keeps what it is sent, and passes it on to one server, whatever host was meant."""

    def __init__(self, target: str = "") -> None:
        self.asked: list[str] = []
        self.sent = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                proxy.asked.append(f"{self.command} {self.path}")
                proxy.sent += len(body)
                parts, to = urlsplit(self.path), urlsplit(target)
                connection = HTTPConnection(to.hostname or "", to.port, timeout=10)
                headers = {"content-type": "application/json"}
                connection.request(self.command, parts.path, body or None, headers)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                self.send_response(answer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                self.do_POST()

            def do_CONNECT(self) -> None:
                proxy.asked.append(f"CONNECT {self.path}")
                self.send_error(502)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    (tmp_path / "crops").mkdir()
    for number in range(3):
        Image.effect_noise((16, 32), 50 + number).save(tmp_path / "crops" / f"{number}.png")
    return tmp_path / "crops"


@pytest.fixture
def proxy() -> Iterator[RecordingProxy]:
    with RecordingProxy() as proxy:
        yield proxy


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_pictures_for_this_machine_meet_no_proxy(
    variable: str, host: str, proxy: RecordingProxy, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    with Server() as server:
        url = server.url.replace("127.0.0.1", host)
        if host in ("127.0.0.2", "[::ffff:127.0.0.1]"):  # the test's server does not listen there
            assert destination(url).endswith("(this machine)")
            return
        counts = caption(crops, tmp_path / "out", [f"qwen={url}#sim"], show=False)
    assert counts.statuses == {"ok": 6}
    assert proxy.asked == []


def test_pictures_for_elsewhere_go_through_the_proxy_that_is_named_first(
    crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server() as server, RecordingProxy(server.url) as proxy:
        secret = proxy.url.replace("http://", "http://me:hunter2@")
        monkeypatch.setenv("HTTP_PROXY", secret)
        asked = ["caption", str(crops), "--out", str(tmp_path / "out"), "--mllm", "qwen=http://gpu.example/v1#sim"]
        line = f"qwen: pictures go to http://gpu.example/v1 through the proxy {proxy.url} (HTTP_PROXY)"
        dry = CliRunner().invoke(app, [*asked, "--dry-run"])
        assert dry.stdout.splitlines()[0] == line
        assert proxy.asked == []
        result = CliRunner().invoke(app, asked)
        assert result.exit_code == 0, result.output
        assert result.stderr.splitlines()[0] == line
        assert "hunter2" not in dry.output + result.output
        assert set(proxy.asked) == {
            "GET http://gpu.example/v1/models", "POST http://gpu.example/v1/chat/completions"
        }  # fmt: skip
        assert proxy.sent > 6 * 300
    assert len(read_captions(tmp_path / "out")) == 6


def test_a_dead_proxy_is_named(crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://me:hunter2@127.0.0.1:9")
    with pytest.raises(CaptionError, match=r"is the proxy http://127\.0\.0\.1:9 \(ALL_PROXY\) there") as dead:
        caption(crops, tmp_path / "out", ["qwen=http://gpu.example/v1#sim"], show=False)
    assert "hunter2" not in str(dead.value)


def test_a_proxy_that_refuses_is_named(
    proxy: RecordingProxy, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with pytest.raises(CaptionError, match=re.escape(f"through the proxy {proxy.url} (HTTPS_PROXY)")):
        caption(crops, tmp_path / "out", ["qwen=https://gpu.example/v1#sim"], show=False)
    assert set(proxy.asked) == {"CONNECT gpu.example:443"}


@pytest.mark.parametrize(
    "proxy_url",
    [
        "socks5://127.0.0.1:1080",
        "socks5h://u:hunter2@127.0.0.1:1080",
        "socks://x:1",
        "ftp://x",
        "http://",
        "http://a:b",
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_line_with_the_variable(
    proxy_url: str, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy_url)
    with pytest.raises(ConfigError, match=r"^ALL_PROXY [^\n]*unset it, or add gpu\.example to NO_PROXY$") as refused:
        caption(crops, tmp_path / "out", ["q=https://gpu.example/v1#m"], show=False)
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ConfigError, match=r"^ALL_PROXY names|^ALL_PROXY sends"):
        destination("http://gpu.example/v1")
    monkeypatch.setenv("NO_PROXY", "example")
    assert proxy_for("https://gpu.example/v1") is None
    with Server() as server:  # nor does it stand in the way of what is here
        assert caption(crops, tmp_path / "out", [f"q={server.url}#sim"], show=False).done == 6


@pytest.mark.parametrize(
    ("url", "no_proxy", "proxied"),
    [
        ("http://192.168.1.4/v1", "192.168.*", False),
        ("http://192.168.1.4/v1", "192.16.*; 10.0.0.0/8", True),
        ("http://gpu.example./v1", "localhost;gpu.example", False),
        ("http://gpu.example/v1", "", True),
        ("http://gpu.example/v1", "*", False),
        ("http://gpu.example/v1", "localhost, gpu.example", False),
        ("http://GPU.example/v1", "GPU.EXAMPLE", False),
        ("http://gpu.example/v1", ".example", False),
        ("http://gpu.example/v1", "*.example", False),
        ("http://gpu.example/v1", "u.example", True),
        ("http://gpu.example:8000/v1", "gpu.example:8000", False),
        ("http://gpu.example:8000/v1", "gpu.example:9000", True),
        ("http://gpu.example/v1", "http://gpu.example", False),
        ("http://10.1.2.3/v1", "10.0.0.0/8", False),
        ("http://10.1.2.3/v1", "10.1.2.3", False),
        ("http://10.1.2.3/v1", "11.0.0.0/8", True),
        ("http://[fd00::1]:8000/v1", "fd00::/8", False),
        ("http://[fd00::1]:8000/v1", "[fd00::1]", False),
    ],
)
def test_no_proxy_is_read_as_curl_does(url: str, no_proxy: str, proxied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_for(url) is not None) == proxied


def test_each_scheme_has_its_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy:3128")
    monkeypatch.setenv("ALL_PROXY", "http://all:1")
    assert str(proxy_for("https://gpu.example/v1")) == "http://proxy:3128 (HTTPS_PROXY)"
    assert str(proxy_for("http://gpu.example/v1")) == "http://all:1 (ALL_PROXY)"
    monkeypatch.delenv("ALL_PROXY")
    assert proxy_for("http://gpu.example/v1") is None


def test_workers_of_a_cluster_take_the_proxies_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("QWEN_API_KEY", "key")
    assert _environment_of(read_mllms(["qwen=https://gpu.example/v1#m"])) == {
        "QWEN_API_KEY": "key", "http_proxy": "", "https_proxy": "http://proxy:3128", "all_proxy": "", "no_proxy": ""
    }  # fmt: skip
    assert _environment_of(read_mllms(["describe"])) == {}


@pytest.mark.parametrize("host", ["gpu.example", "128.0.0.1", "10.0.0.1", "localhost.example", "fd00::1", "1.2.3"])
def test_other_machines_are_not_this_one(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost.", "a.localhost", "127.9.9.9", "::1", "ip6-localhost", "0x7f000001"]
)
def test_names_of_this_machine(host: str) -> None:
    assert is_loopback(host)


def test_urls_keep_their_secrets() -> None:
    assert checked_url("http://a:8000/v1/") == "http://a:8000/v1"
    for url in ("http://me:hunter2@a/v1", "https://a/v1?key=hunter2"):
        with pytest.raises(ConfigError, match="--mllm q: a URL must not hold") as refused:
            checked_url(url, "--mllm q")
        assert "hunter2" not in str(refused.value)
