import pytest
import torch
from tests.training.scorers.conftest import CAPTIONS, Scene

from textreid.training.scorers.gradient import Gradient
from textreid.training.scorers.leave_one_out import log_shares

STEP = 1e-3


def test_evidence_is_the_slope_on_the_way_to_the_mask(scene: Scene) -> None:
    """Against differences: each embedding moved a little towards the mask token's, one after the other."""
    mask, encoder = scene.tokenizer.mask_id, scene.network.encoder.double()
    scorer = Gradient(scene.pieces, mask, 0.1, content_only=False)
    (micro,) = scene.batch.micro_batches()
    images = scene.outputs.image_features
    found = scorer.noise(scene.network, micro, scene.outputs, images)
    embeddings = encoder.text_model.embeddings
    moved: dict[str, tuple[int, int, float]] = {}

    def move(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        table = embeddings.token_embedding.weight
        row, place, far = moved["where"]
        way = torch.zeros_like(output)
        way[row, place] = table[mask] - table[scene.batch.ids[row, place]]
        return output.add(way, alpha=far)

    handle = embeddings.register_forward_hook(move)
    shares = []
    with torch.no_grad():
        for row in range(len(CAPTIONS)):
            for _, places in scene.text_words(row):
                slope = 0.0
                for place in places:
                    for far in (STEP, -STEP):
                        moved["where"] = (row, place, far)
                        texts = encoder.encode_text(scene.batch.ids, scene.batch.lengths)
                        share = log_shares(texts, images, scene.batch.image_index, 0.1)[row]
                        slope += float(share) / (2 * far)
                shares += [(float(found[row, place]), slope) for place in places]
    handle.remove()
    assert len(shares) > 60
    for value, slope in shares:
        assert value == pytest.approx(slope, abs=2e-3)
    assert max(abs(value) for value, _ in shares) > 0.01
    assert all(parameter.grad is None for parameter in scene.network.parameters())


def test_function_words_have_none(scene: Scene) -> None:
    (micro,) = scene.batch.micro_batches()
    scorers = [Gradient(scene.pieces, scene.tokenizer.mask_id, 0.1, only) for only in (False, True)]
    whole, content = (
        scorer.noise(scene.network, micro, scene.outputs, scene.outputs.image_features) for scorer in scorers
    )
    torch.testing.assert_close(content, torch.where(scene.words.is_content, whole, 0.0))
    assert 0 < int((content != 0).sum()) < int((whole != 0).sum())
