"""The exception tree is what its docstring draws, and says which exit code a user sees."""

import inspect

import pytest

from textreid import errors

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, Exception) and value.__module__ == errors.__name__
]


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
    assert len(drawn) == len(CLASSES) >= 13


@pytest.mark.parametrize("error", CLASSES)
def test_exit_codes(error: type[errors.TextReidError]) -> None:
    expected = {errors.ConfigError: 2, errors.RunStoppedError: 130}
    assert error.exit_code == next((code for kind, code in expected.items() if issubclass(error, kind)), 1)


def test_an_argument_of_a_wrong_type_is_a_type_error_that_says_what_was_expected() -> None:
    errors.check_type("query", "a man", str, "a sentence")
    with pytest.raises(TypeError, match=r"^query: expected a sentence, not 5 \(int\)$") as caught:
        errors.check_type("query", 5, str, "a sentence")
    assert isinstance(caught.value, errors.ConfigError)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("a man", r"^texts: expected a list of sentences, not 'a man' \(str\)$"),
        (b"a", r"^texts: expected a list of sentences, not b'a' \(bytes\)$"),
        ({"a man"}, r"^texts: expected a list of sentences, not \{'a man'\} \(set\)$"),
        (None, r"^texts: expected a list of sentences, not None \(NoneType\)$"),
        (["a man", None], r"^texts\[1\]: expected a list of sentences, not None \(NoneType\) in it$"),
        ([["a" * 100]], r"^texts\[0\]: expected a list of sentences, not \['a{55}\.\.\. \(list\) in it$"),
    ],
)
def test_what_is_not_a_list_is_refused(values: object, message: str) -> None:
    errors.check_list("texts", ["a man"], str, "sentences")
    errors.check_list("texts", (), str, "sentences")
    with pytest.raises(errors.ArgumentError, match=message):
        errors.check_list("texts", values, str, "sentences")
