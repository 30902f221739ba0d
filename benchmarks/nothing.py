"""How often a picture without a person stands among the first ten of a search.

500 drawn crops, every sentence about them a query, and 50 frames of each kind that shows nobody: blank (one colour
under a camera's noise), noise (static, fine and coarse), near-empty (a gradient, a corner of walls, a time stamp on a
wall) and background (the place of a drawn camera before anybody walked in). Of each kind: how many a search leaves
out by name, how many of the others it says seem to show nobody, and the share of queries with one of the others in
the first ten; then the same by plain cosines, and if none were left out either.

    python benchmarks/nothing.py                 # the bundled model; two minutes on two cores
    python benchmarks/nothing.py --identities 20 --frames 10
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from textreid.datasets import read_benchmark
from textreid.gallery.embedding_cache import EmbeddingCache
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.indexing import index_folder
from textreid.images import read_image
from textreid.reporting.lettering import font
from textreid.seeding import Chance
from textreid.synthetic import DOMAINS, write_corpus
from textreid.synthetic.drawing.background import paint_place
from textreid.synthetic.drawing.camera import expose

_SIZE = (60, 140)  # width and height
_PER_IDENTITY = 4
_FIRST = 10
Generator = np.random.Generator


def main() -> None:
    """Draw, search, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=125)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--domain", default="station", choices=list(DOMAINS))
    parser.add_argument("--model", help="a model folder; else the bundled model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "corpus"
        write_corpus(folder, options.domain, options.identities, _PER_IDENTITY, 7, workers=os.cpu_count() or 1)
        corpus = read_benchmark("people", folder)
        crops = folder / "imgs"
        for kind, draw in KINDS.items():
            (crops / kind).mkdir()
            for number in range(options.frames):
                draw(np.random.default_rng([len(kind), number]), options.domain).save(
                    crops / kind / f"{number}.jpg", quality=50 + number % 46
                )
        encoder = GalleryEncoder(options.model)
        queries = [caption for record in corpus.records for caption in record.captions]
        vectors = np.stack([encoder.encode_query(query)[0] for query in queries])
        with EmbeddingCache() as cache:
            index = index_folder(crops, encoder, cache)
        features = index.features[index.rows]
        cosines = vectors @ features.T  # (queries, images)
        kinds = np.array([_kind(path) for path in index.paths])
        scores, seem_empty = cosines, np.zeros(len(features), np.bool_)
        if encoder.presence:
            log_odds = encoder.presence.log_odds(features)
            scores, seem_empty = cosines - encoder.presence.losses(log_odds), log_odds < encoder.presence.threshold
        by_cosine, people = cosines[:, kinds == ""], scores[:, kinds == ""]
        found = {}
        for kind in KINDS:
            left_out = [one.path for one in index.rejected if _kind(one.path) == kind]
            plain = cosines[:, kinds == kind]
            everything = np.concatenate([plain, vectors @ _encode(encoder, left_out).T], axis=1)
            found[kind] = {
                "frames": options.frames,
                "left_out": len(left_out),
                "seem_empty": int(seem_empty[kinds == kind].sum()),
                "queries_with_one_in_the_first_ten": round(share_above(scores[:, kinds == kind], people), 4),
                "by_cosine": round(share_above(plain, by_cosine), 4),
                "by_cosine_if_none_left_out": round(share_above(everything, by_cosine), 4),
            }
        of_people = {
            "crops": people.shape[1],
            "crops_left_out": sum(_kind(one.path) == "" for one in index.rejected),
            "crops_seem_empty": int(seem_empty[kinds == ""].sum()),
            "queries": len(queries),
        }
        print(json.dumps({**of_people, **found}, indent=2))


def share_above(frames: npt.NDArray[np.float32], people: npt.NDArray[np.float32]) -> float:
    """Share of the queries (rows) whose best frame scores above the tenth best of people and frames."""
    if not frames.shape[1]:
        return 0.0
    tenth = np.sort(people, axis=1)[:, -_FIRST]
    return float(np.mean(frames.max(axis=1) > tenth))


def blank(generator: Generator, _: str) -> Image.Image:
    """One colour, often none, under the noise of a camera."""
    colour = generator.choice([0, 255, int(generator.integers(0, 256))]) + generator.integers(-20, 21, 3)
    pixels = np.broadcast_to(colour, (*_SIZE[::-1], 3)) + generator.normal(
        0, generator.uniform(0, 4), (*_SIZE[::-1], 3)
    )
    return _picture(pixels)


def noise(generator: Generator, _: str) -> Image.Image:
    """Static: in colour or grey, a grain of one pixel, or enlarged from fewer."""
    grain, channels = int(generator.integers(1, 4)), int(generator.choice([1, 3]))
    pixels = generator.normal(
        generator.uniform(60, 200), generator.uniform(30, 80), (140 // grain, 60 // grain, channels)
    )
    return _picture(np.broadcast_to(pixels, (*pixels.shape[:2], 3))).resize(_SIZE, Image.Resampling.NEAREST)


def near_empty(generator: Generator, _: str) -> Image.Image:
    """Light that falls off, a corner of two walls, or a time stamp on a wall."""
    shade, other = generator.integers(20, 236, 3), generator.integers(20, 236, 3)
    kind, fade = generator.integers(3), np.linspace(0, 1, _SIZE[1])[:, None, None]
    picture = _picture(np.broadcast_to(shade + (other - shade) * (fade if kind == 0 else 0), (*_SIZE[::-1], 3)))
    draw = ImageDraw.Draw(picture)
    if kind == 1:
        draw.rectangle((0, 0, int(generator.integers(10, 50)), 140), tuple(map(int, other)))
    elif kind == 2:
        draw.text((3, 3), f"{generator.integers(24):02}:{generator.integers(60):02}:07", "white", font(11))
    softened = picture.filter(ImageFilter.GaussianBlur(generator.uniform(0, 2)))
    return _picture(np.asarray(softened, np.float32) + generator.normal(0, 4, (*_SIZE[::-1], 3)))


def background(generator: Generator, domain: str) -> Image.Image:
    """The place of one of the cameras, without anybody."""
    seed = int(generator.integers(1 << 31))
    chance = Chance.of("empty place", seed)
    camera = DOMAINS[domain].cameras[chance.whole(0, len(DOMAINS[domain].cameras))]
    place = paint_place(camera.place, 120, 280, chance)
    return expose(place, camera, _SIZE[1], _SIZE[0], chance)


KINDS: dict[str, Callable[[Generator, str], Image.Image]] = {
    "blank": blank, "noise": noise, "near-empty": near_empty, "background": background,
}  # fmt: skip


def _picture(pixels: npt.NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _kind(path: Path) -> str:
    return path.parent.name if path.parent.name in KINDS else ""


def _encode(encoder: GalleryEncoder, paths: list[Path]) -> npt.NDArray[np.float32]:
    model = encoder.load()
    return model.encode_images([read_image(path) for path in paths] or [Image.new("RGB", _SIZE)])[: len(paths)]


if __name__ == "__main__":
    main()
