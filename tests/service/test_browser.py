"""The page in a real browser: keys, no script or style that its policy refuses, light and dark, phone and desktop."""

import shutil
from typing import TYPE_CHECKING

import pytest
from tests.service.conftest import Demo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=["desktop", "phone"])
def page(browser: "Browser", request: pytest.FixtureRequest) -> "Iterator[Page]":
    """A page of which nothing may be said on the console."""
    phone = request.param == "phone"
    size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 860}
    context = browser.new_context(color_scheme="dark" if phone else "light", viewport=size)  # type: ignore[arg-type]
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    context.close()
    assert said == []


def test_a_person_is_found_by_keys_alone(page: "Page", address: str, demo: Demo) -> None:
    from playwright.sync_api import expect

    page.goto(address)
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("a man with a bag")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=a+man+with+a+bag*")
    cards = page.locator(".card")
    assert cards.count() == 24
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    second = cards.nth(1)
    assert second.evaluate("card => card === document.activeElement")
    number = (second.get_attribute("href") or "").rsplit("/", 1)[1]
    assert int(number) in demo.crops
    expect(page.locator(".card img").first).to_have_js_property("naturalWidth", 192)
    page.keyboard.press("x")
    page.keyboard.press("y")  # not both
    assert page.locator(".judge input:checked").evaluate_all("all => all.map(one => one.name)") == ["right"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    wrong = (cards.nth(2).get_attribute("href") or "").rsplit("/", 1)[1]
    page.keyboard.press("r")
    page.wait_for_url(f"**right={number}*")
    assert page.locator(f".card[href='/crops/{wrong}']").count() == 0
    assert page.locator(f".judge input[name=right][value='{number}']").is_checked()
    page.go_back()
    page.keyboard.press("n")
    page.wait_for_url("**first=25*")
    page.go_back()
    page.locator(".card").nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/crops/{number}")
    page.keyboard.press("s")
    page.wait_for_url(f"**/crops/{number}/similar*")
    assert page.locator(".card").count() == 24
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()


def test_everything_that_can_be_used_has_a_name(page: "Page", address: str) -> None:
    seen = 0
    for path in ("/", "/?q=a+man", "/audit", "/sign-in"):
        page.goto(address + path)
        for kind in ("button", "link", "textbox", "searchbox", "checkbox", "combobox", "img"):
            for one in page.get_by_role(kind).all():
                name = one.evaluate(
                    "e => e.getAttribute('aria-label') || e.alt || e.innerText || "
                    "[...(e.labels || [])].map(label => label.innerText).join(' ')"
                )
                assert name.strip(), (path, kind, one.evaluate("e => e.outerHTML"))
                seen += 1
        assert page.locator("h1").count() == 1
        assert page.locator("html[lang]").count() == 1
    assert seen > 60
