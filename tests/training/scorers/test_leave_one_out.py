import math

import pytest
import torch
from tests.training.scorers.conftest import CAPTIONS, Scene

from textreid.training.scorers import leave_one_out
from textreid.training.scorers.leave_one_out import LeaveOneOut


def share(scene: Scene, ids: list[int], own: int, temperature: float) -> float:
    """Log share of the own image, one number after the other."""
    with torch.no_grad():
        text = scene.network.encoder.encode_text(torch.tensor([ids]), torch.tensor([len(ids)]))[0]
        images = scene.network.encoder.encode_image(scene.batch.pixels)
    cosines = [float(torch.cosine_similarity(text, image, dim=0)) / temperature for image in images]
    return cosines[own] - math.log(sum(map(math.exp, cosines)))


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("content_only", [False, True])
def test_evidence_equals_a_slow_loop(
    scene: Scene, whole_words: bool, content_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leave_one_out, "_AT_ONCE", 7)  # more than one pass
    mask = scene.tokenizer.mask_id
    scorer = LeaveOneOut(scene.pieces, mask, 0.1, whole_words, content_only)
    (micro,) = scene.batch.micro_batches()
    found = scorer.noise(scene.network, micro, scene.outputs, scene.outputs.image_features)
    checked, content = 0, scene.words.is_content
    for row in range(len(CAPTIONS)):
        ids = scene.batch.ids[row, : scene.batch.lengths[row]].tolist()
        complete = share(scene, ids, scene.own[row], 0.1)
        for _, places in scene.text_words(row):
            for place in places:
                hidden = places if whole_words else (place,)
                without = [mask if position in hidden else token for position, token in enumerate(ids)]
                expected = share(scene, without, scene.own[row], 0.1) - complete
                if content_only and not content[row, place]:
                    expected = 0.0
                assert float(found[row, place]) == pytest.approx(expected, abs=2e-5)
                checked += 1
    assert checked > 60
    assert float(found.abs().max()) > 0.01
    assert not found[~scene.batch.is_word].any()


def test_micro_batches_are_compared_with_all_images(scene: Scene) -> None:
    scorer = LeaveOneOut(scene.pieces, scene.tokenizer.mask_id, 0.1, True, True)
    (whole,) = scene.batch.micro_batches()
    images = scene.outputs.image_features
    expected = scorer.noise(scene.network, whole, scene.outputs, images)
    object.__setattr__(scene.batch, "micro_size", 1)
    parts = [scorer.noise(scene.network, micro, scene.outputs, images) for micro in scene.batch.micro_batches()]
    assert len(parts) == 3
    torch.testing.assert_close(torch.cat(parts), expected)
