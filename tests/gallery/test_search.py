"""A search ranks as the model does, computes nothing twice, and survives what folders hold."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from textreid.errors import ArgumentError, ArtifactError, CaptionError, ConfigError, DataError, ImageError, ModelError
from textreid.gallery import EmbeddingCache, SearchResult, cache_folder
from textreid.gallery.query.question import NOT_ENGLISH
from textreid.gallery.search import search as search_folder
from textreid.images import read_image
from textreid.models import load_model

MakeCrops = Callable[..., Path]
QUERY = "a woman in a red jacket"


class Reports:
    """Counts the images that each search read and embedded."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.seen[stage] = done


@pytest.fixture
def cache() -> Iterator[EmbeddingCache]:
    with EmbeddingCache(cache_folder()) as opened:
        yield opened


@pytest.fixture
def search(model_folder: Path, cache: EmbeddingCache) -> Callable[..., tuple[SearchResult, dict[str, int]]]:
    """Search with the small model and a cache; returns the result and how many images were read and embedded."""

    def run(folder: Path, query: str = QUERY, **options: object) -> tuple[SearchResult, dict[str, int]]:
        reports = Reports()
        chosen = {"model": model_folder, "top": 100, "precision": "fp32", "cache": cache, **options}
        return search_folder(query, folder, report=reports, **chosen), dict(reports.seen)  # type: ignore[arg-type]

    return run


Search = Callable[..., tuple[SearchResult, dict[str, int]]]


def names(result: SearchResult) -> list[str]:
    return [hit.path.name for hit in result.hits]


def test_the_ranking_is_that_of_the_model(search: Search, make_crops: MakeCrops, model_folder: Path) -> None:
    folder = make_crops(90)
    result, _ = search(folder)
    model = load_model(model_folder)
    paths = sorted(folder.iterdir())
    scores = model.encode_images(paths) @ model.encode_texts([QUERY])[0]
    best = np.argsort(-scores, kind="stable")
    assert [hit.path for hit in result.hits] == [paths[i] for i in best]
    np.testing.assert_allclose([hit.score for hit in result.hits], scores[best], atol=1e-5)
    assert [hit.rank for hit in result.hits] == list(range(1, 91))
    assert (result.query, result.model, result.images) == (QUERY, str(model_folder), 90)
    assert (result.rejected, result.unread) == ((), "")


def test_the_second_search_embeds_nothing_and_answers_the_same(search: Search, make_crops: MakeCrops) -> None:
    folder = make_crops(70)
    first, work = search(folder)
    assert work == {"read": 70, "load": 1, "embed": 70}
    assert search(folder) == (first, {})
    without, work = search(folder, cache=False)
    assert work["embed"] == 70
    assert without == first


def test_the_second_search_does_not_import_torch(search: Search, make_crops: MakeCrops, model_folder: Path) -> None:
    folder = make_crops(3)
    search(folder)
    code = """
import sys
from pathlib import Path
from textreid.gallery.search import search
result = search(sys.argv[1], Path(sys.argv[2]), model=sys.argv[3])
print(len(result.hits), {"torch", "transformers"} & set(sys.modules))
"""
    command = [sys.executable, "-c", code, QUERY, str(folder), str(model_folder)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "3 set()\n"


def test_only_what_is_new_is_embedded(search: Search, make_crops: MakeCrops) -> None:
    folder = make_crops(5)
    search(folder)
    make_crops(2, "crops/new", seed=1)
    assert search(folder)[1] == {"read": 2, "load": 1, "embed": 2}
    shutil.copy(folder / "0.png", folder / "copy.png")
    (folder / "1.png").rename(folder / "renamed.png")
    result, work = search(folder)
    assert work == {"read": 2}
    assert result.images == 8


def test_a_moved_folder_is_not_embedded_again(search: Search, make_crops: MakeCrops, tmp_path: Path) -> None:
    folder = make_crops(5)
    first, _ = search(folder)
    shutil.copytree(folder, tmp_path / "elsewhere")
    again, work = search(tmp_path / "elsewhere")
    assert work == {"read": 5}
    assert names(again) == names(first)


def test_a_changed_picture_is_embedded_again(search: Search, make_crops: MakeCrops) -> None:
    folder = make_crops(5)
    first, _ = search(folder)
    best, worst = first.hits[0].path, first.hits[-1].path
    shutil.copy(worst, best)
    second, work = search(folder)
    assert work == {"read": 1}
    # Equal but for the last bit, which depends on the place in a batch.
    assert [hit.score for hit in second.hits[-2:]] == pytest.approx([first.hits[-1].score] * 2, abs=1e-6)


def test_a_change_that_keeps_size_and_date_is_seen(search: Search, tmp_path: Path) -> None:
    folder = tmp_path / "crops"
    folder.mkdir()
    for name, seed in (("a", 0), ("b", 1)):
        blocks = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), np.uint8)
        Image.fromarray(blocks).resize((24, 56), Image.Resampling.NEAREST).save(folder / f"{name}.bmp")
    before, _ = search(folder)
    status = (folder / "a.bmp").stat()
    (folder / "a.bmp").write_bytes((folder / "b.bmp").read_bytes())
    os.utime(folder / "a.bmp", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (folder / "a.bmp").stat().st_mtime_ns == status.st_mtime_ns
    assert (folder / "a.bmp").stat().st_size == status.st_size
    after, work = search(folder)
    assert work == {"read": 1}
    assert len({hit.score for hit in before.hits}) == 2
    assert len({hit.score for hit in after.hits}) == 1


def test_copies_are_embedded_once_and_ordered_by_path(search: Search, make_crops: MakeCrops) -> None:
    folder = make_crops(4)
    for name in ("z", "a", "m"):
        shutil.copy(folder / "2.png", folder / f"{name}.png")
    result, work = search(folder)
    assert work["embed"] == 4
    copies = [hit for hit in result.hits if hit.path.name in {"2.png", "a.png", "m.png", "z.png"}]
    assert [hit.path.name for hit in copies] == ["2.png", "a.png", "m.png", "z.png"]
    assert len({hit.score for hit in copies}) == 1


def test_a_deleted_picture_is_forgotten(search: Search, make_crops: MakeCrops, cache: EmbeddingCache) -> None:
    folder = make_crops(5)
    search(folder)
    (folder / "3.png").unlink()
    assert search(folder)[0].images == 4
    assert (cache.status().files, cache.status().embeddings) == (4, 4)


def test_each_model_has_its_own_vectors(search: Search, make_crops: MakeCrops, other_model_folder: Path) -> None:
    folder = make_crops(5)
    first, _ = search(folder)
    other, work = search(folder, model=other_model_folder)
    assert work == {"load": 1, "embed": 5}
    assert [hit.score for hit in other.hits] != [hit.score for hit in first.hits]
    assert search(folder) == (first, {})
    assert search(folder, model=other_model_folder) == (other, {})


def test_an_interrupted_search_is_continued(
    search: Search, make_crops: MakeCrops, model_folder: Path, cache: EmbeddingCache
) -> None:
    folder = make_crops(150)

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "embed" and done == 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_folder(QUERY, folder, model=model_folder, precision="fp32", cache=cache, report=interrupt)
    assert cache.status().embeddings == 64
    result, work = search(folder)
    assert work["embed"] == 150 - 64
    assert result == search(folder, cache=False)[0]


def test_unreadable_images_are_named_and_not_tried_again(search: Search, make_crops: MakeCrops) -> None:
    folder = make_crops(6)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_bytes(b"no picture")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:60])
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / ".hidden.jpg").write_bytes(b"")
    result, _ = search(folder)
    assert result.images == 6
    reasons = {rejected.path: rejected.reason for rejected in result.rejected}
    assert list(reasons) == [folder / name for name in ("cut.png", "empty.jpg", "text.jpg")]
    assert result.notes[0] == "left out, made by other programs or hidden: 1 hidden"
    assert result.notes[1].endswith("gone.png: a broken link")
    assert reasons[folder / "empty.jpg"] == "the file is empty"
    assert reasons[folder / "text.jpg"].startswith("not an image")
    assert "cut.png" not in reasons[folder / "cut.png"]
    assert search(folder) == (result, {})


def test_more_than_half_unreadable_is_an_error(search: Search, make_crops: MakeCrops) -> None:
    folder = make_crops(2)
    for number in range(3):
        (folder / f"bad{number}.jpg").write_bytes(b"%d" % number)
        if number == 1:
            assert search(folder)[0].images == 2
    with pytest.raises(DataError, match=r"3 of 5 images cannot be read, the first is .*bad0\.jpg: not an image"):
        search(folder)
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="3 of 3 images cannot be read"):
        search(folder)


def test_a_file_that_changes_while_it_is_read_is_left_out_once(
    search: Search, make_crops: MakeCrops, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_crops(5)

    def overwrite(path: Path, at_least: tuple[int, int]) -> Image.Image:
        picture = read_image(path, at_least=at_least)
        if path.name == "3.png":
            picture.transpose(Image.Transpose.ROTATE_180).save(path)
        return picture

    monkeypatch.setattr("textreid.gallery.encoder.read_image", overwrite)
    result, _ = search(folder)
    assert [(r.path.name, r.reason) for r in result.rejected] == [("3.png", "changed while it was read")]
    monkeypatch.undo()
    result, work = search(folder, cache=False)
    assert (result.images, work["embed"]) == (5, 5)


def test_a_file_that_is_deleted_while_it_is_read_is_left_out(
    search: Search, make_crops: MakeCrops, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_crops(5)

    def delete(path: Path, at_least: tuple[int, int]) -> Image.Image:
        picture = read_image(path, at_least=at_least)
        if path.name == "3.png":
            path.unlink()
        return picture

    monkeypatch.setattr("textreid.gallery.encoder.read_image", delete)
    result, _ = search(folder)
    assert [(r.path.name, r.reason) for r in result.rejected] == [("3.png", "changed while it was read")]
    monkeypatch.undo()
    result, work = search(folder)
    assert (result.images, result.rejected, work) == (4, (), {})


def test_a_disk_that_does_not_answer_costs_a_picture_one_search(
    search: Search, make_crops: MakeCrops, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_crops(5)

    def hang(path: Path, at_least: tuple[int, int]) -> Image.Image:
        if path.name == "3.png":
            raise ImageError(f"{path}: cannot be read: Stale file handle")
        return read_image(path, at_least=at_least)

    monkeypatch.setattr("textreid.gallery.encoder.read_image", hang)
    assert [r.reason for r in search(folder)[0].rejected] == ["cannot be read: Stale file handle"]
    monkeypatch.undo()
    assert search(folder)[0].images == 5


def test_folders_that_hold_nothing(search: Search, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: cannot be listed: No such file"):
        search(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image", encoding="utf-8")
    with pytest.raises(DataError, match=r"empty: no images below this folder \(looked for .*\.png"):
        search(tmp_path / "empty")


@pytest.mark.parametrize("query", ["", "   ", "?!…", "\n"])
def test_a_query_without_words_is_refused(query: str, search: Search, make_crops: MakeCrops) -> None:
    with pytest.raises(CaptionError, match="the query has no words"):
        search(make_crops(1), query)


def test_a_long_query_says_what_was_not_read(search: Search, make_crops: MakeCrops) -> None:
    folder = make_crops(3)
    long = "a woman in a red jacket and a man with a black coat and blue trousers and a backpack, who waves"
    result, _ = search(folder, long)
    assert result.unread
    assert long.endswith(result.unread)
    read = long[: -len(result.unread)].strip()
    assert len(read) > 10
    assert search(folder, read)[0].unread == ""
    assert [hit.score for hit in search(folder, read)[0].hits] == [hit.score for hit in result.hits]
    assert search(folder, "ein Mann 男人 мужчина")[0].images == 3


def test_top_limits_and_may_exceed_the_folder(search: Search, make_crops: MakeCrops) -> None:
    folder = make_crops(5)
    everything, _ = search(folder, top=1000)
    assert len(everything.hits) == 5
    assert search(folder, top=2)[0].hits == everything.hits[:2]


def test_paths_are_those_of_the_folder_as_given(
    search: Search, make_crops: MakeCrops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_crops(2)
    make_crops(1, "crops/below", seed=5)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    expected = {"0.png", "1.png", "below/0.png"}
    search(folder)
    for given in (Path("crops"), Path("link"), Path("crops/../crops"), Path(), folder):
        if given == Path():
            monkeypatch.chdir(folder)
        result, work = search(given)
        assert {hit.path for hit in result.hits} == {given / name for name in expected}
        assert work == {}


def test_a_name_that_is_no_unicode(search: Search, make_crops: MakeCrops) -> None:
    folder = make_crops(2)
    (folder / "0.png").rename(folder / os.fsdecode(b"caf\xe9.png"))
    result, _ = search(folder)
    assert {os.fsencode(hit.path.name) for hit in result.hits} == {b"caf\xe9.png", b"1.png"}
    assert search(folder)[1] == {}


def test_a_missing_model_is_an_error(search: Search, make_crops: MakeCrops, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing: no such file or folder"):
        search(make_crops(1), model=tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"no manifest\.json, and no file of weights"):
        search(make_crops(1), model=tmp_path)


def test_a_damaged_model_is_an_error(search: Search, make_crops: MakeCrops, model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"model\.safetensors: .* truncated or edited"):
        search(make_crops(1), model=tmp_path / "model")


def test_features_of_two_precisions_never_mix(
    search: Search, make_crops: MakeCrops, cache: EmbeddingCache, model_folder: Path
) -> None:
    folder = make_crops(6)
    exact, seen = search(folder, precision="fp32")
    assert seen["embed"] == 6
    rounded, seen = search(folder, precision="bf16")
    assert seen["embed"] == 6
    assert cache.status().embeddings == 12
    assert [hit.score for hit in rounded.hits] != [hit.score for hit in exact.hits]
    assert [hit.score for hit in rounded.hits] == pytest.approx([hit.score for hit in exact.hits], abs=0.02)
    for precision, expected in (("fp32", exact), ("bf16", rounded), ("auto", rounded)):
        again, seen = search(folder, precision=precision)
        assert "embed" not in seen
        assert again.hits == expected.hits

    make_crops(7)  # one more: "auto" completes the precision that this machine prefers
    added, seen = search(folder, precision="auto")
    assert seen["embed"] in (1, 7)
    computed = load_model(model_folder, precision="auto").precision
    assert added.hits == search(folder, precision=computed)[0].hits


def test_auto_is_content_with_exact_features(search: Search, make_crops: MakeCrops) -> None:
    folder = make_crops(4)
    exact, _ = search(folder, precision="fp32")
    again, seen = search(folder, precision="auto")
    assert "embed" not in seen
    assert "load" not in seen
    assert again.hits == exact.hits


def draw_nothing(folder: Path) -> dict[str, str]:
    """Pictures without a person; name and the reason why each is left out."""
    generator = np.random.default_rng(5)
    for colour in ("white", "black", "grey", "lime"):
        Image.new("RGB", (24, 56), colour).save(folder / f"{colour}.png")
    faint = np.clip(generator.normal(120, 3, (56, 24, 3)), 0, 255).astype(np.uint8)  # the noise of a camera in the dark
    Image.fromarray(faint).save(folder / "faint.jpg", quality=60)
    Image.fromarray(generator.integers(0, 256, (56, 24, 3), np.uint8)).save(folder / "noise.png")
    Image.fromarray(generator.integers(0, 256, (20, 9, 3), np.uint8)).save(folder / "small.png")
    reasons = dict.fromkeys(("black.png", "faint.jpg", "grey.png", "lime.png", "white.png"), "one colour")
    return {**reasons, "noise.png": "noise", "small.png": "9x20 pixels, fewer than the 16x48 of a person"}


def test_pictures_that_show_nothing_never_rank_and_are_not_tried_again(search: Search, make_crops: MakeCrops) -> None:
    folder = make_crops(6)
    before, _ = search(folder)
    expected = draw_nothing(folder)
    result, _ = search(folder)
    assert result.hits == before.hits
    assert result.images == 6
    assert {one.path.name: one.reason for one in result.rejected} == {
        name: f"shows nothing: {reason}" for name, reason in expected.items()
    }
    assert all(one.shows_nothing for one in result.rejected)
    assert search(folder) == (result, {})


def test_a_folder_that_shows_nothing_at_all_says_so(search: Search, make_crops: MakeCrops) -> None:
    folder = make_crops(0)
    draw_nothing(folder)
    with pytest.raises(DataError, match=r"none of the 7 images can be ranked; .*black\.png: shows nothing: one colour"):
        search(folder)
    make_crops(1)  # blank frames, however many, are no reason to refuse what there is
    assert search(folder)[0].images == 1


@pytest.mark.parametrize(
    "query", ["穿红色外套的女人", "eine Frau in einer roten Jacke", "rote Jacke", "femme en veste"]
)
def test_a_query_that_the_model_cannot_read_is_noted(query: str, search: Search, make_crops: MakeCrops) -> None:
    folder = make_crops(2)
    assert search(folder, query)[0].notes == (NOT_ENGLISH,)
    assert search(folder, "a woman in a red jacket")[0].notes == ()


def test_a_model_that_is_loaded_answers_as_its_folder_does(
    search: Search, make_crops: MakeCrops, model_folder: Path
) -> None:
    folder = make_crops(5)
    expected, _ = search(folder)
    given, work = search(folder, model=load_model(model_folder, precision="fp32"))
    assert names(given) == names(expected)
    assert [hit.score for hit in given.hits] == pytest.approx([hit.score for hit in expected.hits], abs=1e-5)
    assert "embed" not in work


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"query": 5}, ArgumentError, "query: expected a sentence, not 5"),
        ({"query": ""}, CaptionError, "the query has no words"),
        ({"folder": None}, ArgumentError, "folder: expected the path of a folder, not None"),
        ({"folder": "/nowhere"}, DataError, "/nowhere: cannot be listed: No such file"),
        ({"top": 0}, ConfigError, "top: expected at least 1, got 0"),
        ({"top": "3"}, ArgumentError, "top: expected a number of images, not '3'"),
        ({"model": 7}, ArgumentError, "model: expected a name, a folder or a model, not 7"),
        ({"precision": "fp8"}, ConfigError, "precision 'fp8'; did you mean fp32?"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(
    changed: dict[str, object], error: type[Exception], message: str, make_crops: MakeCrops
) -> None:
    arguments: dict[str, object] = {"query": QUERY, "folder": make_crops(1), **changed}
    with pytest.raises(error) as caught:
        search_folder(arguments.pop("query"), arguments.pop("folder"), **arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_cache_is_the_users_own_unless_told_otherwise(
    make_crops: MakeCrops, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_crops(3)
    without = search_folder(QUERY, folder, model=model_folder, cache=False)
    assert not cache_folder().exists()
    assert search_folder(QUERY, folder, model=model_folder) == without
    assert cache_folder().is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("TEXTREID_CACHE", str(tmp_path / "file" / "cache"))
    blocked = search_folder(QUERY, folder, model=model_folder)
    assert blocked.hits == without.hits
    assert blocked.notes[0].startswith(f"embeddings are not kept: {tmp_path / 'file' / 'cache'}: ")
