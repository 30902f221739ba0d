"""One file of weights: recognised by its first bytes, and read without running any of it."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from textreid.errors import ModelError
from textreid.models.checkpoints.layouts import clip_prefixes
from textreid.models.checkpoints.torchscript import read_torchscript

# Parts of names that distributed training and compilation put in, wherever they wrapped a module.
_WRAPPED = re.compile(r"(?<![^.])(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Names of a pickle that hold no weights and are common beside them: numbers of numpy, settings, paths, dates.
_HARMLESS = re.compile(
    r"numpy\.(?:_?core\.(?:multiarray|numeric)\.(?:scalar|_reconstruct|_frombuffer)|dtypes\.\w+"
    r"|dtype|ndarray|(?:bool|str|bytes|void|u?int|float|complex|longlong)\w*)"
    r"|(?:argparse\.Namespace|types\.SimpleNamespace|typing\.Any|uuid\.UUID|decimal\.Decimal)"
    r"|(?:collections|datetime|omegaconf|yacs|easydict|addict|ml_collections)\.[\w.]+"
    r"|pathlib\.(?:_local\.)?\w*Path|torch\.torch_version\.TorchVersion|[\w.]+\.AttributeDict"
    r"|(?:builtins|__builtin__)\.(?:set|frozenset|complex|slice|range|bytearray|bytes|dict|list|tuple|int|float|str)"
)
_HARMLESS_AT_MOST = 50  # different ones in a file
_DEEPEST = 6  # mappings inside one another
_NAMED_AT_MOST = 4  # candidates in an error message
Place = tuple[str, ...]  # the keys that lead to something in a file
_BESIDE = "state of the training program, no weight of the model"
_OUTSIDE = "outside the part of the file that is CLIP"
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
        tensors: by name, without what wraps them and without the prefix that they share.
        ignored: everything else in it: name -> what it is.
        activation: of the network, if the file tells.
    """

    form: str
    tensors: dict[str, torch.Tensor]
    ignored: dict[str, str]
    activation: str | None = None


def weight_files(folder: Path) -> list[Path]:
    """Find the files in a folder that hold weights, whatever their names; or else those that stand for weights."""
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
        activation = None
        content: object
        if kind == "safetensors":
            content = load_file(path)
        elif kind == "TorchScript archive":
            content, activation = read_torchscript(path, root)
        else:
            # torch maps its archives only, not the pickles that it wrote before them.
            content = _read_pickle(path, mmap=kind == "PyTorch archive")
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path}: cannot be read without running code, and none was run: {_wish(error)}") from error
    except (OSError, SafetensorError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: cannot be read, it is truncated or damaged: {error}") from error
    except Exception as error:  # a damaged pickle can fail in any way
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{path}: cannot be read, it is truncated or damaged: {type(error).__name__}: {reason}"
        ) from error
    tensors, ignored = _find_clip(content, path)
    return Stored(kind, tensors, ignored, activation)


def _read_pickle(path: Path, mmap: bool) -> object:
    """Read a checkpoint of PyTorch; of its unknown names the harmless ones are answered by an `_Unread`.

    Raises:
        pickle.UnpicklingError: it asks for anything else.
    """
    # torch names one unknown class at a time, so that a file is read again for each.
    unread: list[Any] = []
    while True:
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(unread):
                warnings.filterwarnings("ignore", message="Detected pickle protocol")  # what it cannot read, it refuses
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        except pickle.UnpicklingError as error:
            asked = re.search(r"GLOBAL ([\w.]+)", str(error))
            # torch leaves the module out where it is the builtins.
            wanted = (asked[1] if "." in asked[1] else f"builtins.{asked[1]}") if asked else ""
            if not _HARMLESS.fullmatch(wanted) or len(unread) == _HARMLESS_AT_MOST:
                raise
            module, _, name = wanted.rpartition(".")
            unread.append(type(name, (_Unread,), {"__module__": module}))


class _Unread(dict[Any, Any]):
    """Thing beside the weights that stays unread: it takes whatever a pickle gives it, and does nothing with it."""

    def __new__(cls, *_: object, **__: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...


def _kind(path: Path) -> tuple[str, str]:
    """Tell what a file is by its content; and of an archive the folder in it that holds the weights."""
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
    # safetensors: eight bytes that tell the length of a header, then that header, which is JSON.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _HEADER_AT_MOST:
        return "safetensors", ""
    return "unknown", ""


def _kind_of_archive(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return "broken archive", ""
    # The folder inside is called as the file was when it was written, whatever it is called now.
    root = next(
        (name.removesuffix("data.pkl") for name in sorted(names) if re.fullmatch(r"([^/]+/)?data\.pkl", name)), None
    )
    if root is None:
        return "unknown", ""
    # torch.jit writes constants beside the modules; torch.save does not.
    return ("TorchScript archive" if f"{root}constants.pkl" in names else "PyTorch archive"), root


def _wish(error: pickle.UnpicklingError) -> str:
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    wish = f"it asks for {asked[1]}" if asked else str(error).strip().split("\n")[0]
    if "Unsupported operand" in str(error):
        wish = "it is written with another pickle protocol than 2, the only one that torch reads so"
    return f"{wish}. Where you trust it, save its state dict alone, as safetensors"


class _Candidate(NamedTuple):
    """Tensors that look like a CLIP: those of a mapping whose names begin with ``prefix``."""

    place: Place  # of the mapping
    prefix: str
    size: int  # tensors of the image tower
    tensors: dict[str, torch.Tensor]  # of the whole mapping

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """Its own tensors, by their names without the prefix."""
        return {n.removeprefix(self.prefix): t for n, t in self.tensors.items() if n.startswith(self.prefix)}

    def __str__(self) -> str:
        """Tell the place as a reader of the file finds it."""
        names = f"names with {self.prefix}" if self.prefix else "names as they are"
        return f"{'.'.join(self.place) or 'the top'} ({names})"


def _find_clip(content: object, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Find the one CLIP in a file, under whatever name and behind whatever prefix; and what else there is.

    Raises:
        ModelError: there are several, or no tensors at all.
    """
    mappings = dict(_mappings(content))
    if not mappings:
        raise ModelError(f"{path}: no weights in it: no tensors by name")
    candidates = _candidates(mappings)
    if len(candidates) > 1:
        places = ", ".join(map(str, candidates[:_NAMED_AT_MOST]))
        raise ModelError(
            f"{path}: {len(candidates)} models in it that look like CLIP: {places}; save the one you want alone"
        )
    if candidates:
        place, prefix, _, tensors = candidates[0]
    else:  # the largest mapping tells what it is in place of CLIP
        place, tensors = max(mappings.items(), key=lambda item: len(item[1]))
        prefix = ""
    ignored = {name: _OUTSIDE for name in tensors if not name.startswith(prefix)} | _beside(content, place)
    return {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}, ignored


def _candidates(mappings: Mapping[Place, dict[str, torch.Tensor]]) -> list[_Candidate]:
    """List what looks like a CLIP; a stray tensor does not, nor the same weights under another name."""
    found = [
        _Candidate(place, prefix, size, tensors)
        for place, tensors in mappings.items()
        for prefix, size in clip_prefixes(tensors).items()
    ]
    largest = max((one.size for one in found), default=0)
    different: list[_Candidate] = []
    for one in found:
        # A moving average has as many tensors as the model, a stray one or a head has few.
        if 2 * one.size >= largest and not any(_are_equal(one.weights, other.weights) for other in different):
            different.append(one)
    return different


def _are_equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    # The same memory needs no look at the values, and may have other names: a module that two others hold.
    if {tensor.data_ptr() for tensor in one.values()} == {tensor.data_ptr() for tensor in other.values()}:
        return True
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def _mappings(content: object, place: Place = ()) -> Iterator[tuple[Place, dict[str, torch.Tensor]]]:
    """Yield every mapping from names to tensors, and where it is."""
    inside = _entries(content)
    tensors = {name: value.detach() for name, value in inside.items() if isinstance(value, torch.Tensor)}
    if tensors:
        plain = {_WRAPPED.sub("", name): tensor for name, tensor in tensors.items()}
        # A model with and without its wrapper in one mapping keeps its names: else one would hide the other.
        yield place, plain if len(plain) == len(tensors) else tensors
    if len(place) < _DEEPEST:
        for name, value in inside.items():
            yield from _mappings(value, (*place, name))


def _beside(content: object, place: Place) -> dict[str, str]:
    """Name what is in the file beside the tensors of the mapping at ``place``."""
    found: dict[str, str] = {}
    for name in place:
        inside = _entries(content)
        found |= dict.fromkeys((other for other in inside if other != name), _BESIDE)
        content = inside[name]
    return found | {name: _BESIDE for name, value in _entries(content).items() if not isinstance(value, torch.Tensor)}


def _entries(content: object) -> dict[str, object]:
    """Return what is in a mapping or a list, by name or number; of anything else, an empty one."""
    if isinstance(content, (list, tuple)):
        content = dict(enumerate(content))
    return {str(name): value for name, value in content.items()} if isinstance(content, Mapping) else {}
