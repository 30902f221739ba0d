from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.training.scorers.conftest import CAPTIONS, OF_IMAGE, Scene
from tests.training.scorers.test_votes import said_by

from textreid.training.scorers.centred import DECAY
from textreid.training.scorers.discriminant import Discriminant


def unit(rows: torch.Tensor) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = rows.double().numpy()
    scaled: npt.NDArray[np.float64] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return scaled


def test_evidence_equals_a_slow_loop(scene: Scene) -> None:
    discriminant = Discriminant(16)
    steps = [torch.randn(3, 16) + 1 for _ in range(4)]
    noise = torch.randn(scene.batch.ids.shape)
    found = [discriminant.refine(noise, scene.batch, scene.words, images) - noise for images in steps]
    rows, checked = range(len(CAPTIONS)), 0
    assert not found[0].any()
    said_of = [[[said for said, _ in said_by(scene, row, kind)] for row in rows] for kind in (0, 1)]
    for now in (1, 3):
        before = [(DECAY ** (now - 1 - step), unit(steps[step])) for step in range(now)]
        total = sum(3 * weight for weight, _ in before)
        mean = sum(weight * image for weight, images in before for image in images) / total
        second = sum(weight * np.outer(image, image) for weight, images in before for image in images) / total
        covariance = second - np.outer(mean, mean)
        covariance += (0.3 * np.trace(covariance) / 16 + 1e-6) * np.eye(16)
        inverse, image_of = np.linalg.inv(covariance), unit(steps[now])
        for row in rows:
            for (word, places), (pair, _) in zip(said_by(scene, row, 0), said_by(scene, row, 1), strict=True):
                evidence = 0.0
                for kind, name, prior in ((0, word, 5), (1, pair, 10)):
                    members = [
                        (weight, images[OF_IMAGE[other]])
                        for weight, images in before
                        for other in rows
                        if OF_IMAGE[other] != OF_IMAGE[row]  # of three images, each has a fold of its own
                        for said in said_of[kind][other]
                        if said == name
                    ]
                    count = sum(weight for weight, _ in members)
                    offset = sum((weight * (image - mean) for weight, image in members), np.zeros(16)) / (count + prior)
                    way = image_of[OF_IMAGE[row]] - mean - offset / 2
                    evidence -= float(offset @ inverse @ way) / 2
                for place in places:
                    assert float(found[now][row, place]) == pytest.approx(evidence, abs=2e-3, rel=2e-3)
                    checked += 1
    assert checked > 90


def test_finds_the_word_that_is_wrong_of_its_image(scene: Scene) -> None:
    """Images have the direction of what is said of them; then two of them change places."""
    discriminant, batch = Discriminant(16), scene.batch
    images = torch.eye(16)[:3] + 0.1
    rng = torch.Generator().manual_seed(0)
    for step in range(40):
        noisy = images + 0.05 * torch.randn(images.shape, generator=rng)
        others = replace(batch, images=batch.images + 3 * step)  # of the same people, as it were
        discriminant.refine(torch.zeros(batch.ids.shape), others, scene.words, noisy)
    right = discriminant.refine(torch.zeros(batch.ids.shape), batch, scene.words, images)
    swapped = discriminant.refine(torch.zeros(batch.ids.shape), batch, scene.words, images[[1, 0, 2]])
    trousers = dict(said_by(scene, 2, 0))["trousers"][0]  # said of the second image alone
    assert float(right[2, trousers]) < -0.5 < 0.5 < float(swapped[2, trousers])


def test_a_step_without_images_changes_nothing_but_what_fades(scene: Scene) -> None:
    discriminant = Discriminant(16)
    empty = replace(
        scene.batch, ids=scene.batch.ids[:0], is_word=scene.batch.is_word[:0], image_index=scene.batch.image_index[:0]
    )
    words = scene.pieces.words(empty.ids, empty.is_word)
    assert discriminant.refine(torch.zeros(0, 24), empty, words, torch.zeros(0, 16)).shape == (0, 24)
    assert not any(buffer.any() for buffer in discriminant.buffers())
