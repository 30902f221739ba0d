"""The experiments of the paper, read from ``experiments.toml``."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from textreid.errors import ConfigError, nearest_name

LUPERSON_MLLM = "luperson-mllm"


@dataclass(frozen=True)
class Row:
    """One model and what it learns from.

    Attributes:
        id: unique, and part of file names.
        label: for readers.
        published: name of its rows in ``published.toml``; None where nothing was published.
        captions: source of its sentences.
        slots: captions of an image that it learns from; all where empty.
        images: how many, by scale; all where a scale is not there.
        set: settings on top of those of the scale, as ``section.name=value``.
        weights: data that holds the weights of a row that is not trained; None where it is.
        start: id of the row whose model it is fine-tuned from; None where it is pre-trained.
        finetune: the benchmark it is fine-tuned on.
    """

    id: str
    label: str
    published: str | None = None
    captions: str = LUPERSON_MLLM
    slots: tuple[str, ...] = ()
    images: Mapping[str, int] = field(default_factory=dict)
    set: tuple[str, ...] = ()
    weights: str | None = None
    start: str | None = None
    finetune: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A table or a figure.

    Attributes:
        name: what it is about.
        alias: another name; a number of ours, not checked against the paper's.
        title: for readers.
        rows: by scale.
        reference: id of the row that the others are compared with; None: nothing is compared.
        x: what a figure shows along its axis, ``"images"`` or a setting; None for a table.
    """

    name: str
    alias: str
    title: str
    rows: Mapping[str, tuple[Row, ...]]
    reference: str | None
    x: str | None


@cache
def rows_by_id() -> Mapping[str, Row]:
    """Every row there is."""
    return {name: Row(id=name, **_frozen(table)) for name, table in _tables()["rows"].items()}


@cache
def experiments() -> tuple[Experiment, ...]:
    """Every experiment there is."""
    known = rows_by_id()
    return tuple(
        Experiment(
            name=name,
            alias=table["alias"],
            title=table["title"],
            rows={scale: tuple(known[row] for row in table[scale]) for scale in ("paper", "mini")},
            reference=table.get("reference"),
            x=table.get("x"),
        )
        for name, table in _tables()["experiments"].items()
    )


def find_experiment(name: str) -> Experiment:
    """The experiment of that name or alias.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    known = {key: one for one in experiments() for key in (one.name, one.alias)}
    if name not in known:
        raise ConfigError(f"no experiment {name!r}; {nearest_name(name, known)}")
    return known[name]


def _frozen(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


@cache
def _tables() -> dict[str, dict[str, dict[str, Any]]]:
    text = files("textreid.reproduction").joinpath("experiments.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
