"""Every setting of a training run, in frozen dataclasses two levels deep.

A configuration comes from a preset (`textreid.presets`), a JSON or TOML file, and ``--set section.name=value``
overrides, in that order. Reading one reports all its errors at once, with dotted names and, for an unknown name,
the nearest known one. Names that settings once had are read too.
"""

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, cast

from textreid.config_values import known, parse_value, read_section
from textreid.errors import ConfigError, check_list, check_path, nearest_name

CLIP_PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
NORM_EPSILON = 1e-5  # of every layer norm of CLIP
CONTRASTIVE = ("sdm", "itc", "cmpm")  # losses that compare images with captions
LOSSES = (*CONTRASTIVE, "id", "mlm")
# See `textreid.training.scorers`.
SCORERS = ("patches", "attention", "tokens", "words", "gradient", "votes", "discriminant")
RANKING = ("patches", "attention")  # those that say which word is noisier, in no unit of probability
REFINEMENTS = ("centred", "content", "average")
_TRUNK_PATCH = 16
_MEMORY = 0.5  # of the refinement "average"


def _within(default: Any, low: float, high: float = float("inf")) -> Any:
    """Declare a number that must lie in ``[low, high]``."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the dual encoder. The defaults are CLIP ViT-B/16 at 384×128 (Tan et al. 2024, §4.1)."""

    weights: str | None = None  # where training starts: anything that `load_model` takes; None is random
    image_height: int = _within(384, 8)
    image_width: int = _within(128, 8)
    patch_size: int = _within(16, 1)
    stem: Literal["patch", "convolutional", "efficientnet-lite0", "efficientnet-lite1"] = "patch"
    trunk_weights: str | None = None  # of the EfficientNet where training starts: its file, or a model with one
    vision_width: int = _within(768, 8)
    vision_layers: int = _within(12, 1)
    vision_heads: int = _within(12, 1)
    text_width: int = _within(512, 8)
    text_layers: int = _within(12, 1)
    text_heads: int = _within(8, 1)
    text_length: int = _within(77, 4, 77)
    embedding_dim: int = _within(512, 1)
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    tokenizer: Literal["clip", "own"] = "clip"  # "own": learned from the training captions
    vocabulary_size: int = _within(49408, 260)
    pixel_mean: tuple[float, float, float] = CLIP_PIXEL_MEAN
    pixel_std: tuple[float, float, float] = CLIP_PIXEL_STD
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"  # of the resize to image_height × image_width
    reduced_decoding: bool = True  # large JPEGs are decoded at 1/2, 1/4 or 1/8: faster, and other pixels by a little

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the model's section alone, as a model folder holds it.

        Raises:
            ConfigError: lists every unknown name, wrong type, value out of range and contradiction.
        """
        errors: list[str] = []
        model = read_section("model", cls(), values, errors)
        errors += model.contradictions() if not errors else []
        if errors:
            raise ConfigError("; ".join(errors))
        return cast("Self", model)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches of an image."""
        return self.image_height // self.patch_size, self.image_width // self.patch_size

    @property
    def has_trunk(self) -> bool:
        """Whether the stem is a network that may have been trained elsewhere, whose patches are 16 pixels a side."""
        return self.stem.startswith("efficientnet")

    def contradictions(self) -> list[str]:
        """List what is each allowed but does not fit together, one sentence each."""
        found = []
        for side, pixels in (("image_height", self.image_height), ("image_width", self.image_width)):
            if pixels % self.patch_size:
                found.append(f"model.{side}: {pixels} is not a multiple of model.patch_size {self.patch_size}")
        for tower, width, heads in (
            ("vision", self.vision_width, self.vision_heads),
            ("text", self.text_width, self.text_heads),
        ):
            if width % heads:
                found.append(f"model.{tower}_width: {width} is not a multiple of model.{tower}_heads {heads}")
        if min(self.pixel_std) <= 0:
            found.append(f"model.pixel_std: {self.pixel_std} must be above 0, pixels are divided by it")
        if self.stem == "convolutional" and self.patch_size & (self.patch_size - 1):
            found.append(f"model.patch_size: {self.patch_size} is not a power of two, as a convolutional stem needs")
        if self.has_trunk:
            # Maps at 1/32 of the pixels are part of it, and positions stand 16 pixels apart.
            if self.patch_size != _TRUNK_PATCH:
                found.append(f"model.patch_size: {self.patch_size}, but the stem {self.stem} has {_TRUNK_PATCH}")
            found += [
                f"model.{side}: {pixels} is not a multiple of {2 * _TRUNK_PATCH}, as the stem {self.stem} needs"
                for side, pixels in (("image_height", self.image_height), ("image_width", self.image_width))
                if pixels % (2 * _TRUNK_PATCH)
            ]
        elif self.trunk_weights:
            found.append(f"model.trunk_weights: the stem {self.stem} has no trunk; set model.stem=efficientnet-lite0")
        return found


@dataclass(frozen=True)
class MaskingConfig:
    """Noise-Aware Masking (Tan et al. 2024, §3.3). ``em`` masks every word alike; ``none`` masks nothing.

    ``oracle`` masks the words that a simulated captioner knows to be wrong: a bound for experiments.
    """

    method: Literal["nam", "em", "none", "oracle"] = "nam"
    probability: float = _within(0.15, 0.0, 1.0)
    layer: int = _within(10, 1)  # of both towers, counted from 1
    exact_mean: bool = False
    shift: bool = True  # of nam: each caption to the mean `probability`; or else a word as often as it seems wrong
    weigh: bool = (
        False  # of nam and oracle: no word is hidden, and a caption counts the less the more of it seems wrong
    )
    scorer: str = "patches"  # of nam: names of SCORERS and REFINEMENTS with + between; "patches" is the paper's

    @property
    def scorer_parts(self) -> list[str]:
        """Names that the scorer is made of."""
        return self.scorer.split("+")

    @property
    def memory(self) -> float:
        """Share of a word's former probability in its next one."""
        return _MEMORY if "average" in self.scorer_parts else 0.0

    def contradictions(self) -> list[str]:
        """List what is wrong with the names of the scorer, one sentence each."""
        parts, names = self.scorer_parts, SCORERS + REFINEMENTS
        if unknown := [part for part in parts if part not in names]:
            return [f"masking.scorer: no such part {part!r}; {nearest_name(part, names)}" for part in unknown]
        found = [part for part in SCORERS if part in parts]
        passes = [part for part in found if part in SCORERS[:5]]
        ranks = [part for part in found if part in RANKING]
        if len(passes) > 1 or (ranks and len(found) > 1) or not found:
            return [
                f"masking.scorer: {self.scorer} names {' and '.join(found) or 'none'} of {', '.join(SCORERS)}; "
                "choose patches or attention, or one of tokens, words and gradient, to which votes and discriminant add"
            ]
        if not self.shift and ranks:
            return [f"masking.shift: false needs a scorer that says how probably a word is wrong; {ranks[0]} does not"]
        if self.weigh and (self.method in {"em", "none"} or (self.method == "nam" and self.shift)):
            return [
                "masking.weigh: needs masking.method=nam with masking.shift=false, or masking.method=oracle: otherwise "
                "every caption has the same weight"
            ]
        return []


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses in the sum that is minimised; 0 leaves a loss out. See `textreid.training.losses`."""

    sdm: float = _within(1.0, 0.0)
    itc: float = _within(0.0, 0.0)
    cmpm: float = _within(0.0, 0.0)
    id: float = _within(0.0, 0.0)  # needs data with identities
    mlm: float = _within(0.0, 0.0)  # needs masked words
    mlm_words: Literal["masked", "trusted"] = "masked"  # what mlm predicts: all masked words, or those not suspicious
    temperature: float = _within(0.02, 1e-4)  # of sdm and itc

    def weights(self) -> dict[str, float]:
        """Return the weights of the losses that take part, by name."""
        return {name: weight for name in LOSSES if (weight := getattr(self, name))}


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam with a linear warm-up and a cosine decay, both per step."""

    # The paper is silent on the schedule: warm-up and decay are its release's.
    learning_rate: float = _within(1e-5, 0.0)
    warmup_start: float = _within(1e-6, 0.0)
    final_learning_rate: float = _within(0.0, 0.0)
    warmup_epochs: float = _within(5.0, 0.0)
    min_warmup_steps: int = _within(0, 0)  # of the warm-up, however short an epoch is
    beta1: float = _within(0.9, 0.0, 0.999999)
    beta2: float = _within(0.999, 0.0, 0.999999)
    # The 1e-3 of the paper's release is for weights in float16; here they are float32.
    epsilon: float = _within(1e-8, 1e-15)
    weight_decay: float = _within(4e-5, 0.0)
    clip_norm: float = _within(0.0, 0.0)  # 0: gradients are not clipped
    head_lr_multiplier: float = _within(5.0, 0.0)  # times learning_rate: the new layers of the id and mlm losses
    bias_lr_multiplier: float = _within(1.0, 0.0)  # times learning_rate: the biases of the towers
    trunk_lr_multiplier: float = _within(1.0, 0.0)  # times learning_rate: a stem's trunk; 0 leaves it as it is
    decay_biases: bool = True


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of a training image. The defaults are the paper's; the last four serve transfer to photographs."""

    flip: float = _within(0.5, 0.0, 1.0)
    pad: int = _within(10, 0)
    erase: float = _within(0.5, 0.0, 1.0)
    erase_area_low: float = _within(0.02, 0.0, 1.0)
    erase_area_high: float = _within(0.4, 0.0, 1.0)
    scale: float = _within(0.0, 0.0, 0.5)  # zoom by up to this share, in or out
    colour: float = _within(0.0, 0.0, 1.0)  # strength of brightness, contrast, saturation and cast changes
    blur: float = _within(0.0, 0.0, 1.0)  # probability of losing resolution
    noise: float = _within(0.0, 0.0, 1.0)  # standard deviation of pixel noise, at most


@dataclass(frozen=True)
class TrainingConfig:
    """The run: how long, how much at once, what is kept."""

    seed: int = _within(0, 0, 2**63 - 1)
    epochs: int = _within(30, 1)
    batch_size: int = _within(512, 2)  # pairs, or images where epoch_unit is image
    micro_batch: int = _within(0, 0)  # images a pass of a process: less memory, more time, same result; 0: all of them
    activation_checkpointing: bool = False  # recompute the towers' layers in the backward pass: less memory, more time
    epoch_unit: Literal["pair", "image"] = "pair"  # an epoch sees every pair once, or every image once
    captions_per_image: int = _within(1, 1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False  # translate the towers' layers with torch.compile: slow to start, then faster
    checkpoint_every: int = _within(1000, 1)  # steps
    keep_checkpoints: int = _within(2, 1)
    log_every: int = _within(10, 1)  # steps
    validate_every: int = _within(1, 1)  # epochs
    select: Literal["last", "validation"] = "last"  # the model that is kept: the last, or the best R1 on validation
    workers: int = _within(2, 0)  # threads of a process that read images ahead
    timeout: int = _within(45, 1)  # seconds after which a process that gives no answer counts as hung
    # Keep decoded images in memory; auto: if they fit a quarter; maps: what a frozen trunk makes of them.
    cache_images: Literal["auto", "on", "off", "maps"] = "auto"
    map_views: int = _within(1, 1)  # of maps: random changes of each image that are kept; the epochs take turns


@dataclass(frozen=True)
class Config:
    """All settings of a training run; frozen, and valid as a whole.

    >>> import textreid
    >>> config = textreid.presets.tiny().override(["training.epochs=3", "masking.method=em"])
    >>> config.training.epochs
    3
    >>> config.override(["training.epocs=3"])
    Traceback (most recent call last):
    textreid.errors.ConfigError: training.epocs: no such setting; did you mean training.epochs?
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], base: Self | None = None) -> Self:
        """Build a configuration from nested mappings, on top of ``base`` (the defaults when None).

        Raises:
            ConfigError: lists every unknown name, wrong type, value out of range and contradiction.
        """
        errors: list[str] = []
        start = base or cls()
        sections = {
            name: read_section(name, getattr(start, name), section, errors)
            for name, section in known(values, [f.name for f in dataclasses.fields(cls)], "", errors)
        }
        config = dataclasses.replace(start, **sections)
        errors += config.contradictions() if not errors else []
        if errors:
            raise ConfigError("; ".join(errors))
        return config

    @classmethod
    def load(cls, path: Path | str, base: Self | None = None) -> Self:
        """Read a ``.json`` or ``.toml`` file on top of ``base``.

        Raises:
            ConfigError: the file cannot be read or parsed, or its contents are refused by `from_dict`.
        """
        check_path("path", path)
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
            values = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise ConfigError(
                f"{path}: not valid {'TOML' if path.suffix.lower() == '.toml' else 'JSON'}: {error}"
            ) from error
        try:
            return cls.from_dict(values, base)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def override(self, assignments: Sequence[str]) -> Self:
        """Apply ``section.name=value`` strings; a value is JSON, or else taken as text.

        Raises:
            ConfigError: an assignment has another form, or is refused by `from_dict`.
        """
        check_list("assignments", assignments, str, "strings like training.epochs=3")
        values: dict[str, dict[str, Any]] = {}
        malformed = []
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            section, dot, key = name.strip().partition(".")
            if not (equals and dot and key):
                malformed.append(f"{assignment!r}: expected section.name=value")
                continue
            values.setdefault(section, {})[key] = parse_value(text)
        if malformed:
            raise ConfigError("; ".join(malformed))
        return self.from_dict(values, self)

    def checked(self) -> Self:
        """Check these settings, however they were made.

        Raises:
            ConfigError: as of `from_dict`.
        """
        return self.from_dict(self.to_dict())

    def differences(self, other: Self) -> list[str]:
        """Say which settings ``other`` has otherwise, as ``section.name is 3, not 12``, the own value last."""
        theirs = other.to_dict()
        return [
            f"{section}.{name} is {theirs[section][name]!r}, not {value!r}"
            for section, values in self.to_dict().items()
            for name, value in values.items()
            if theirs[section][name] != value
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values, every default included."""
        return dict(json.loads(json.dumps(dataclasses.asdict(self))))

    def contradictions(self) -> list[str]:
        """List what is each allowed but does not fit together, one sentence each."""
        model, masking, augmentation = self.model, self.masking, self.augmentation
        found = model.contradictions() + masking.contradictions()
        if masking.method == "nam" and "votes" in masking.scorer_parts and self.training.captions_per_image < 2:
            found.append(
                "masking.scorer: votes are of an image's captions; set training.epoch_unit=image and "
                "training.captions_per_image to 2 or more"
            )
        if masking.method == "nam" and masking.layer > min(model.vision_layers, model.text_layers):
            layers = min(model.vision_layers, model.text_layers)
            found.append(f"masking.layer: {masking.layer}, but the shallower tower has {layers} layers")
        found += self._contradictions_of_losses()
        if self.training.epoch_unit == "pair" and self.training.captions_per_image > 1:
            found.append("training.captions_per_image: above 1 needs training.epoch_unit image")
        if augmentation.erase_area_low > augmentation.erase_area_high:
            found.append("augmentation.erase_area_low is above augmentation.erase_area_high")
        if self.optimizer.warmup_epochs >= self.training.epochs:
            found.append(
                f"optimizer.warmup_epochs: {self.optimizer.warmup_epochs} leaves nothing of the "
                f"{self.training.epochs} epochs of training.epochs"
            )
        return found

    def _contradictions_of_losses(self) -> list[str]:
        losses, masking, found = self.losses, self.masking, []
        if not losses.weights():
            found.append("losses: every weight is 0, nothing would be learned")
        if losses.mlm and (masking.method in {"none", "oracle"} or not masking.probability):
            found.append(
                f"losses.mlm: predicts masked words, but masking.method is {masking.method} or masking.probability 0; "
                "set masking.method=em and masking.probability=0.15"
            )
        elif losses.mlm and masking.weigh:
            found.append("losses.mlm: predicts masked words, but masking.weigh masks none")
        if losses.mlm_words == "trusted" and not (losses.mlm and masking.method == "nam"):
            found.append(
                "losses.mlm_words: trusted needs losses.mlm above 0 and a scorer to say which words are, "
                "masking.method=nam"
            )
        if masking.weigh and not any(getattr(losses, name) for name in CONTRASTIVE):
            found.append(f"masking.weigh: weighs captions in the losses {', '.join(CONTRASTIVE)}; all of them are 0")
        return found
