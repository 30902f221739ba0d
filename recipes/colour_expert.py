"""Make colours.json, by which the expert for colour names knows what people usually wear.

    python recipes/colour_expert.py            # half a minute of one core; textreid/models/bundled/colours.json

Draws people and takes the mean and the deviation of what the expert sees. The ``station`` domain and photographs play
no part. Everything follows from the seed.
"""

import argparse
from pathlib import Path

import numpy as np

from textreid.artifacts import write_json
from textreid.models.colour_expert import USUAL, names_of_pixels
from textreid.models.colour_names import Floats
from textreid.seeding import generator
from textreid.synthetic import DOMAINS, render, sample_person

SEED = 20261130
UNSEEN_DOMAIN = "station"
PEOPLE = 250  # of a domain
FIRST = 60_000_000  # people that no other recipe draws
RARE = 0.05  # added to each deviation: else a colour that hardly anybody wears would outweigh all others
DIGITS = 4


def main() -> None:
    """Draw, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=USUAL)
    parser.add_argument("--people", type=int, default=PEOPLE, help="of each domain")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    features = draw_features(options.people, options.seed)
    mean, deviation = features.mean(axis=0), features.std(axis=0) + RARE
    numbers = {
        name: [round(float(value), DIGITS) for value in values]
        for name, values in (("mean", mean), ("deviation", deviation))
    }
    made = {"recipe": "recipes/colour_expert.py", "seed": options.seed, "domains": domains(), "people": len(features)}
    write_json(options.out, {**numbers, "made": made})
    print(f"written: {options.out}, of {len(features)} people")


def domains() -> list[str]:
    """The domains that are drawn from; never the one that is measured on."""
    return [name for name in DOMAINS if name != UNSEEN_DOMAIN]


def draw_features(people: int, seed: int) -> Floats:
    """Draw so many people of each domain, by its cameras in turn, and describe them: (N, D)."""
    names, rows = names_of_pixels(), []
    for domain in domains():
        place = DOMAINS[domain]
        for number in range(people):
            identity = FIRST + number
            person = sample_person(place, generator("colours", seed, domain, identity))
            rows.append(names.encode_images([render(person, identity, place, number % len(place.cameras), seed).image]))
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
