"""Labelled pairs as people write them down."""

from pathlib import Path

import pytest

from textreid.errors import AnnotationError
from textreid.gallery.query.pairs import Pair, read_pairs

ROWS = [(f'a man, number "{number}"', f"crops/{number}.png") for number in range(12)]
TABLE = "image,sentence,by\n" + "".join(f'{image},"{said.replace(chr(34), 2 * chr(34))}",x\n' for said, image in ROWS)
LINES = "".join(f'{{"sentence": "a man {number}", "image": {number}}}\n\n' for number in range(12))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_is_read(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(TABLE, encoding=encoding)
    assert read_pairs(tmp_path / "pairs.csv") == [Pair(said, image) for said, image in ROWS]


def test_json_lines_are_read_and_numbers_are_crops(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(LINES, encoding="utf-8")
    assert read_pairs(tmp_path / "pairs.jsonl")[3] == Pair("a man 3", "3")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "no column sentence; image; there are: none"),
        ("a.csv", b"sentence,path\nx,y\n", "no column image; there are: sentence, path"),
        ("a.csv", b"sentence,image\na,b\n,c\n", "line 3: sentence: missing or empty"),
        ("a.csv", b"sentence,image\na\n", "line 2: fewer values than columns"),
        ("a.csv", b"sentence,image\na,b\n", r"1 sentences; to tell how high a match scores takes at least 10"),
        ("a.csv", b"sentence,image\n\xff,b\n", "not UTF-8"),
        ("a.jsonl", b'{"sentence": "a", "image": "b"}\n{"sent', "line 2: not JSON"),
        ("a.jsonl", b"[1]\n", "line 1: expected an object, got a list"),
        ("a.jsonl", b'{"sentence": "a", "image": true}\n', "line 1: image: missing or empty"),
    ],
)
def test_what_is_wrong_is_said_by_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AnnotationError, match=message) as caught:
        read_pairs(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    with pytest.raises(AnnotationError, match="nowhere: cannot be read"):
        read_pairs(tmp_path / "nowhere")
