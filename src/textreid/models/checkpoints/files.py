"""One file of weights: recognised by its first bytes, and read without running any of it."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from textreid.errors import ModelError
from textreid.models.checkpoints.torchscript import read_torchscript

_WRAPPERS = ("state_dict", "model")  # under which training programs put the weights
_PREFIXES = ("module.", "_orig_mod.")  # which distributed training and compilation put before every name
_BESIDE = "state of the training program, no weight of the model"
_HEADER_AT_MOST = 100_000_000  # bytes, as the format of safetensors says
_REFUSED = {
    "empty": "an empty file",
    "pointer": "a Git LFS pointer, not the weights: fetch them with `git lfs pull`",
    "page": "a web page or an XML answer, not weights: the download went wrong",
    "broken archive": "a truncated or damaged archive: fetch it again",
    "unknown": "neither safetensors nor a checkpoint of PyTorch",
}


class Stored(NamedTuple):
    """What a file holds.

    Attributes:
        form: of the file, in words.
        tensors: by name, without wrappers and the prefixes of distributed training.
        ignored: everything else in it: name -> what it is.
        activation: of the network, if the file tells.
    """

    form: str
    tensors: dict[str, torch.Tensor]
    ignored: dict[str, str]
    activation: str | None = None


def weight_files(folder: Path) -> list[Path]:
    """The files in a folder that hold weights, whatever their names; or else those that stand for weights."""
    kinds = {path: _kind(path)[0] for path in sorted(folder.iterdir()) if path.is_file()}
    return [path for path, kind in kinds.items() if kind not in _REFUSED] or [
        path for path, kind in kinds.items() if kind == "pointer"
    ]


def read_file(path: Path) -> Stored:
    """Read a file of weights.

    Raises:
        ModelError: it is something else, damaged, or cannot be read without running code.
    """
    kind, root = _kind(path)
    if kind in _REFUSED:
        raise ModelError(f"{path}: {_REFUSED[kind]}")
    try:
        if kind == "safetensors":
            return _plain(kind, load_file(path), {})
        if kind == "TorchScript archive":
            tensors, activation = read_torchscript(path, root)
            return _plain(kind, tensors, {})._replace(activation=activation)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # what it cannot read, it refuses
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "PyTorch archive")
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path}: cannot be read without running code, and none was run: {_wish(error)}") from error
    except (OSError, SafetensorError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: cannot be read, it is truncated or damaged: {error}") from error
    except Exception as error:  # a damaged pickle can fail in any way
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{path}: cannot be read, it is truncated or damaged: {type(error).__name__}: {reason}"
        ) from error
    return _unwrap(kind, content, path)


def _kind(path: Path) -> tuple[str, str]:
    """What a file is, by its content; and of an archive the folder in it that holds the weights."""
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not head:
        return "empty", ""
    if head.startswith(b"version https://git-lfs"):
        return "pointer", ""
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return "page", ""
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_archive(path)
    if re.match(rb"\x80[\x02-\x05]", head):
        return "PyTorch pickle", ""
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _HEADER_AT_MOST:
        return "safetensors", ""
    return "unknown", ""


def _kind_of_archive(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return "broken archive", ""
    root = next(
        (name.removesuffix("data.pkl") for name in sorted(names) if re.fullmatch(r"([^/]+/)?data\.pkl", name)), None
    )
    if root is None:
        return "unknown", ""
    return ("TorchScript archive" if f"{root}constants.pkl" in names else "PyTorch archive"), root


def _wish(error: pickle.UnpicklingError) -> str:
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    wish = f"it asks for {asked[1]}" if asked else str(error).strip().split("\n")[0]
    return f"{wish}. Where you trust it, save its state dict alone, as safetensors"


def _unwrap(form: str, content: object, path: Path) -> Stored:
    ignored: dict[str, str] = {}
    while isinstance(content, Mapping) and not any(isinstance(value, torch.Tensor) for value in content.values()):
        wrapper = next((name for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if wrapper is None:
            break
        ignored |= {str(name): _BESIDE for name in content if name != wrapper}
        content = content[wrapper]
    if not isinstance(content, Mapping) or not any(isinstance(value, torch.Tensor) for value in content.values()):
        raise ModelError(
            f"{path}: no weights in it: no tensors by name, neither at the top nor under {' or '.join(_WRAPPERS)}"
        )
    return _plain(form, content, ignored)


def _plain(form: str, content: Mapping[Any, Any], ignored: dict[str, str]) -> Stored:
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    ignored |= {str(name): _BESIDE for name, value in content.items() if not isinstance(value, torch.Tensor)}
    while prefix := next((p for p in _PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return Stored(form, tensors, ignored)
