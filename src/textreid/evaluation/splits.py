"""On what data a checkpoint is measured while it is trained, and how that is told ever after.

A checkpoint that was chosen by test figures, or watched by them, carries `TEST_STAMP` in its model folder, and every
report that measures it says so. The validation split of a benchmark is its own where it has one (``val``), or else
10 % of its training identities, drawn by a seed (Tan et al. 2024, supplement).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from textreid.datasets.records import VALIDATION_SHARE, Benchmark
from textreid.errors import AnnotationError
from textreid.evaluation.encoding import Encoder, encode_split
from textreid.evaluation.metrics import retrieval_metrics

OWN_VALIDATION = "val"
# Model folders hold these words: with others, the stamps of older models would not be seen.
TEST_STAMP = "the TEST split of"
# The same everywhere, or `evaluate --split val` would measure on people that a run was trained on.
SEED = 0


@dataclass(frozen=True)
class Validation:
    """Validation set of a training run: a fixed part of a benchmark, and how a model is measured on it.

    Attributes:
        part: one split.
        name: which data that is, as a model folder records it.
    """

    part: Benchmark
    name: str

    @property
    def images(self) -> frozenset[str]:
        """Absolute paths of its images; training refuses to train on one of them."""
        # Absolute, because one data set may be reached by two paths, and images of two have equal names.
        root = self.part.image_root.resolve()
        return frozenset(f"{root}/{record.image}" for record in self.part.records)

    @property
    def people(self) -> frozenset[tuple[str, int]]:
        """Its identities, by the absolute folder of the images; training refuses to train on one of them."""
        root = str(self.part.image_root.resolve())
        return frozenset((root, record.identity) for record in self.part.records)

    def measure(self, model: Encoder) -> Mapping[str, float]:
        """Compute R1, R5, R10, mAP and mINP of text to image, as fractions of 1; no intervals and no fingerprint.

        Where images cannot be read, also their share, as ``unreadable``: the figures are those without them.
        """
        encoded = encode_split(model, self.part)
        images, texts = encoded.image_features, encoded.text_features
        scores = retrieval_metrics(texts, images, encoded.caption_ids, encoded.image_ids).scores()
        unreadable = 1 - len(encoded.records) / len(self.part.records)
        return {**scores, "unreadable": unreadable} if unreadable else scores


def split_for_training(
    benchmark: Benchmark, set_aside: bool = True, seed: int = SEED
) -> tuple[Benchmark, Validation | None]:
    """Part the people of a benchmark into those to train on and those to validate on; nobody is in both.

    Args:
        benchmark: all splits of it.
        set_aside: whether 10 % of the training people are set aside where it has no validation split of its own;
            if not, everybody is trained on, and there is no validation.
        seed: of the choice of these people.

    Raises:
        AnnotationError: it has no split ``train``, or too few people to set some aside.
    """
    people = benchmark.split("train")
    if OWN_VALIDATION in benchmark.splits:
        return people, validation(benchmark)
    if not set_aside:
        return people, None
    return people.validation_split(seed)[0], validation(benchmark, seed=seed)


def validation(benchmark: Benchmark, on_test: bool = False, seed: int = SEED) -> Validation:
    """Choose the part of a benchmark that training may look at.

    Args:
        benchmark: all splits of it.
        on_test: take the test split instead; stamps the model.
        seed: of the identities that are set aside where the benchmark has no validation split of its own.

    Raises:
        AnnotationError: there is no such split, or there are too few people to set some aside.
    """
    if on_test:
        return Validation(benchmark.split("test"), f"{TEST_STAMP} {benchmark.name}")
    part, name = validation_part(benchmark, seed)
    return Validation(part, f"{name} of {benchmark.name}")


def validation_part(benchmark: Benchmark, seed: int = SEED) -> tuple[Benchmark, str]:
    """Return the validation split of a benchmark, and what it is in words.

    Raises:
        AnnotationError: it has neither a validation nor a training split, or too few people in the latter.
    """
    if OWN_VALIDATION in benchmark.splits:
        return benchmark.split(OWN_VALIDATION), "the validation split"
    if "train" not in benchmark.splits:
        known = ", ".join(benchmark.splits)
        raise AnnotationError(
            f"{benchmark.name}: has no validation split (val), and no train split to set people aside from; "
            f"there are: {known}"
        )
    part = benchmark.split("train").validation_split(seed)[1]
    return part, f"{VALIDATION_SHARE:.0%} of the training people (seed {seed})"


def split_of(benchmark: Benchmark, name: str) -> Benchmark:
    """Return a split by name; ``val`` is what `validation_part` says.

    Raises:
        AnnotationError: there is none.
    """
    return validation_part(benchmark)[0] if name == OWN_VALIDATION else benchmark.split(name)


def chosen_on_test(selected_on: str | None) -> bool:
    """Tell whether a model says that test figures chose it or were watched while it was trained."""
    return selected_on is not None and TEST_STAMP in selected_on
