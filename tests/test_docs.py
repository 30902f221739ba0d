"""What stands beside the code is true: its Python runs, its versions are the package's."""

import doctest
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from subprocess import PIPE
from threading import Thread

import pytest

import textreid
from textreid.cli import main

CHECKOUT = Path(__file__).parents[1]
PACKAGE = Path(textreid.__file__).parent
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = {"docs/python.md": 8, "README.md": 1}  # and how many of their blocks are Python
WITH_EXAMPLES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
NO_REPORTS = "ORT_DISABLE_TELEMETRY"  # the tests' own setting: here textreid has to see to it
Program = tuple["subprocess.Popen[str]", list[bytes]]  # and what it asked a proxy for
COMMAND = re.compile(r"^textreid synthesize .*$", re.MULTILINE)


def blocks(page: str) -> list[str]:
    """The Python of a page, in its order."""
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    return [body for language, body in FENCE.findall(text) if language == "python"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that docs/python.md begins with."""
    folder = tmp_path_factory.mktemp("docs") / "drawn"
    folder.mkdir()
    commands = COMMAND.findall((CHECKOUT / "docs/python.md").read_text(encoding="utf-8"))
    assert len(commands) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in commands:
            patch.setattr("sys.argv", command.partition("#")[0].split())
            with pytest.raises(SystemExit, match="0"):
                main()
    return folder


@pytest.fixture
def workplace(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, and the working directory."""
    folder = tmp_path / "workplace"
    shutil.copytree(drawn, folder)
    monkeypatch.chdir(folder)
    return folder


@contextmanager
def recording() -> Iterator[tuple[dict[str, str], list[bytes]]]:
    """Variables of the environment that name a proxy, and what it is asked for; it lets nothing out."""
    seen: list[bytes] = []

    class Record(BaseRequestHandler):
        def handle(self) -> None:
            seen.append(self.request.recv(1000))

    with ThreadingTCPServer(("127.0.0.1", 0), Record) as proxy:
        Thread(target=proxy.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{proxy.server_address[1]}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        yield {name: address for upper in names for name in (upper, upper.lower())}, seen
        proxy.shutdown()


@pytest.fixture(scope="module")
def programs(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Program]]:
    """The Python of each page as a process, begun before it is asked for: it ends with some seconds of waiting."""
    with ExitStack() as stack:
        started = {}
        for page in PAGES:
            folder = tmp_path_factory.mktemp("page") / "workplace"
            shutil.copytree(drawn, folder)
            # Each is a program of its own: it shares files with those before it, and no names.
            lines = [f"exec(compile({script!r}, 'script', 'exec'), {{}})" for script in blocks(page)]
            # onnxruntime, where nobody stops it, sends its first report some ten seconds after a session was made.
            lines.append("import sys, time; 'onnxruntime' in sys.modules and time.sleep(12)")
            proxies, seen = stack.enter_context(recording())
            variables = {name: value for name, value in os.environ.items() if name != NO_REPORTS} | proxies
            process = subprocess.Popen(
                [sys.executable, "-c", "\n".join(lines)], cwd=folder, text=True, stdout=PIPE, stderr=PIPE,
                env=variables | {"TEXTREID_CACHE": str(folder / "cache"), "TEXTREID_DATA": str(folder / "data")},
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            started[page] = (process, seen)
        yield started


@pytest.fixture(scope="module")
def captions(drawn: Path) -> Path:
    """Captions of its pictures."""
    textreid.caption(drawn / "crops", drawn.parent / "captions", ["draft=describe"])
    return drawn.parent / "captions"


@pytest.mark.slow
@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_the_examples_of_docstrings_run(path: Path, workplace: Path, captions: Path) -> None:
    if '"captions"' in path.read_text(encoding="utf-8"):
        shutil.copytree(captions, "captions")
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    for test in tests:
        assert not any(doctest.SKIP in example.options for example in test.examples)
        runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)
    assert tests


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs_and_sends_nothing(page: str, programs: dict[str, Program]) -> None:
    process, seen = programs[page]
    printed, said = process.communicate()
    assert process.returncode == 0, said
    assert len(blocks(page)) == PAGES[page]
    assert len(printed.splitlines()) >= PAGES[page]
    assert seen == []


def test_every_public_name_has_an_example() -> None:
    public = [name for name in dir(textreid) if not name.startswith("__")]
    assert [name for name in public if ">>> " not in (getattr(textreid, name).__doc__ or "")] == []
    assert len(public) >= 13


def test_the_citation_names_this_version() -> None:
    (cited,) = re.findall(r"^version: (.+)$", (CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited == textreid.__version__


def test_the_list_of_changes_has_this_version_first() -> None:
    titles = re.findall(r"^## (.+)$", (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert next(title for title in titles if title != "Unreleased") == textreid.__version__
