"""Which measure of `textreid captions stats` predicts how well captions transfer: rank correlation over corpora.

    textreid reproduce diversity --seeds 3
    python benchmarks/diversity_transfer.py reproduction --seeds 3

Every row of the experiment is a corpus; its R1 is the mean over both unseen domains and all seeds that are done. The
interval is of Spearman's coefficient when corpora are drawn again: it says what other ways of asking might show.
"""

import argparse
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt

from textreid.artifacts import read_json
from textreid.captions.diversity import Diversity, compare_corpora
from textreid.captions.table import read_captions
from textreid.reproduction import SCALES, find_experiment, make_plan
from textreid.reproduction.plans import PlannedRow

LEAST_CORPORA = 4
RESAMPLES = 2_000
Values = npt.NDArray[np.float64]


def table_of(planned: PlannedRow) -> Path:
    """Where the captions of a row are."""
    for step in planned.steps:
        if step.arguments[0] == "pretrain" and planned.row.id in step.makes.parts:
            return Path(step.arguments[step.arguments.index("--captions") + 1])
    raise ValueError(f"{planned.row.id}: nothing is trained")


def r1_of(planned: PlannedRow) -> float:
    """R1 of a row in per cent, the mean over its benchmarks."""
    found = read_json(planned.report)["evaluations"]
    return 100 * fmean(one["text_to_image"]["scores"]["R1"] for one in found)


def measures(corpus: Diversity) -> dict[str, float]:
    """What is compared with R1."""
    return {
        **{f"distinct-{n}": share for n, share in corpus.distinct.items()},
        "self-BLEU": corpus.self_bleu,
        "sentence patterns": corpus.patterns,
        "entropy of patterns": corpus.pattern_entropy,
        "share of the commonest openings": corpus.openings_share,
        "different captions": corpus.different / corpus.captions,
        "words a caption": corpus.words["mean"],
    }


def ranks(values: Values) -> Values:
    """Ranks from 0, equal values at their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def spearman(one: Values, other: Values) -> float:
    """Spearman's coefficient; NaN where all values are equal."""
    a, b = ranks(one) - ranks(one).mean(), ranks(other) - ranks(other).mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else float("nan")


def main() -> None:
    """Measure every corpus, and correlate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder that `textreid reproduce` wrote to")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", choices=["mini", "quick"], default="mini")
    options = parser.parse_args()
    plan = make_plan(find_experiment("diversity"), SCALES[options.scale], options.out, range(options.seeds))
    done = [planned for planned in plan.rows if planned.report.is_file()]
    texts: dict[str, list[str]] = {}
    r1: dict[str, list[float]] = {}
    for planned in done:
        texts.setdefault(planned.row.label, []).extend(read_captions(table_of(planned)).captions.to_pylist())
        r1.setdefault(planned.row.label, []).append(r1_of(planned))
    if len(texts) < LEAST_CORPORA:
        parser.error(f"{options.out}: {len(texts)} rows are done; run textreid reproduce diversity first")
    corpora = [measures(corpus) for corpus in compare_corpora(texts)]
    names = list(corpora[0])
    means = np.array([fmean(values) for values in r1.values()])
    print(f"{'corpus':<30}{'R1':>8}{'seeds':>7}" + "".join(f"{name[:14]:>16}" for name in names))
    for (label, values), corpus in zip(r1.items(), corpora, strict=True):
        figures = "".join(f"{corpus[name]:>16.3f}" for name in names)
        print(f"{label:<30}{fmean(values):>8.2f}{len(values):>7}{figures}")
    drawn = np.random.default_rng(0).integers(0, len(means), (RESAMPLES, len(means)))
    print(f"\nSpearman's rank correlation with R1, {len(means)} corpora")
    for name in names:
        measured = np.array([corpus[name] for corpus in corpora])
        if np.ptp(measured) == 0:
            print(f"{name:<34}the same in all")
            continue
        low, high = np.nanquantile([spearman(measured[i], means[i]) for i in drawn], [0.025, 0.975])
        print(f"{name:<34}{spearman(measured, means):+.2f} [{low:+.2f}, {high:+.2f}]")


if __name__ == "__main__":
    main()
