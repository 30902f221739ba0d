"""Settings read from plain values, each as the type that its field has, every error at once; and files of secrets."""

import dataclasses
import json
import math
import tomllib
import types
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from textreid.errors import ConfigError, nearest_name

_LARGEST = 1e300  # a whole number above it has no place in a float
_FORMER_NAMES = {  # as they stand in the files of older runs
    "optimizer.head_rate": "head_lr_multiplier",
    "optimizer.bias_rate": "bias_lr_multiplier",
    "optimizer.least_warmup_steps": "min_warmup_steps",
}


def known(values: Any, names: list[str], prefix: str, errors: list[str]) -> list[tuple[str, Any]]:
    """List the known names with their values, in the order of ``names``; what else there is becomes an error."""
    if not isinstance(values, Mapping):
        errors.append(f"{prefix.rstrip('.') or 'configuration'}: expected a table of settings, got {values!r}")
        return []
    errors.extend(
        f"{prefix}{name}: no such setting; {nearest_name(str(name), names, prefix)}"
        for name in values
        if name not in names
    )
    return [(name, values[name]) for name in names if name in values]


def read_secrets(option: str, path: Path, names: Collection[str], expected: str) -> dict[str, Any]:
    """Read an administrator's file (TOML) that holds secrets.

    Args:
        option: of the command line that names it, for messages.
        path: the file.
        names: of the entries that it may have.
        expected: these in words, for the message on another.

    Raises:
        ConfigError: it cannot be read, others may read it, or it has another entry; names file and entry.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        others = path.stat().st_mode & 0o077
    except (OSError, ValueError) as error:
        raise ConfigError(f"{option} {path}: cannot be read: {error}") from error
    if others:
        raise ConfigError(f"{option} {path}: it holds secrets, and others may read it: chmod 600")
    if unknown := sorted(told.keys() - names):
        raise ConfigError(f"{option} {path}: {unknown[0]}: expected {expected}")
    return told


def read_section(section: str, current: Any, values: Any, errors: list[str]) -> Any:
    """Return the section ``current`` with what ``values`` sets; what cannot be used becomes an error."""
    fields = {f.name: f for f in dataclasses.fields(current)}
    hints = get_type_hints(type(current))
    accepted = {}
    if isinstance(values, Mapping):
        values = {_FORMER_NAMES.get(f"{section}.{name}", name): value for name, value in values.items()}
    for name, value in known(values, list(fields), f"{section}.", errors):
        problem, converted = _convert(value, hints[name], fields[name].metadata)
        if problem:
            errors.append(f"{section}.{name}: {problem}, got {value!r}")
        else:
            accepted[name] = converted
    return dataclasses.replace(current, **accepted)


def _convert(value: Any, hint: Any, limits: Mapping[str, float]) -> tuple[str, Any]:
    """Return what is wrong with ``value`` (empty if nothing) and the value as the type ``hint`` asks."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ("" if value in arguments else f"expected one of {', '.join(map(str, arguments))}"), value
    if origin in (Union, types.UnionType):
        if value is None:
            return "", None
        return _convert(value, next(a for a in arguments if a is not type(None)), limits)
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or len(value) != len(arguments):
            return f"expected a list of {len(arguments)} numbers", value
        problems, parts = zip(*(_convert(v, a, {}) for v, a in zip(value, arguments, strict=True)), strict=True)
        return next(filter(None, problems), ""), parts
    # `true` is an int for Python, and shall not become 1.0.
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST:
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        return f"expected {names[hint]}", value
    if isinstance(value, float) and not math.isfinite(value):
        return "expected a finite number", value
    if limits and not limits["low"] <= value <= limits["high"]:
        high = limits["high"]
        allowed = f"at least {limits['low']:g}" if high == float("inf") else f"from {limits['low']:g} to {high:g}"
        return f"expected {allowed}", value
    return "", value


def parse_value(text: str) -> Any:
    """Read a value as JSON, or else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
