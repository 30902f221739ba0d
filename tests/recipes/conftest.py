"""A bank of six bodies made of blocks, one for each gender and build: all of the recipe but `anny` runs on it."""

from pathlib import Path

import numpy as np
import pytest

from bodies.bank import BONES, BUILDS, GENDERS, Bank
from bodies.mesh import block

# Where a bone begins and the half-sizes and middle of its block: left, forward, up, of somebody of 1.75 m.
_BODY: dict[str, tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]] = {
    "pelvis": ((0, 0, 0.95), (0.15, 0.10, 0.12), (0, 0, 0.92)),
    "belly": ((0, 0, 1.00), (0.13, 0.10, 0.13), (0, 0, 1.08)),
    "chest": ((0, 0, 1.18), (0.16, 0.10, 0.16), (0, 0, 1.30)),
    "neck": ((0, 0, 1.45), (0.055, 0.055, 0.07), (0, 0, 1.47)),
    "head": ((0, 0, 1.54), (0.075, 0.09, 0.12), (0, 0.01, 1.63)),
    "upper arm": ((0.17, 0, 1.40), (0.045, 0.045, 0.16), (0.20, 0, 1.27)),
    "forearm": ((0.20, 0, 1.13), (0.04, 0.04, 0.14), (0.20, 0, 1.00)),
    "hand": ((0.20, 0, 0.88), (0.025, 0.04, 0.08), (0.20, 0, 0.82)),
    "thigh": ((0.09, 0, 0.92), (0.075, 0.08, 0.22), (0.09, 0, 0.70)),
    "shin": ((0.09, 0, 0.50), (0.055, 0.06, 0.22), (0.09, 0, 0.29)),
    "foot": ((0.09, 0, 0.08), (0.04, 0.12, 0.04), (0.09, 0.06, 0.04)),
}


def block_bank() -> Bank:
    """Build the bank."""
    vertices, faces, weights, heads = [], [], [], []
    start = 0
    for number, bone in enumerate(BONES):
        name, _, side = bone.partition(".")
        mirror = np.array([-1 if side == "R" else 1, 1, 1], np.float32)
        head, half, middle = _BODY[name]
        part = block(half, 1.0 if name == "head" else 0.6, 16, 17)
        vertices.append(part.vertices + np.array(middle, np.float32) * mirror)
        faces.append(part.faces + start)
        mine = np.zeros((len(part.vertices), len(BONES)), np.float32)
        mine[:, number] = 1
        weights.append(mine)
        heads.append(np.array(head, np.float32) * mirror)
        start += len(part.vertices)
    shape, bones = np.concatenate(vertices), np.stack(heads)
    tips = np.array([[0.20, 0, 0.80], [-0.20, 0, 0.80]], np.float32)
    count = len(GENDERS) * len(BUILDS)
    return Bank(
        np.tile(shape, (count, 1, 1)).astype(np.float32),
        np.tile(bones, (count, 1, 1)),
        np.tile(tips, (count, 1, 1)),
        np.concatenate(faces),
        np.concatenate(weights),
    )


@pytest.fixture(scope="session")
def bank_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bank as a file, as the recipe keeps it."""
    path = tmp_path_factory.mktemp("bank") / "bodies.npz"
    bank = block_bank()
    with path.open("wb") as stream:
        np.savez(
            stream,
            vertices=bank.vertices,
            heads=bank.heads,
            tips=bank.tips,
            faces=bank.faces,
            weights=bank.weights,
        )
    return path
