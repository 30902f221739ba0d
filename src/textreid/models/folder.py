"""The model folder on disk, as far as it can be read without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from textreid.artifacts import MANIFEST, read_json, read_manifest, write_json
from textreid.config import ModelConfig
from textreid.errors import ConfigError, ModelError
from textreid.models.known import full_name
from textreid.models.presence import PRESENCE, Presence
from textreid.models.tokenizer import Tokenizer

KIND, FORMAT_VERSION = "model", 1
REPOSITORY_KIND, REPOSITORY_VERSION = "hugging face repository", 1  # in transformers' format, read as such
CONFIG, WEIGHTS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "card.md"
BUNDLED = {name: Path(__file__).parent / "bundled" / name for name in ("small", "tiny")}
DEFAULT = "small+colours+attributes"  # where no model is named: what is bundled, side by side
CHOSE_DEFAULT = "photographs of CUHK-PEDES' validation split, which chose what stands together"

_NAMED_AT_MOST = 3  # tensors in an error message

Shapes = Mapping[str, tuple[int, ...]]


class ModelFolder(NamedTuple):
    """What a model folder says of itself; its weights are in ``path / WEIGHTS``."""

    path: Path
    config: ModelConfig
    tokenizer: Tokenizer
    fingerprint: str
    selected_on: str | None
    training_text: tuple[str, ...] | None
    presence: Presence | None  # where the manifest lists it


def open_folder(path: Path) -> ModelFolder:
    """Read everything but the weights of a model folder.

    Raises:
        ArtifactError: it is missing, foreign, incomplete, truncated, or of another format version.
        ModelError: its configuration or tokenizer cannot be used, or they do not fit each other.
    """
    manifest = read_manifest(path, KIND, FORMAT_VERSION)
    fingerprint = manifest.get("fingerprint")
    if not isinstance(fingerprint, str):
        raise ModelError(f"{path}: the manifest names no fingerprint")
    try:
        config = ModelConfig.from_dict(read_json(path / CONFIG))
    except ConfigError as error:
        raise ModelError(f"{path / CONFIG}: {error}") from error
    tokenizer = Tokenizer.load(path / TOKENIZER)
    check_tokenizer(tokenizer, config, str(path))
    listed = PRESENCE in manifest.get("files", {})
    presence = Presence.read(path / PRESENCE, fingerprint, config.embedding_dim) if listed else None
    texts = _training_text(manifest)
    return ModelFolder(path, config, tokenizer, fingerprint, manifest.get("selected_on"), texts, presence)


def add_presence(folder: Path, presence: Presence) -> None:
    """Put the file into a model folder, in place of one that is there, and list it in the manifest.

    Until that is done the folder is one without the file: what is not listed is not read.

    Raises:
        ArtifactError: it is no such folder, or cannot be written.
    """
    manifest = read_manifest(folder, KIND, FORMAT_VERSION)
    files = {name: size for name, size in manifest["files"].items() if name != PRESENCE}
    write_json(folder / MANIFEST, {**manifest, "files": files})
    presence.write(folder / PRESENCE)
    files[PRESENCE] = (folder / PRESENCE).stat().st_size
    write_json(folder / MANIFEST, {**manifest, "files": dict(sorted(files.items()))})


def training_text_of(weights: Path | str | None) -> tuple[str, ...] | None:
    """Tell where the sentences behind some weights come from, as `Model.training_text`; none for random ones (None).

    OpenAI's CLIP, by its name on the hub, stands for itself: pairs from the web. Of other foreign weights it
    is not known.

    Raises:
        ArtifactError, ModelError: as `open_folder`, where ``weights`` is a folder that textreid wrote.
    """
    if weights is None:
        return ()
    weights = full_name(weights)
    path = BUNDLED.get(str(weights), Path(weights))
    if is_model_folder(path):
        return open_folder(path).training_text
    if (path / MANIFEST).is_file():
        return _training_text(read_manifest(path, REPOSITORY_KIND, REPOSITORY_VERSION))
    # A path that exists may be called like the hub's name and hold anything.
    return (str(weights),) if str(weights).startswith("openai/clip-") and not path.exists() else None


def is_model_folder(path: Path) -> bool:
    """Tell whether a folder has a manifest that is not the one of an exported Hugging Face repository."""
    if not (path / MANIFEST).is_file():
        return False
    manifest = read_json(path / MANIFEST)
    # Any other manifest counts as ours, so that `open_folder` says what is wrong with it.
    return not (isinstance(manifest, dict) and manifest.get("kind") == REPOSITORY_KIND)


def _training_text(manifest: Mapping[str, Any]) -> tuple[str, ...] | None:
    texts = manifest.get("training_text")
    return None if texts is None else tuple(map(str, texts))


def check_tokenizer(tokenizer: Tokenizer, config: ModelConfig, where: str) -> None:
    """Raise `ModelError` if the tokenizer gives ids or lengths that the text tower does not take."""
    if tokenizer.vocabulary_size != config.vocabulary_size:
        raise ModelError(
            f"{where}: the tokenizer has {tokenizer.vocabulary_size} tokens, "
            f"but the text tower has {config.vocabulary_size}"
        )
    if tokenizer.text_length > config.text_length:
        raise ModelError(
            f"{where}: the tokenizer gives up to {tokenizer.text_length} tokens, "
            f"but the text tower takes {config.text_length}"
        )


def check_shapes(found: Shapes, expected: Shapes, where: str) -> None:
    """Raise `ModelError` if tensors are missing, unknown or of another shape; names the first of each."""
    other = [
        f"{name} {_by(found[name])} instead of {_by(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:_NAMED_AT_MOST])}{', …' if len(names) > _NAMED_AT_MOST else ''}"
        for what, names in (
            ("missing", [name for name in expected if name not in found]),
            ("not part of this model", [name for name in found if name not in expected]),
            ("of another shape", other),
        )
        if names
    ]
    if problems:
        raise ModelError(f"{where}: the tensors do not fit the model: {'; '.join(problems)}")


def text_tower_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """List names and shapes of the tensors of the text side."""
    width = config.text_width
    shapes: dict[str, tuple[int, ...]] = {
        "text_model.embeddings.token_embedding.weight": (config.vocabulary_size, width),
        "text_model.embeddings.position_embedding.weight": (config.text_length, width),
        "text_model.final_layer_norm.weight": (width,),
        "text_model.final_layer_norm.bias": (width,),
        "text_projection.weight": (config.embedding_dim, width),
    }
    # Written out, because the network that knows these shapes needs torch, which a search does without.
    linears = {f"self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
    linears |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    for layer in range(config.text_layers):
        prefix = f"text_model.encoder.layers.{layer}"
        for name, (outputs, inputs) in linears.items():
            shapes |= {f"{prefix}.{name}.weight": (outputs, inputs), f"{prefix}.{name}.bias": (outputs,)}
        for name in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{prefix}.{name}.weight": (width,), f"{prefix}.{name}.bias": (width,)}
    return shapes


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
