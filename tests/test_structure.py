"""The house rules that a reader relies on: which way imports go, how long a file is, what it is called."""

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import textreid

PACKAGE = Path(textreid.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
GROUND = {
    "errors", "config", "config_values", "presets", "artifacts", "seeding", "images", "cut_files", "listing",
    "emptiness", "interrupt", "progress", "rows", "runlog", "version",
}  # fmt: skip
ROOMS = {
    "ground": {"ground"},
    "reporting": {"ground", "reporting"},
    "synthetic": {"ground", "synthetic"},
    "captions": {"ground", "reporting", "synthetic", "captions"},
    "datasets": {"ground", "reporting", "synthetic", "captions", "datasets"},
    "captioning": {"ground", "reporting", "synthetic", "captions", "captioning"},
    "models": {"ground", "reporting", "synthetic", "models"},
    "training": {"ground", "reporting", "captions", "datasets", "models", "training"},
    "evaluation": {"ground", "reporting", "synthetic", "datasets", "models", "evaluation"},
    "inspection": {
        *("ground", "reporting", "captions", "datasets", "models", "training", "evaluation", "inspection"),
    },
    "people": {"ground", "people"},
    "gallery": {"ground", "reporting", "synthetic", "captions", "models", "people", "gallery"},
    "service": {"ground", "reporting", "models", "gallery", "service"},
    "reproduction": {"ground", "reporting", "datasets", "evaluation", "reproduction"},
    "demo": {
        *("ground", "reporting", "synthetic", "captions", "datasets", "captioning", "models", "training"),
        *("evaluation", "inspection", "people", "gallery", "demo"),
    },
    "cli": {
        *("ground", "reporting", "synthetic", "captions", "datasets", "captioning", "models", "training"),
        *("evaluation", "inspection", "people", "gallery", "service", "reproduction", "demo", "cli"),
    },
    "__main__": {"cli"},
}
LONGEST_FILE, SHORTEST_FILE = 400, 40
SHORT_BY_NATURE = {"__init__", "__main__", "version"}
MODULES_OFFERED = {"textreid.errors", "textreid.presets"}
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}


def room_of(module: str) -> str:
    """The room of a dotted module name: ``textreid.models.encoder`` is in ``models``."""
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else "__init__"
    return "ground" if name in GROUND | {"__init__"} else name


def dotted_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import of textreid in a file, at any depth, relative ones resolved."""
    package = dotted_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*origin, *([node.module] if node.module else [])])
            names = [f"{source}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "textreid":
                yield node.lineno, name


def wrong_arrows(path: Path) -> list[str]:
    room = room_of(dotted_name(path))
    return [
        f"{path}:{line}: {room} must not import {name} ({room_of(name)})"
        for line, name in imported_modules(path)
        if room_of(name) not in ROOMS[room]
    ]


def test_imports_go_one_way() -> None:
    arrows = sum(len(list(imported_modules(path))) for path in MODULES)
    assert [problem for path in MODULES for problem in wrong_arrows(path)] == []
    assert len(MODULES) > 12
    assert arrows > 10


def test_every_room_is_known() -> None:
    rooms = {room_of(dotted_name(path)) for path in MODULES}
    assert rooms <= set(ROOMS)
    assert len(rooms) >= 8


@pytest.mark.parametrize(
    ("room", "statement", "wrong"),
    [
        ("datasets", "from textreid.models import Model", True),
        ("datasets", "def f():\n    import textreid.training.losses", True),
        ("datasets", "from ..models import Model", True),
        ("datasets", "from textreid import cli", True),
        ("training", "from textreid.evaluation import retrieval_metrics", True),
        ("training", "from textreid.models.encoder import DualEncoder", False),
        ("datasets", "from . import images", False),
        ("datasets", "from textreid.errors import DataError", False),
        ("gallery", "import numpy", False),
    ],
)
def test_the_rule_sees_each_form_of_import(
    room: str, statement: str, wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "textreid"
    (package / room).mkdir(parents=True)
    path = package / room / "example.py"
    path.write_text(statement, encoding="utf-8")
    monkeypatch.setitem(globals(), "PACKAGE", package)
    assert bool(wrong_arrows(path)) is wrong


def test_what_only_unix_has_is_not_imported_bare() -> None:
    # On Windows these modules are missing: an import must stand in a try, or in a branch that Windows does not take.
    missing = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "syslog"}
    bare = [
        f"{path}:{node.lineno}"
        for path in MODULES
        for block in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(block, ast.Module | ast.FunctionDef | ast.ClassDef | ast.With)
        for node in block.body
        if isinstance(node, ast.Import) and missing.intersection(alias.name for alias in node.names)
    ]
    assert bare == []


def test_no_source_file_is_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}
    assert len(lengths) > 12


def test_no_source_file_is_a_crumb() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    short = {path: length for path, length in lengths.items() if length < SHORTEST_FILE}
    assert {path for path in short if path.stem not in SHORT_BY_NATURE} == set()
    assert len(lengths) > 12


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = {part for path in MODULES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert names & VAGUE_NAMES == set()
    assert len(names) > 12


def test_no_public_name_is_hidden_by_a_module_of_the_same_name() -> None:
    # Importing a module sets its name in its package, over what the package gives lazily for that name.
    for path in MODULES:
        importlib.import_module(dotted_name(path))
    exported = {
        f"{package}.{name}": getattr(sys.modules[package], name)
        for package in (dotted_name(path) for path in MODULES)
        for name in getattr(sys.modules[package], "__all__", ())
    }
    assert {name for name, value in exported.items() if inspect.ismodule(value)} == MODULES_OFFERED
    assert len(exported) > 30
