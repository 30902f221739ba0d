"""The wheel, in an environment that knows nothing of the checkout: everything it needs is in it."""

import json
import os
import shutil
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
    # Of what the container is made of, which has to be enough.
    copied, out = tmp_path_factory.mktemp("copied"), tmp_path_factory.mktemp("dist")
    for line in (CHECKOUT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY "):
            *names, _ = line.removeprefix("COPY ").split()
            for name in names:
                source, target = CHECKOUT / name, copied / name
                shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, copied],
        check=True,
    )
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Runs a program of an environment with the wheel; what that depends on is borrowed from the tests' own."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, symlinks=True)
    (python,) = folder.glob("bin/python")
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [folder / "bin" / program, *arguments]
        done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done

    found = run("python", "-c", "import textreid; print(textreid.__file__)", cwd=folder)
    assert Path(found.stdout).is_relative_to(packages)
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


def test_it_helps(fresh: Command, tmp_path: Path) -> None:
    assert "search" in fresh("textreid", "--help", cwd=tmp_path).stdout


def test_it_searches_and_captions_drawn_crops(fresh: Command, tmp_path: Path) -> None:
    fresh("textreid", "synthesize", "crops", "--identities", str(CROPS), "--images", "1", cwd=tmp_path)
    done = fresh("textreid", "search", "a man in a blue shirt", "--images", "crops", "--json", cwd=tmp_path)
    assert len(json.loads(done.stdout)["results"]) == CROPS
    fresh("textreid", "caption", "crops", "--out", "captions", "--mllm", "draft=describe", cwd=tmp_path)
    assert (tmp_path / "captions" / "manifest.json").is_file()


def test_it_does_the_whole_job(fresh: Command, tmp_path: Path) -> None:
    """What ``textreid demo`` does, with fewer people."""
    few = "from pathlib import Path; from textreid.demo import DemoSettings, run_demo; "
    few += "few = dict(unseen_identities=4, first_identities=4, least_identities=4, most_identities=4); "
    few += "run_demo(Path('demo'), DemoSettings(**few, epochs=1, most_epochs=1, workers=1))"
    fresh("python", "-c", few, cwd=tmp_path)
    assert (tmp_path / "demo" / "report.html").is_file()
