"""Captioning a corpus: four slots an image, the wrong words beside them, the same every time."""

import json
from pathlib import Path

import pytest

from textreid.captioning.simulate import ERRORS_FILE, simulate_captions
from textreid.captions.table import read_captions
from textreid.errors import ArtifactError, CaptionError
from textreid.synthetic import read_people, write_corpus

SLOTS = ("qwen/dynamic", "qwen/static", "shikra/dynamic", "shikra/static")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "street"
    write_corpus(folder, "street", identities=12, images_per_identity=2, seed=3)
    return folder


def test_every_image_has_a_caption_in_every_slot(corpus: Path, tmp_path: Path) -> None:
    simulate_captions(corpus, tmp_path / "captions")
    table = read_captions(tmp_path / "captions")
    assert table.slots == SLOTS
    assert table.images == tuple(sorted(read_people(corpus)))
    assert len(set(zip(table.image_index.tolist(), table.slot_index.tolist(), strict=True))) == len(table) == 24 * 4
    assert table.rejected == {}


def test_the_errors_file_says_which_words_are_wrong(corpus: Path, tmp_path: Path) -> None:
    wrong, clean = tmp_path / "wrong", tmp_path / "clean"
    simulate_captions(corpus, wrong, error_rate=0.5)
    simulate_captions(corpus, clean, error_rate=0.0)
    assert (clean / ERRORS_FILE).read_text() == ""
    table = read_captions(wrong)
    texts = {
        (table.images[image], table.slots[slot]): table.caption(index)
        for index, (image, slot) in enumerate(zip(table.image_index, table.slot_index, strict=True))
    }
    records = [json.loads(line) for line in (wrong / ERRORS_FILE).read_text().splitlines()]
    assert 40 < len(records) <= len(texts)
    assert len({(record["image"], record["slot"]) for record in records}) == len(records)
    for record in records:
        text = texts[record["image"], record["slot"]]
        assert record["spans"]
        for start, end in record["spans"]:
            assert text[start:end].strip() == text[start:end] != ""


def test_equal_seeds_give_equal_tables(corpus: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_captions(corpus, tmp_path / name, seed=seed)
    a, b, c = (read_captions(tmp_path / name) for name in "abc")
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert (tmp_path / "a" / ERRORS_FILE).read_bytes() == (tmp_path / "b" / ERRORS_FILE).read_bytes()


def test_a_part_of_the_slots_can_be_asked_for(corpus: Path, tmp_path: Path) -> None:
    simulate_captions(corpus, tmp_path / "captions", mllms=("shikra",), instructions=("static",))
    assert read_captions(tmp_path / "captions").slots == ("shikra/static",)


def test_what_cannot_be_done_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "captions"
    with pytest.raises(CaptionError, match="no simulated MLLM 'gpt'"):
        simulate_captions(corpus, out, mllms=("gpt",))
    with pytest.raises(CaptionError, match="no instruction 'free'; known: static, dynamic"):
        simulate_captions(corpus, out, instructions=("free",))  # type: ignore[arg-type]
    with pytest.raises(CaptionError, match="expected a number from 0 to 1"):
        simulate_captions(corpus, out, error_rate=2.0)
    with pytest.raises(CaptionError, match="more than one caption in slot 'qwen/static'"):
        simulate_captions(corpus, out, mllms=("qwen", "qwen"))
    with pytest.raises(ArtifactError, match="no synthetic corpus"):
        simulate_captions(tmp_path, out)
    assert not list(tmp_path.glob("*captions*"))
    out.mkdir()
    with pytest.raises(ArtifactError, match="exists already"):
        simulate_captions(corpus, out)
