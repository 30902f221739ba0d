"""What an MLLM is told; styles cover their grid evenly, are the same every time, and reach the MLLM in words."""

from collections import Counter
from itertools import combinations, product

import pytest
from hypothesis import given, settings, strategies as st

from textreid.captioning.instructions import (
    AXES,
    STYLES,
    Style,
    dynamic_instructions,
    even_styles,
    static_instruction,
    style_instructions,
)
from textreid.captioning.templates import Template, own_templates
from textreid.errors import CaptionError


def test_the_static_request_names_the_attributes_and_forbids_inventing() -> None:
    request = static_instruction()
    for word in ("gender", "hair", "clothing", "shoes", "belongings", "not show", "nothing that you cannot see"):
        assert word in request.text
    for word in ("head to toe", "detail", "accessor"):
        assert word not in request.text.lower()
    assert (request.kind, request.template, request.template_id) == ("static", None, "")


def test_a_dynamic_request_is_the_static_one_and_a_template() -> None:
    instructions = dynamic_instructions()
    assert [each.template_id for each in instructions] == list(own_templates())
    for each in instructions:
        assert each.template is not None
        assert each.text.startswith(static_instruction().text)
        assert f'"{each.template.text}"' in each.text
        assert not set("{}") & set(each.text)


def test_the_prompt_hash_follows_the_text() -> None:
    one, other = dynamic_instructions({"a": Template("a", "A [gender]."), "b": Template("b", "The [gender].")})
    same = dynamic_instructions({"c": Template("c", "A [gender].")})[0]
    assert one.prompt_hash == same.prompt_hash != other.prompt_hash
    assert len(one.prompt_hash) == 16
    assert (
        len({each.prompt_hash for each in (static_instruction(), *dynamic_instructions())}) == len(own_templates()) + 1
    )


@settings(max_examples=8)
@given(st.integers(1, 300), st.integers(0, 5))
def test_every_level_is_used_equally_often(count: int, seed: int) -> None:
    styles = even_styles(count, seed)
    assert len({style.id for style in styles}) == len(styles) == count
    for axis, levels in AXES.items():
        used = Counter(style.levels[axis] for style in styles)
        assert max(used[level] for level in levels) - min(used[level] for level in levels) <= 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_pair_of_levels_is_used_about_equally_often(seed: int) -> None:
    styles = even_styles(256, seed)
    checked = 0
    for one, other in combinations(AXES, 2):
        used = Counter((style.levels[one], style.levels[other]) for style in styles)
        even = len(styles) / (len(AXES[one]) * len(AXES[other]))
        for pair in product(AXES[one], AXES[other]):
            assert 0.85 < used[pair] / even < 1.15
            checked += 1
    assert checked == 200


def test_the_whole_grid_can_be_had() -> None:
    assert len({style.id for style in even_styles(STYLES)}) == STYLES == 2160
    for count in (0, STYLES + 1):
        with pytest.raises(CaptionError, match="expected 1 to 2,160"):
            even_styles(count)


def test_equal_seeds_give_equal_styles_and_a_beginning_is_a_smaller_set() -> None:
    assert even_styles(40, 3) == even_styles(60, 3)[:40]
    assert even_styles(40, 3) != even_styles(40, 4)


def test_an_instruction_carries_its_style() -> None:
    instructions = style_instructions(50)
    assert {instruction.kind for instruction in instructions} == {"dynamic"}
    assert len({instruction.template_id for instruction in instructions}) == 50
    assert len({instruction.prompt_hash for instruction in instructions}) == 50
    for instruction, style in zip(instructions, even_styles(50), strict=True):
        assert instruction.text == f"{static_instruction().text} {style.text}"
        assert instruction.template_id == style.id
        assert instruction.template is None
    assert static_instruction().template_id == ""


def test_a_style_in_words() -> None:
    style = Style({axis: next(iter(levels)) for axis, levels in AXES.items()})
    assert style.id == "style:one-short-plain-downward-gist-caption"
    assert style.text.startswith("Write one sentence. Keep each sentence below ten words. Use everyday words.")
