"""Camera and time by path, sidecar and EXIF; and what is said of a path or a table that does not fit."""

from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image

from textreid.errors import AnnotationError, ConfigError
from textreid.gallery.store import Facts
from textreid.gallery.store.provenance import PathPattern, merged, read_exif, read_sidecar

PATTERN = "{camera}/{date}/{time}_*.jpg"


def at(*numbers: int) -> datetime:
    return datetime(*numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "path", "facts"),
    [
        (PATTERN, "gate 3/2026-05-31/14-05-09_7.jpg", Facts("gate 3", at(2026, 5, 31, 14, 5, 9))),
        (PATTERN, "c/20260531/140509_.jpg", Facts("c", at(2026, 5, 31, 14, 5, 9))),
        (PATTERN, "c/2026_05_31/14:05_x_y.jpg", Facts("c", at(2026, 5, 31, 14, 5))),
        (PATTERN, "c/2026.05.31/14h05m09.250_1.jpg", Facts("c", at(2026, 5, 31, 14, 5, 9, 250_000))),
        ("{camera}_{date}T{time}.*", "c_20260531T140509.png", Facts("c", at(2026, 5, 31, 14, 5, 9))),
        ("*/{tag}/{camera}-{tag}.jpg", "any/red/c-bag.jpg", Facts("c", None, ("red", "bag"))),
        ("cam?_{date}*", "cam1_2026-05-31_99.jpg", Facts(None, at(2026, 5, 31))),
    ],
)  # fmt: skip
def test_a_path_that_fits_tells_camera_time_and_tags(pattern: str, path: str, facts: Facts) -> None:
    assert PathPattern.parse(pattern).read(path) == facts


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("gate/2026-05-31/x.jpg", r"'x\.jpg' is not \{time\}_\*\.jpg: no \{time\} there"),
        ("gate/yesterday/14-05-09_7.jpg", r"'yesterday' is not \{date\}"),
        ("gate/2026-05-31/14-05-09_7.png", r"'14-05-09_7\.png' is not .*: no \.jpg there"),
        ("gate/14-05-09_7.jpg", r"has 2 parts, and the pattern .* 3"),
        ("gate/2026-13-31/14-05-09_7.jpg", r"2026-13-31 14-05-09 is no time: month must be in 1\.\.12"),
        ("gate/2026-05-31/25-05-09_7.jpg", r"is no time: hour must be in 0\.\.23"),
    ],
)
def test_a_path_that_does_not_fit_names_the_part(path: str, part: str) -> None:
    import re

    said = PathPattern.parse(PATTERN).read(path)
    assert isinstance(said, str)
    assert said.startswith(f"{path}: ")
    assert re.search(part, said), said


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{camra}/*.jpg", r"\{camra\} is not known; did you mean camera\?"),
        ("{camera}/{camera}/*", "stands there twice"),
        ("*/*.jpg", "names no field"),
        ("{time}_*.jpg", r"\{time\} needs a \{date\}"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PathPattern.parse(pattern)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "path,camera,time,tags,other\na/1.jpg,gate,2026-05-31T14:05:09,red bag,x\nb.jpg,,,\n"),
        ("a.csv", "Path;Time;Camera;Tags\r\na/1.jpg;2026-05-31 14:05:09;gate;red,bag\r\nb.jpg;;;\r\n"),
        (
            "a.jsonl",
            '{"path": "./a/1.jpg", "camera": "gate", "time": "2026-05-31T14:05:09", "tags": ["red", "bag"]}\n\n'
            '{"path": "b.jpg"}\n',
        ),
    ],
)
def test_a_sidecar_is_csv_or_jsonl(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert read_sidecar(tmp_path / name) == {
        "a/1.jpg": Facts("gate", at(2026, 5, 31, 14, 5, 9), ("red", "bag")),
        "b.jpg": Facts(),
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "camera\ngate\n", r"a\.csv: no column path; there are: camera"),
        ("a.csv", "path,time\na.jpg,soon\n", r"a\.csv, line 2: time: .*soon"),
        ("a.csv", "path,time\na.jpg,2026-05-31T14:05:09+02:00\n", r"a\.csv, line 2: time: .* has a zone"),
        ("a.csv", "path\na.jpg\na.jpg\n", r"a\.csv, line 3: path: a\.jpg stands there twice"),
        ("a.csv", "path,camera\na.jpg,b,c\n", r"a\.csv, line 2: more values than columns"),
        ("a.csv", "path\n", "no rows"),
        ("a.jsonl", '{"path": "a"}\n{"path": \n', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", '{"camera": "a"}\n', r"a\.jsonl, line 1: path: missing"),
        ("a.jsonl", '{"path": "a", "tags": "red"}\n', r"a\.jsonl, line 1: tags: expected a list"),
        ("a.jsonl", '{"path": "a", "camera": [1]}\n', r"a\.jsonl, line 1: camera: expected a name"),
        ("a.jsonl", '{"path": "a", "path": "b"}\n', r"a\.jsonl, line 1: .*\"path\" more than once"),
        ("a.jsonl", "[1]\n", r"a\.jsonl, line 1: expected an object"),
    ],
)
def test_a_sidecar_that_cannot_be_read_names_line_and_field(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(AnnotationError, match=message):
        read_sidecar(tmp_path / name)


def test_a_sidecar_that_is_not_there_or_not_utf8_says_so(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_sidecar(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes("path\nä.jpg\n".encode("latin-1"))
    with pytest.raises(AnnotationError, match="not UTF-8"):
        read_sidecar(tmp_path / "a.csv")


def test_exif_tells_time_and_model(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110] = "Pinhole 3"
    exif.get_ifd(0x8769)[0x9003] = "2026:05:31 14:05:09"
    exif.get_ifd(0x8769)[0x9291] = "25"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (8, 8)).save(tmp_path / "b.jpg")
    facts = Facts("Pinhole 3", at(2026, 5, 31, 14, 5, 9, 250_000))
    assert read_exif(tmp_path / "a.jpg") == facts
    assert read_exif(tmp_path / "b.jpg") == Facts()
    assert read_exif(tmp_path / "none.jpg") == Facts()
    assert merged(Facts("gate", None, ("x",)), facts) == Facts("gate", facts.time, ("x",))
