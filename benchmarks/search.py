"""How long `textreid search` takes, as a whole process: the first search of a folder, and the searches after it.

The crops are rendered pedestrians in a new folder, and the cache is new. Importing torch alone is timed beside it,
because a search that imported it could not be faster.

    python benchmarks/search.py                  # 10,000 crops, the bundled model; a few minutes on two cores
    python benchmarks/search.py --crops 500
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from textreid.synthetic import DOMAINS, write_corpus

_PER_IDENTITY = 4
_REPEATS = 5
_QUERIES = (
    "a woman in a red jacket",
    "a man with a black coat and a grey backpack",
    "someone in blue trousers and white shoes",
    "a girl wearing a long green dress with a handbag",
    "an older man, bald, in a striped shirt",
)


def main() -> None:
    """Render, search, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=10_000)
    parser.add_argument("--model", help="a model folder; else the bundled model")
    options = parser.parse_args()
    identities = options.crops // _PER_IDENTITY
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch) / "corpus"
        write_corpus(corpus, next(iter(DOMAINS)), identities, _PER_IDENTITY, seed=0, workers=os.cpu_count() or 1)
        model = ["--model", options.model] if options.model else []
        command = [sys.executable, "-c", "from textreid.cli import main; main()", "search", "--images", str(corpus)]
        environment = {**os.environ, "TEXTREID_CACHE": str(Path(scratch) / "cache")}
        runs = [seconds([*command, *model, query], environment) for query in (_QUERIES[0], *_QUERIES)]
        size = sum(file.stat().st_size for file in (Path(scratch) / "cache").iterdir())
    torch = [seconds([sys.executable, "-c", "import torch"], environment) for _ in range(_REPEATS)]
    first, later = runs[0], runs[1:]
    crops = identities * _PER_IDENTITY
    figures = {
        "crops": crops,
        "first_search_s": round(first, 1),
        "first_search_images_per_s": round(crops / first),
        "later_search_s": {"median": round(statistics.median(later), 2), "all": [round(s, 2) for s in later]},
        "import_torch_alone_s": round(statistics.median(torch), 2),
        "cache_bytes_per_image": round(size / crops),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
    }
    print(json.dumps(figures, indent=2))


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Wall time of a process from its start to its end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
