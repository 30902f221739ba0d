"""Everything textreid raises on purpose.

::

    TextReidError                one line for the user; exit code 1
    ├── ConfigError              a setting is unknown, mistyped, out of range or contradictory; exit code 2
    │   └── ArgumentError        an argument of a function has a type it cannot take; a TypeError as well
    ├── DataError                something in the user's data
    │   ├── ImageError           a file is not an image we can or should read
    │   ├── VideoError           a file or stream is not a video that can be read
    │   ├── AnnotationError      an annotation file breaks its format (names file, entry and field)
    │   └── CaptionError         a caption or a caption table cannot be used
    │       └── ClusterLostError the Ray cluster of a captioning job has gone in the middle of it
    ├── ArtifactError            a file or folder textreid wrote is incomplete, foreign or of another version
    │   ├── ModelError           a model folder or checkpoint does not fit the model it is loaded into
    │   └── ResumeError          a run cannot be continued with what was given
    ├── ProcessError             another process of a run failed, was killed or hangs
    ├── DownloadError            a hub could not be reached or does not have what was asked for
    └── RunStoppedError          a run was asked to stop, and what it had done is saved; exit code 130
        └── CaptioningStoppedError   the same of a captioning job

A message says what is wrong, where, and what to do about it.

>>> import textreid
>>> try:
...     textreid.read_captions("nowhere")
... except textreid.errors.ArtifactError as error:
...     print(error)
nowhere: ...
"""

from collections.abc import Iterable, Sequence
from os import PathLike


class TextReidError(Exception):
    """Any error that textreid raises on purpose: a message of one line, and the exit code of the command line.

    >>> import textreid
    >>> try:
    ...     textreid.load_model("./nowhere")
    ... except textreid.TextReidError as error:
    ...     print(type(error).__name__, error.exit_code)
    ModelError 1
    """

    exit_code = 1
    reported = False  # whether another process of the run has told the user


class ConfigError(TextReidError):
    """A setting is unknown, mistyped, out of range or contradictory."""

    exit_code = 2


class ArgumentError(ConfigError, TypeError):
    """An argument of a function has a type that it cannot take."""


class DataError(TextReidError):
    """Something in the user's data."""


class ImageError(DataError):
    """A file is not an image that can or should be read."""


class VideoError(DataError):
    """A file or a stream is not a video that can be read."""


class AnnotationError(DataError):
    """An annotation file breaks its format."""


class CaptionError(DataError):
    """A caption or a caption table cannot be used."""


class ClusterLostError(CaptionError):
    """The Ray cluster has gone in the middle of a captioning job."""


class ArtifactError(TextReidError):
    """A file or folder written by textreid is incomplete, foreign or of another version."""


class ModelError(ArtifactError):
    """A model folder or checkpoint does not fit the model it is loaded into."""


class ResumeError(ArtifactError):
    """A run cannot be continued with what was given."""


class ProcessError(TextReidError):
    """Another process of a run failed, was killed or hangs."""


class DownloadError(TextReidError):
    """A hub could not be reached, or does not have what was asked for."""


class RunStoppedError(TextReidError):
    """A run was asked to stop; it did, and what it had done is saved."""

    exit_code = 130


class CaptioningStoppedError(RunStoppedError):
    """A captioning job was asked to stop; it did, and its captions are saved."""


def nearest_name(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return the hint for a name that is not known: the nearest known one, or else all of them.

    >>> nearest_name("papre", ["paper", "fast"])
    'did you mean paper?'
    >>> nearest_name("x", ["paper", "fast"])
    'known: paper, fast'

    Args:
        name: what was given.
        known: what would be understood.
        prefix: stands before the nearest name where it is proposed, as a section before a setting.
    """
    import difflib

    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(names)}"


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say what is wrong with a text that is not UTF-8, and how to write it so."""
    wide = error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
    spreadsheet = "utf-16" if wide else "cp1252"  # what spreadsheets and older programs write
    return (
        f"not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8: "
        f"iconv -f {spreadsheet} -t utf-8 OLD > NEW"
    )


def check_type(name: str, value: object, kinds: type | tuple[type, ...], expected: str) -> None:
    """Refuse an argument of a wrong type in the words of a person.

    >>> check_type("query", 5, str, "a sentence")
    Traceback (most recent call last):
    textreid.errors.ArgumentError: query: expected a sentence, not 5 (int)

    Raises:
        ArgumentError: ``value`` is not one of ``kinds``.
    """
    if not isinstance(value, kinds):
        raise ArgumentError(f"{name}: expected {expected}, not {in_short(value)}")


def check_choice(name: str, value: object, known: Iterable[str]) -> None:
    """Refuse what is not one of some words.

    >>> check_choice("precision", "bf61", ["fp32", "bf16"])
    Traceback (most recent call last):
    textreid.errors.ConfigError: precision: 'bf61' is not known; did you mean bf16?

    Raises:
        ArgumentError: ``value`` is not a string.
        ConfigError: it is another one.
    """
    words = list(known)
    check_type(name, value, str, f"one of {', '.join(words)}")
    if value not in words:
        raise ConfigError(f"{name}: {value!r} is not known; {nearest_name(str(value), words)}")


def check_path(name: str, value: object) -> None:
    """Refuse what is not a path.

    Raises:
        ArgumentError: ``value`` is neither a string nor a path of `pathlib`.
    """
    check_type(name, value, (str, PathLike), "a path")


def check_list(name: str, values: object, kinds: type | tuple[type, ...], expected: str) -> None:
    """Refuse what is not a list (or tuple, or another sequence) of such values; a single string is not one.

    Raises:
        ArgumentError: ``values`` is not a sequence, or one of them is not one of ``kinds`` (says which).
    """
    if isinstance(values, (str, bytes, PathLike)) or not isinstance(values, Sequence):
        raise ArgumentError(f"{name}: expected a list of {expected}, not {in_short(values)}")
    for number, value in enumerate(values):
        if not isinstance(value, kinds):
            raise ArgumentError(f"{name}[{number}]: expected a list of {expected}, not {in_short(value)} in it")


def in_short(value: object) -> str:
    """Return a value and its type on one line of bearable length."""
    shown = " ".join(repr(value).split())
    return f"{shown if len(shown) <= 60 else shown[:57] + '...'} ({type(value).__name__})"
