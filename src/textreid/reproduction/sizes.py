"""With which settings a row trains, and how much that is."""

from textreid.config import Config
from textreid.datasets.benchmarks import PUBLISHED
from textreid.presets import preset
from textreid.reproduction.experiments import LUPERSON_MLLM, Row
from textreid.reproduction.scales import Scale

_SLOTS = 4  # captions of an image in LUPerson-MLLM


def training_config(row: Row, scale: Scale, seed: int = 0) -> Config:
    """The settings that a row's own training runs with, but for the network that fine-tuning takes from its start.

    Raises:
        ConfigError: one is refused.
    """
    name, settings = ("finetune", scale.finetune) if row.finetune else (scale.preset, scale.pretrain)
    return preset(name).override([*settings, *row.set, f"training.seed={seed}"])


def size_of(row: Row, scale: Scale) -> str:
    """The data and steps of a row's own training, in words; empty where nothing is trained.

    At the paper's scale also the operations, 6 for each parameter and token, from which follows what hardware needs.
    """
    if row.weights:
        return ""
    training = training_config(row, scale).training
    images, captions = _images_and_captions(row, scale)
    if images is None:
        return f"{training.epochs} epochs, {training.batch_size} {training.epoch_unit}s at once"
    units = captions if training.epoch_unit == "pair" else images
    steps = training.epochs * -(-units // training.batch_size)
    words = (
        f"{images:,} images, {captions:,} captions; {training.epochs} epochs, {steps:,} steps of "
        f"{training.batch_size} {training.epoch_unit}s"
    )
    return words if scale.drawn else f"{words}; about {_operations(row, scale, units):.1e} operations"


def _images_and_captions(row: Row, scale: Scale) -> tuple[int | None, int]:
    if row.finetune and scale.drawn:
        return 2 * scale.tuning_people, 4 * scale.tuning_people
    if row.finetune:
        train = PUBLISHED[row.finetune].splits["train"][0]
        return train.images, train.captions
    images = scale.images_of(row)
    slots = len(row.slots) or (_SLOTS if row.captions == LUPERSON_MLLM else 1)
    return images, slots * (images or 0)


def _operations(row: Row, scale: Scale, pairs: int) -> float:
    config = training_config(row, scale)
    model = config.model
    patches = model.grid[0] * model.grid[1]
    image = 12 * model.vision_layers * model.vision_width**2 * (1 + patches)
    text = 12 * model.text_layers * model.text_width**2 * model.text_length
    return 6.0 * (image + text) * pairs * config.training.epochs
