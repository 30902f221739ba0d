"""Evidence: what is in the ZIP file, that it is the same each time, and that a change is found."""

import hashlib
import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from textreid.errors import ArtifactError, ConfigError, ImageError
from textreid.gallery.query.evidence import (
    SUMS,
    Case,
    Exhibit,
    check_evidence,
    draw_box,
    exhibit_of_file,
    write_evidence,
)

CASE = Case(
    "a <b>woman</b> in a red jacket", "gallery demo: 3 crops", "small", "f" * 64, "2026-11-29 13:00 UTC",
    {"filters": "camera 3"}, ("one note",),
)  # fmt: skip


def jpeg(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (24, 56), colour).save(stream, "JPEG")
    return stream.getvalue()


def gone() -> Image.Image:
    raise ImageError("walk.mp4: no such file")


def exhibits() -> list[Exhibit]:
    scene = Image.new("RGB", (400, 300), "grey")
    return [
        Exhibit(1, 0.41234567, jpeg("red"), ".jpg", {"camera": "3", "time": None}, (100, 50, 40, 90), lambda: scene),
        Exhibit(2, 0.3, jpeg("blue"), ".jpg", {"camera": "<4>"}, (10, 10, 20, 40), gone),
        Exhibit(3, 0.2, jpeg("green"), ".jpg"),
    ]


def test_the_package_holds_pictures_facts_and_hashes(tmp_path: Path) -> None:
    path = tmp_path / "out.zip"
    digest = write_evidence(path, CASE, exhibits())
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        crops = {f"crops/000{number}.jpg" for number in (1, 2, 3)}
        assert names == {"index.html", "results.json", SUMS, "frames/0001.jpg", *crops}
        listed = [line.split("  ") for line in archive.read(SUMS).decode().splitlines()]
        sums = {name: digest for digest, name in listed}
        assert sums == {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names - {SUMS}}
        assert archive.read("crops/0002.jpg") == jpeg("blue")
        content = json.loads(archive.read("results.json"))
        page = archive.read("index.html").decode()
        frame = np.asarray(Image.open(io.BytesIO(archive.read("frames/0001.jpg"))), np.int16)
    assert (content["query"], content["model_sha256"], content["filters"]) == (CASE.query, "f" * 64, "camera 3")
    first, second, third = content["results"]
    assert first["facts"] == {"camera": "3"}
    assert (first["score"], first["box"]) == (0.412346, [100, 50, 40, 90])
    assert second["problem"] == "the frame cannot be shown: walk.mp4: no such file"
    assert (second["frame"], third["frame"], third["problem"]) == (None, None, None)
    assert "a &lt;b&gt;woman&lt;/b&gt; in a red jacket" in page
    assert "&lt;4&gt;" in page
    assert page.count("<article>") == 3
    # The box lies around the person, who is left as he was.
    assert frame[95, 98, 0] > frame[95, 98, 1] + 60
    assert np.ptp(frame[60:130, 110:130]) < 12


def test_equal_content_makes_equal_bytes(tmp_path: Path) -> None:
    assert write_evidence(tmp_path / "a.zip", CASE, exhibits()) == write_evidence(tmp_path / "b.zip", CASE, exhibits())


def test_a_change_is_found(tmp_path: Path) -> None:
    path = tmp_path / "out.zip"
    write_evidence(path, CASE, exhibits())
    assert check_evidence(path) == 6
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    changes: list[tuple[dict[str, bytes | None], str]] = [
        ({"crops/0001.jpg": jpeg("pink")}, "crops/0001.jpg: was changed"),
        ({"crops/0001.jpg": None}, "crops/0001.jpg: is missing"),
        ({"more.jpg": b"x"}, "more.jpg: is not listed"),
        ({SUMS: None}, "no SHA256SUMS in it"),
        ({SUMS: b"\xff"}, "cannot be read as evidence"),
    ]
    for change, message in changes:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {**files, **change}.items():
                if content is not None:
                    archive.writestr(name, content)
        with pytest.raises(ArtifactError, match=message):
            check_evidence(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ArtifactError, match="cannot be read as evidence"):
        check_evidence(path)


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="sha256sum is not installed")
def test_sha256sum_reads_the_manifest(tmp_path: Path) -> None:
    write_evidence(tmp_path / "out.zip", CASE, exhibits())
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        archive.extractall(tmp_path / "out")
    command = ["sha256sum", "--check", "--strict", SUMS]
    found = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=True)
    assert found.stdout.count(": OK") == 6


def test_a_file_is_its_own_crop(tmp_path: Path) -> None:
    (tmp_path / "A.JPG").write_bytes(jpeg("red"))
    exhibit = exhibit_of_file(1, 0.5, tmp_path / "A.JPG", note="x")
    assert (exhibit.crop, exhibit.suffix, exhibit.facts["bytes"]) == (jpeg("red"), ".jpg", len(jpeg("red")))
    assert exhibit.facts["note"] == "x"
    with pytest.raises(ArtifactError, match=r"b\.jpg: cannot be read as evidence"):
        exhibit_of_file(1, 0.5, tmp_path / "b.jpg")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evidence is a \.zip file"):
        write_evidence(tmp_path / "out.tar", CASE, exhibits())
    with pytest.raises(ConfigError, match="nothing was found"):
        write_evidence(tmp_path / "out.zip", CASE, [])
    assert list(tmp_path.iterdir()) == []


def test_a_box_at_the_edge_is_drawn_as_far_as_it_goes() -> None:
    drawn = draw_box(Image.new("RGB", (50, 50)), (-5, -5, 70, 30))
    assert drawn.size == (50, 50)
    assert drawn.getpixel((25, 26)) == (255, 45, 45)
