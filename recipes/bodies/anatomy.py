"""Where on a body a point lies, in measures that clothes are cut by: along arms and legs, up the torso, on the head."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from bodies.bank import BONES, Bank, read_bank
from bodies.mesh import Floats, Mesh

# Columns of a chart.
SIDE = 0  # to the left; half the shoulders' width is 1
FRONT = 1  # forward of the chest's middle, in the same unit
HEIGHT = 2  # up the torso: 0 at the hips' joints, 1 at the root of the neck
ARM = 3  # 0 at the shoulder's joint, 1 elbow, 2 wrist, 3 fingertips; -1 away from arms
LEG = 4  # 0 at the hip's joint, 1 knee, 2 ankle, 3 toes; -1 away from legs
HEAD = slice(5, 8)  # left, forward and up from the skull's middle, in its half-axes
CLOTH = slice(8, 10)  # along and down the cloth, in metres
WIDTH = 10


@dataclass(frozen=True)
class Skull:
    """A head: the middle of the skull (3,), its half-axes to the left, forward and up (3,), and its rotation (3, 3)."""

    middle: Floats
    half: Floats
    turn: Floats

    def at(self, left: float, forward: float, up: float) -> Floats:
        """Return the point at a place in half-axes from the middle."""
        point: Floats = self.middle + self.turn @ (np.array([left, forward, up], np.float32) * self.half)
        return point

    def place(self, mesh: Mesh, left: float = 0.0, forward: float = 0.0, up: float = 0.0) -> Mesh:
        """Turn a mesh with the head and move it to a place in half-axes."""
        return mesh.placed(self.turn, self.at(left, forward, up))


@cache
def chart_of(path: Path, number: int) -> Floats:
    """Return the (V, 10) chart of a body of the bank at ``path``, computed once per process."""
    return make_chart(read_bank(path), number)


def make_chart(bank: Bank, number: int) -> Floats:
    """Compute the (V, 10) chart of a body in rest."""
    shape, heads = bank.vertices[number], bank.heads[number]
    chart = np.empty((len(shape), WIDTH), np.float32)
    shoulder = abs(heads[BONES.index("upper arm.L"), 0])
    hips, neck = heads[BONES.index("thigh.L"), 2], heads[BONES.index("neck"), 2]
    chart[:, SIDE] = shape[:, 0] / shoulder
    chart[:, FRONT] = (shape[:, 1] - heads[BONES.index("chest"), 1]) / shoulder
    chart[:, HEIGHT] = (shape[:, 2] - hips) / (neck - hips)
    chart[:, ARM] = _along(bank, number, ("upper arm", "forearm", "hand"), -1.0)
    chart[:, LEG] = _along(bank, number, ("thigh", "shin", "foot"), -1.0)
    head = skull(bank, number)
    chart[:, HEAD] = (shape - head.middle) / head.half
    # Around the torso and down it; along the arm where there is one.
    arm = chart[:, ARM]
    angle = np.arctan2(shape[:, 0], shape[:, 1] - heads[BONES.index("belly"), 1])
    chart[:, 8] = np.where(arm > 0.1, shape[:, 1] * 2, angle * np.float32(0.15))
    chart[:, 9] = np.where(arm > 0.1, -0.3 * arm, shape[:, 2] - neck)
    return chart


def skull(bank: Bank, number: int) -> Skull:
    """Measure the skull of a body in rest."""
    shape = bank.vertices[number]
    mine = shape[bank.weights[:, BONES.index("head")] > 0.6]
    top = mine[:, 2].max()
    # A head is an eighth of a body.
    tall = np.float32(0.06) * top
    upper = mine[mine[:, 2] > top - tall]
    front, back = upper[:, 1].max(), upper[:, 1].min()
    middle = np.array([0.0, (front + back) / 2, top - tall], np.float32)
    half = np.array([np.abs(upper[:, 0]).max(), (front - back) / 2, tall], np.float32)
    return Skull(middle, half, np.eye(3, dtype=np.float32))


def _along(bank: Bank, number: int, chain: tuple[str, str, str], elsewhere: float) -> Floats:
    """Compute how far along a limb of three bones each vertex lies, in bones."""
    shape, heads = bank.vertices[number], bank.heads[number]
    value = np.full(len(shape), elsewhere, np.float32)
    for n, side in enumerate("LR"):
        bones = [BONES.index(f"{name}.{side}") for name in chain]
        mine = bank.weights[:, bones].sum(axis=1) > 0.05
        first, second, third = heads[bones]
        last = bank.tips[number, n] if chain[0] == "upper arm" else third + np.array([0, 0.09, -0.05], np.float32)
        total = np.zeros(int(mine.sum()), np.float32)
        for step, (start, end) in enumerate(((first, second), (second, third), (third, last))):
            bone = end - start
            share = (shape[mine] - start) @ bone / (bone @ bone)
            total += np.clip(share, -0.6 if step == 0 else 0.0, 1.0)
        value[mine] = total
    return value
