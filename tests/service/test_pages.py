"""The page as a browser without JavaScript asks for it: signing in, what it shows, what it refuses."""

import re
from collections.abc import Iterator
from html import unescape
from importlib.resources import files

import httpx2
import pytest
from tests.service.conftest import Demo, MakeGallery, serving

from textreid.gallery.store import Database
from textreid.service.accounts import add_account, remove_account

PASSWORD = "correct horse battery"  # noqa: S105
HTML = {"Accept": "text/html"}
PAIRS = (  # of text and what is behind it
    *(("ink", "paper"), ("ink", "card"), ("ink", "tint"), ("soft", "paper"), ("soft", "card"), ("accent", "paper")),
    *(
        ("accent", "card"),
        ("on-accent", "accent"),
        ("wrong", "paper"),
        ("wrong", "card"),
        ("good", "paper"),
        ("paper", "wrong"),
    ),
)


@pytest.fixture(scope="module")
def shown(make_gallery: MakeGallery) -> Demo:
    return make_gallery("shown <b>&", 60, seed=11)


@pytest.fixture(scope="module")
def database(shown: Demo) -> Iterator[Database]:
    yield from shown.opened()


@pytest.fixture(scope="module")
def url(shown: Demo, database: Database) -> Iterator[str]:
    add_account(database, "ada", PASSWORD, ["search"], ["gate"])
    add_account(database, "root", PASSWORD, ["admin"], None)
    with serving(shown, "--rate", "1000") as (address, _):
        yield address
    for name in ("ada", "root"):
        remove_account(database, name)


@pytest.fixture
def visitor(url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, headers=HTML, trust_env=False, timeout=60) as client:
        yield client


def sign_in(client: httpx2.Client, name: str, then: str = "/", password: str = PASSWORD) -> httpx2.Response:
    return client.post("/sign-in", data={"name": name, "password": password, "then": then})


def form_key(client: httpx2.Client) -> str:
    return _key(client.get("/").text)


@pytest.mark.slow
def test_who_has_not_signed_in_is_asked_to_and_comes_back(visitor: httpx2.Client) -> None:
    refused = visitor.get("/?q=a+man")
    assert (refused.status_code, refused.headers["location"]) == (303, "/sign-in?then=%2F%3Fq%3Da%2Bman")
    assert 'value="/?q=a+man"' in visitor.get(refused.headers["location"]).text
    for then, goes in (("/?q=a", "/?q=a"), ("//evil.example", "/"), ("https://evil.example", "/"), ("/\\evil", "/")):
        answer = sign_in(visitor, "ada", then)
        assert (answer.status_code, answer.headers["location"]) == (303, goes)
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
    assert visitor.get("/?q=a+man").status_code == 200
    assert visitor.post("/sign-out", data={"form_key": "wrong"}).status_code == 403
    assert visitor.post("/sign-out", data={"form_key": form_key(visitor)}).status_code == 303
    assert visitor.get("/").status_code == 303


@pytest.mark.slow
def test_guessing_passwords_is_slow(visitor: httpx2.Client) -> None:
    statuses: list[int] = []
    while 429 not in statuses and len(statuses) < 40:  # a busy machine gives permits back meanwhile
        statuses.append(sign_in(visitor, "nobody", password=f"guess {len(statuses)}").status_code)
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429


@pytest.mark.slow
def test_a_cookie_alone_changes_nothing(visitor: httpx2.Client, url: str, shown: Demo, database: Database) -> None:
    token = {"Cookie": f"textreid-session={_session(database, 'root')}"}
    number = shown.of("gate")[0]
    with httpx2.Client(base_url=url, headers=token, trust_env=False, timeout=60) as root:
        assert root.get("/audit").status_code == 200
        forged = [
            root.post("/api/v1/search", json={"query": "a man"}),
            root.post("/api/v1/erase", json={"crops": [number]}),
            root.post(f"/crops/{number}/erase", data={}),
            root.post("/audit/check", data={"form_key": ""}),
            root.post("/sign-out", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}),
        ]
        assert [answer.status_code for answer in forged] == [403] * 5
        key = form_key(root)
        assert root.post("/api/v1/search", json={"query": "a man"}, headers={"X-Form-Key": key}).status_code == 200
        assert "whole: " in root.post("/audit/check", data={"form_key": key}).text
        assert root.post(f"/crops/{number}/erase", data={"form_key": key}).status_code == 303
        assert root.get(f"/crops/{number}", headers=HTML).status_code == 404


def _session(database: Database, name: str) -> str:
    from textreid.service.accounts import start_session

    return start_session(database, name)


@pytest.mark.slow
def test_the_page_shows_what_the_account_may_see(url: str, shown: Demo, database: Database) -> None:
    cookie = {"Cookie": f"textreid-session={_session(database, 'ada')}", **HTML}
    gate = set(shown.of("gate"))
    with httpx2.Client(base_url=url, headers=cookie, trust_env=False, timeout=60) as ada:
        found: list[int] = []
        address = "/?q=a+man"
        while address:
            page = ada.get(address).text
            found += map(int, re.findall(r'class="card" href="/crops/(\d+)"', page))
            following = re.search(r'class="next" rel="next" href="([^"]+)"', page)
            address = unescape(following[1]) if following else ""
        assert set(found) <= gate
        assert len(found) == len(set(found)) >= len(gate) - 1
        assert "hall" not in ada.get("/").text
        nothing = ada.get("/crops/987654")
        for path in ("/crops/{}", "/crops/{}/similar"):
            other = ada.get(path.format(shown.of("hall")[0]))
            assert other.status_code == nothing.status_code == 404
            asked = r"crop \d+|/crops/\d+(/similar)?"
            assert re.sub(asked, "", other.text) == re.sub(asked, "", nothing.text)
            assert ada.get(path.format(max(gate))).status_code == 200
        around = re.search(r'href="(/\?camera=gate&amp;since=[^"]+)"', ada.get(f"/crops/{max(gate)}").text)
        assert around
        assert ada.get(unescape(around[1])).text.count("chip set") == 3
        again = ada.get(unescape(around[1]) + "&q=a+man").text
        assert re.findall(r'class="card" href="/crops/(\d+)"', again) == [str(max(gate))]
        assert ada.get("/audit").status_code == 403
        assert "Audit log" not in page


@pytest.mark.slow
def test_what_is_wrong_is_said_on_the_page_and_nothing_is_markup(url: str, database: Database) -> None:
    cookie = {"Cookie": f"textreid-session={_session(database, 'root')}", **HTML}
    evil = '"><script>alert(1)</script>{{ 7*7 }}'
    with httpx2.Client(base_url=url, headers=cookie, trust_env=False, timeout=60) as root:
        cases = [
            ({"q": "?!"}, "the description has no words"),
            ({"q": "a man", "since": "yesterday"}, "since: "),
            ({"q": "a man", "from_hour": "5", "to_hour": "5"}, "hours: "),
            ({"q": "a man", "after": "x"}, "not what a page gave"),
            ({"q": "a man", "tag": "a\0b"}, "NUL"),
        ]
        for fields, said in cases:
            answer = root.get("/", params=fields)
            assert answer.status_code == 422
            assert said.lower() in unescape(answer.text).lower()
            assert 'role="alert"' in answer.text
        fields = dict.fromkeys(("tag", "purpose"), evil)
        pages = [
            root.get("/", params={"q": evil, **fields}),
            root.get("/audit"),
            root.get(f"/crops/1/similar?purpose={evil}"),
        ]
        pages += [root.get(f"/{evil}"), sign_in(root, evil, evil)]
        for answer in pages:
            assert "<script>alert" not in answer.text
            assert "49" not in re.findall(r"\{\{.*?\}\}|49", answer.text)[:1]
            assert "shown <b>" not in answer.text
            assert "unsafe-inline" not in answer.headers["content-security-policy"]
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script>", answer.text)
        page = pages[0].text
        assert page.count("<label") >= 8
        assert all("alt=" in image for image in re.findall(r"<img[^>]*>", page))
        for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
            file = root.get(f"/static/{name}")
            assert file.headers["content-type"].startswith(kind)
            again = root.get(f"/static/{name}", headers={"If-None-Match": file.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        assert root.get("/static/..%2Fpages.py").status_code == 404


@pytest.mark.slow
def test_a_browser_is_answered_in_its_language(visitor: httpx2.Client, database: Database) -> None:
    german = {"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"}
    page = visitor.get("/sign-in", headers=german).text
    assert '<html lang="de">' in page
    assert "Passwort" in page
    # From another address: this one has guessed too often, in a test before.
    refused = visitor.post(
        "/sign-in", data={"name": "eve", "password": "wrong"}, headers=german | {"X-Forwarded-For": "192.0.2.7"}
    )  # fmt: skip
    assert "Name und Passwort passen nicht zusammen." in refused.text
    chosen = visitor.post("/language", data={"language": "de", "then": "/?q=rote+Jacke"})
    assert (chosen.status_code, chosen.headers["location"]) == (303, "/?q=rote+Jacke")
    assert "httponly" in chosen.headers["set-cookie"].lower()
    for language, then in (("xx", "/"), ("de", "//evil.example"), ("<b>", "/\\evil")):
        answer = visitor.post("/language", data={"language": language, "then": then})
        assert answer.headers["location"] == "/"
        assert ("set-cookie" in answer.headers) == (language == "de")
    visitor.cookies.set("textreid-session", _session(database, "root"))
    found = visitor.get("/?q=rote+Jacke").text
    assert "liest sich nicht wie Englisch" in found
    assert "auf Englisch" in found
    assert (
        '<input id="q" name="q" type="search" value="rote Jacke" maxlength="2000" required autocomplete="off" ' in found
    )
    assert "Kein Ausschnitt 987654: " in visitor.get("/crops/987654").text
    assert 'lang="en"' in visitor.get("/?q=a&since=yesterday").text
    audit = visitor.get("/audit").text
    assert "gesucht" in audit
    assert re.search(r"unversehrt: [\d.]+ Einträge", visitor.post("/audit/check", data={"form_key": _key(audit)}).text)


def _key(page: str) -> str:
    found = re.search(r'name="form_key" value="([^"]+)"', page)
    assert found
    return found[1]


def luminance(colour: str) -> float:
    digits = colour * 2 if len(colour) == 3 else colour
    digits = "".join(c * 2 for c in colour) if len(colour) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_can_be_read_in_light_and_dark() -> None:
    css = files("textreid.service").joinpath("static/page.css").read_text()
    schemes = [
        dict(re.findall(r"--([\w-]+): #([0-9a-f]+);", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)
    ]
    assert len(schemes) == 2
    for colours in schemes:
        for text, behind in PAIRS:
            first, second = sorted((luminance(colours[text]), luminance(colours[behind])), reverse=True)
            # WCAG 2.2, level AA.
            assert (first + 0.05) / (second + 0.05) >= 4.5, (text, behind)
