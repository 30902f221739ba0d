"""The exception tree is what its docstring draws, and says which exit code a user sees."""

import inspect

import pytest

from textreid import errors

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass)]


def test_the_drawing_shows_the_tree() -> None:
    drawing = (errors.__doc__ or "").split("::")[1]
    parents: list[str] = []
    drawn = {}
    for line in drawing.splitlines():
        name = line.lstrip(" │├└─").split(" ")[0]
        if not name.isidentifier() or not hasattr(errors, name):
            continue
        depth = (len(line) - len(line.lstrip(" │├└─")) - 4) // 4
        parents[depth:] = [name]
        drawn[name] = parents[depth - 1] if depth else "Exception"
    assert drawn == {error.__name__: error.__bases__[0].__name__ for error in CLASSES}
    assert len(drawn) == 12


@pytest.mark.parametrize("error", CLASSES)
def test_exit_codes(error: type[errors.TextReidError]) -> None:
    assert error.exit_code == {errors.ConfigError: 2, errors.RunStoppedError: 130}.get(error, 1)
