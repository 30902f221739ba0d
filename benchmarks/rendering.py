"""How many crops one core renders in a second, all effects included.

Every crop is rendered at 128 pixels of height by the cameras of every domain in turn, then resized to 128×64. Process
CPU time is counted, so that other work on the machine does not change the figure. With ``--bodies`` they are people in
three dimensions of that bank (`recipes/bodies_corpus.py` makes one), at 192 pixels and 192×96; that wants
``PYTHONPATH=recipes``.
"""

import argparse
import dataclasses
import io
import time
from functools import partial
from pathlib import Path

from PIL import Image

from textreid.seeding import generator
from textreid.synthetic import DOMAINS, Domain, render, sample_person


def at_height(domain: Domain, height: int) -> Domain:
    """The same cameras, all storing crops of one height."""
    cameras = tuple(dataclasses.replace(camera, heights=(height, height + 1)) for camera in domain.cameras)
    return dataclasses.replace(domain, cameras=cameras)


def main() -> None:
    """Print crops per second of one core, with and without storing them as JPEG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1500, help="crops")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bodies", type=Path, metavar="BANK", help="bodies.npz")
    options = parser.parse_args()
    height, draw = 128, render
    if options.bodies:
        from bodies.rendering import render_shot

        height, draw = 192, partial(render_shot, options.bodies)
    domains = [at_height(domain, height) for domain in DOMAINS.values()]
    people = [sample_person(domains[i % len(domains)], generator(options.seed, i)) for i in range(options.n)]
    draw(people[0], 0, domains[0], 0, options.seed + 1)  # makes the texture banks, once per process
    rendering = storing = 0.0
    for i, person in enumerate(people):
        domain = domains[i % len(domains)]
        camera = i % len(domain.cameras)
        start = time.process_time()
        crop = draw(person, i, domain, camera, options.seed).image.resize(
            (height // 2, height), Image.Resampling.BILINEAR
        )
        middle = time.process_time()
        crop.save(io.BytesIO(), "JPEG", quality=domain.cameras[camera].quality)
        rendering += middle - start
        storing += time.process_time() - middle
    print(f"n={options.n} seed={options.seed} size={height}x{height // 2} cores=1 (process CPU time)")
    print(f"rendering           {options.n / rendering:6.0f} crops/s")
    print(f"rendering and JPEG  {options.n / (rendering + storing):6.0f} crops/s")


if __name__ == "__main__":
    main()
