"""Compare models query by query: the differences of R1, R5, R10 and mAP, with 95 % intervals over people.

    python benchmarks/paired_rows.py A B C --benchmark campus --benchmark station
    python benchmarks/paired_rows.py seed-{seed}/A seed-{seed}/B --benchmark seed-{seed}/campus --seeds 0 1

Each model is compared with the first; of several seeds all queries count, each with people of its own. Intervals over
seeds (`textreid reproduce`) hold what another training would bring too, and need several; these hold what other people
would bring, and need one.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from textreid.datasets.benchmarks import read_benchmark
from textreid.evaluation.chance_level import bootstrap_means, interval
from textreid.evaluation.encoding import encode_split
from textreid.evaluation.metrics import retrieval_metrics
from textreid.models import load_model

Values = npt.NDArray[np.float64]
FIGURES = ("R1", "R5", "R10", "mAP")


def measure(model: str, benchmarks: list[str], seeds: list[int]) -> tuple[Values, npt.NDArray[Any]]:
    """Measure the `FIGURES` of every query of all benchmarks and seeds, (Q, 4); and whom it describes, (Q,)."""
    values, people = [], []
    for number, (seed, folder) in enumerate((seed, folder) for seed in seeds for folder in benchmarks):
        loaded = load_model(model.replace("{seed}", str(seed)), precision="auto")
        split = read_benchmark("generic", Path(folder.replace("{seed}", str(seed)))).split("test")
        encoded = encode_split(loaded, split)
        found = retrieval_metrics(
            encoded.text_features, encoded.image_features, encoded.caption_ids, encoded.image_ids
        ).per_query
        scores = found.scores()
        values.append(np.stack([scores[name] for name in FIGURES], axis=1))
        # Benchmarks may count their people from the same number.
        people.append(np.stack([np.full(len(found.query), number), encoded.caption_ids[found.query]], axis=1))
    return np.concatenate(values), np.unique(np.concatenate(people), axis=0, return_inverse=True)[1]


def main() -> None:
    """Measure every model, and print each beside the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--benchmark", action="append", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="what {seed} stands for in paths")
    options = parser.parse_args()
    reference: Values | None = None
    for model in options.models:
        values, people = measure(model, options.benchmark, options.seeds)
        line: dict[str, object] = {"model": model}
        line |= dict(zip(FIGURES, (100 * values.mean(axis=0)).round(2).tolist(), strict=True))
        if reference is not None:
            difference = values - reference
            ends = interval(bootstrap_means(difference, people))
            for column, name in enumerate(FIGURES):
                figures = [difference[:, column].mean(), *ends[column]]
                line[f"{name} difference, low, high"] = [round(100 * float(figure), 2) for figure in figures]
        reference = values if reference is None else reference
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
