"""Which words are wrong: how well each scorer of words finds the errors that a simulated captioner made.

    python benchmarks/noise_detection.py small tiny                                  # on pictures drawn for it
    python benchmarks/noise_detection.py MODEL --images people --captions captions   # on yours, if errors are known

Without `--images` it draws 200 people of `--domain`, twice each, whom four captions describe with 15 % errors, as
`textreid synthesize --captions` does. The ceiling is what a model knows: so the drawn people's own sentences tell how
often a picture prefers the true one to one with an attribute swapped.
"""

import argparse
import json
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from textreid.captioning import caption
from textreid.datasets.benchmarks import read_benchmark
from textreid.evaluation.encoding import encode_split
from textreid.evaluation.swaps import SwapTest, swap_tests
from textreid.inspection.detection import SKIPPED, Detection, measure_detection, measure_wrong_people
from textreid.models import load_model
from textreid.presets import tiny
from textreid.reporting.tables import Table, print_tables
from textreid.synthetic import write_corpus
from textreid.training import captioned_images

FIRST = 800_000  # number of the first person: none that a bundled model has seen
SCORERS = (
    "patches", "patches+centred+content", "attention", "attention+content", "tokens", "tokens+centred",
    "words", "words+centred", "words+centred+content",
    "gradient", "gradient+centred+content", "discriminant+content", "votes", "votes+content",
    "votes+discriminant+content", "gradient+votes+discriminant+content", "words+centred+votes+discriminant+content",
)  # fmt: skip
OF_CAPTIONS = ("patches", "attention", "votes+content", "votes+discriminant+content")  # asked about whole captions
KINDS = {  # of wrong words, and the attribute that a sentence is swapped in
    "colour": "colour", "upper body": "upper garment", "lower body": "lower garment", "belongings": "bag",
    "gender": "gender", "hair": "hair length", "headwear": "headwear", "footwear": "",
}  # fmt: skip


def draw(folder: Path, domain: str, people: int, seed: int, rate: float) -> tuple[Path, Path]:
    """Draw people and let the simulated captioners describe them; returns the folders."""
    write_corpus(folder / "people", domain, people, 2, seed, first_identity=FIRST)
    caption(
        folder / "people", folder / "captions", [f"{name}=simulated:{rate}" for name in ("qwen", "shikra")],
        seed=seed, show=False,
    )  # fmt: skip
    return folder / "people", folder / "captions"


def detection_table(name: str, found: Sequence[Detection]) -> Table:
    """How well each scorer ranks wrong words above right ones, what it masks and what it costs."""
    rows = [
        (
            row.scorer if row.layer is None else f"{row.scorer}, layer {row.layer}",
            *(f"{row.auroc[words]:.2f}" for words in ("all", "content", "caption", "caption content")),
            *(f"{row.precision[words]:.2f}" for words in ("all", "content")),
            f"{100 * row.masked['wrong']:.0f}", f"{100 * row.masked['right content']:.0f}",
            f"{100 * row.calibration:.0f}", f"{row.milliseconds:.1f}",
        )
        for row in found
    ]  # fmt: skip
    one = found[0]
    return Table(
        f"{name}: {one.words:,} words, {one.content:,} of them content words, {one.wrong:,} wrong",
        (
            "scorer", "AUROC, all", "AUROC, content", "in a caption", "in a caption, content", "AP, all", "AP, content",
            "wrong masked, %", "right content masked, %", "off, %", "ms a caption",
        ),
        [rows],
        ("off: mean distance of the probability of being masked from the share of wrong words (content words).",),
    )  # fmt: skip


def kind_table(name: str, found: Sequence[Detection], swaps: Sequence[SwapTest]) -> Table:
    """AUROC by kind of the wrong word, below how often the model prefers the truth about that attribute."""
    kinds = [kind for kind in KINDS if kind in found[0].kinds]
    known = {test.attribute: f"{test.preferred:.2f}" for test in swaps}
    rows = [
        (
            row.scorer if row.layer is None else f"{row.scorer}, layer {row.layer}",
            *(f"{row.kinds[kind][1]:.2f}" for kind in kinds),
        )
        for row in found
    ]
    return Table(
        f"{name}: AUROC by kind of error, against all right content words",
        ("", *kinds),
        [
            [
                ("wrong words", *(f"{found[0].kinds[kind][0]:,}" for kind in kinds)),
                ("prefers the truth (swaps)", *(known.get(KINDS[kind], "") for kind in kinds)),
            ],
            rows,
        ],
    )


def measure(name: str, images: Path, captions: Path, options: argparse.Namespace) -> None:
    """Measure one model and print its tables, or say why there are none."""
    model = load_model(name)
    settings = tiny().override([f"losses.temperature={options.temperature}"])
    data, scorers = captioned_images(images, captions), options.scorer or SCORERS
    if not data.errors:
        print(f"{captions}: {SKIPPED}")
        return
    found = measure_detection(model, data, scorers, settings, images=options.batch)
    swaps: Sequence[SwapTest] = ()
    if (images / "reid_raw.json").exists():
        swaps = swap_tests(model, encode_split(model, read_benchmark("generic", images)))
    tables = [detection_table(name, found), kind_table(name, found, swaps)]
    pairs = measure_wrong_people(model, data, OF_CAPTIONS, settings, images=options.batch)
    rows = [(score, f"{area:.2f}") for score, area in pairs.items()]
    print_tables([*tables, Table(f"{name}: captions of somebody else, one in ten", ("score", "AUROC"), [rows])])
    if options.json:
        print(json.dumps({"model": name, "detection": [row.to_dict() for row in found]}))


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="what load_model takes")
    parser.add_argument("--images", type=Path, help="root of the images that --captions names")
    parser.add_argument("--captions", type=Path, help="a caption table with errors.jsonl")
    parser.add_argument("--scorer", action="append", help="a value of masking.scorer; any number")
    parser.add_argument("--domain", default="station")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.15, help="of wrong colours; other errors in proportion")
    parser.add_argument("--batch", type=int, default=100, help="images of a step")
    parser.add_argument("--temperature", type=float, default=0.05, help="of the softmax over the images of a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON too")
    options = parser.parse_args()
    if (options.images is None) != (options.captions is None):
        parser.error("give both --images and --captions, or neither")
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        images, captions = options.images, options.captions
        if images is None:
            images, captions = draw(Path(temporary), options.domain, options.people, options.seed, options.rate)
        for name in options.models:
            measure(name, images, captions, options)
    print(
        f"seed {options.seed}, {options.batch} images a step, temperature {options.temperature}, {options.threads} "
        f"threads; {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
