"""What `textreid inspect` computes and draws."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.commands import Run
from tests.training.conftest import train_on

from textreid.config import Config, MaskingConfig
from textreid.errors import ArtifactError, CaptionError, ConfigError, ImageError
from textreid.images import read_image, to_pixels
from textreid.inspection.page import draw_inspection, light_up, shade, to_html
from textreid.inspection.scoring import decode_with_others, make_batch
from textreid.inspection.words import (
    InspectedCaption,
    InspectedWord,
    Inspection,
    captions_of,
    inspect_image,
)
from textreid.models import load_model
from textreid.training.masking import masking_probabilities
from textreid.training.scorers.choice import choose_scorer

if TYPE_CHECKING:
    from tests.training.conftest import Corpus

TEXT = "a red top, over so-long trousers"


@pytest.fixture(scope="module")
def run(
    small_config: Callable[..., Config], corpus: "Corpus", tmp_path_factory: pytest.TempPathFactory, no_plots: None
) -> Path:
    out = tmp_path_factory.mktemp("inspection") / "run"
    config = small_config("training.epochs=1", "masking.layer=1", "masking.probability=0.3")
    train_on(corpus, config, out)
    return out


def test_noise_and_patches_are_those_of_the_method_word_by_word(run: Path, corpus: "Corpus") -> None:
    image = corpus.images / "0003.png"
    (caption,) = inspect_image(str(run), image, [("mine", TEXT)]).captions
    model = load_model(run / "model")
    batch = model.tokenizer.encode([TEXT])
    pixels = model.normalize(to_pixels(read_image(image), 32, 16)[None])
    with torch.no_grad():
        ids, lengths = torch.tensor(batch.ids), torch.tensor(batch.lengths)
        patches = model.encoder(pixels, ids, lengths, 1).patch_tokens[0]
        tokens = model.encoder.text_tokens(ids, lengths, 1)[0]
    cosines = [[float(torch.cosine_similarity(token, patch, dim=0)) for patch in patches] for token in tokens]
    noise = [1 - max(row) for row in cosines]
    mean = np.mean(noise[1:-1])
    assert caption.text == TEXT
    checked = 0
    for word, (start, stop, positions) in zip(caption.words, model.tokenizer.words(TEXT), strict=True):
        assert word.text == TEXT[start:stop]
        assert word.noise == pytest.approx(np.mean([noise[place] for place in positions]), abs=1e-5)
        masked = np.mean([np.clip(noise[place] - mean + 0.3, 0, 1) for place in positions])
        assert word.probability == pytest.approx(masked, abs=1e-5)
        answer = np.mean([cosines[place] for place in positions], axis=0)
        assert word.cosines.shape == (4, 2)
        assert word.cosines.ravel() == pytest.approx(answer, abs=1e-5)
        assert word.patch == divmod(int(answer.argmax()), 2)
        checked += 1
    assert checked == 7  # the comma too
    expected = float((model.encode_texts([TEXT]) @ model.encode_images([image]).T)[0, 0])
    assert caption.similarity == pytest.approx(expected, abs=1e-5)


def test_a_run_that_is_not_finished_gives_its_newest_checkpoint(run: Path, corpus: "Corpus", tmp_path: Path) -> None:
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    for name in ("metrics.jsonl", "config.json"):
        (unfinished / name).write_bytes((run / name).read_bytes())
    image, captions = corpus.images / "0003.png", [("mine", TEXT)]
    with pytest.raises(ArtifactError, match=r"has no checkpoint yet \(training.checkpoint_every 500\)"):
        inspect_image(str(unfinished), image, captions)
    (checkpoint,) = run.glob("step-*")
    (unfinished / checkpoint.name).symlink_to(checkpoint)
    (of_model,) = inspect_image(str(run), image, captions).captions
    (of_checkpoint,) = inspect_image(str(unfinished), image, captions).captions
    assert [word.noise for word in of_checkpoint.words] == [word.noise for word in of_model.words]


def test_a_model_folder_has_the_usual_layer_as_far_as_it_is_deep(run: Path, corpus: "Corpus") -> None:
    image, captions = corpus.images / "0003.png", [("mine", TEXT)]
    assert inspect_image(str(run / "model"), image, captions).masking.layer == 2
    assert inspect_image(str(run), image, captions).masking.layer == 1
    assert inspect_image(str(run), image, captions, layer=2).masking.layer == 2
    with pytest.raises(ConfigError, match="layer 3: the shallower tower has the layers 1 to 2"):
        inspect_image(str(run), image, captions, layer=3)
    with pytest.raises(CaptionError, match="has no word"):
        inspect_image(str(run), image, [("mine", " ")])
    with pytest.raises(ImageError, match=r"none\.png"):
        inspect_image(str(run), corpus.images / "none.png", captions)


def test_a_caption_that_is_too_long_shows_what_was_not_read(run: Path, corpus: "Corpus") -> None:
    text = "a red top over black trousers " * 6
    (caption,) = inspect_image(str(run), corpus.images / "0003.png", [("mine", text)]).captions
    assert caption.text == text
    assert 0 < len(caption.words) < 36
    assert isinstance(caption.parts[-1], str)
    assert "trousers" in caption.parts[-1]


def test_the_captions_of_a_picture_are_found_by_the_end_of_its_path(corpus: "Corpus", tmp_path: Path) -> None:
    top, bottom = corpus.outfits[7]
    expected = [("m/0", f"a {top} top over {bottom} trousers"), ("m/1", f"the trousers are {bottom}, the top is {top}")]
    assert captions_of(corpus.captions, corpus.images / "0007.png") == expected
    with pytest.raises(CaptionError, match=r"has no caption of .*other\.png; its images have paths like '0000\.png'"):
        captions_of(corpus.captions, tmp_path / "other.png")


def test_the_best_patch_stays_lit_and_is_framed() -> None:
    cosines = np.zeros((4, 2), np.float32)
    cosines[2, 1] = 0.5
    word = InspectedWord("red", 0.5, 0.2, cosines)
    assert word.patch == (2, 1)
    tile = np.asarray(light_up(Image.new("RGB", (20, 40), "white"), word, 40))
    assert tile.shape == (80, 40, 3)
    assert (tile[45:55, 25:35] == 255).all()
    assert (tile[5:35, 5:35] == 63).all()
    assert tile[41, 30].tolist() == [234, 88, 12]


def test_shade_grows_with_the_probability_whatever_its_mean() -> None:
    assert [shade(p, 0.15) for p in (0, 0.05, 0.15, 0.4, 1)] == pytest.approx([0, 0, 2 / 7, 1, 1])
    assert shade(0.3, 0.3) == pytest.approx(2 / 7)
    assert shade(0.0, 0.0) == 0


def test_a_page_escapes_what_it_shows_and_needs_nothing_else() -> None:
    word = InspectedWord("<b>", 0.5, 0.2, np.eye(2, dtype=np.float32))
    caption = InspectedCaption("<i>", ["&amp; ", word, " <script>"], 0.25)
    inspection = Inspection(Image.new("RGB", (20, 40)), "<name>", "<model>", MaskingConfig(), [caption])
    page = to_html(inspection)
    for dangerous in ("<b>", "<i>", "<script", "<name>", "<model>", "http"):
        assert dangerous not in page
    assert "&lt;b&gt;" in page
    assert "&amp;amp; " in page
    assert page.count("data:image/jpeg;base64,") == 2


def test_a_picture_grows_with_its_captions_and_bears_any() -> None:
    word = InspectedWord("w" * 5000, 0.5, 0.2, np.eye(2, dtype=np.float32))
    picture = Image.new("RGB", (3000, 10))
    heights = []
    for words in (0, 1, 40):
        captions = [InspectedCaption("slot", [word, " "] * words, 0.25)] * 2
        heights.append(draw_inspection(Inspection(picture, "n", "m", MaskingConfig(), captions)).height)
    assert heights == sorted(set(heights))


def test_the_command(run: Path, corpus: "Corpus", tmp_path: Path, textreid: Run) -> None:
    image, out = corpus.images / "0003.png", tmp_path / "new" / "seen"
    arguments = ("inspect", run, "--image", image, "--captions", corpus.captions, "--caption", TEXT, "--out", out)
    assert textreid(*arguments) == (0, f"{out}.png\n{out}.html\n", "")
    with Image.open(f"{out}.png") as drawn:
        assert drawn.width == 1240
    assert Path(f"{out}.html").read_text(encoding="utf-8").count("<section>") == 3
    code, printed, _ = textreid(*arguments, "--json")
    found = json.loads(printed)
    assert (code, found["layer"]) == (0, 1)
    assert [caption["label"] for caption in found["captions"]] == ["m/0", "m/1", "your caption"]
    assert found["captions"][2]["words"][1].keys() == {"word", "noise", "probability", "evidence", "patch"}
    code, _, said = textreid("inspect", run, "--image", image)
    assert (code, said.startswith("textreid: give --captions")) == (2, True)


def test_each_word_is_left_out_of_what_tells_the_picture_from_others(run: Path, corpus: "Corpus") -> None:
    image = corpus.images / "0003.png"
    inspection = inspect_image(str(run), image, [("mine", TEXT)])
    model, temperature = load_model(run / "model"), 0.05  # of the run
    beside = [path for path in sorted(corpus.images.iterdir()) if path != image][::3][:15]
    assert inspection.others == len(beside) == 15
    features = torch.tensor(model.encode_images([image, *beside]))
    tokens = model.tokenizer.encode([TEXT])

    def share(hidden: tuple[int, ...]) -> float:
        ids = torch.tensor(tokens.ids)
        ids[0, list(hidden)] = model.tokenizer.mask_id
        with torch.no_grad():
            text = torch.nn.functional.normalize(model.encoder.encode_text(ids, torch.tensor(tokens.lengths)), dim=1)
        return float((text @ features.T / temperature).log_softmax(dim=1)[0, 0])

    words = inspection.captions[0].words
    for word, (_, _, positions) in zip(words, model.tokenizer.words(TEXT), strict=True):
        assert word.evidence == pytest.approx(share(positions) - share(()), abs=2e-3)
    assert len({word.evidence for word in words}) == 7
    assert f"{words[1].evidence:+z.1f}" in to_html(inspection)


def test_a_picture_alone_is_told_from_nothing(run: Path, corpus: "Corpus", tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes((corpus.images / "0003.png").read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    inspection = inspect_image(str(run), tmp_path / "one.png", [("mine", TEXT)])
    assert inspection.others == 0
    assert [word.evidence for word in inspection.captions[0].words] == [None] * 7
    assert "beside it" not in to_html(inspection)


def test_the_probability_is_that_of_the_scorer_of_the_run(
    small_config: Callable[..., Config], corpus: "Corpus", tmp_path: Path, no_plots: None
) -> None:
    config = small_config(
        "training.epochs=2", "masking.scorer=votes+discriminant+centred+content", "training.captions_per_image=2",
        "masking.layer=1",
    )  # fmt: skip
    train_on(corpus, config, tmp_path / "run")
    image = corpus.images / "0007.png"
    texts = captions_of(corpus.captions, image)
    found = inspect_image(str(tmp_path / "run"), image, texts)
    model = load_model(tmp_path / "run" / "model")
    (checkpoint,) = (tmp_path / "run").glob("step-*")
    kept = load_file(checkpoint / "weights.safetensors").items()
    _, refinements = choose_scorer(Config.load(tmp_path / "run" / "config.json"), model.tokenizer, model.device)
    assert refinements
    batch = make_batch(model, decode_with_others(model, image), [text for _, text in texts], [0, 0])
    features = torch.tensor(model.encode_pixels(decode_with_others(model, image)))
    masked = []
    for state in ({}, {name.removeprefix("refinements."): tensor for name, tensor in kept if "refinements." in name}):
        refinements.load_state_dict(state, strict=bool(state))
        noise = refinements(torch.zeros(batch.ids.shape), batch, features)
        masked.append(masking_probabilities(noise, batch.is_word, 0.15))
    checked = 0
    for row, caption in enumerate(found.captions):
        for word, (_, _, positions) in zip(caption.words, model.tokenizer.words(caption.text), strict=True):
            expected = float(masked[1][row, list(positions)].mean())
            assert word.probability == pytest.approx(expected, abs=1e-4)
            checked += word.probability != pytest.approx(float(masked[0][row, list(positions)].mean()), abs=1e-3)
    assert checked > 5  # what the run remembers counts
