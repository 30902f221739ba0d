import html
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.conftest import WordCounter

from textreid.errors import ImageError
from textreid.evaluation.encoding import EncodedSplit
from textreid.evaluation.failures import FailureSection, failures_page, worst_queries
from textreid.evaluation.protocol import measure

# The third sentence is of other clothes, and a tie counts against the model. The last one fits everybody better.
PEOPLE = [
    ("man red jacket", "a man in a red jacket"),
    ("woman blue jacket", "a woman in a blue jacket"),
    ("woman red hat", "a woman in a blue jacket & <hat>"),
    ("man bag", "woman blue red jacket bag"),
]


def failures_of(model: WordCounter, encoded: EncodedSplit, **options: int) -> FailureSection:
    evaluation = measure(model, encoded, name="<model>")
    return FailureSection(evaluation, worst_queries(model, encoded, evaluation.text_to_image.per_query, **options))


def test_the_worst_come_first_and_what_misled_them(encode: Callable[..., EncodedSplit]) -> None:
    model = WordCounter()
    encoded = encode(model, PEOPLE)
    evaluation, failures = failures_of(model, encoded, top=3).evaluation, failures_of(model, encoded, top=3).failures
    ranks = dict(zip(range(4), evaluation.text_to_image.per_query.rank.tolist(), strict=True))
    assert ranks == {0: 1, 1: 1, 2: 3, 3: 4}
    assert [failure.rank for failure in failures] == [4, 3]
    worst = failures[0]
    assert [shown.rank for shown in worst.top] == [1, 2, 3]
    assert [shown.right for shown in worst.top] == [False] * 3
    assert worst.described == worst.best
    assert (worst.best.rank, worst.best.right) == (4, True)
    assert worst.average_precision == pytest.approx(1 / 4)
    assert {word.rank_without for word in worst.sentence} == {4}
    assert [word.text for word in worst.sentence] == ["woman", "blue", "red", "jacket", "bag"]


def test_ranks_without_a_word_equal_a_new_ranking(encode: Callable[..., EncodedSplit]) -> None:
    model = WordCounter()
    encoded = encode(model, PEOPLE)
    checked = 0
    for failure in failures_of(model, encoded).failures:
        words = [word.text for word in failure.sentence]
        row = encoded.captions.index(" ".join(words))
        for left, word in enumerate(failure.sentence):
            scores = encoded.image_features @ model.encode_texts([" ".join(words[:left] + words[left + 1 :])])[0]
            others = np.delete(scores, row)
            assert word.rank_without == 1 + np.count_nonzero(others >= scores[row])
            checked += 1
    assert checked == 13


def test_one_sentence_a_person_and_no_more_than_asked(encode: Callable[..., EncodedSplit]) -> None:
    model = WordCounter()
    encoded = encode(model, PEOPLE)
    assert len(failures_of(model, encoded, count=1).failures) == 1
    perfect = encode(model, PEOPLE[:2])
    assert failures_of(model, perfect).failures == []


@pytest.fixture
def section(encode: Callable[..., EncodedSplit], tmp_path: Path) -> FailureSection:
    model = WordCounter()
    encoded = encode(model, PEOPLE)
    for record in encoded.records:
        Image.new("RGB", (40, 300), "red").save(tmp_path / record.image)
    return failures_of(model, encoded)


def test_the_page_is_whole_and_holds_its_pictures(section: FailureSection) -> None:
    page = failures_page([section])
    assert page.count("<article>") == 2
    assert len(re.findall(r'<img src="data:image/jpeg;base64,[A-Za-z0-9+/=]{200,}"', page)) == 2 * (1 + 4)
    assert re.findall(r'(?:src|href)="(?!data:)[^#]', page) == []
    assert "$" not in page
    assert page.count("✗ wrong") == 3 + 3
    assert "first true match at rank <strong>4</strong> of 4" in page
    assert html.escape("<hat>") in page
    assert "<hat>" not in page
    assert "&lt;model&gt; on drawn" in page
    assert "selected on: unknown" in page


def test_sections_are_linked(section: FailureSection) -> None:
    page = failures_page([section, section])
    assert page.count('<a href="#s') == page.count('<section id="s') == 2


def test_success_is_said(section: FailureSection) -> None:
    assert "Every sentence finds its person" in failures_page([FailureSection(section.evaluation, [])])


def test_a_picture_that_is_gone_is_an_error(section: FailureSection, tmp_path: Path) -> None:
    for picture in tmp_path.glob("*.png"):
        picture.unlink()
    with pytest.raises(ImageError, match=r"\.png"):
        failures_page([section])
