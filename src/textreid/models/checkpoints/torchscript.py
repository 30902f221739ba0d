"""Tensors out of a TorchScript archive, without running it.

Such an archive is a zip: ``data.pkl`` is a pickle of the tree of modules, ``data/N`` are the bytes of its tensors,
``code/`` is a program. The pickle is read by an unpickler that knows a dozen harmless names, all of which it
answers itself: nothing is imported, and the program is only looked at as text.
"""

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LISTS = frozenset({"build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag"})
_CODE_AT_MOST = 1 << 24  # bytes of program text that are looked at
_ACTIVATIONS = {"gelu": re.compile(rb"\btorch\.gelu\("), "quick_gelu": re.compile(rb"\btorch\.sigmoid\(")}


def read_torchscript(path: Path, root: str) -> tuple[dict[str, torch.Tensor], str | None]:
    """Read the tensors of an archive by their dotted names, and the activation that its program calls.

    Args:
        path: the archive.
        root: the folder in it that holds ``data.pkl``, with its slash.

    Raises:
        pickle.UnpicklingError: the pickle asks for anything but modules and tensors.
        Exception: the archive is damaged; a damaged pickle can fail in any way.
    """
    with zipfile.ZipFile(path) as archive:
        module = _ModuleReader(archive, root).load()
        return dict(_tensors(module)), _activation(archive, root)


class _Module:
    """A module of the archive: its attributes are in its ``__dict__``, where the unpickler puts them."""


class _ModuleReader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(_stored(archive, f"{root}data.pkl")))
        self._archive = archive
        self._root = root

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return type("_Module", (_Module,), {})  # a class of its own: what the pickle does to it ends with it
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("collections", "OrderedDict"):
            return self._no_hooks
        if module == "torch.jit._pickle" and name in _LISTS:
            return self._list
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        _, dtype, key, _, elements = pid
        # `frombuffer` refuses an empty buffer, and warns of one that is read-only: hence the copy below.
        if not elements:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(bytearray(_stored(self._archive, f"{self._root}data/{key}")), dtype=dtype)

    def _tensor(self, storage: torch.Tensor, offset: int, size: Any, stride: Any, *_: object) -> torch.Tensor:
        return storage.as_strided(size, stride, offset)  # which checks the bounds

    def _no_hooks(self) -> OrderedDict[str, object]:
        return OrderedDict()

    def _list(self, values: object, *_: object) -> object:
        return values


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read an entry that is not compressed: then it has no more bytes than the file itself."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise zipfile.BadZipFile(f"{name} is compressed")
    return archive.read(name)


def _tensors(module: object) -> Iterator[tuple[str, torch.Tensor]]:
    seen, waiting = set(), [("", module)]
    while waiting:
        prefix, owner = waiting.pop()
        # Modules may be shared, or lead back to one another.
        if id(owner) in seen or not isinstance(owner, _Module):
            continue
        seen.add(id(owner))
        for name, value in vars(owner).items():
            if isinstance(value, torch.Tensor):
                yield f"{prefix}{name}", value
            else:
                waiting.append((f"{prefix}{name}.", value))


def _activation(archive: zipfile.ZipFile, root: str) -> str | None:
    """Find the one activation that the program calls, exact GELU or the sigmoid of QuickGELU; None if it is unclear."""
    found, left = set(), _CODE_AT_MOST
    for name in archive.namelist():
        if name.startswith(f"{root}code/") and name.endswith(".py"):
            with archive.open(name) as stream:
                # Code is compressed, unlike tensors: the bound is on what comes out of it.
                text = stream.read(left)
            left -= len(text)
            found |= {activation for activation, call in _ACTIVATIONS.items() if call.search(text)}
    return found.pop() if len(found) == 1 else None
