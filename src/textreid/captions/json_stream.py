"""Reads a JSON file entry by entry, however long it is: an object, a list, or JSON Lines, packed by gzip or not."""

import gzip
import io
import json
import re
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, NoReturn, TextIO, cast

from textreid.errors import CaptionError, not_utf8

# Each block that is read on begins the entry anew, so a quote that is never closed would take time squared.
LONGEST_ENTRY = 16 << 20  # characters
_BLOCK = 1 << 20
_WHITE = re.compile(r"[ \t\n\r]*")
_NUMBER_SO_FAR = re.compile(r"[-+.\deE]*")


def open_text(path: Path) -> TextIO:
    """Open a text file to read, with line ends as they are: UTF-8, or UTF-16 where its mark says so, and gzip."""
    with path.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"

    def binary() -> IO[bytes]:
        return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")

    with binary() as stream:
        # Excel's "Unicode Text" and redirection in Windows PowerShell 5 write UTF-16.
        wide = stream.read(2) in (b"\xff\xfe", b"\xfe\xff")
    # `newline=""` as the csv module asks for; utf-8-sig drops the mark that Excel puts before UTF-8.
    return io.TextIOWrapper(binary(), encoding="utf-16" if wide else "utf-8-sig", newline="")


def kind_of(path: Path) -> str:
    """Return the suffix of a file, of what is inside for one that gzip packed."""
    return (Path(path.stem) if path.suffix == ".gz" else path).suffix.lower()


class Repeating(dict[str, Any]):
    """A JSON object in which names are ``repeated``; the last value of each counts for it."""

    repeated: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    # Not refused here: a name twice does harm only where it is read, which `forms` knows.
    names = [name for name, _ in pairs]
    repeating = Repeating(value)
    repeating.repeated = tuple(name for name in value if names.count(name) > 1)
    return repeating


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def json_entries(path: Path, item_by_item: Collection[str] = ()) -> Iterator[tuple[str | int, Any]]:
    """Yield key and value of each entry of the object, or position and value of each item of the list, in ``path``.

    Of JSON Lines (by the suffix, or a first line that is a whole object with others below it), each line is an item.
    Equal keys are all yielded, and so is a list of an ``item_by_item`` key: as many lists of one item.

    Raises:
        CaptionError: the file cannot be read, is not UTF-8 or not JSON, holds neither an object nor a list, or has
            an entry of more than 16 Mi characters; says after which entry. Entries before it have been yielded.
    """
    try:
        with open_text(path) as stream:
            if _has_lines(path):
                yield from _json_lines(path, stream)
            else:
                yield from _Scanner(path, stream, item_by_item).entries()
    except (OSError, EOFError) as error:
        raise CaptionError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except UnicodeDecodeError as error:
        raise CaptionError(f"{path}: {not_utf8(error)}") from error


def _has_lines(path: Path) -> bool:
    """Tell whether a file is JSON Lines; some have the suffix of JSON."""
    if kind_of(path) in (".jsonl", ".ndjson"):
        return True
    with open_text(path) as stream:
        # Read in bounded pieces: a whole file of JSON may stand on one line.
        lines = (line.strip() for line in iter(lambda: stream.readline(_BLOCK), ""))
        first, second = [*islice(filter(None, lines), 2), "", ""][:2]
        try:
            return second.startswith("{") and isinstance(_DECODER.decode(first), dict)
        # `json` follows nesting by recursion, so a file of brackets alone raises RecursionError.
        except (ValueError, RecursionError):
            return False


def _json_lines(path: Path, stream: TextIO) -> Iterator[tuple[int, Any]]:
    number = 0
    for line, text in enumerate(stream, 1):
        if not text.strip():
            continue
        try:
            yield number, _DECODER.decode(text)
        except (ValueError, RecursionError) as error:
            raise CaptionError(f"{path}, line {line}: not valid JSON: {error}") from error
        number += 1


class _Scanner:
    def __init__(self, path: Path, stream: TextIO, item_by_item: Collection[str] = ()) -> None:
        self._path, self._stream, self._item_by_item = path, stream, item_by_item
        self._text, self._at = "", 0
        self._passed = 0  # characters that `_text` no longer holds
        self._entries = 0

    def entries(self) -> Iterator[tuple[str | int, Any]]:
        opening = self._sign()
        if opening not in ("{", "["):
            self._refuse("expected a JSON object or list")
        closing = "}" if opening == "{" else "]"
        self._at += 1
        if self._sign() == closing:
            self._at += 1
        else:
            while True:
                yield from self._entry(opening)
                self._entries += 1
                sign = self._sign()
                if sign not in (",", closing):
                    self._refuse(f"expected ',' or '{closing}'")
                self._at += 1
                if sign == closing:
                    break
        if self._sign():
            self._refuse("more text after the end")

    def _entry(self, opening: str) -> Iterator[tuple[str | int, Any]]:
        if opening == "[":
            self._sign()
            yield self._entries, self._value()
            return
        if self._sign() != '"':
            self._refuse("expected a key in double quotes")
        key = self._value()
        if self._sign() != ":":
            self._refuse("expected ':' after a key")
        self._at += 1
        if self._sign() == "[" and key in self._item_by_item:
            yield from ((key, [item]) for item in self._items())
        else:
            yield key, self._value()

    def _items(self) -> Iterator[Any]:
        self._at += 1
        while self._sign() != "]":
            yield self._value()
            if self._sign() not in (",", "]"):
                self._refuse("expected ',' or ']'")
            self._at += self._sign() == ","
        self._at += 1

    def _sign(self) -> str:
        """Return the next character that is not white space, which stays; empty at the end of the file."""
        while True:
            match = _WHITE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def _value(self) -> Any:
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                self._refuse("nested too deeply")
            except ValueError as error:
                # The value may go on in the next block.
                if len(self._text) - self._at > LONGEST_ENTRY or not self._read_on():
                    self._refuse(getattr(error, "msg", str(error)))
                continue
            if _NUMBER_SO_FAR.fullmatch(self._text, end) and self._read_on():
                continue  # so may a number, which has no mark of its end
            self._at = end
            return value

    def _read_on(self) -> bool:
        block = self._stream.read(_BLOCK)
        self._text, self._passed, self._at = self._text[self._at :] + block, self._passed + self._at, 0
        return bool(block)

    def _refuse(self, what: str) -> NoReturn:
        where = f"after entry {self._entries}" if self._entries else "at its beginning"
        raise CaptionError(f"{self._path}: not valid JSON {where} (character {self._passed + self._at + 1}): {what}")
