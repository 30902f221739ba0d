"""A question about a phrase, and what answers to it mean."""

import pytest

from textreid.captioning.instructions import static_instruction
from textreid.captioning.questions import asked_phrase, question, read_answer


def test_the_phrase_of_a_question_can_be_read_back() -> None:
    for phrase in ("a red jacket", "jeans", "an off-white, knee-length skirt"):
        assert asked_phrase(question(phrase).text) == phrase
        assert asked_phrase(f"Be brief.\n{question(phrase).text}") == phrase
    assert asked_phrase(static_instruction().text) is None
    assert question("a red jacket").prompt_hash != question("a blue jacket").prompt_hash


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("yes", "a red coat"),
        ("Yes, that is true.", "a red coat"),
        ("True.", "a red coat"),
        ("A red coat.", "a red coat"),
        ("a blue coat", "a blue coat"),
        ("No, it's a blue coat.", "a blue coat"),
        ("No. The person is wearing a blue coat", "a blue coat"),
        ('"blue jeans"', "blue jeans"),
        ("<think>Is it red? No.</think>\na blue coat", "a blue coat"),
        ("\n\n**a blue coat**\n", "a blue coat"),
        ("a black and white, striped shirt", "a black and white, striped shirt"),
        ("hair that is tied back", "hair that is tied back"),
        ("nothing", ""),
        ("No.", ""),
        ("no bag", ""),
        ("No, nothing", ""),
        ("None", ""),
        ("", None),
        ("I cannot tell.", None),
        ("Sorry, that would not be right", None),
        ("The coat is blue", None),
        ("{'answer': 'blue'}", None),
        ("a coat " * 20, None),
    ],
)
def test_what_an_answer_means(answer: str, told: str | None) -> None:
    assert read_answer(answer, "a red coat") == told
