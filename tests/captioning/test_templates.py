"""Our templates differ in structure; a user's file loads, or fails by line; those of an LLM are found in any layout."""

import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from textreid.captioning.templates import (
    Template,
    distinct_structures,
    own_templates,
    parse_templates,
    read_templates,
    structure,
)
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


def test_samples_of_our_own_are_nested_and_no_larger_than_all() -> None:
    samples = [read_templates(Path(f"own:{count}")) for count in (1, 4, len(own_templates()))]
    assert [len(sample) for sample in samples] == [1, 4, len(own_templates())]
    assert samples[0].items() <= samples[1].items() <= samples[2].items()
    assert samples[2] == own_templates()
    with pytest.raises(CaptionError, match="own:1000: there are"):
        read_templates(Path("own:1000"))


def test_general_ones_are_short_unless_a_file_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = read_templates(Path("general"))
    assert len(found) > 10
    assert max(len(template.text.split()) for template in found.values()) < 10
    (tmp_path / "general").write_text("A [gender] in [upper] and [lower].\n")
    assert [template.pattern for template in read_templates(Path("general")).values()] == [
        "A [gender] in [upper] and [lower]."
    ]


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


ONE = "A [gender] with [hair] wears [clothing]."
TWO = "Wearing [upper], the [gender] has [footwear]. [He/She] carries [belongings]."


@pytest.mark.parametrize(
    "answer",
    [
        f"{ONE}\n{TWO}",
        f"Sure! Here are the patterns:\n\n1. {ONE}\n2. {TWO}\n\nLet me know if you need more.",
        f"- {ONE}\n* {TWO}",
        f"1) **{ONE}**\r\n2) **{TWO}**",
        f'"{ONE}",\n"{TWO}"',
        f"Template 1: {ONE}\nTemplate 2: {TWO}",
        f"**Pattern 1:** {ONE}\n**Pattern 2:** “{TWO}”",
        f"```\n{ONE}\n{TWO}\n```",
        f'```json\n["{ONE}", "{TWO}"]\n```',
        f'{{"templates": [{{"id": 1, "text": "{ONE}"}}, {{"id": 2, "text": "{TWO}"}}]}}',
        f"| # | Template |\n|---|---|\n| 1 | {ONE} |\n| 2 | {TWO} |",
        f"<think>Perhaps: A [person] in [clothing].\n</think>\n{ONE}\n{TWO}",
        f"{ONE}\n{TWO}\n{ONE}",
        f"{ONE[:-1]}\n{TWO}".replace("[", "\\[").replace("]", "\\]"),
        "a [Gender] with [hair description] wears [Clothing].\n"
        "Wearing [upper_clothing], the [person] has [shoes]. [He/She] carries [bag].",
        "A {gender} with {hair} wears {clothing}.\n"
        "Wearing {{upper}}, the <gender> has <footwear>. <He/She> carries <belongings>.",
    ],
)
def test_layouts(answer: str) -> None:
    parsed = parse_templates(answer)
    assert parsed.patterns == (ONE, TWO)
    assert parsed.refused == ()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("A [gender] in [clothing] at [location].", "a slot that captions should not fill: location"),
        ("A [gender] in [clothing", "a bracket without its partner"),
        ("A [gender] was there.", "fewer than two things to say"),
        ("[He/She] was there with [his/her] dog.", "fewer than two things to say"),
        ("[gender] [clothing].", "no words of its own"),
        ("A [gender] in [clothing]{ and [hair]}.", "braces or bars"),
        ("A [gender] in []", "an empty slot"),
    ],
)
def test_what_is_refused(line: str, problem: str) -> None:
    parsed = parse_templates(f"{ONE}\n{line}\n{TWO}")
    assert parsed.patterns == (ONE, TWO)
    ((refused, why),) = parsed.refused
    assert problem in why
    assert refused[:3] == line[:3]


@pytest.mark.parametrize("answer", ["", "I'm sorry, I can't.", "<html><body>502</body></html>", "[]", "{}", "null"])
def test_answers_without_a_template(answer: str) -> None:
    assert parse_templates(answer).patterns == ()


def test_of_a_cut_answer_the_last_line_is_dropped_unless_it_ended() -> None:
    half = f"{ONE}\nWearing [upper], the [gender] has"
    assert parse_templates(half, cut_off=True).patterns == (ONE,)
    assert len(parse_templates(half).patterns) == 2
    assert parse_templates(f"{ONE}\n", cut_off=True).patterns == (ONE,)


@given(st.text(max_size=300))
def test_any_answer_can_be_parsed(answer: str) -> None:
    parsed = parse_templates(answer)
    assert all("[" in pattern for pattern in parsed.patterns)


@given(st.lists(st.sampled_from([template.text for template in own_templates().values()]), min_size=1, unique=True))
def test_our_own_templates_come_through(texts: list[str]) -> None:
    assert parse_templates("\n".join(f"{n}. {text}" for n, text in enumerate(texts, 1))).patterns == tuple(texts)


def test_a_parsed_pattern_can_be_read_back(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("\n".join(parse_templates(f"{ONE}\n{TWO}").patterns))
    assert [template.pattern for template in read_templates(tmp_path / "t.txt").values()] == [ONE, TWO]


def test_structure_is_the_opening_and_the_order_of_the_slots() -> None:
    same = (ONE, "a [person] with [Hairstyle] is dressed in [outfit].")
    other = (
        "A [gender] with [hair] wears [upper].",
        "A [gender] in [hair] wears [clothing].",
        "With [hair], a [gender] wears [clothing].",
    )
    assert structure(same[0]) == structure(same[1]) == ("a [gender] with", ("gender", "hair", "clothing"))
    assert distinct_structures([*same, *other, *same]) == [ONE, *other]
