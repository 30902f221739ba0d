"""What it costs people that a search ranks pictures low which seem to show nobody, and what else could be done.

Of a benchmark's images and of those of folders: how many seem to show nobody (below the threshold of the model's
presence.json), how many rather show nobody than somebody (below even odds; these lose some of their score), and the
figures of text-to-image retrieval by plain cosines, by scores that lose as much as an image seems empty (what a search
does), and with those below the threshold, or even odds, ranked last.

    python benchmarks/presence_cost.py --benchmark drawn=FOLDER --folder FOLDER
    python benchmarks/presence_cost.py            # 500 drawn crops of a station; half a minute
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from textreid.datasets import read_benchmark
from textreid.emptiness import shows_nothing
from textreid.evaluation.encoding import EncodedSplit, encode_split
from textreid.evaluation.metrics import retrieval_metrics
from textreid.images import read_image
from textreid.listing import list_images
from textreid.models import Model, load_model
from textreid.models.presence import Presence
from textreid.synthetic import write_corpus

Array = npt.NDArray[np.float32]
LAST = np.float32(4)  # more than two cosines can differ by


def main() -> None:
    """Measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder with presence.json; else the bundled model")
    parser.add_argument("--benchmark", action="append", default=[], metavar="NAME=FOLDER", help="people, measured")
    parser.add_argument("--folder", action="append", default=[], type=Path, help="images, only counted")
    options = parser.parse_args()
    model = load_model(options.model)
    presence = model.presence
    if presence is None:
        parser.error("the model has no presence.json: recipes/presence.py makes it")
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        if not options.benchmark and not options.folder:
            write_corpus(Path(scratch) / "station", "station", 125, 4, 7)
            options.benchmark = [f"station={scratch}/station"]
        for name, _, folder in (each.partition("=") for each in options.benchmark):
            found[name] = measure(encode_split(model, read_benchmark(name, Path(folder)).split("test")), presence)
    found |= {folder.name: count(model, folder, presence) for folder in options.folder}
    print(json.dumps(found, indent=2))


def measure(split: EncodedSplit, presence: Presence) -> dict[str, object]:
    """Count the people who seem to be nobody, and measure three ways to rank."""
    log_odds = presence.log_odds(split.image_features)
    return {
        **_counts(log_odds, presence),
        "by_cosine": _scores(split, np.zeros(len(log_odds), np.float32)),
        "losing_by_odds": _scores(split, presence.losses(log_odds)),
        "below_threshold_last": _scores(split, LAST * (log_odds < presence.threshold)),
        "below_even_odds_last": _scores(split, LAST * (log_odds < 0)),
    }


def count(model: Model, folder: Path, presence: Presence) -> dict[str, object]:
    """Count in a folder the images that seem to show nobody, beside those that pixels alone tell to show nothing."""
    images = [read_image(path) for path in list_images(folder).images]
    some = [image for image in images if not shows_nothing(image)]
    counts = _counts(presence.log_odds(model.encode_images(some)), presence)
    return {"left_out_by_pixels": len(images) - len(some), **counts}


def _counts(log_odds: Array, presence: Presence) -> dict[str, int]:
    return {
        "images": len(log_odds),
        "seem_empty": int((log_odds < presence.threshold).sum()),
        "below_even_odds": int((log_odds < 0).sum()),
    }


def _scores(split: EncodedSplit, losses: Array) -> dict[str, float]:
    """Metrics of cosines less the losses (images,): one more number a feature makes a product of them."""
    images = np.concatenate([split.image_features, -losses[:, None]], axis=1)
    ones = np.ones((len(split.text_features), 1), np.float32)
    texts = np.concatenate([split.text_features, ones], axis=1)
    scores = retrieval_metrics(texts, images, split.caption_ids, split.image_ids).scores()
    return {name: round(value, 4) for name, value in scores.items()}


if __name__ == "__main__":
    main()
