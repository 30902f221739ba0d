"""``textreid serve``: what it refuses before it listens."""

import shlex
import socket
import subprocess
from pathlib import Path

import pytest
import typer
from tests.service.conftest import COMMAND, Demo

from textreid.cli.app import app
from textreid.errors import ConfigError
from textreid.service import Settings


def serve(demo: Demo, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "serve", "--gallery", *options]
    return subprocess.run(command, env=demo.environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
def test_it_refuses_in_one_line(demo: Demo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = [
            (serve(demo, "dem"), "did you mean demo?"),
            (serve(demo, "demo", "--host", "0.0.0.0"), "without authentication"),
            (serve(demo, "demo", "--port", port), "cannot listen there: Address already in use"),
        ]
    for result, said in refused:
        assert result.returncode in (1, 2)
        assert said in result.stderr
        assert result.stderr.count("\n") == 1


def test_the_unit_of_systemd_starts_what_there_is() -> None:
    unit = Path(__file__).parents[2] / "examples/textreid.service"
    lines = dict(line.split("=", 1) for line in unit.read_text().splitlines() if "=" in line and line[0] != "#")
    program, name, *options = shlex.split(lines["ExecStart"])
    assert (Path(program).name, name) == ("textreid", "serve")
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    command.make_context(name, options)
    assert int(lines["TimeoutStopSec"]) > 20  # what the service takes at most to answer what was asked


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.8.0.1", True), ("0.0.0.0", False),
     ("::", False), ("192.168.1.5", False), ("camera.example", False)],
)  # fmt: skip
def test_only_addresses_of_this_machine_are_local(host: str, local: bool) -> None:
    assert Settings("demo", host=host).is_local is local


@pytest.mark.parametrize(("port", "connections"), [(70_000, 4), (-1, 4), (8000, 0)])
def test_settings_that_cannot_be_meant_are_refused(port: int, connections: int) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Settings("demo", port=port, connections=connections)
