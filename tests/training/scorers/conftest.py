"""A small network with random weights, and a batch of captions of blank noise: what scorers are asked about."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from textreid.config import Config, LossConfig
from textreid.models import DualEncoder, Tokenizer
from textreid.models.device import choose_device
from textreid.presets import tiny
from textreid.training.batch import Batch
from textreid.training.network import Outputs, TrainedNetwork
from textreid.training.processes import Processes
from textreid.training.scorers.words import WordPieces, Words

CAPTIONS = (
    "a woman in a red jacket and a knee-length skirt",
    "the red jacket of a woman, and blue jeans",
    "a man with a backpack wears grey trousers",
    "the man has a red hat; his trousers are grey",
    "a lady in a blue coat over blue jeans",
)
OF_IMAGE = (0, 0, 1, 1, 2)


@dataclass(frozen=True)
class Scene:
    """A network, its tokenizer, and one batch with the outputs of its forward pass."""

    network: TrainedNetwork
    tokenizer: Tokenizer
    pieces: WordPieces
    batch: Batch
    outputs: Outputs

    @property
    def words(self) -> Words:
        return self.pieces.words(self.batch.ids, self.batch.is_word)

    @property
    def own(self) -> list[int]:
        return [int(index) for index in self.batch.image_index]

    def text_words(self, row: int) -> list[tuple[str, tuple[int, ...]]]:
        """The words of a caption as the tokenizer finds them in the text: what is written, and its positions."""
        text = CAPTIONS[row]
        return [(text[word.start : word.stop], word.positions) for word in self.tokenizer.words(text)]


def config(*settings: str) -> Config:
    small = (
        "model.image_height=32", "model.image_width=16", "model.patch_size=8", "model.vision_width=24",
        "model.vision_heads=2", "model.vision_layers=2", "model.text_width=32", "model.text_heads=2",
        "model.text_layers=2", "model.text_length=24", "model.embedding_dim=16", "training.precision=fp32",
        "training.captions_per_image=2",
    )  # fmt: skip
    return tiny().override([*small, *settings])


def batch_of(tokenizer: Tokenizer, captions: Sequence[str], of_image: Sequence[int], pixels: Tensor) -> Batch:
    tokens = tokenizer.encode(list(captions))
    ids, lengths = torch.tensor(tokens.ids), torch.tensor(tokens.lengths)
    places = torch.arange(ids.shape[1])
    images = len(pixels)
    return Batch(
        pixels=pixels,
        first=0,
        shares=np.array([images]),
        images=np.arange(images),
        labels=torch.arange(images),
        image_index=torch.tensor(of_image),
        caption_index=np.arange(len(captions)),
        caption_edges=np.searchsorted(np.array(of_image), np.arange(images + 1)),
        ids=ids,
        is_word=(places > 0) & (places < lengths[:, None] - 1),
        lengths=lengths,
        micro_size=0,
        processes=Processes(),
    )


@pytest.fixture
def scene() -> Scene:
    tokenizer = Tokenizer.learn(CAPTIONS * 2, 300, 24)
    settings = config(f"model.vocabulary_size={tokenizer.vocabulary_size}")
    torch.manual_seed(5)
    compute = choose_device("fp32", "cpu")
    network = TrainedNetwork(DualEncoder(settings.model), LossConfig(), 0, 0, 2, compute)
    for parameter in network.parameters():  # at their initial size, hiding a word changes next to nothing
        parameter.data.mul_(1.5)
    batch = batch_of(tokenizer, CAPTIONS, OF_IMAGE, torch.randn(3, 3, 32, 16))
    with torch.no_grad():
        outputs = network(batch.pixels, batch.ids, batch.lengths, batch.image_index, batch.is_word)
    return Scene(network, tokenizer, WordPieces.of(tokenizer), batch, outputs)
