"""How a benchmark is named on the command line: ``cuhk-pedes=PATH``, or one's own data by ``PATH`` alone."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textreid.datasets.records import Benchmark


def read_named(argument: str, max_rejected: float = 0.05) -> "Benchmark":
    """Read ``NAME=PATH``, or ``PATH`` alone as ``generic``; a path that exists may hold an equals sign.

    Raises:
        ConfigError: no such name.
        AnnotationError: as `textreid.datasets.benchmarks.read_benchmark`.
    """
    from textreid.datasets.benchmarks import GENERIC, read_benchmark

    name, equals, path = argument.partition("=")
    if not equals or Path(argument).exists():
        name, path = GENERIC, argument
    return read_benchmark(name, Path(path), max_rejected)
