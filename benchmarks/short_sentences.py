"""What taking off a short sentence what says nothing brings (`GalleryEncoder`), by the limits between which it is done.

    python benchmarks/short_sentences.py --benchmark NAME=FOLDER --limits 0.35 0.55 --limits 0.3 0.5

Fifteen short sentences are asked of a benchmark's pictures; right are those of people of whom a sentence names the
thing. Beside it stands what the same does to the benchmark's own sentences. One JSON object a line; the first of the
limits are so high that nothing is taken off.
"""

import argparse
import json
import re
from pathlib import Path
from unittest import mock

import numpy as np

from textreid.datasets.benchmarks import read_benchmark
from textreid.evaluation.encoding import encode_split
from textreid.evaluation.metrics import retrieval_metrics
from textreid.gallery import encoder as gallery_encoder
from textreid.gallery.encoder import GalleryEncoder
from textreid.models import load_model

ASKED = {
    "a man with a backpack": r"backpack|rucksack",
    "a woman with a handbag": r"handbag|purse|hand bag",
    "a person with a shoulder bag": r"shoulder bag|messenger bag|cross-?body|satchel",
    "a person in boots": r"boots",
    "a person with glasses": r"glasses|spectacles",
    "a person with a hat": r"\bhat\b|\bcap\b|beanie",
    "somebody in shorts": r"\bshorts\b",
    "a woman in a skirt": r"skirt",
    "a woman in a dress": r"\bdress\b",
    "a man in a suit": r"\bsuit\b",
    "a person in jeans": r"jeans|denim",
    "somebody with a scarf": r"scarf",
    "a person in a striped shirt": r"striped?\b|stripes",
    "a woman with long hair": r"long[^.,]* hair",
    "a person in white shoes": r"white (\w+ )?(shoes|sneakers|trainers)",
}
FIRST = 10


def main() -> None:
    """Encode once, ask with each pair of limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", metavar="NAME=FOLDER", required=True)
    parser.add_argument("--limits", nargs=2, type=float, action="append", default=[], metavar=("PART", "WHOLE"))
    options = parser.parse_args()
    name, folder = options.benchmark.split("=", 1)
    split = read_benchmark(name, Path(folder)).split("test")
    encoded = encode_split(load_model(None, precision="auto"), split)
    images, people = encoded.image_features, encoded.image_ids
    said: dict[int, str] = {}
    for person, text in zip(encoded.caption_ids.tolist(), encoded.captions, strict=True):
        said[person] = f"{said.get(person, '')} {text.lower()}"
    right = np.array([[bool(re.search(named, said[one])) for one in people.tolist()] for named in ASKED.values()])
    encoder = GalleryEncoder()
    nothing = encoder._nothing
    alike = {
        kind: np.quantile(encoder.encode_sentences(texts) @ nothing, [0.5, 0.95]).round(2).tolist()
        for kind, texts in (("captions", encoded.captions), ("short", list(ASKED)))
    }
    print(json.dumps({"cosine to what says nothing, median and 95 %": alike, "right": round(100 * right.mean(), 1)}))
    for part, whole in [(2.0, 3.0), *options.limits]:
        with mock.patch.multiple(gallery_encoder, _IN_PART=part, _AS_A_WHOLE=whole):
            asked, own = (
                np.stack([row for row, _ in encoder.encode_queries(texts)]) for texts in (list(ASKED), encoded.captions)
            )
        found = np.take_along_axis(right, (-asked @ images.T).argsort(axis=1), axis=1)
        ranks = np.arange(1, found.shape[1] + 1)
        precision = [(np.cumsum(row) / ranks)[row].mean() for row in found if row.any()]
        scores = retrieval_metrics(own, images, encoded.caption_ids, people).scores()
        short = {"first ten": found[:, :FIRST].mean(), "average precision": np.mean(precision)}
        line = {key: round(100 * float(value), 1) for key, value in (short | scores).items()}
        print(json.dumps({"limits": [part, whole] if part < 1 else None} | line), flush=True)


if __name__ == "__main__":
    main()
