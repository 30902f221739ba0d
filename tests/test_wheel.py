"""The wheel, in an environment that knows nothing of the checkout: everything it needs is in it."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
CROPS = 10
Command = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHECKOUT / "pyproject.toml").is_file(), reason="there is no checkout to build from"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, CHECKOUT],
        check=True,
    )
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def textreid(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command that the wheel installs; what it depends on is borrowed from the environment of the tests."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, symlinks=True)
    (python,) = folder.glob("bin/python")
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    where = [str(python), "-c", "import textreid; print(textreid.__file__)"]
    done = subprocess.run(where, cwd=folder, env=variables, capture_output=True, text=True, check=True)
    assert Path(done.stdout).is_relative_to(packages)

    def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [folder / "bin" / "textreid", *arguments]
        return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)

    return run


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    source = CHECKOUT / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.parent.name.endswith(".egg-info")
    }
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert inside == files
    assert len(files) > 100
    assert {Path(name).suffix for name in files} >= {".py", ".toml", ".html", ".safetensors", ".gz", ".typed"}


def test_it_helps(textreid: Command, tmp_path: Path) -> None:
    done = textreid("--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "search" in done.stdout


def test_it_searches_drawn_crops(textreid: Command, tmp_path: Path) -> None:
    drawn = textreid(
        "synthesize", "people", "--domain", "street", "--identities", str(CROPS), "--images", "1", cwd=tmp_path
    )
    assert drawn.returncode == 0, drawn.stderr
    done = textreid("search", "a man in a blue shirt", "--images", "people/imgs", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["results"]) == CROPS


def test_it_captions_with_its_own_templates(textreid: Command, tmp_path: Path) -> None:
    textreid("synthesize", "people", "--domain", "street", "--identities", "2", "--images", "1", cwd=tmp_path)
    done = textreid("caption", "people", "--out", "captions", "--mllm", "draft=describe", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "captions" / "manifest.json").is_file()
