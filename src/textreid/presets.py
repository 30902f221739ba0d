"""Where settings start from: named presets, each a function that returns a configuration, or a run that goes on.

>>> import textreid
>>> textreid.presets.paper().masking.probability
0.15
>>> sorted(textreid.presets.PRESETS)
['clip-vit-b16', 'fast', 'finetune', 'paper', 'small', 'tiny']
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from textreid.config import (
    AugmentationConfig,
    Config,
    LossConfig,
    MaskingConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from textreid.errors import ConfigError, ResumeError, nearest_name
from textreid.runlog import first_of_run


def tiny() -> Config:
    """Set up a small model that learns from random weights on two CPU cores, as the bundled ``tiny`` did."""
    return Config(
        model=ModelConfig(
            image_height=128,
            image_width=64,
            patch_size=16,
            stem="convolutional",
            vision_width=192,
            vision_layers=4,
            vision_heads=3,
            text_width=192,
            text_layers=2,
            text_heads=3,
            text_length=56,
            embedding_dim=256,
            activation="gelu",
            tokenizer="own",
            vocabulary_size=4096,
        ),
        masking=MaskingConfig(layer=2),
        # SDM, whose direction is KL(predicted ‖ true), suits a pretrained CLIP: from random weights it is slow.
        losses=LossConfig(sdm=0.0, itc=1.0, temperature=0.05),
        optimizer=OptimizerConfig(
            learning_rate=1e-3,
            warmup_start=1e-5,
            warmup_epochs=0.5,
            # With 2,000 drawn people, R1 on another domain was 5.0 % with 64 steps of warm-up and 7.4 % with 100.
            min_warmup_steps=100,
            beta2=0.98,
            weight_decay=0.0,
            clip_norm=1.0,
        ),
        augmentation=AugmentationConfig(pad=4, erase=0.3, erase_area_high=0.2, scale=0.15, colour=0.3, blur=0.3),
        training=TrainingConfig(
            epochs=12, batch_size=128, epoch_unit="image", captions_per_image=2, checkpoint_every=500
        ),
    )


def small() -> Config:
    """Set up ``tiny`` at 192×96 above the trunk of the bundled ``small``, which has seen ImageNet and stays as it is.

    The trunk's maps of two random views of each picture are computed once and kept: 115 KB a picture.
    """
    start = tiny()
    return replace(
        start,
        model=replace(
            start.model,
            image_height=192,
            image_width=96,
            stem="efficientnet-lite0",
            trunk_weights="small",
            vision_layers=2,
            pixel_mean=(0.485, 0.456, 0.406),
            pixel_std=(0.229, 0.224, 0.225),
        ),
        optimizer=replace(start.optimizer, trunk_lr_multiplier=0.0),
        training=replace(start.training, cache_images="maps", map_views=2),
    )


def paper() -> Config:
    """Set up pre-training as published: CLIP ViT-B/16 at 384×128, SDM with NAM (Tan et al. 2024, §4.1)."""
    # The release resizes pictures bilinearly, though OpenAI's CLIP, which it starts from, was trained on bicubic ones.
    return Config(model=ModelConfig(weights="openai/clip-vit-base-patch16", interpolation="bilinear"))


def fast() -> Config:
    """Set up ``paper`` with an image and four of its captions in place of four pairs: a third of the arithmetic."""
    # For the same arithmetic R1 is 23.7 against 14.3 %, after three times the epochs (docs/benchmarks.md).
    # Words are masked as in the paper: why not by the scorer that finds wrong words best, docs/findings.md says.
    return replace(paper(), training=TrainingConfig(batch_size=128, epoch_unit="image", captions_per_image=4))


def finetune() -> Config:
    """Set up fine-tuning on annotated people (the recipe of IRRA, Jiang & Ye, CVPR 2023; Tan et al. 2024, supplement).

    Words are masked evenly for every loss, as in the release. ``model`` is that of the weights it starts from.
    """
    return Config(
        masking=MaskingConfig(method="em"),
        losses=LossConfig(sdm=1.0, id=1.0, mlm=1.0),
        optimizer=OptimizerConfig(head_lr_multiplier=5.0, bias_lr_multiplier=2.0, decay_biases=False),
        training=TrainingConfig(epochs=60, batch_size=64, select="validation"),
    )


PRESETS: dict[str, Callable[[], Config]] = {
    "tiny": tiny,
    "small": small,
    "clip-vit-b16": paper,
    "paper": paper,
    "fast": fast,
    "finetune": finetune,
}


def preset(name: str) -> Config:
    """Return the preset called ``name``.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; {nearest_name(name, PRESETS)}")
    return PRESETS[name]()


def settings_of_run(folder: Path) -> Config | None:
    """Read the settings of the run in ``folder``, to go on with.

    Returns:
        None in a process other than the first of its run: without a shared disk, it takes those of the first.

    Raises:
        ResumeError: there is no run.
        ConfigError: its ``config.json`` is damaged.
    """
    if (folder / "config.json").is_file():
        return Config.load(folder / "config.json")
    if first_of_run():
        raise ResumeError(f"{folder}: no run to resume; start it without --resume")
    return None
