"""Detection against a slow loop, on captions in which every third names a colour that the picture has not."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.training.conftest import COLOURS, ConfigMaker

from textreid.captions.table import CaptionRow, write_captions
from textreid.config import Config
from textreid.errors import ConfigError, DataError
from textreid.inspection.detection import measure_detection, measure_wrong_people
from textreid.models import DualEncoder, Model, Tokenizer
from textreid.training import captioned_images
from textreid.training.dataset import TrainingSet
from textreid.training.masking import masking_probabilities
from textreid.training.scorers.patches import noise_levels

if TYPE_CHECKING:
    from tests.training.conftest import Corpus

FoundWord = tuple[int, float, float, bool, bool]  # caption, noise, probability, whether wrong, whether content
PATTERN = ("a {} top over {} trousers", "the {1} trousers and the {0} top")


@pytest.fixture(scope="module")
def data(corpus: "Corpus", tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    folder, rng = tmp_path_factory.mktemp("detection") / "captions", np.random.default_rng(0)
    rows, lines = [], []
    for index, (top, bottom) in enumerate(corpus.outfits):
        for slot, pattern in enumerate(PATTERN):
            others = sorted(COLOURS.keys() - {top, bottom})
            said = others[int(rng.integers(len(others)))] if (index + slot) % 3 == 0 else top
            text = pattern.format(said, bottom)
            rows.append(CaptionRow(f"{index:04}.png", f"m/{slot}", text, "m", "static", "", "", 0))
            if said != top:
                span = (text.index(said), text.index(said) + len(said))
                lines.append(json.dumps({"image": f"{index:04}.png", "slot": f"m/{slot}", "spans": [span]}))
    write_captions(folder, rows)
    (folder / "errors.jsonl").write_text("\n".join(lines))
    return captioned_images(corpus.images, folder)


@pytest.fixture(scope="module")
def settings(small_config: ConfigMaker) -> Config:
    return small_config("training.captions_per_image=2", "masking.probability=0.3")


@pytest.fixture(scope="module")
def model(data: TrainingSet, settings: Config) -> Model:
    tokenizer = Tokenizer.learn(map(str, data.captions), 400, 24)
    torch.manual_seed(0)
    config = settings.override([f"model.vocabulary_size={tokenizer.vocabulary_size}"])
    return Model(DualEncoder(config.model), tokenizer)


def test_the_papers_scorer_equals_a_slow_loop(model: Model, data: TrainingSet, settings: Config) -> None:
    rows = measure_detection(model, data, ["patches"], settings, images=20)
    assert [row.layer for row in rows] == [1, 2]
    functions = {"a", "the", "over", "and"}
    words: list[FoundWord] = []
    with torch.no_grad():
        for caption in range(len(data)):
            text = str(data.captions[caption])
            tokens = model.tokenizer.encode([text])
            ids, lengths = torch.tensor(tokens.ids), torch.tensor(tokens.lengths)
            pixels = model.normalize(model.decode(data.root / data.images[data.image_index[caption]])[None])
            patches = model.encoder(pixels, ids, lengths, 2).patch_tokens
            is_word = torch.ones_like(ids, dtype=torch.bool)
            is_word[:, [0, -1]] = False
            noise = noise_levels(model.encoder.text_tokens(ids, lengths, 2), patches, is_word)
            p = masking_probabilities(noise, is_word, 0.3)
            for word in model.tokenizer.words(text):
                wrong = any(start < word.stop and word.start < end for start, end in data.errors.get(caption, ()))
                level, chance = (float(values[0, list(word.positions)].mean()) for values in (noise, p))
                words.append((caption, level, chance, wrong, text[word.start : word.stop] not in functions))
    assert (rows[1].words, rows[1].content, rows[1].wrong) == (len(words), sum(w[4] for w in words), 40)

    def area(chosen: list[FoundWord]) -> float:
        high, low = ([word[1] for word in chosen if word[3] is wrong] for wrong in (True, False))
        return float(np.mean([(a > b) + (a == b) / 2 for a in high for b in low])) if high and low else float("nan")

    content = [word for word in words if word[4]]
    assert rows[1].auroc["all"] == pytest.approx(area(words), abs=1e-3)
    assert rows[1].auroc["content"] == pytest.approx(area(content), abs=1e-3)
    for name, chosen in (("caption", words), ("caption content", content)):
        each = [area([word for word in chosen if word[0] == caption]) for caption in data.errors]
        assert rows[1].auroc[name] == pytest.approx(np.mean(each), abs=1e-3)
    ((kind, (count, found)),) = rows[1].kinds.items()
    assert (kind, count) == ("colour", 40)
    assert found == pytest.approx(area(content), abs=1e-3)
    masked = {
        "wrong": np.mean([word[2] for word in words if word[3]]),
        "right": np.mean([word[2] for word in words if not word[3]]),
        "right content": np.mean([word[2] for word in content if not word[3]]),
    }
    assert rows[1].masked == pytest.approx(masked, abs=1e-4)
    assert sum(count for _, _, count in rows[1].bins) == len(content)


def test_votes_find_what_the_other_caption_does_not_say(model: Model, data: TrainingSet, settings: Config) -> None:
    names = ["votes", "votes+content", "words+content+centred"]
    votes, content, words = measure_detection(model, data, names, settings, images=20)
    assert votes.layer is None
    assert votes.auroc["caption content"] > 0.75
    assert content.masked["wrong"] > 1.5 * content.masked["right content"]
    assert content.masked["right"] < votes.masked["right"]  # function words are spared
    assert min(words.milliseconds, votes.milliseconds) > 0
    json.dumps([row.to_dict() for row in (votes, content, words)])


def test_votes_find_captions_of_somebody_else(model: Model, data: TrainingSet, settings: Config) -> None:
    before = data.captions.to_pylist()
    found = measure_wrong_people(model, data, ["patches", "votes+content"], settings, images=20)
    assert list(found) == ["pair loss", "patches", "votes+content"]
    assert found["votes+content"] > 0.7
    # Weights are random: what asks the network is a coin.
    assert 0.2 < found["pair loss"] < 0.8
    assert data.captions.to_pylist() == before


def test_what_cannot_be_measured(
    model: Model, data: TrainingSet, settings: Config, corpus: "Corpus", tmp_path: Path
) -> None:
    without = captioned_images(corpus.images, corpus.captions)
    with pytest.raises(DataError, match="detection is skipped: no error of these captions is known"):
        measure_detection(model, without, ["patches"], settings)
    with pytest.raises(ConfigError, match="no such part 'vote'; did you mean votes"):
        measure_detection(model, data, ["vote"], settings)
