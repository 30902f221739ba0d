"""Make presence.json of a model folder, by which a search ranks pictures of empty places low.

    python recipes/presence.py runs/mine/model            # four minutes on two cores for a small model
    python recipes/presence.py src/textreid/models/bundled/tiny

Draws people and empty places, fits log odds to the model's features of one half of them, and chooses on the other half

- the threshold: the log odds that 1 in 200 people stay below;
- the penalty: the least that brings 98 % of what any brings, in the share of sentences about 500 people that have one
  of 50 empty places among the first ten.

The ``station`` domain and photographs play no part, so that benchmarks/presence_cost.py can measure on them. Everything
follows from the seed and the model.
"""

import argparse
import io
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from textreid.errors import ModelError
from textreid.evaluation.metrics import retrieval_metrics
from textreid.models import Model, load_model
from textreid.models.folder import add_presence, open_folder
from textreid.models.presence import Presence, fit_log_odds
from textreid.reporting.lettering import font
from textreid.seeding import Chance, generator
from textreid.synthetic import DOMAINS, render, sample_person
from textreid.synthetic.describer import describe
from textreid.synthetic.drawing.background import paint_place
from textreid.synthetic.drawing.camera import Camera, expose

SEED = 20261129
UNSEEN_DOMAIN = "station"
LOST = 0.005  # of drawn people, whom a search may call nobody
GALLERY, EMPTY, FIRST = 500, 50, 10
ENOUGH = 0.98  # of what the best penalty brings: a greater one costs people who are hard to see
PENALTIES = [0.001 * 2 ** (step / 2) for step in range(20)]  # scores of some models differ by a tenth of others'

Array = npt.NDArray[np.float32]
Features = dict[tuple[str, bool, str], Array]  # by kind, whether held out, domain
Gallery = tuple[Array, ...]  # features of sentences, of the people they describe, of empty places


class Job(NamedTuple):
    """One picture to draw."""

    kind: str  # "person", "place" or "close-up"
    held_out: bool
    domain: str
    number: int
    seed: int


def main() -> None:
    """Draw, fit, choose, write; print what was found on the held-out drawings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model folder that textreid wrote")
    parser.add_argument("--pictures", type=int, default=1000, help="of people and of places, a domain and half")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    options = parser.parse_args()
    presence = make_presence(options.model, options.pictures, options.seed, options.workers)
    print(json.dumps(presence.made, indent=2))
    print(f"written: {options.model / 'presence.json'}")


def make_presence(folder: Path, pictures: int = 1000, seed: int = SEED, workers: int = 2) -> Presence:
    """Make the file of a model folder, in place of one that is there.

    Raises:
        ArtifactError: it is no model folder, or cannot be written.
        ModelError: the model's features do not tell empty places from people.
    """
    fingerprint = open_folder(folder).fingerprint
    presence = choose(encode_drawings(load_model(folder), pictures, seed, workers), fingerprint, seed)
    add_presence(folder, presence)
    return presence


def encode_drawings(model: Model, pictures: int, seed: int, workers: int) -> Features:
    """Return features of all kinds of pictures, and of the sentences about held-out people, by domain."""
    features: Features = {}
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for domain, held_out in product(domains(), (False, True)):
            for kind, count in (("person", pictures), ("place", pictures), ("close-up", pictures // 2)):
                jobs = [Job(kind, held_out, domain, number, seed) for number in range(count)]
                drawn = list(pool.map(draw, jobs, chunksize=16))
                images = [Image.open(io.BytesIO(content)) for content, _ in drawn]
                features[kind, held_out, domain] = model.encode_images(images)
                if kind == "person" and held_out:
                    features["sentence", True, domain] = model.encode_texts([sentence for _, sentence in drawn])
    return features


def choose(features: Features, fingerprint: str, seed: int) -> Presence:
    """Fit to what is not held out; choose threshold and penalty on what is, and measure there.

    Raises:
        ModelError: as `make_presence`.
    """

    def of(held_out: bool, *kinds: str) -> Array:
        return np.concatenate([features[kind, held_out, domain] for kind in kinds for domain in domains()])

    people, empty = of(False, "person"), of(False, "place", "close-up")
    weights, bias = fit_log_odds(people, empty)
    fitted = Presence(fingerprint, weights, bias, threshold=0.0, penalty=0.0)
    odds = {kind: fitted.log_odds(of(True, kind)) for kind in ("person", "place", "close-up")}
    # Not above even odds: what is more likely somebody than nobody is not called nobody.
    threshold = min(0.0, round(float(np.quantile(odds["person"], LOST)), 4))
    galleries = [tuple(features[kind, True, d] for kind in ("sentence", "person", "place")) for d in domains()]
    penalty, shares = choose_penalty(galleries, fitted)
    presence = replace(fitted, threshold=threshold, penalty=penalty)
    made = {
        "recipe": "recipes/presence.py",
        "seed": seed,
        "domains": domains(),
        "people": len(people),
        "empty": len(empty),
        "held_out_below_threshold": {kind: _share(values < threshold) for kind, values in odds.items()},
        "held_out_below_even_odds": {kind: _share(values < 0) for kind, values in odds.items()},
        "sentences_with_a_place_in_the_first_ten_without_and_with_it": shares,
        "R1_of_held_out_people_without_and_with_it": [_first_ranks(galleries, each) for each in (fitted, presence)],
    }
    return replace(presence, made=made)


def domains() -> list[str]:
    """The domains that are drawn from; never the one that is measured on."""
    return [name for name in DOMAINS if name != UNSEEN_DOMAIN]


def draw(job: Job) -> tuple[bytes, str]:
    """Draw one picture as a camera stores it, a JPEG, and describe who is in it."""
    place = DOMAINS[job.domain]
    camera = job.number % len(place.cameras)
    chance = Chance.of("presence", job.seed, job.kind, str(job.held_out), job.domain, job.number)
    sentence = ""
    if job.kind == "person":
        identity = (50_000_000 if job.held_out else 40_000_000) + job.number  # people that no other recipe draws
        person = sample_person(place, generator("presence", job.seed, job.domain, identity))
        shot = render(person, identity, place, camera, job.seed)
        picture, sentence = shot.image, describe(person, shot.view, job.number)
    else:
        picture = _place(place.cameras[camera], job.kind == "close-up", chance)
    if not job.held_out:
        # Half of a person is a person: what a detector cut must not seem empty.
        picture = _cut(picture, chance) if job.kind == "person" and chance.happens(0.3) else picture
        picture = _stamp(_poor_light(picture, chance), chance)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=place.cameras[camera].quality)
    return stream.getvalue(), sentence


def _place(camera: Camera, close: bool, chance: Chance) -> Image.Image:
    """Draw what a camera sees before anybody walks in; close up a part of it, often hardly more than a wall."""
    height, tall = chance.whole(*camera.heights), 256
    aspect = chance.middle(0.32, 0.50)
    wide = int(tall * aspect)
    place = paint_place(camera.place, wide, tall, chance)
    if close:
        nearer = chance.between(1.5, 8)
        width, length = int(wide / nearer), int(tall / nearer)
        left, top = chance.whole(0, wide - width + 1), chance.whole(0, tall - length + 1)
        part = place.crop((left, top, left + width, top + length))
        place = part.resize((wide, tall), Image.Resampling.BICUBIC)
        if chance.happens(0.5):  # cameras stand in coloured light, and before painted walls
            colour = [chance.between(0.2, 1.6) for _ in range(3)]
            place = Image.fromarray(np.clip(np.asarray(place, np.float32) * colour, 0, 255).astype(np.uint8))
    return expose(place, camera, height, max(16, int(height * aspect)), chance)


def _cut(picture: Image.Image, chance: Chance) -> Image.Image:
    """Keep at least half of the height, or two thirds of the width."""
    width, height = picture.size
    if chance.happens(0.5):
        top = chance.between(0, 0.5)
        return picture.crop((0, int(top * height), width, int(chance.between(top + 0.5, 1.0) * height)))
    left = chance.between(-0.35, 0.35)
    return picture.crop((int(max(0.0, left) * width), 0, int((1 + min(0.0, left)) * width), height))


def _poor_light(picture: Image.Image, chance: Chance) -> Image.Image:
    """Darken some pictures and take contrast from them, people and places alike."""
    if not chance.happens(0.3):
        return picture
    pixels = np.asarray(picture, np.float32)
    middle = np.float32(pixels.mean())
    pixels = middle + (pixels - middle) * np.float32(chance.between(0.2, 1))
    return Image.fromarray(np.clip(pixels * np.float32(chance.between(0.3, 1)), 0, 255).astype(np.uint8))


def _stamp(picture: Image.Image, chance: Chance) -> Image.Image:
    """Write the time into some pictures, people and places alike."""
    if chance.happens(0.1):
        time = ":".join(f"{chance.whole(0, most):02}" for most in (24, 60, 60))
        letters = font(max(6, int(picture.width * chance.between(0.12, 0.25))))
        corner = (int(chance.between(0, 0.3) * picture.width), int(chance.pick((0.02, 0.9)) * picture.height))
        ImageDraw.Draw(picture).text(corner, time, chance.pick(("white", "black", "yellow")), letters)
    return picture


def choose_penalty(galleries: list[Gallery], fitted: Presence) -> tuple[float, list[float]]:
    """Return the least penalty that brings enough, and the share of first tens with a place without it and with it.

    Raises:
        ModelError: none halves that share.
    """
    before = _share_with_empty(galleries, fitted)
    shares = [_share_with_empty(galleries, replace(fitted, penalty=penalty)) for penalty in PENALTIES]
    if min(shares) > before / 2:
        found = f"{before:.1%} of the sentences find one, at best {min(shares):.1%}"
        raise ModelError(f"the features of this model do not tell empty places from people: {found}")
    enough = before - ENOUGH * (before - min(shares))
    penalty, after = next(pair for pair in zip(PENALTIES, shares, strict=True) if pair[1] <= enough)
    return round(penalty, 4), [before, after]


def _share_with_empty(galleries: list[Gallery], presence: Presence) -> float:
    """Share of the sentences with an empty place in the first ten of so many people and places."""
    found = []
    for texts, people, places in galleries:
        for begin in range(0, len(people), GALLERY):
            gallery = people[begin : begin + GALLERY]
            some = places[begin // GALLERY * EMPTY :][: max(1, len(gallery) * EMPTY // GALLERY)]
            queries = texts[begin : begin + GALLERY]
            scores, empty = (
                queries @ images.T - presence.losses(presence.log_odds(images)) for images in (gallery, some)
            )
            first = max(1, FIRST * len(gallery) // GALLERY)
            found.append(empty.max(axis=1) > np.sort(scores, axis=1)[:, -first])
    return _share(np.concatenate(found))


def _first_ranks(galleries: list[Gallery], presence: Presence) -> float:
    """R1 over the people of each domain."""
    found = []
    for texts, people, _ in galleries:
        losses = presence.losses(presence.log_odds(people))
        # One more number a feature, so that the product of two is the score that a search ranks by.
        images = np.concatenate([people, -losses[:, None]], axis=1)
        queries = np.concatenate([texts, np.ones((len(texts), 1), np.float32)], axis=1)
        found.append(retrieval_metrics(queries, images, np.arange(len(texts)), np.arange(len(people))).scores()["R1"])
    return round(float(np.mean(found)), 4)


def _share(values: npt.NDArray[np.bool_]) -> float:
    return round(float(np.mean(values)), 4)


if __name__ == "__main__":
    main()
