"""Our templates differ in structure; a user's file loads, or fails with the number of the line."""

import re
from pathlib import Path

import pytest

from textreid.captioning.templates import Template, own_templates, read_templates
from textreid.errors import CaptionError

TEMPLATES = list(own_templates().values())
ATTRIBUTES = {"clothing", "upper", "lower", "footwear", "hair", "belongings", "accessory"}


def opening(template: Template) -> str:
    return " ".join(template.text.split()[:3])


def sentences(template: Template) -> int:
    return len(re.findall(r"[.!?](?: |$)", template.text))


def test_there_are_at_least_46_and_no_two_alike() -> None:
    assert len(TEMPLATES) >= 46
    assert len({(opening(template), template.slots) for template in TEMPLATES}) == len(TEMPLATES)
    assert len({opening(template) for template in TEMPLATES}) >= 44
    assert len({template.slots for template in TEMPLATES}) >= 40


def test_they_vary_in_length_and_in_what_they_mention() -> None:
    counts = [sentences(template) for template in TEMPLATES]
    assert all(counts.count(number) >= 5 for number in (1, 2, 3))
    assert len({frozenset(ATTRIBUTES & set(template.slots)) for template in TEMPLATES}) >= 12
    orders = {tuple(slot for slot in template.slots if slot in ATTRIBUTES) for template in TEMPLATES}
    assert len({order[0] for order in orders}) >= 6


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.id)
def test_each_is_well_formed(template: Template, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text(template.pattern, encoding="utf-8")
    assert read_templates(tmp_path / "one.txt")["line-1"].slots == template.slots
    assert "gender" in template.slots
    assert {"clothing", "upper"} & set(template.slots)
    assert not set("{}|") & set(template.text)
    assert template.text.endswith(".")
    assert "  " not in template.text


def test_braces_are_hidden_from_the_mllm() -> None:
    template = Template("t", "{With [hair], the|The} [gender] wears [upper]{ and [lower]}.")
    assert template.text == "With [hair], the [gender] wears [upper] and [lower]."
    assert template.slots == ("hair", "gender", "upper", "lower")


def test_reads_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(
        "\ufeff# mine\n\n  A [person] in [clothing].  \r\n[hair] is seen on a [gender].\n", encoding="utf-8"
    )
    assert read_templates(path) == {
        "line-3": Template("line-3", "A [person] in [clothing]."),
        "line-4": Template("line-4", "[hair] is seen on a [gender]."),
    }


def test_reads_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[templates]\nfirst = "A [gender]."\n"second one" = "In [upper]{, with [hair]}."\n', encoding="utf-8"
    )
    assert list(read_templates(path)) == ["first", "second one"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("A [gender.\n", "line 1: a bracket without its partner at character 3"),
        ("# c\nA gender].\n", "line 2: a bracket without its partner at character 9"),
        ("A [gen[der]].\n", "line 1: a bracket without its partner at character 3"),
        ("A [ ] walks.\n", "line 1: an empty slot at character 3"),
        ("A man walks.\n", "line 1: no slot in square brackets"),
        ("A [gender]{ with [hair].\n", "line 1: a brace that is not closed"),
        ("A [gender] with [hair]}.\n", "line 1: a brace without its partner"),
        ("A [gender]{ with {[hair]}}.\n", "line 1: a brace without its partner, or one inside another"),
        ("A [gender].\n\nA [gender].\n", "line 3: the same template as line 1"),
        ("[gender] " * 200, "line 1: 1799 characters, but a template has at most 1000"),
        ("# nothing\n", "no template in it"),
        ("A man.\nA [gender.\n", "line 1: no slot in square brackets; line 2: a bracket"),
    ],
)
def test_names_the_line_of_what_is_wrong(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CaptionError, match=re.escape(problem)) as caught:
        read_templates(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[templates]\na = "A [gender]."\nb = "A man."\n', "line 3: no slot"),
        ("templates = 3\n", "expected one table [templates]"),
        ("[templates]\na = 3\n", "expected one table [templates]"),
        ("[templates\n", "not valid TOML"),
    ],
)
def test_names_what_is_wrong_with_toml(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CaptionError, match=re.escape(problem)):
        read_templates(path)


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("A [gender] in a caf\u00e9.".encode("latin-1"))
    for name in ("missing.txt", "latin.txt"):
        with pytest.raises(CaptionError, match="cannot be read as UTF-8 text"):
            read_templates(tmp_path / name)
