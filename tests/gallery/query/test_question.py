"""Questions of several parts to a folder: by a model with random weights, and by the bundled one where words matter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textreid.errors import ArgumentError, ConfigError, DataError, ImageError
from textreid.gallery import EmbeddingCache
from textreid.gallery.embedding_cache import remove_cache
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.query import references
from textreid.gallery.query.pairs import Pair
from textreid.gallery.query.question import NOT_ENGLISH, Question, encode_question
from textreid.gallery.query.references import MOST_SENTENCES, PEOPLE, reference_features, reference_sentences
from textreid.gallery.search import SearchResult, search
from textreid.models import load_model

MakeCrops = Callable[..., Path]
FIRST, SECOND = "a woman in a red jacket", "a man with a black coat"


@pytest.fixture
def asked(make_crops: MakeCrops, model_folder: Path) -> Callable[..., SearchResult]:
    """A function that searches twenty crops."""
    folder, cache = make_crops(20), EmbeddingCache()

    def ask(query: Any, **options: Any) -> SearchResult:
        return search(query, folder, model=model_folder, cache=cache, **{"top": 20, **options})

    return ask


Ask = Callable[..., SearchResult]


def by_name(result: SearchResult) -> dict[str, float]:
    return {hit.path.name: hit.score for hit in result.hits}


def test_several_sentences_are_fused(asked: Ask) -> None:
    one, two, both = by_name(asked(FIRST)), by_name(asked([SECOND])), asked([FIRST, SECOND])
    assert both.query == f"{FIRST} · {SECOND}"
    fused = by_name(both)
    ratios = np.array([(one[name] + two[name]) / fused[name] for name in fused])
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)
    assert list(fused) != list(one)


def test_a_picture_finds_itself_and_copies(asked: Ask, tmp_path: Path) -> None:
    picture = tmp_path / "crops" / "7.png"
    found = asked(Question(like=(picture,)))
    assert found.hits[0].path == picture
    assert found.hits[0].score == pytest.approx(1, abs=1e-3)
    assert found.query == "like 7.png"
    mixed = asked(Question((FIRST,), (picture,)))
    assert mixed.hits[0].path == picture
    assert mixed.hits[0].score < 1


def test_judged_results_move_the_query_and_wrong_ones_are_gone(asked: Ask, tmp_path: Path) -> None:
    before = asked(FIRST)
    right, wrong = before.hits[12].path, before.hits[0].path
    after = asked(FIRST, right=[right], wrong=[str(wrong)])
    assert [hit.path for hit in after.hits].index(right) < 6
    assert wrong not in [hit.path for hit in after.hits]
    assert len(after.hits) == 19
    only_wrong = asked(FIRST, wrong=[wrong])
    assert [hit.path for hit in only_wrong.hits] == [hit.path for hit in before.hits[1:]]
    with pytest.raises(DataError, match=r"elsewhere\.png: was not ranked in .*crops"):
        asked(FIRST, right=[tmp_path / "elsewhere.png"])


def test_near_copies_are_one_hit(make_crops: MakeCrops, model_folder: Path) -> None:
    folder = make_crops(12)
    for name in ("a", "b"):
        (folder / f"{name}.png").write_bytes((folder / "3.png").read_bytes())
    with EmbeddingCache() as cache:
        for top in (1, 5, 14):
            plain = search(FIRST, folder, model=model_folder, cache=cache, top=14)
            found = search(FIRST, folder, model=model_folder, cache=cache, top=top, group=True)
            together = [{path.name for path in (hit.path, *hit.alike)} for hit in found.hits]
            assert len(found.hits) <= top
            assert found.hits[0].path == plain.hits[0].path
            assert [hit.rank for hit in found.hits] == list(range(1, len(found.hits) + 1))
    assert sum(map(len, together)) == 14
    assert any({"3.png", "a.png", "b.png"} <= names for names in together)


def test_a_verdict_is_told_where_it_is_asked(asked: Ask) -> None:
    assert asked(FIRST).verdict is None
    verdict = asked(FIRST, prior=0.5).verdict
    assert verdict
    assert 0 < verdict.probability < 1
    assert 1 / (PEOPLE + 1) <= verdict.chance <= 1
    higher = asked(FIRST, prior=0.9).verdict
    assert higher
    assert higher.probability > verdict.probability
    both = asked(Question((FIRST, SECOND), without=("a hat",)), prior=0.5).verdict
    assert both
    assert both != verdict


def test_no_verdict_on_pictures(asked: Ask, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is known of sentences alone"):
        asked(Question((FIRST,), (tmp_path / "crops" / "0.png",)), prior=0.5)


def test_reference_people_are_always_the_same_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = reference_sentences()
    assert sentences == reference_sentences()
    assert {len(person) for person in sentences} == {MOST_SENTENCES}
    assert len({sentence for person in sentences for sentence in person}) > 0.95 * PEOPLE * MOST_SENTENCES
    asked: list[int] = []

    def encode(texts: list[str]) -> Any:
        asked.append(len(texts))
        return np.arange(2 * len(texts), dtype=np.float32).reshape(len(texts), 2)

    monkeypatch.setenv("TEXTREID_CACHE", str(tmp_path / "kept"))
    first = reference_features(encode, "f" * 64, 2)
    assert first.shape == (PEOPLE, 2, 2)
    np.testing.assert_array_equal(reference_features(encode, "f" * 64, 2), first)
    assert asked == [2 * PEOPLE]
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    np.testing.assert_array_equal(reference_features(encode, "f" * 64, 2), first)
    reference_features(encode, "e" * 64, 9, keep=False)
    assert asked == [2 * PEOPLE, 2 * PEOPLE, MOST_SENTENCES * PEOPLE]
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert remove_cache(tmp_path / "kept") > 1000
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("TEXTREID_CACHE", str(tmp_path / "file" / "below"))
    features = reference_features(lambda texts: np.ones((len(texts), 3), np.float32), "a" * 64, 1)
    assert features.shape == (PEOPLE, 1, 3)
    monkeypatch.setattr(references, "cache_folder", lambda: Path("/proc/nowhere"))
    assert reference_features(lambda texts: np.ones((len(texts), 3), np.float32), "a" * 64, 1).shape == (PEOPLE, 1, 3)


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        (Question(), ConfigError, "nothing to look for"),
        ([], ConfigError, "nothing to look for"),
        ([5], ArgumentError, r"sentences\[0\]: expected a list of sentences, not 5"),
        (5, ArgumentError, "query: expected a sentence, not 5"),
        (Question(without=("a hat",)), ConfigError, "nothing to look for"),
        (Question((FIRST,), like=("x.png",)), ArgumentError, r"like\[0\]: expected a list of paths"),  # type: ignore[arg-type]
        (Question(like=(Path("nowhere.png"),)), ImageError, "nowhere.png"),
        (Question(like=(7,)), ConfigError, "like 7: the number of a crop; only a gallery has such"),
    ],
)
def test_a_question_of_another_kind_is_refused(query: Any, error: type[Exception], message: str, asked: Ask) -> None:
    with pytest.raises(error, match=message):
        asked(query)


def test_notes_are_told_of_each_part() -> None:
    encoder = GalleryEncoder()
    notes = encode_question(Question(("a man in a kilt", "a man with no hat"), without=("a backpack",)), encoder).notes
    assert notes[0] == "the model has not learned this word: kilt"
    assert notes[1].startswith("'no' in a query hardly counts")
    assert notes[2].startswith("without 'a backpack': hardly has an effect")
    assert encode_question(Question((FIRST, "une femme en veste rouge")), encoder).notes == (NOT_ENGLISH,)


def test_what_is_without_is_subtracted_by_the_bundled_model() -> None:
    """Of one sentence's own variants, the one that names the thing loses most."""
    encoder = GalleryEncoder()
    model = load_model()
    plain = encode_question(Question((FIRST,)), encoder).features.vector()
    less = encode_question(Question((FIRST,), without=("jeans",)), encoder).features.vector()
    variants = model.encode_texts([f"{FIRST} and {worn}" for worn in ("jeans", "a skirt", "shorts")])
    loss = variants @ plain - variants @ less
    assert loss.argmax() == 0
    assert loss[0] > loss[1:].max() + 0.02


def test_labelled_pairs_take_the_place_of_what_is_assumed(asked: Ask, tmp_path: Path) -> None:
    sentences = [f"{FIRST} and {number} blue trousers" for number in range(12)]
    by_rank = [asked(sentence).hits for sentence in sentences]
    told = {}
    for place in (0, 19):
        pairs = [Pair(said, str(hits[place].path)) for said, hits in zip(sentences, by_rank, strict=True)]
        verdict = asked(SECOND, prior=0.5, pairs=pairs).verdict
        assert verdict
        told[place] = verdict.probability
    # Where matches score lowest of all, no score tells anything.
    assert told[19] == pytest.approx(0.5, abs=0.01)
    assert told[0] != pytest.approx(0.5, abs=0.01)
    with pytest.raises(DataError, match=r"x\.png: was not ranked"):
        asked(SECOND, prior=0.5, pairs=[Pair("a man", str(tmp_path / "x.png"))])
