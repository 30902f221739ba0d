"""Weights in: the bundled model, a model folder, somebody else's CLIP (here or on the Hugging Face hub), or random."""

import logging
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from textreid.artifacts import MANIFEST
from textreid.config import ModelConfig
from textreid.errors import ConfigError, DownloadError, ModelError, check_choice, check_list, check_path
from textreid.models.checkpoints.clip import PICKLED_WEIGHTS, SAFE_WEIGHTS, VOCABULARY, read_clip
from textreid.models.checkpoints.configs import PIXELS
from textreid.models.checkpoints.layouts import HUGGING_FACE, OPEN_CLIP, TEXT_POSITIONS, VISION_POSITIONS
from textreid.models.checkpoints.report import KeyReport, Source, resize_note
from textreid.models.device import Precision, choose_device
from textreid.models.dual_encoder import DualEncoder
from textreid.models.ensemble import Ensemble
from textreid.models.folder import (
    BUNDLED,
    DEFAULT,
    TOKENIZER,
    WEIGHTS,
    check_shapes,
    is_model_folder,
    open_folder,
    training_text_of,
)
from textreid.models.known import full_name
from textreid.models.model import Model
from textreid.models.positions import resize_positions
from textreid.models.side_by_side import names_of
from textreid.models.trunk import TRUNK, read_trunk

Activation = Literal["gelu", "quick_gelu"]

_LOG = logging.getLogger(__name__)
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_HUB_TIMEOUT = 5.0  # seconds until an unreachable hub is given up
# Of what a repository may hold, the first is taken: the safe format, and what transformers reads before open_clip's.
_HUB_WEIGHTS = (SAFE_WEIGHTS, PICKLED_WEIGHTS, "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# A configuration may differ from the weights it names in these: the position tables are fitted to it, and
# pictures are resized as it says.
_ADAPTABLE = frozenset(
    {
        *("weights", "trunk_weights", "image_height", "image_width", "text_length"),
        *("interpolation", "reduced_decoding"),
    }
)


def load_model(
    name_or_path: str | Path | None = None,
    image_size: tuple[int, int] | None = None,
    device: str | None = None,
    precision: Precision = "fp32",
    activation: Activation | None = None,
) -> Model:
    """Load a model; its ``report`` tells what became of each tensor.

    >>> import textreid
    >>> textreid.load_model().encode_texts(["a woman in a red jacket"]).shape  # the default: three side by side
    (1, 716)
    >>> model = textreid.load_model("small")  # one of them
    >>> model.config.image_height, model.config.image_width, model.config.embedding_dim
    (192, 96, 256)

    Args:
        name_or_path: None for the default, ``"small+colours+attributes"``; ``"small"`` or ``"tiny"`` for one
            bundled network; any models with + between them, for their mean cosine (`Ensemble`); ``"clip"`` for
            OpenAI's ViT-B/16 on the Hugging Face hub; a model folder; a file or folder with a CLIP, as OpenAI,
            open_clip, Hugging Face or the IRRA family store it (docs/checkpoints.md); or else the name of one on the
            hub, such as ``"openai/clip-vit-base-patch16"``.
        image_size: (height, width) in pixels that images shall be resized to in place of the model's own; its
            position table is interpolated, which is logged.
        device: where it encodes, as torch names it (``"cpu"``, ``"cuda:1"``); None is the GPU if torch sees one.
        precision: of its features. ``"fp32"`` agrees between machines; ``"bf16"`` is about twice as fast on processors
            that multiply it and differs by about 0.0001 in cosine; ``"auto"`` is bf16 on those, else fp32.
        activation: of the network; needed for weights that do not tell it, and checked for those that do.

    Raises:
        ModelError: there is no such model, or its files are damaged, do not fit each other, or need ``activation``.
        ArtifactError: the model folder is incomplete, truncated, or of another format version.
        DownloadError: the hub cannot be reached, or has no such model.
        ConfigError: an argument has a wrong type or is not known; ``image_size`` is not a multiple of the patch size;
            or torch cannot compute on ``device``, or not in bf16.
    """
    if name_or_path is not None:
        check_path("name_or_path", name_or_path)
    if image_size is not None:
        check_list("image_size", image_size, int, "two whole numbers")
        if len(image_size) != 2 or min(image_size) < 1:
            raise ConfigError(f"image_size: expected (height, width) in pixels, not {image_size!r}")
    if activation is not None:
        check_choice("activation", activation, get_args(Activation))
    place = choose_device(precision, device).device
    name_or_path = DEFAULT if name_or_path is None else name_or_path
    if names := names_of(name_or_path):
        return Ensemble.of(names, lambda name: load_model(name, image_size, device, precision, activation))
    source = _read(name_or_path, activation)
    height, width = image_size or (source.config.image_height, source.config.image_width)
    wanted = replace(
        source.config,
        image_height=height,
        image_width=width,
        activation=activation or source.config.activation,
    )
    source = _fit(source, wanted)
    texts = training_text_of(name_or_path)
    encoder = _build(source).to(place)
    return Model(encoder, source.tokenizer, source.selected_on, texts, precision, source.report, source.presence)


def initialize(config: ModelConfig, seed: int = 0) -> DualEncoder:
    """Make the network that training starts from: the weights that ``config`` names, or random ones from ``seed``.

    A trunk may start from published weights of its own where the rest is random (``trunk_weights``). Image size and
    text length may differ from those of the weights (the text length only be shorter).

    Raises:
        ModelError: as `load_model`, or the weights are of another model than ``config``; or as `read_trunk`.
        ArtifactError, DownloadError, ConfigError: as `load_model`.
    """
    if config.weights is None:
        # Without the GPUs' generators: weights are drawn on the CPU, and looking at the others would start CUDA.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = DualEncoder(config)
        if config.trunk_weights is not None:
            encoder.load_state_dict(encoder.state_dict() | _trunk_weights(config.trunk_weights, config.stem))
        return encoder
    return _build(_fit(_read(config.weights, config.activation), config))


def _trunk_weights(name: str, stem: str) -> dict[str, torch.Tensor]:
    """Read a trunk's weights from its published file, or out of a model of textreid's that has one."""
    folder = BUNDLED.get(name, Path(name))
    if not is_model_folder(folder):
        return read_trunk(name, stem)
    config = open_folder(folder).config  # which says what is wrong with it
    found = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items() if name.startswith(TRUNK)}
    if not found:
        raise ModelError(f"{name}: this model has no trunk to begin with")
    if config.stem != stem:
        raise ModelError(f"{name}: the trunk of this model is {config.stem}, not {stem}; set model.stem={config.stem}")
    return found


def _read(name_or_path: str | Path, activation: Activation | None) -> Source:
    if names_of(name_or_path):
        raise ModelError(f"{name_or_path}: several models side by side, where one is needed; name one of them alone")
    name = full_name(name_or_path)
    if bundled := BUNDLED.get(str(name)):
        if not bundled.is_dir():
            raise ModelError("this build of textreid has no bundled model; give the path of a model folder")
        return _read_own(bundled)
    path = Path(name)
    if is_model_folder(path):
        return _read_own(path)
    if path.is_file() and path.name == WEIGHTS and (path.parent / MANIFEST).is_file():
        raise ModelError(f"{path}: part of a model folder; give the folder, {path.parent}")
    # First: a folder of this name is meant rather than a model of the hub.
    if path.exists():
        source = read_clip(path, activation)
    elif isinstance(name, str) and _HUB_NAME.fullmatch(name):
        source = read_clip(_download(name), activation)
        source = source._replace(report=replace(source.report, source=name))
    else:
        raise ModelError(f"{path}: no such file or folder")
    _LOG.info("%s", source.report.summary)
    return source


def _download(name: str) -> Path:
    """Fetch the CLIP called ``name`` from the Hugging Face hub to a local folder; only the files that are needed.

    What was downloaded before is used when the hub cannot be reached.

    Raises:
        DownloadError: the hub cannot be reached, or has no such model.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    advice = "give the path of a folder that holds the model instead"
    try:
        files = {file.rfilename for file in HfApi().model_info(name, timeout=_HUB_TIMEOUT).siblings or ()}
        weights = [file for file in _HUB_WEIGHTS if file in files][:1]
        wanted = [HUGGING_FACE, VOCABULARY, TOKENIZER, PIXELS, OPEN_CLIP, *weights]
        return Path(snapshot_download(name, allow_patterns=wanted, etag_timeout=_HUB_TIMEOUT))
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"{name}: neither a file or folder here nor a model on the Hugging Face hub; check the name, or {advice}"
        ) from error
    except Exception as error:  # the client lets errors of its network library through
        found = _downloaded_before(name)
        if found is None:
            reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
            raise DownloadError(
                f"{name}: not a file or folder here, and the Hugging Face hub did not give it ({reason}); {advice}"
            ) from error
        _LOG.warning("%s: the hub did not answer; using the files downloaded before, in %s", name, found)
        return found


def _downloaded_before(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(name, weights) for weights in _HUB_WEIGHTS)
    return next((Path(weights).parent for weights in found if isinstance(weights, str)), None)


def _read_own(path: Path) -> Source:
    folder = open_folder(path)
    try:
        weights = load_file(path / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path / WEIGHTS}: cannot be read: {error}") from error
    # safetensors maps the file: without copies, a file that is overwritten would change the model in use.
    copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in weights.items()}
    loaded = {name: (name,) for name in weights}
    report = KeyReport(str(path), "model folder of textreid", loaded, notes=(resize_note(folder.config),))
    return Source(folder.config, folder.tokenizer, copies, report, folder.selected_on, folder.presence)


def _build(source: Source) -> DualEncoder:
    encoder = DualEncoder.without_weights(source.config)  # every parameter is assigned below
    expected = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in source.weights.items()}
    check_shapes(found, expected, source.report.source)
    # Assigned, because a parameter on the meta device has no memory to copy to: torch only warns, and loads nothing.
    encoder.load_state_dict(source.weights, assign=True)
    return encoder


def _fit(source: Source, config: ModelConfig) -> Source:
    """Fit the weights to another configuration: position tables are interpolated or cut, and that is logged."""
    report = source.report
    had, wanted = asdict(source.config), asdict(config)
    differing = [
        f"{name} {had[name]} (not {wanted[name]})"
        for name in had
        if name not in _ADAPTABLE and had[name] != wanted[name]
    ]
    if config.text_length > source.config.text_length:
        differing.append(f"text_length at most {source.config.text_length} (not {config.text_length})")
    if differing:
        raise ModelError(
            f"{report.source}: the weights are of another model than was asked for: {', '.join(differing)}"
        )
    if problems := config.contradictions():
        raise ConfigError("; ".join(problems))
    if config.interpolation != source.config.interpolation:
        _LOG.warning(
            "%s: pictures are resized by %s interpolation, those of the weights were by %s", report.source,
            config.interpolation, source.config.interpolation,
        )  # fmt: skip
    weights = dict(source.weights)
    before, after = source.config.grid, config.grid
    # A table that is missing is an error of `_build`, which names it.
    if before != after and VISION_POSITIONS in weights:
        _LOG.warning("%s: position table resized from %dx%d to %dx%d patches", report.source, *before, *after)
        report = report.with_resized(VISION_POSITIONS, "{}x{} to {}x{} patches".format(*before, *after))
        weights[VISION_POSITIONS] = resize_positions(weights[VISION_POSITIONS], before, after)
    if config.text_length < source.config.text_length and TEXT_POSITIONS in weights:
        _LOG.warning("%s: texts cut to %d of %d tokens", report.source, config.text_length, source.config.text_length)
        report = report.with_resized(TEXT_POSITIONS, f"{source.config.text_length} to {config.text_length} tokens")
        weights[TEXT_POSITIONS] = weights[TEXT_POSITIONS][: config.text_length].clone()
    return source._replace(config=config, weights=weights, report=report)
