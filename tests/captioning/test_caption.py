"""Captioning a folder of drawings: four slots an image, the wrong words beside them, the same every time."""

from pathlib import Path

import pytest

from textreid.captioning import caption
from textreid.captioning.backends.simulated import _DIRT, SimulatedMLLM
from textreid.captioning.engine import LocalEngine
from textreid.captioning.job import caption_images
from textreid.captioning.requests import Caption, Request, Settings, answer_of, slots_of
from textreid.captions.sidecars import ERRORS, error_spans, raw_answers
from textreid.captions.table import read_captions
from textreid.captions.writer import caption_rows
from textreid.errors import ArtifactError, CaptionError, ConfigError
from textreid.synthetic import read_people, write_corpus

SLOTS = ("qwen/dynamic", "qwen/static", "shikra/dynamic", "shikra/static")
BOTH = ("qwen=simulated", "shikra=simulated")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "street"
    write_corpus(folder, "street", identities=12, images_per_identity=2, seed=3)
    return folder


def test_every_image_has_a_caption_in_every_slot(corpus: Path, tmp_path: Path) -> None:
    caption(corpus, tmp_path / "captions", BOTH)
    table = read_captions(tmp_path / "captions")
    assert table.slots == SLOTS
    assert table.images == tuple(sorted(read_people(corpus)))
    assert len(set(zip(table.image_index.tolist(), table.slot_index.tolist(), strict=True))) == len(table) == 24 * 4
    assert table.rejected == {}


def test_the_errors_file_says_which_words_are_wrong(corpus: Path, tmp_path: Path) -> None:
    wrong, clean = tmp_path / "wrong", tmp_path / "clean"
    caption(corpus, wrong, [f"{name}:0.5" for name in BOTH])
    caption(corpus, clean, [f"{name}:0" for name in BOTH])
    assert not (clean / ERRORS).exists()
    assert error_spans(clean) == {}
    texts = {(row.image, row.slot): row.caption for row in caption_rows(wrong)}
    truth = {(row.image, row.slot): row.caption for row in caption_rows(clean)}
    spans = error_spans(wrong)
    assert 40 < len(spans) < len(texts) == 96
    for key, found in spans.items():
        assert found
        assert texts[key] != truth[key]
        for start, end in found:
            assert texts[key][start:end].strip() == texts[key][start:end] != ""
    read_captions(wrong)  # the manifest knows the file


def test_equal_seeds_give_equal_tables(corpus: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        caption(corpus, tmp_path / name, BOTH, seed=seed)
    a, b, c = (read_captions(tmp_path / name) for name in "abc")
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert (tmp_path / "a" / ERRORS).read_bytes() == (tmp_path / "b" / ERRORS).read_bytes()


def test_a_part_of_the_slots_can_be_asked_for_and_the_rest_later(corpus: Path, tmp_path: Path) -> None:
    caption(corpus, tmp_path / "captions", ["shikra=simulated"], ["static"])
    assert read_captions(tmp_path / "captions").slots == ("shikra/static",)
    before = error_spans(tmp_path / "captions")
    caption(corpus, tmp_path / "captions", BOTH)
    assert read_captions(tmp_path / "captions").slots == SLOTS
    after = error_spans(tmp_path / "captions")
    assert before
    assert {key: spans for key, spans in after.items() if key[1] == "shikra/static"} == before


def test_what_cannot_be_done_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "captions"
    with pytest.raises(CaptionError, match="no simulated MLLM 'gpt'"):
        caption(corpus, out, ["gpt=simulated"])
    with pytest.raises(ConfigError, match="'free': expected some of static, dynamic"):
        caption(corpus, out, BOTH, ["free"])
    with pytest.raises(CaptionError, match="expected a number from 0 to 1"):
        caption(corpus, out, ["qwen=simulated:2"])
    with pytest.raises(CaptionError, match=r"expected simulated:RATE\[:KIND\] with a number from 0 to 1"):
        caption(corpus, out, ["qwen=simulated:often"])
    with pytest.raises(CaptionError, match=r"no kind of error 'color'; did you mean colour\?"):
        caption(corpus, out, ["qwen=simulated:0.5:color"])
    with pytest.raises(ConfigError, match="given twice"):
        caption(corpus, out, ["qwen=simulated", "qwen=simulated"])
    with pytest.raises(ArtifactError, match="no synthetic corpus"):
        caption(corpus / "imgs", out, BOTH)
    assert not list(tmp_path.glob("*captions*"))
    out.mkdir()
    (out / "mine.txt").write_text("")
    with pytest.raises(ArtifactError, match=r"holds mine\.txt but no job\.json"):
        caption(corpus, out, BOTH)


def test_spans_move_with_the_caption_and_go_where_it_changed() -> None:
    slot = slots_of(["qwen"], ["static"])[0]
    request = Request(slot.choices[0], 0)

    def spans(raw: str, wrong: str) -> tuple[str, list[str]]:
        start = raw.index(wrong)
        answer = answer_of("a.jpg", slot, request, Caption(raw, ((start, start + len(wrong)),)), None)
        return answer.row.caption, [answer.row.caption[low:high] for low, high in answer.errors]

    caption = "A man in a red coat and black shoes."
    assert spans(caption, "red coat") == (caption, ["red coat"])
    assert spans(f"Sure! {caption}</s>", "red coat") == (caption, ["red coat"])
    assert spans(f"<think>A red coat.</think>{caption}", "red coat") == (caption, [])
    assert spans(caption.replace("red", "red  "), "red   coat") == (caption, [])
    assert spans(f"{caption}<box>", "red coat") == (f"{caption}<box>", [])


class _Wrapping(SimulatedMLLM):
    """Puts a thought before every other caption."""

    def describe(self, image: Path, instruction: object, seed: int) -> Caption:
        said = super().describe(image, instruction, seed)  # type: ignore[arg-type]
        return Caption(f"<think>Hm.</think>\n{said.text}") if seed % 2 else said


def test_the_raw_answer_of_what_was_cut_stays_beside_the_table(corpus: Path, tmp_path: Path) -> None:
    slots, images = slots_of(["qwen"], ["static", "dynamic"]), sorted(read_people(corpus))
    engine = LocalEngine([_Wrapping("qwen", read_people(corpus), root=corpus)])
    caption_images(corpus, images, tmp_path / "out", engine, slots, Settings())
    raw = raw_answers(tmp_path / "out")
    rows = list(caption_rows(tmp_path / "out"))
    assert {row.status for row in rows} == {"ok"}
    assert {key for key, text in raw.items() if text.startswith("<think>")} == {
        (row.image, row.slot) for row in rows if row.seed % 2
    }
    assert 10 < len(raw) < len(rows)
    assert all("think" not in row.caption for row in rows)
    assert len(_DIRT) == 4
