"""Each rule rejects what it is named after, and lets pass what only looks like it."""

import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, strategies as st

from textreid.captioning.backends.simulated import SimulatedMLLM
from textreid.captioning.instructions import dynamic_instructions, static_instruction
from textreid.captions.cleaning import RULES, WRAPPINGS, clean, status_of, tidy
from textreid.seeding import generator
from textreid.synthetic.attributes import Direction, View
from textreid.synthetic.describer import describe
from textreid.synthetic.domains import DOMAINS
from textreid.synthetic.sampling import sample_person

BAD = {
    "empty": ["", "  \n\t", "...", "-- !?", "\u200b", '""'],
    "unfinished": [
        "A woman in a red coat and a",
        "The man is wearing a white shirt, blue jeans,",
        "Here is the description of the man:",
        "<think>The man wears a coat and",
    ],
    "markup": [
        "A man in a red coat<box>(102,45),(387,910)</box>.",
        "A <ref>woman</ref> in a blue dress.",
        "A man in a red coat and black shoes.<|im_end|>",
        "A man in a red coat.</s>",
        "**A man** in a red coat and black shoes.",
        "Description:\n- a man\n- a red coat\n- black shoes",
        "# Description\nA man in a red coat.",
        '{"caption": "A man in a red coat and black shoes."}',
        "```A man in a red coat and black shoes.```",
        "The man (0.12, 0.50, 0.3, 0.9) is wearing a red coat.",
        "A man in a red coat. See https://example.org/a.jpg for more.",
        "A man &amp; his dog, in a red coat.",
    ],
    "unfilled-slot": [
        "The man is wearing [clothing description] and black shoes.",
        "A [gender] in a red coat with black shoes.",
        "A woman in {clothing} and white sneakers.",
        "The man with (hair) is wearing a red coat.",
        "The woman wears a coat and (shoes description).",
        "A man wearing a ____ coat and black shoes.",
        "A man in a red coat with accessory description].",
    ],
    "refusal": [
        "I'm sorry, but I cannot identify the person in this image.",
        "I\u2019m sorry, I can\u2019t help with identifying people.",
        "Sorry, the image is too blurry to describe the man.",
        "As an AI language model, I do not see the man's shoes.",
        "I am unable to describe the person.",
        "It is not possible to identify the person in the picture.",
        "I don't see a person in this image.",
        "Please provide the image of the woman that you want me to describe.",
        "Unfortunately, I cannot provide a description of his clothing.",
    ],
    "other-language": [
        "一个穿着红色外套的男人。",
        "Un hombre con una camisa roja y pantalones negros.",
        "Un homme avec une veste rouge et des chaussures noires.",
        "Der Mann trägt eine rote Jacke und schwarze Schuhe.",
        "Мужчина в красной куртке и черных ботинках.",
        "Um homem com uma camisa vermelha e sapatos pretos.",
        "De man draagt een rode jas en zwarte schoenen met een tas van leer.",
        "Uomo con una giacca rossa e capelli neri.",
        "A man 穿着红色外套和黑色裤子。",
    ],
    "repeated-loop": [
        "A man in a red red red red coat.",
        "A man in a red coat, in a red coat, in a red coat, in a red coat.",
        "She has a bag. She has a bag. She has a bag.",
        "A man in a coat" + "!" * 20,
        "The man wears a coat and a hat and a coat and a hat and a coat and a hat and shoes.",
        " ".join(f"The man is wearing a {colour} shirt today." for colour in ("red", "blue") * 8),
    ],
    "too-short": ["A man.", "Red coat", "Woman, blue jeans"],
    "too-long": ["The man has " + ", ".join(f"item number {n}" for n in range(80)) + "."],
    "not-about-a-person": [
        "A silver car is parked on the street.",
        "The image shows a tall building with many windows.",
        "There is no person in the image, only a coat on a chair and a pair of shoes.",
        "The picture does not show any person, just a jacket and a bag.",
        "An empty pavement beside a wall at night.",
    ],
}

GOOD = [
    "A man in black.",
    "Black jacket, blue jeans, white sneakers, short dark hair, grey backpack.",
    "The shoes of the woman cannot be seen, since the picture ends at her knees.",
    "His face can't be seen, but he wears a red coat.",
    'A man in a T-shirt that says "Sorry, I can\'t" and grey shorts.',
    "A woman in a hoodie with the words 'I do not see the point' and black leggings.",
    "A boy with a <3 logo on a white T-shirt and blue shorts.",
    "He is about 5'10\" tall (approx. 178 cm) and wears a size-10 boot; 3 bags in hand.",
    "A man (in his twenties) wearing a blue (navy) jacket and dark trousers.",
    "A man with long, long hair and a very, very bright red coat.",
    "A woman in a black coat, black trousers, black shoes, a black bag and a black hat.",
    "She wears a white shirt and white trousers. She wears white shoes. She carries a white bag.",
    'A man carrying a "Café de Paris" tote bag, in an Ed Hardy tee and a beret à la mode.',
    "The woman in the señorita costume wears a sombrero, a poncho and a pair of jeans.",
    "There are no other people around her; she wears a green dress and sandals.",
    "No one is near the man, who wears a suit and a tie and holds an umbrella.",
    "No bag is visible. The guy has a cap, a grey sweatshirt and black joggers.",
    "A person whose gender is hard to tell wears a hat, a scarf and a long coat.",
    "A pedestrian with a child in a stroller, in a striped top and light jeans.",
    "A man in a hat and a den-print shirt with a net bag, seen from behind.",
    "An elderly lady, in a puffer vest, has her hair in a bun.",
    "A teen in a #7 basketball jersey with red/white stripes & black shorts.",
    "The man — tall, slim — wears a navy-blue blazer; his shoes are two-tone (black/white).",
    "A young woman is seen from the side, walking. Her hair is black and tied in a ponytail, and it reaches her "
    "shoulders. She wears a white short-sleeved blouse with small blue flowers, a knee-length pleated skirt in dark "
    "blue, white ankle socks and flat brown shoes. Over her left shoulder hangs a small brown leather bag, and in her "
    "right hand she holds a phone, at which she looks. She also wears glasses with a thin frame.",
    "The woman is wearing a 1990s-style jacket.\nShe has black shoes.",
]


ANSWERS = tomllib.loads(Path(__file__).with_name("answers.toml").read_text(encoding="utf-8"))["answer"]
PIECES = (
    *(
        "A man in a red coat",
        " and black shoes.",
        " a",
        ",",
        " ",
        "\n",
        "\n\n",
        "- ",
        "# ",
        "**",
        "_",
        "`",
        "```",
        '"',
        "'",
    ),
    *("<think>", "</think>", "<answer>", "</answer>", "</s>", "<s>", "[INST]", "[/INST]", "<|im_start|>assistant", "{"),
    *(
        "}",
        "[",
        "]",
        '{"caption": "',
        "Sure! ",
        "Here is the caption: ",
        "Caption: ",
        " Let me know if you like it.",
        "…",
    ),
)


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in BAD.items() for text in texts])
def test_what_is_bad_is_rejected_by_its_rule(rule: str, text: str) -> None:
    assert status_of(text) == rule


def test_every_rule_is_tested() -> None:
    assert list(RULES) == list(BAD)
    assert all(len(texts) >= 1 for texts in BAD.values())


@pytest.mark.parametrize("text", GOOD)
def test_what_is_good_passes(text: str) -> None:
    assert status_of(text) == "ok"


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: str(answer["shape"]))
def test_each_shape_of_answer_gives_its_caption_or_its_status(answer: dict[str, Any]) -> None:
    cleaned = clean(answer["raw"])
    assert cleaned.caption == answer.get("caption", answer["raw"])
    assert cleaned.status == answer.get("status", "ok")
    assert list(cleaned.cut) == answer.get("cut", [])
    assert cleaned.raw == answer["raw"]


def test_the_shapes_are_many_and_know_every_wrapping() -> None:
    assert len(ANSWERS) >= 70
    assert {name for answer in ANSWERS for name in answer.get("cut", ())} == set(WRAPPINGS)
    assert {"refusal", "other-language", "unfinished", "unfilled-slot"} <= {a.get("status") for a in ANSWERS}


@pytest.mark.parametrize(
    "opening",
    [
        "Sure, ", "Certainly! ", "Okay. ", "Absolutely! Here's the caption: ", "Here you go: ", "Description - ",
        "Here is a one-sentence summary of the person: ", "Here\u2019s what I can see in the picture: ",
        "Of course! Below is a short description based on your template:\n\n", "Final answer: ", "Caption 1: ",
        "The caption for this image would be: ", "My description of the pedestrian: ", "Sure thing! ",
        "Thank you for sharing the image. ", "I can describe the person for you. ", "Let me describe what I see. ",
        "As requested, this is the description in the style of the template: ", "Yes, here is the answer: ",
    ],
)  # fmt: skip
def test_openings_are_cut(opening: str) -> None:
    caption = "The man wears a red coat, and his shoes are black."
    assert clean(opening + caption)[:2] == (caption, "ok")
    assert clean(opening + caption).cut == ("chatter",)


@pytest.mark.parametrize("text", GOOD)
def test_nothing_is_cut_from_a_good_caption(text: str) -> None:
    assert clean(text) == (tidy(text), "ok", text, ())


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=8).map("".join)))
def test_judging_again_changes_nothing(raw: str) -> None:
    first = clean(raw)
    again = clean(first.caption)
    assert (again.caption, again.status) == (first.caption, first.status)
    assert first.caption == (tidy(first.caption) if first.status == "ok" else first.raw)


def test_a_status_is_the_same_every_time_and_however_often_it_is_tidied() -> None:
    texts = [*GOOD, *(text for texts in BAD.values() for text in texts)]
    for text in texts:
        assert status_of(text) == status_of(text)
        assert tidy(tidy(text)) == tidy(text)
        assert "\n" not in tidy(text)
    assert [status_of(tidy(text)) for text in GOOD] == ["ok"] * len(GOOD)


@pytest.mark.parametrize("answer", ["{[clothing]: 'red'}", "{['red']: {}}", "{{1: 2}}", "[" * 500, "{" * 100_000])
def test_brackets_that_are_no_value_are_judged_like_any_text(answer: str) -> None:
    assert clean(answer)[1] != "ok"
    assert clean(answer).raw == answer


def test_tidying_leaves_words_alone() -> None:
    assert tidy(" A  man\tin\r\na red\u00a0coat. ") == "A man in a red coat."
    assert tidy("cafe\u0301 \ud83d\x00\x07 \U0001f9e5") == "caf\u00e9 \U0001f9e5"


def simulated(people: int, dirt_rate: float) -> Iterator[str]:
    """Captions of both simulated MLLMs under many instructions, of people in sight and of people half hidden."""
    instructions = [static_instruction(), *dynamic_instructions()]
    directions = get_args(Direction)
    for seed in range(people):
        person = sample_person(DOMAINS[sorted(DOMAINS)[seed % len(DOMAINS)]], generator("cleaning", seed))
        shown = seed % 5 > 0
        view = View(
            directions[seed % len(directions)], seed % 2 == 0,
            feet_visible=shown, head_visible=shown, legs_visible=shown,
        )  # fmt: skip
        for name in ("qwen", "shikra"):
            mllm = SimulatedMLLM(name, {"x.jpg": (person, view)}, 0.15, dirt_rate)
            for instruction in (instructions[0], instructions[1 + seed % (len(instructions) - 1)]):
                yield mllm.describe(Path("x.jpg"), instruction, seed).text
        if not dirt_rate:
            yield describe(person, view, seed)


def test_simulated_and_human_like_captions_pass() -> None:
    statuses = Counter(clean(text).status for text in simulated(800, dirt_rate=0))
    assert statuses.total() == 4_000
    assert statuses["ok"] >= 0.999 * statuses.total(), statuses


def test_the_dirt_of_a_simulated_mllm_is_caught() -> None:
    statuses = Counter(clean(text).status for text in simulated(60, dirt_rate=1))
    assert set(statuses) == {"empty", "refusal", "unfilled-slot", "markup"}
    assert statuses.total() == 240
