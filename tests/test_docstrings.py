"""What docstrings say of parameters and attributes is so: no entry for one that is not there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import textreid

PACKAGE = Path(textreid.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ELSEWHERE = {"qwen", "datasets", "rejected", "object_pairs_hook"}  # an example, a library, names of other modules
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_SECTION = re.compile(r"^([ ]*)(Args|Attributes):\n((?:\1[ ]+.*\n|[ ]*\n)+)", re.MULTILINE)


def entries(docstring: str, section: str) -> list[str]:
    """The names that a section of a docstring has entries for; one entry may be of several, with commas."""
    found = []
    for indent, title, body in _SECTION.findall(docstring + "\n"):
        if title == section:
            for names in re.findall(rf"^{indent}    ([\w*]+(?:, [\w*]+)*): ", body, re.MULTILINE):
                found += [name.lstrip("*") for name in names.split(", ")]
    return found


def parameters(function: _Function) -> set[str]:
    arguments = function.args
    listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {each.arg for each in listed if each}


def members(kind: ast.ClassDef) -> set[str]:
    """Fields, methods and whatever a class or its methods assign to itself."""
    names = {node.name for node in kind.body if isinstance(node, _Function)}
    for node in ast.walk(kind):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            names.add(node.attr)
    for statement in kind.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def documented(tree: ast.Module) -> Iterator[tuple[str, list[str], set[str]]]:
    """What is documented, the names it has entries for, and those that are there."""
    for node in ast.walk(tree):
        if isinstance(node, _Function):
            yield node.name, entries(ast.get_docstring(node) or "", "Args"), parameters(node)
        elif isinstance(node, ast.ClassDef):
            text = ast.get_docstring(node) or ""
            made = [each for each in node.body if isinstance(each, _Function) and each.name == "__init__"]
            there = set.union(members(node), *map(parameters, made))
            inherits = [base for base in node.bases if isinstance(base, ast.Name) and base.id[0] != "_"]
            outside = {"args"} if inherits else set()
            yield f"class {node.name}", entries(text, "Args"), there | outside
            yield f"class {node.name}", entries(text, "Attributes"), there | outside


def test_every_entry_of_a_docstring_is_a_parameter_or_an_attribute() -> None:
    wrong, seen = [], 0
    for path in MODULES:
        for what, named, there in documented(ast.parse(path.read_text(encoding="utf-8"))):
            seen += len(named)
            wrong += [f"{path.relative_to(PACKAGE)}: {what} has no {name!r}" for name in named if name not in there]
    assert wrong == []
    assert seen > 400


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ('def f(a, *, b=1):\n    """Do.\n\n    Args:\n        a: one.\n        b, c: two.\n    """', ["c"]),
        ('def f(*rows, **kw):\n    """Do.\n\n    Args:\n        *rows: many.\n        **kw: more.\n    """', []),
        (
            'class A:\n    """A thing.\n\n    Attributes:\n        x: one.\n        y: two.\n    """\n\n    x: int\n',
            ["y"],
        ),
        ('class A:\n    """A.\n\n    Args:\n        x: one.\n    """\n\n    def __init__(self, x): self.z = x\n', []),
        ('def f(corpus):\n    """Do.\n\n    Images are named relative to ``images``.\n    """', []),
    ],
)
def test_an_entry_that_is_not_there_is_seen(source: str, wrong: list[str]) -> None:
    found = [name for _, named, there in documented(ast.parse(source)) for name in named if name not in there]
    assert found == wrong


def unknown_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Functions whose docstring quotes a bare name that is nowhere in the module's code, not even in a string."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, _Function | ast.ClassDef | ast.Module) and node.body and isinstance(node.body[0], ast.Expr)
    }
    words: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            words.update(re.findall(r"[a-z_]+", node.value))
        for name in ("id", "attr", "arg", "name", "module"):
            words.update(re.findall(r"[a-z_]+", str(getattr(node, name, ""))))
    for node in ast.walk(tree):
        if isinstance(node, _Function):
            for name in re.findall(r"``([a-z_]{2,})``", ast.get_docstring(node) or ""):
                if name not in words | ELSEWHERE:
                    yield node.name, name


def test_no_docstring_quotes_a_name_that_is_nowhere() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {function} quotes {name!r}"
        for path in MODULES
        for function, name in unknown_names(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []
    code = 'def f(images):\n    """Do.\n\n    Names are relative to ``corpus``, not ``images``.\n    """'
    assert list(unknown_names(ast.parse(code))) == [("f", "corpus")]
