"""Retrieval metrics by counting, against the full sort of published programs and against the bare matrix product.

Each run is a process of its own, so that its peak memory is its own; the three take turns, and the ratios are
medians over the rounds. The default size is ICFG-PEDES' test split (19,848 × 19,848); the full sort needs 17 GB.

    python benchmarks/metrics.py            # about five minutes on two cores
    python benchmarks/metrics.py --small    # seconds
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from textreid.evaluation import retrieval_metrics

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
_BLOCK = 400


@dataclass(frozen=True)
class Problem:
    """Queries and a gallery in which each identity is a noisy cluster, in shuffled order."""

    queries: Floats
    gallery: Floats
    query_ids: Ids
    gallery_ids: Ids

    @classmethod
    def draw(cls, items: int, width: int, identities: int) -> "Problem":
        """As many queries as gallery items; the same for the same sizes."""
        generator = np.random.default_rng(0)
        centres = generator.standard_normal((identities, width), dtype=np.float32)
        sides = []
        for _ in range(2):
            ids = generator.permutation(np.arange(items) % identities)
            features = centres[ids] + 3 * generator.standard_normal((items, width), dtype=np.float32)
            sides.append((features / np.linalg.norm(features, axis=1, keepdims=True), ids))
        (queries, query_ids), (gallery, gallery_ids) = sides
        return cls(queries, gallery, query_ids, gallery_ids)


def by_product(problem: Problem) -> dict[str, float]:
    """The scores alone, block by block into one buffer, with nothing done to them: the least any exact method needs."""
    buffer = np.empty((_BLOCK, len(problem.gallery)), dtype=np.float32)
    for first in range(0, len(problem.queries), _BLOCK):
        chosen = problem.queries[first : first + _BLOCK]
        np.matmul(chosen, problem.gallery.T, out=buffer[: len(chosen)])
    return {}


def by_counting(problem: Problem) -> dict[str, float]:
    """What this package does."""
    return retrieval_metrics(problem.queries, problem.gallery, problem.query_ids, problem.gallery_ids).scores()


def by_sorting(problem: Problem) -> dict[str, float]:
    """What published programs do: argsort of all scores, labels in that order, cumulative sums, a loop over queries."""
    import torch

    scores = torch.from_numpy(problem.queries) @ torch.from_numpy(problem.gallery).T
    order = torch.argsort(scores, dim=1, descending=True)
    labels = torch.from_numpy(problem.gallery_ids)[order]
    matches = labels == torch.from_numpy(problem.query_ids)[:, None]
    found = matches.cumsum(dim=1)
    result = {f"R{k}": (found[:, k - 1] > 0).double().mean().item() for k in (1, 5, 10)}
    precisions = (found / torch.arange(1.0, matches.shape[1] + 1) * matches).sum(dim=1) / matches.sum(dim=1)
    last = [hits.nonzero().max().item() for hits in matches]
    penalties = [row[rank].item() / (rank + 1) for row, rank in zip(found, last, strict=True)]
    return result | {"mAP": precisions.mean().item(), "mINP": statistics.fmean(penalties)}


WAYS: dict[str, Callable[[Problem], dict[str, float]]] = {
    "product": by_product,
    "counting": by_counting,
    "sorting": by_sorting,
}


def measure(way: str, items: int, width: int, identities: int) -> dict[str, Any]:
    """Run one way in this process, after a small run that loads and warms what it uses."""
    WAYS[way](Problem.draw(500, width, 20))
    problem = Problem.draw(items, width, identities)
    before, before_cpu = time.perf_counter(), time.process_time()
    scores = WAYS[way](problem)
    seconds, cpu_seconds = time.perf_counter() - before, time.process_time() - before_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gb": peak / 1e9, "scores": scores}


def in_process(way: str, options: argparse.Namespace) -> dict[str, Any]:
    """`measure` in a fresh process with the given number of threads."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(options.threads))
    sizes = ["--items", str(options.items), "--width", str(options.width), "--identities", str(options.identities)]
    command = [sys.executable, __file__, "--way", way, *sizes]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | threads).stdout
    return dict(json.loads(output))


def compare(options: argparse.Namespace) -> None:
    """Take turns, check that the figures agree, print medians."""
    needed = 45 * options.items**2 / 1e9
    ways = ["product", "counting"] if options.no_sorting else list(WAYS)
    if "sorting" in ways and available_gb() < needed:
        print(f"sorting is left out: it needs {needed:.0f} GB of memory, {available_gb():.0f} are free")
        ways.remove("sorting")
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for turn in range(options.rounds):
        for way in ways:
            runs[way].append(in_process(way, options))
            print(f"round {turn + 1}: {way} {runs[way][-1]['seconds']:.2f} s", file=sys.stderr)
    print(f"{options.items:,} x {options.items:,} x {options.width}, {options.threads} threads, {platform.platform()}")
    print("| | seconds | times the product | CPU seconds | peak memory, GB |\n| --- | ---: | ---: | ---: | ---: |")
    for way in ways:
        ratios = [a["seconds"] / b["seconds"] for a, b in zip(runs[way], runs["product"], strict=True)]
        seconds, cpu, peak = ([run[name] for run in runs[way]] for name in ("seconds", "cpu_seconds", "peak_gb"))
        print(
            f"| {way} | {statistics.median(seconds):.2f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f}-{max(ratios):.2f}) | {statistics.median(cpu):.2f} | {max(peak):.2f} |"
        )
    if "sorting" in ways:
        ratios = [s["seconds"] / c["seconds"] for s, c in zip(runs["sorting"], runs["counting"], strict=True)]
        print(f"\nsorting / counting: {statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f})")
        for name, value in runs["counting"][0]["scores"].items():
            reference = runs["sorting"][0]["scores"][name]
            assert abs(value - reference) < 1e-5, f"{name}: {value} by counting, {reference} by sorting"
        print("all five figures agree to 1e-5")


def available_gb() -> float:
    """Memory that a process can take now, where the system says (Linux); otherwise no limit is known."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("MemAvailable"))


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=19_848, help="queries, and gallery items")
    parser.add_argument("--width", type=int, default=512, help="of a feature")
    parser.add_argument("--identities", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="2,000 items of 100 identities")
    parser.add_argument("--no-sorting", action="store_true", help="leave out the way that needs the memory")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.small:
        options.items, options.identities = 2000, 100
    if options.way:
        print(json.dumps(measure(options.way, options.items, options.width, options.identities)))
    else:
        compare(options)


if __name__ == "__main__":
    main()
