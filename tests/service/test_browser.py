"""The page in a real browser: by keys alone, for everybody, in light and dark, on phone and desktop."""

import re
import shutil
from typing import TYPE_CHECKING, Any, Literal

import httpx2
import numpy as np
import pytest
from PIL import Image
from tests.service.conftest import Demo, MakeGallery, serving

from textreid.gallery.store import Database
from textreid.service.accounts import add_account, remove_account

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium (Debian: apt install chromium)"),
]
PASSWORD = "correct horse battery"  # noqa: S105
MOST_TABS = 120
PATIENCE_MS = 120_000  # a busy machine draws slowly
SHIFTS = """() => new Promise(done => {
  let sum = 0;
  new PerformanceObserver(list => list.getEntries().forEach(one => sum += one.value))
    .observe({type: "layout-shift", buffered: true});
  setTimeout(() => done(sum), 100);
})"""


@pytest.fixture(scope="module")
def walked(make_gallery: MakeGallery) -> Demo:
    return make_gallery("walked", 60, seed=23)


@pytest.fixture(scope="module")
def database(walked: Demo) -> "Iterator[Database]":
    yield from walked.opened()


@pytest.fixture(scope="module")
def url(walked: Demo, database: Database) -> "Iterator[str]":
    add_account(database, "ada", PASSWORD, ["admin"], None)
    with serving(walked, "--rate", "1000") as (address, _):
        yield address
    remove_account(database, "ada")


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=["desktop", "phone"])
def page(browser: "Browser", request: pytest.FixtureRequest, url: str) -> "Iterator[Page]":
    """A page of which nothing may be said on the console, and that may ask nobody else."""
    phone = request.param == "phone"
    size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 860}
    scheme: Any = "dark" if phone else "light"
    context = browser.new_context(color_scheme=scheme, viewport=size, locale="en-GB")  # type: ignore[arg-type]
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda sent: asked.append(sent.url))
    yield opened
    context.close()
    # Of a page of an error the console tells the status.
    assert [text for text in said if not re.search(r"status of 4(04|22)", text)] == []
    assert [where for where in asked if not where.startswith((url, "data:"))] == []


@pytest.fixture
def inside(page: "Page", url: str) -> "Page":
    """A page of somebody who has signed in."""
    page.goto(f"{url}/sign-in")
    page.locator("[name=name]").fill("ada")
    page.locator("[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")
    return page


def tab_to(page: "Page", wanted: "Locator") -> None:
    """Press the tabulator until something is reached."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if wanted.evaluate("one => one === document.activeElement"):
            return
    raise AssertionError(f"{wanted} is not reached by the tabulator")


def test_a_whole_session_needs_no_mouse(page: "Page", url: str, tmp_path: "Path") -> None:
    from playwright.sync_api import expect

    page.goto(url)
    page.keyboard.type("ada")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")
    page.keyboard.type("a man with a bag")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=a+man+with+a+bag*")
    tab_to(page, page.locator(".filters > summary"))
    page.keyboard.press("Enter")
    tab_to(page, page.locator("[name=camera][value=gate]"))
    page.keyboard.press("Space")
    tab_to(page, page.locator(".fields > button"))
    page.keyboard.press("Enter")
    page.wait_for_url("**camera=gate*")
    expect(page.locator(".chip.set")).to_have_count(1)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**/crops/*")
    expect(page.locator("[data-place]")).to_have_text("1 / 20")
    first = page.url
    page.keyboard.press("ArrowRight")
    page.wait_for_function("first => location.href !== first", arg=first)
    expect(page.locator("[data-place]")).to_have_text("2 / 20")
    page.keyboard.press("z")
    expect(page.locator("#zoom")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.wait_for_url("**/similar*")
    page.go_back()
    page.keyboard.press("b")
    page.wait_for_url("**camera=gate*")
    tab_to(page, page.locator("[name=right]").first)
    page.keyboard.press("Space")
    page.keyboard.press("r")
    page.wait_for_url("**right=*")
    tab_to(page, page.locator(".menu > summary"))
    page.keyboard.press("Enter")
    tab_to(page, page.locator("#name"))
    page.keyboard.type(f"by keys, {page.viewport_size}")
    page.keyboard.press("Enter")
    page.wait_for_url("**/searches")
    expect(page.locator(".rows li").first).to_contain_text("cameras: gate")
    tab_to(page, page.locator("nav a[href='/upload']"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/upload")
    tab_to(page, page.locator("[name=kind]:checked"))
    page.keyboard.press("ArrowDown")
    assert page.locator("[name=kind]:checked").input_value() == "photographs"
    Image.fromarray(np.full((200, 200, 3), 127, np.uint8)).save(tmp_path / "grey.png")
    page.locator("[type=file]").set_input_files(tmp_path / "grey.png")  # the window of the system is no page
    tab_to(page, page.locator(".upload .primary"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/upload")
    expect(page.locator(".state").first).to_be_visible()
    tab_to(page, page.locator("nav a[href='/audit']"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/audit")
    expect(page.locator("tbody tr").first).to_contain_text("upload")
    tab_to(page, page.locator("[action='/sign-out'] button"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/sign-in")
    assert page.evaluate("sessionStorage.length") == 0


def test_a_person_is_found_by_keys(inside: "Page", url: str, walked: Demo) -> None:
    from playwright.sync_api import expect

    page = inside
    assert page.evaluate("document.activeElement.id") == "q"
    page.goto(f"{url}/?q=a+man+with+a+bag")
    cards = page.locator(".card")
    assert cards.count() == 24
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for key in ("ArrowRight", "ArrowDown", "ArrowUp", "ArrowRight"):
        page.keyboard.press(key)
    second = cards.nth(1)
    assert second.evaluate("card => card === document.activeElement")
    number = (second.get_attribute("href") or "").rsplit("/", 1)[1]
    assert int(number) in walked.crops
    expect(page.locator(".card img").first).to_have_js_property("naturalWidth", 192)
    assert page.evaluate(SHIFTS) < 0.02
    page.keyboard.press("x")
    page.keyboard.press("y")  # not both
    assert page.locator(".marks input:checked").evaluate_all("all => all.map(one => one.name)") == ["right"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    wrong = (cards.nth(2).get_attribute("href") or "").rsplit("/", 1)[1]
    page.keyboard.press("r")
    page.wait_for_url(f"**right={number}*")
    assert page.locator(f".card[href='/crops/{wrong}']").count() == 0
    assert page.locator(f".marks input[name=right][value='{number}']").is_checked()
    page.go_back()
    page.keyboard.press("n")
    page.wait_for_url("**first=25*")
    page.goto(url)
    expect(page.locator("[data-recent-list] a")).to_have_text(["a man with a bag"])
    page.locator("[data-forget]").click()
    page.reload()
    expect(page.locator("[data-recent]")).to_be_hidden()
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()


def test_nothing_keeps_people_from_using_a_page(inside: "Page", url: str, walked: Demo) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page, checked = inside, 0
    crop, other = walked.of("gate")[:2]
    key = page.locator("[name=form_key]").first.input_value()
    cookies = {one["name"]: one["value"] for one in page.context.cookies()}
    with httpx2.Client(base_url=url, cookies=cookies, headers={"X-Form-Key": key}, trust_env=False) as client:
        body = {"name": f"looked at {page.viewport_size}", "search": {"query": "a man"}}
        saved = client.post("/api/v1/searches", json=body).json()["id"]
    shown = {  # and something that only this page has
        "/": "Who are you looking for",
        "/?q=a+man": "a man”",
        "/?q=a+man&camera=gate&tag=bag&once=1": "Filters that are set",
        f"/?q=a+man&right={crop}&wrong={other}": "Refined by",
        "/?q=a+man&since=2030-01-01T00:00": "No picture passes",
        "/?q=rote+Jacke": "does not read as English",
        "/?q=%3F": "has no words",
        f"/crops/{crop}": "The picture of person",
        f"/crops/{crop}/similar": "not by the face",
        "/searches": "yours alone",
        f"/searches/{saved}": "All saved searches",
        "/upload": "What is it?",
        "/audit": "Check the whole log",
        "/crops/999999": "There is nothing here",
        "/sign-in": "Password",
    }
    # All but the colours is the same in both schemes; the colours are the same on a phone.
    looks: list[tuple[Literal["light", "dark"], dict[str, Any]]] = [("dark", {})]
    if page.evaluate("innerWidth") > 640:
        looks = [("light", {}), ("dark", {"runOnly": ["color-contrast"]})]
    for path, has in shown.items():
        page.goto(url + path)
        assert has in page.content(), path
        for details in page.locator("details").all():
            details.evaluate("one => one.open = true")
        assert page.locator("h1").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        for scheme, only in looks:
            page.emulate_media(color_scheme=scheme)
            found = axe.run(page, options={"resultTypes": ["violations"], **only}).response["violations"]
            told = [(one["id"], node["html"], node["failureSummary"]) for one in found for node in one["nodes"]]
            assert told == [], (path, scheme)
            checked += 1
    assert checked == len(looks) * len(shown)


def test_a_language_is_chosen_and_kept(inside: "Page", url: str) -> None:
    from playwright.sync_api import expect

    page = inside
    page.goto(f"{url}/?q=rote+Jacke")
    assert page.locator("html").get_attribute("lang") == "en"
    page.locator("footer [value=de]").click()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    assert page.url == f"{url}/?q=rote+Jacke"
    expect(page.locator(".notice")).to_contain_text("liest sich nicht wie Englisch")
    assert page.locator("#q").get_attribute("lang") == "en"
    page.goto(f"{url}/crops/999999")
    expect(page.locator("[role=alert]")).to_contain_text("Kein Ausschnitt 999999")
    page.goto(f"{url}/?q=a+man&order=time")
    times = page.locator(".about b").all_inner_texts()
    assert len(times) == 24
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", time) for time in times)
    days = page.locator(".about > span:first-of-type").all_inner_texts()
    assert "Fr., 1. Mai 2026" in days
    assert [*zip(days, times, strict=True)] == sorted(
        zip(days, times, strict=True), key=lambda one: (one[0].split()[1], one[1])
    )
