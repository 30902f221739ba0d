"""Descriptions of people who are in no gallery: what best scores are worth is told by theirs.

The people are sampled and described by the program, as its drawn ones are. Their best scores among photographs of a
gallery are distributed much as those that people's own sentences have about somebody who is not there
(docs/benchmarks.md).
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from textreid.artifacts import new_file
from textreid.errors import ArtifactError
from textreid.gallery.embedding_cache import REFERENCES, cache_folder

PEOPLE = 200
MOST_SENTENCES = 4  # of one person; a query of more is judged as one of so many

Array = npt.NDArray[np.float32]


def reference_sentences() -> list[list[str]]:
    """Describe `PEOPLE` people in `MOST_SENTENCES` sentences each, as different witnesses would; always the same."""
    from textreid.seeding import generator
    from textreid.synthetic import DOMAINS, View, sample_person
    from textreid.synthetic.describer import describe

    in_full_view = View("front", walking=True, feet_visible=True, head_visible=True, legs_visible=True)
    domains = sorted(DOMAINS)
    described = []
    for number in range(PEOPLE):
        person = sample_person(DOMAINS[domains[number % len(domains)]], generator("reference", number))
        start = MOST_SENTENCES * number
        described.append([describe(person, in_full_view, start + which) for which in range(MOST_SENTENCES)])
    return described


def reference_features(
    encode: Callable[[list[str]], Array], fingerprint: str, sentences: int, keep: bool = True
) -> Array:
    """Return features of the people's sentences (`PEOPLE`, K, D), K at most ``sentences``.

    Encoding takes seconds, so that the user's cache keeps them; a cache that cannot be written costs only time.

    Args:
        encode: sentences to features of length 1.
        fingerprint: of the model that encodes.
        sentences: of each person.
        keep: whether the cache is used and written.
    """
    count = min(sentences, MOST_SENTENCES)
    path = _kept_at(fingerprint, count) if keep else None
    if path:
        with suppress(OSError, ValueError):  # missing, cut or foreign: computed again
            kept = np.load(path, allow_pickle=False)
            if kept.dtype == np.float32 and kept.ndim == 3 and kept.shape[:2] == (PEOPLE, count):
                return np.asarray(kept)
    texts = [sentence for person in reference_sentences() for sentence in person[:count]]
    features = encode(texts).reshape(PEOPLE, count, -1)
    if path:
        with suppress(ArtifactError, OSError), new_file(path) as partial, partial.open("wb") as stream:
            np.save(stream, features)
    return features


def _kept_at(fingerprint: str, count: int) -> Path | None:
    with suppress(ArtifactError):
        return cache_folder() / REFERENCES.replace("*", f"{fingerprint[:16]}-{count}")
    return None
