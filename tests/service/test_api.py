"""The API over HTTP: a real server process, a real database."""

import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image
from tests.service.conftest import Demo, MakeGallery, serving

from textreid import Client
from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.query.fusion import refine
from textreid.gallery.query.question import Question, encode_question
from textreid.gallery.store import NewFile
from textreid.service import ServiceError

pytestmark = pytest.mark.slow
QUERY = "a woman in a red jacket"


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as opened:
        yield opened


@pytest.fixture
def http(address: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=address, trust_env=False) as opened:
        yield opened


def ranked(demo: Demo, model_folder: Path, **filters: str) -> list[int]:
    """Numbers of the crops as numpy ranks them."""
    vector = GalleryEncoder(model_folder).encode_query(QUERY)[0]
    score = {n: -float(crop.embedding.astype(np.float16) @ vector) for n, crop in demo.crops.items()}
    fits = [n for n, crop in demo.crops.items() if all(getattr(crop, k) == v for k, v in filters.items())]
    return sorted(fits, key=score.__getitem__)


def test_a_search_ranks_as_numpy_does(client: Client, demo: Demo, model_folder: Path) -> None:
    page = client.search(QUERY, top=30)
    expected = ranked(demo, model_folder)
    assert [hit.crop.id for hit in page.hits] == expected[:30]
    best, made = page.hits[0].crop, demo.crops[expected[0]]
    assert (best.camera, best.time, best.frame, best.box, best.tags) == (
        made.camera, made.time, made.frame, made.box, made.tags,
    )  # fmt: skip
    assert page.exact


def test_pages_go_through_all_crops_once(client: Client, demo: Demo, model_folder: Path) -> None:
    found = [hit.crop.id for hit in client.search_all(QUERY, top=7)]
    assert found == ranked(demo, model_folder)
    gate = [hit.crop.id for hit in client.search_all(QUERY, top=4, cameras=["gate"])]
    assert gate == ranked(demo, model_folder, camera="gate")


def test_filters_hold(client: Client, demo: Demo) -> None:
    since = datetime(2026, 5, 1, 12)
    found = {hit.crop.id for hit in client.search(QUERY, top=200, since=since, hours=[13, 18], tags=["bag"]).hits}
    expected = {
        n
        for n, crop in demo.crops.items()
        if crop.time and crop.time >= since and 13 <= crop.time.hour < 18 and crop.tags
    }
    assert found == expected
    assert 0 < len(expected) < len(demo.crops)
    tracks = [(hit.crop.path, hit.crop.track) for hit in client.search(QUERY, top=200, one_per_track=True).hits]
    assert len(tracks) == len(set(tracks)) == 15


def test_similar_crops_are_found_by_the_vector_of_one(client: Client, demo: Demo) -> None:
    number = demo.of("hall")[3]
    vector = demo.crops[number].embedding
    score = {n: float(crop.embedding @ vector) for n, crop in demo.crops.items()}
    found = [hit.crop.id for hit in client.similar(number, top=10).hits]
    assert found == sorted(set(demo.crops) - {number}, key=lambda n: -score[n])[:10]


def test_witnesses_and_what_was_not_seen_count(client: Client, demo: Demo, model_folder: Path) -> None:
    encoder = GalleryEncoder(model_folder)
    said = Question((QUERY, "a man"), without=("a bag",))
    vector = encode_question(said, encoder).features.vector()
    page = client.search(QUERY, witnesses=["a man"], without=["a bag"], top=5)
    score = {n: -float(crop.embedding @ vector) for n, crop in demo.crops.items()}
    assert [hit.crop.id for hit in page.hits] == sorted(demo.crops, key=score.__getitem__)[:5]


def test_judged_crops_move_a_search(client: Client, demo: Demo, model_folder: Path) -> None:
    right, wrong = demo.of("gate")[:2], demo.of("hall")[:3]
    vectors = [np.stack([demo.crops[number].embedding for number in some]) for some in (right, wrong)]
    vector = refine(GalleryEncoder(model_folder).encode_query(QUERY)[0], *vectors)
    score = {n: -float(crop.embedding @ vector) for n, crop in demo.crops.items() if n not in wrong}
    found = [hit.crop.id for hit in client.search(QUERY, right=right, wrong=wrong, top=20).hits]
    assert found == sorted(score, key=score.__getitem__)[:20]
    assert right[0] in [hit.crop.id for hit in client.search(QUERY, right=right[:1], top=20).hits]
    with pytest.raises(ServiceError, match="no crop 999999"):
        client.search(QUERY, right=[999_999])


def test_a_verdict_tells_whether_anybody_fits(client: Client) -> None:
    page = client.search(QUERY, verdict=True)
    assert page.verdict
    assert page.verdict["answer"] in ("somebody", "nobody", "unclear")
    assert 0 <= page.verdict["probability"] <= 1
    assert client.search(QUERY).verdict is None
    assert client.search(QUERY, verdict=True, cameras=["no such camera"]).verdict is None
    assert client.search("a woman in a burgundy redingote").notes


def test_pictures_are_those_of_the_gallery(http: httpx2.Client, client: Client, demo: Demo) -> None:
    number = next(iter(demo.crops))
    assert client.picture(number) == demo.crops[number].jpeg
    answer = http.get(f"/api/v1/crops/{number}/thumbnail")
    assert Image.open(io.BytesIO(answer.content)).size == (192, 384)
    again = http.get(f"/api/v1/crops/{number}/thumbnail", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (
        again.headers["etag"] == answer.headers["etag"] != http.get(f"/api/v1/crops/{number}/picture").headers["etag"]
    )
    assert answer.headers["cache-control"] == "private, no-cache"


def test_a_crop_is_shown_in_the_photograph_that_it_was_cut_from(make_gallery: MakeGallery, tmp_path: Path) -> None:
    small = make_gallery("photographs", 1, seed=9)
    place = tmp_path / "street.png"
    Image.new("RGB", (320, 200), "white").save(place)
    made = next(iter(small.crops.values()))
    cut = [replace(made, box=(100, 50, 40, 80), seconds=None), replace(made, box=None, jpeg=None)]
    for database in small.opened():
        store = database.store("photographs")
        inside, itself = store.add(str(tmp_path), [NewFile(str(place), FileStamp(1, 2, 3), b"p", cut)])
    with serving(small) as (url, _), Client(url) as client:
        frame = Image.open(io.BytesIO(client.frame(inside)))
        assert frame.size == (320, 200)
        red = [(x, y) for x in range(320) for y in range(200) if frame.getpixel((x, y))[1] < 128]  # type: ignore[index]
        xs, ys = zip(*red, strict=True)
        assert all(
            abs(a - b) <= 3 for a, b in zip((min(xs), min(ys), max(xs), max(ys)), (98, 48, 142, 132), strict=True)
        )
        assert Image.open(io.BytesIO(client.picture(itself))).size == (320, 200)
        with pytest.raises(ServiceError, match="a picture of its own"):
            client.frame(itself)
        with pytest.raises(ServiceError, match="cannot be read any more"):
            client.frame(min(small.crops))


def test_cameras_are_counted(client: Client) -> None:
    assert client.cameras() == {"gate": 30, "hall": 30}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/search", {}, 422, "query: Field required"),
        ("POST", "/search", {"query": ""}, 422, "query: "),
        ("POST", "/search", {"query": "?!"}, 422, "the query has no words"),
        ("POST", "/search", {"query": "a\0b"}, 422, "NUL"),
        ("POST", "/search", {"query": "x", "top": 201}, 422, "top: "),
        ("POST", "/search", {"query": "x", "tpo": 2}, 422, "tpo: "),
        ("POST", "/search", {"query": "x", "after": "nonsense"}, 422, "not what a page gave"),
        ("POST", "/search", {"query": "x", "after": f"0x1.0p+0,{10**30},1"}, 422, "not what a page gave"),
        ("POST", "/search", {"query": "x", "filters": {"hours": [5, 5]}}, 422, "hours: "),
        ("POST", "/search", {"query": "x", "filters": {"since": "2026-05-01T00:00:00Z"}}, 422, "without a zone"),
        ("POST", "/search", {"query": "x", "filters": {"exclude": [2**63]}}, 422, "exclude"),
        ("POST", "/search", {"query": "x" * 70_000}, 413, "at most 65536 bytes"),
        ("GET", "/search", None, 405, "Method Not Allowed"),
        ("GET", "/crops/999999", None, 404, "no crop 999999"),
        ("GET", "/crops/999999/picture", None, 404, "no crop 999999"),
        ("GET", "/crops/999999/thumbnail", None, 404, "no crop 999999"),
        ("POST", "/crops/999999/similar", {}, 404, "no crop 999999"),
        ("GET", f"/crops/{2**63}", None, 422, "number: "),
        ("GET", "/crops/../../etc/passwd", None, 404, "Not Found"),
    ],
)
def test_what_is_wrong_is_a_problem(
    http: httpx2.Client, method: str, path: str, body: object, status: int, said: str
) -> None:
    answer = (
        http.request(method, f"/api/v1{path}", json=body)
        if body is not None
        else http.request(method, f"/api/v1{path}")
    )
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert said in problem["detail"]


def test_what_is_no_json_is_a_problem(http: httpx2.Client) -> None:
    for body in (b"{", b"\xff\xfe", b'{"query": "\\ud800"}', b"[" * 5000):
        answer = http.post("/api/v1/search", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422)
        assert answer.json()["status"] == answer.status_code


def test_only_a_browser_that_knows_the_address_is_answered(http: httpx2.Client) -> None:
    assert http.get("/health", headers={"Host": "evil.example"}).status_code == 421
    assert http.get("/health", headers={"Host": "localhost:80"}).status_code == 200
    assert http.get("/health", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}).status_code == 403
    # Through a proxy on this machine others come in: not without an account.
    assert http.get("/api/v1/cameras", headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 401
    assert http.get("/api/v1/cameras", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 200


def test_operations(http: httpx2.Client, client: Client) -> None:
    client.search(QUERY)
    assert http.get("/health").json() == {"status": "alive"}
    assert http.get("/ready").json() == {"status": "ready"}
    text = http.get("/metrics").text
    assert 'textreid_requests_total{method="POST",route="/api/v1/search",status="200"}' in text
    assert "textreid_model_batch_size_count" in text
    assert QUERY not in text
    description = http.get("/api/v1/openapi.json").json()
    assert description["components"]["schemas"]["SearchIn"]["examples"][0]["query"] == QUERY
    headers = http.get("/health").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


def test_many_at_once_get_the_answers_of_one(address: str, demo: Demo) -> None:
    sentences = [f"a man with {n} bags" for n in range(8)]
    with Client(address) as one:
        expected = [one.search(sentence).hits for sentence in sentences]
    found: dict[int, object] = {}

    def ask(n: int) -> None:
        with Client(address) as own:
            found[n] = own.search(sentences[n % 8]).hits

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(24)] == expected * 3


def test_a_stop_answers_what_was_asked_and_an_unreachable_service_is_one_line(make_gallery: MakeGallery) -> None:
    small = make_gallery("small", 6, seed=3)
    answers: list[int] = []
    with serving(small) as (url, process):

        def ask() -> None:
            with Client(url) as own:
                answers.append(len(own.search(QUERY).hits))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        while not answers:
            pass
        process.terminate()
        for thread in threads:
            thread.join()
        assert process.wait(20) == 0
        assert answers == [6] * 8
    with Client(url) as client, pytest.raises(ServiceError, match="no answer") as caught:
        client.crop(1)
    assert caught.value.status is None
