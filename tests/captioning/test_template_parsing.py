"""Templates are found in whatever layout an LLM chose, and only those that a caption can follow."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from textreid.captioning.template_parsing import distinct_structures, parse_templates, structure
from textreid.captioning.templates import own_templates, read_templates

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
