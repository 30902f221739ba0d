"""Uploads: what is no picture is refused in one line, what is one is indexed, and what is erased is deleted."""

import io
import os
import re
import subprocess
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image
from tests.people.conftest import write_video
from tests.service.conftest import COMMAND, Demo, MakeGallery, serving

from textreid import Client
from textreid.errors import DataError
from textreid.gallery.store import Database
from textreid.gallery.store.indexing import exclusively
from textreid.service import ServiceError
from textreid.service.access import LOCAL
from textreid.service.audit import newest
from textreid.service.calls import UploadJob
from textreid.service.jobs import JobRunner, add_job, job
from textreid.service.stores import Stores
from textreid.service.uploads import Sent, receive, upload_folder

pytestmark = pytest.mark.slow
NOISE = np.random.default_rng(3)


@pytest.fixture(scope="module")
def filled(make_gallery: MakeGallery) -> Demo:
    return make_gallery("filled", 6, seed=17)


@pytest.fixture(scope="module")
def database(filled: Demo) -> Iterator[Database]:
    yield from filled.opened()


@pytest.fixture(scope="module")
def url(filled: Demo) -> Iterator[str]:
    with serving(filled, "--upload-mb", "4") as (address, process):
        yield address
        process.terminate()
        assert process.wait(20) == 0


@pytest.fixture
def http(url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, trust_env=False) as opened:
        yield opened


def picture(kind: str = "PNG", size: tuple[int, int] = (24, 56)) -> bytes:
    stream = io.BytesIO()
    blocks = Image.fromarray(NOISE.integers(0, 256, (8, 4, 3), np.uint8))
    blocks.resize(size, Image.Resampling.NEAREST).save(stream, kind)
    return stream.getvalue()


def bomb() -> bytes:
    """A PNG of 60,000 by 60,000 white pixels in some 14 KB."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    size = (60_000).to_bytes(4, "big")
    data = zlib.compress(b"\0" * 60_000 * 8, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size * 2 + b"\1\0\0\0\0") + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def ended(client: Client, number: int) -> UploadJob:
    deadline = time.monotonic() + 180
    while (job := client.job(number)).state in ("waiting", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return job


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://192.0.2.1/x"/></svg>'
PLAYLIST = b"#EXTM3U\n#EXTINF:1,\nhttp://192.0.2.1/x.ts\n"


def test_what_cannot_be_meant_is_refused_in_one_line(http: httpx2.Client, filled: Demo, database: Database) -> None:
    good = picture()
    refused: list[tuple[str, list[tuple[str, bytes]], str]] = [
        ("crops", [], "nothing was sent"),
        ("crowds", [("a.png", good)], "kind: expected one of crops, photographs, video"),
        ("crops", [("a.svg", SVG)], "a.svg: expected a name that ends in one of"),
        ("crops", [("a.png", SVG)], "a.png: "),
        ("crops", [("a.jpg", b"<!doctype html><script>alert(1)</script>")], "a.jpg: "),
        ("crops", [("a.png", good), ("b.png", good[: len(good) // 2])], "b.png: "),
        ("crops", [("a.png", b"")], "a.png: "),
        ("photographs", [("a.png", bomb())], "a.png: 60000x60000 pixels, more than"),
        ("video", [("a.mp4", PLAYLIST)], "a.mp4: not a video of the form that its name tells"),
        ("video", [("a.m3u8", PLAYLIST)], "a.m3u8: expected a name"),
        ("video", [("a.png", good)], "a.png: expected a name"),
        ("video", [("a.avi", good), ("b.avi", good)], "one video at a time, not 2"),
        *(
            ("crops", [(name, good)], "not the plain name")
            for name in ("..", "../a.png", "a\\b.png", "c:a.png", ".a.png")
        ),
        ("crops", [("http://192.0.2.1/a.png", good)], "not the plain name"),
        ("crops", [("a" * 160 + ".png", good)], "at most 150 bytes"),
    ]
    for kind, files, said in refused:
        sent = [("files", file) for file in files] or [("other", ("a.png", good))]
        answer = http.post("/api/v1/uploads", data={"kind": kind}, files=sent)
        assert answer.status_code == 422, (kind, files)
        detail = answer.json()["detail"]
        assert said in detail
        assert "\n" not in detail
        assert str(filled.data) not in detail
    many = [("files", (f"{n}.png", good)) for n in range(201)]
    assert http.post("/api/v1/uploads", data={"kind": "crops"}, files=many).status_code == 400
    large = http.post("/api/v1/uploads", data={"kind": "video"}, files=[("files", ("a.avi", bytes(5 << 20)))])
    assert large.status_code == 413
    assert http.post("/api/v1/uploads", json={"kind": "crops", "files": ["http://192.0.2.1/"]}).status_code == 415
    half = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    broken = http.post("/api/v1/uploads", content=half, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert broken.status_code in (400, 422)
    assert http.get("/api/v1/jobs").json() == {"jobs": []}
    folder = upload_folder(database, database.store(filled.name).id)
    assert not folder.exists() or list(folder.iterdir()) == []


def test_crops_are_uploaded_indexed_found_and_erased(
    url: str, filled: Demo, database: Database, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.jpg", "--help.png", "grey.png")]
    for path in paths[:3]:
        path.write_bytes(picture("JPEG" if path.suffix == ".jpg" else "PNG"))
    Image.new("RGB", (24, 56), (90, 90, 90)).save(paths[3])
    contents = {path.name: path.read_bytes() for path in paths}
    with Client(url) as client:
        job = ended(client, client.upload("crops", paths, camera="yard").id)
        assert (job.state, job.files, job.done, job.crops) == ("done", 4, 4, 3)
        assert [name for name, _ in job.problems] == ["grey.png"]
        hits = client.search("a man", cameras=["yard"]).hits
        assert sorted(hit.crop.path.rsplit("-", 1)[-1] for hit in hits) == ["a.png", "b.jpg", "help.png"]
        entry = next(one.facts for one in newest(database, 20) if one.facts["action"] == "upload")
        assert (entry["job"], entry["files"], entry["camera"]) == (job.id, 4, "yard")
        folder = Path(hits[0].crop.path).parent
        assert len(list(folder.iterdir())) == 3  # the one that shows nothing is not kept
        gone = hits[0].crop
        # A copy that was uploaded is ours to delete; nothing is left to be named.
        assert client.erase([gone.id]) == (1, [])
        assert not Path(gone.path).exists()
        # Nor is there a copy elsewhere: what the middle of the file says stands in no file of the service.
        middle = contents[Path(gone.path).name.partition("-")[2]]
        trace = middle[len(middle) // 2 :][:32]
        assert [path for path in filled.data.rglob("*") if path.is_file() and trace in path.read_bytes()] == []
        assert len(list(folder.iterdir())) == 2
        assert [one.id for one in client.jobs()] == [job.id]
        assert client.job(job.id).crops == 2
        with pytest.raises(DataError, match=r"none\.png: cannot be read"):
            client.upload("crops", [tmp_path / "none.png"])
        with pytest.raises(ServiceError, match="no job 987654"):
            client.job(987_654)


def test_a_video_is_uploaded_and_stopped_on_the_page(url: str, http: httpx2.Client, tmp_path: Path) -> None:
    video = write_video(tmp_path / "walk.avi", [np.full((120, 160, 3), 9 * n, np.uint8) for n in range(20)])
    headers = {"Accept": "text/html"}
    refused = http.post("/upload", data={"kind": "video"}, files={"files": ("a.avi", b"RIFF")}, headers=headers)
    assert refused.status_code == 422
    assert "not a video" in refused.text
    sent = {"files": ("walk <b>.avi", Path(video).read_bytes())}
    answer = http.post("/upload", data={"kind": "video", "camera": "hall"}, files=sent, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, "/upload")
    page = http.get("/upload", headers=headers).text
    assert "data-live" in page
    stop = re.search(r'action="(/upload/\d+)/cancel"', page)
    assert stop
    assert http.post(f"{stop[1]}/cancel", headers=headers).status_code == 303
    with Client(url) as client:
        assert client.jobs()[0].state == "cancelled"
        job = ended(client, client.upload("video", [video], camera="hall").id)
        assert (job.state, job.seconds is not None) == ("done", True)
        assert job.problems == ()
    assert "of the video looked at" in http.get("/upload", headers=headers).text


def test_a_job_goes_on_after_the_service_is_killed(make_gallery: MakeGallery, tmp_path: Path) -> None:
    small = make_gallery("jobs killed", 6, seed=19)
    path = tmp_path / "a.png"
    path.write_bytes(picture())
    with serving(small) as (first, process), Client(first) as client:
        number = client.upload("crops", [path]).id
        while client.job(number).state == "waiting":
            time.sleep(0.01)
        process.kill()
    with serving(small) as (second, _), Client(second) as client:
        job = ended(client, number)
        assert (job.state, job.crops) == ("done", 1)


def test_a_job_waits_while_another_process_indexes_its_files(make_gallery: MakeGallery) -> None:
    held = make_gallery("held", 2, seed=41)
    for opened in held.opened():
        store, pool = opened.store("held"), Stores("held", None, 2)
        folder = receive(store, "crops", [Sent("a.png", io.BytesIO(picture()))])
        number = add_job(store, LOCAL, "crops", None, folder)

        def state(*expected: str) -> str:
            deadline = time.monotonic() + 120
            while (found := job(store, LOCAL, number).state) not in expected:  # noqa: B023
                assert time.monotonic() < deadline
                time.sleep(0.01)
            return found

        with closing(JobRunner(pool)) as runner:
            with exclusively(store, os.path.realpath(folder), "busy"):
                runner.wake()
                assert state("running") == "running"
                assert state("waiting", "failed") == "waiting"
            assert state("done", "failed") == "done"
        assert job(store, LOCAL, number).crops == 1
        pool.close()


def test_uploads_are_deleted_with_their_gallery(make_gallery: MakeGallery) -> None:
    doomed, kept = make_gallery("doomed", 2, seed=31), make_gallery("kept", 2, seed=37)
    for opened in kept.opened():
        stores = [opened.store(one.name) for one in (doomed, kept)]
        folders = [receive(store, "crops", [Sent("a.png", io.BytesIO(picture()))]) for store in stores]
        result = subprocess.run(
            [*COMMAND, "gallery", "delete", "doomed", "--yes"], env=doomed.environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (result.returncode, result.stderr.rpartition(", ")[2]) == (0, "1 uploaded files\n")
        assert [folder.exists() for folder in folders] == [False, True]
        # What an earlier version left of deleted galleries goes when a service is started; so does what no job knows.
        left = upload_folder(opened, 987_654) / "x"
        left.mkdir(parents=True)
        pool = Stores("kept", None, 1)
        JobRunner(pool).close()
        pool.close()
        assert not left.parent.exists()
        assert not folders[1].exists()
