"""What an MLLM is told."""

from textreid.captioning.instructions import dynamic_instructions, static_instruction
from textreid.captioning.templates import Template, own_templates


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
