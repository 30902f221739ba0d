"""Photograph the page of the service: one whole session for docs/service.md, or every page for whoever draws it.

    python benchmarks/page_pictures.py vtest.avi docs/images     # service.png and session.jpg
    python benchmarks/page_pictures.py vtest.avi shots --every   # each page: desktop, phone, light, dark, German

``vtest.avi`` is a sample video of OpenCV (Apache-2.0), in Debian's package opencv-doc. The name of its camera and its
time of day are made up. Needs Playwright and the system's Chromium. ``--backup FILE`` keeps the gallery for the next
run.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from textreid.people.video import Video
from textreid.reporting.lettering import font

if TYPE_CHECKING:
    from playwright.sync_api import Page

QUERY = "a woman in a red jacket"
SESSION = (
    ("sign-in", "1  Sign in"),
    ("search", "2  Describe somebody"),
    ("results", "3  Who fits best, and how likely it is that anybody does"),
    ("filtered", "4  Filter: hours, another witness, each walk once"),
    ("crop", "5  One of them, the walk, and where it was seen"),
    ("similar", "6  Who looks like that"),
    ("marked", "7  Mark who is right and who is not, and refine"),
    ("searches", "8  Keep the search"),
    ("upload", "9  Upload, and see how far it is"),
    ("audit", "10  Who asked what, and was shown what"),
)
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
COLUMNS, SHOWN, GAP, TITLE = 2, 760, 24, 40  # of the contact sheet, in pixels
PATIENCE_MS = 120_000
DRAWN = """[...document.images].filter(one => one.getBoundingClientRect().top < innerHeight && one.src)
  .every(one => one.complete && one.naturalWidth)"""
COMMAND = (sys.executable, "-m", "textreid")
PASSWORD = "only for these pictures"  # noqa: S105


def textreid(data: Path, *arguments: str) -> None:
    """Run a command of textreid on a database of its own."""
    subprocess.run([*COMMAND, *arguments], env=environment(data), check=True)


def environment(data: Path) -> dict[str, str]:
    """Return the variables by which a command uses this database and no other."""
    others = {name: value for name, value in os.environ.items() if name != "TEXTREID_DATABASE"}
    return {**others, "TEXTREID_DATA": os.fspath(data), "TEXTREID_PASSWORD": PASSWORD}


def make_gallery(video: Path, data: Path, backup: Path | None) -> None:
    """Find the people of the video, and bring them into a gallery; or take that of an earlier run."""
    if backup and backup.is_file():
        textreid(data, "gallery", "restore", os.fspath(backup))
        return
    sidecar = data / "sidecar.csv"
    sidecar.write_text(f"path,camera,time\n{video.name},plaza,2026-05-01T08:00:00\n", encoding="utf-8")
    textreid(data, "index", os.fspath(video), "--gallery", "demo", "--sidecar", os.fspath(sidecar))
    if backup:
        textreid(data, "gallery", "backup", "demo", os.fspath(backup))


@contextmanager
def serving(data: Path) -> Iterator[str]:
    """Serve the gallery to an administrator, and yield its address."""
    textreid(data, "account", "add", "ada", "--scope", "admin")
    command = [*COMMAND, "serve", "--gallery", "demo", "--port", "0"]
    with subprocess.Popen(command, env=environment(data), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            yield process.stderr.readline().split()[-1]
        finally:
            process.terminate()


def photographs(video: Path, folder: Path, count: int) -> list[Path]:
    """Write some frames of the video, as somebody would upload them."""
    made: list[Path] = []
    with Video(video) as frames:
        for frame in frames:
            if len(made) == count:
                break
            if frame.number % 100 == 0:
                made.append(folder / f"plaza-{frame.number:04d}.jpg")
                Image.fromarray(frame.pixels).save(made[-1])
    return made


def sign_in(page: "Page", address: str) -> None:
    """Fill in the form, and press its button."""
    page.goto(f"{address}/sign-in")
    page.locator("[name=name]").fill("ada")
    page.locator("[name=password]").fill(PASSWORD)


def visit(page: "Page", address: str, uploads: list[Path]) -> Iterator[str]:
    """Go through a whole session, and yield the name of each page when it is to be seen."""
    yield from look_for_somebody(page, address)
    yield from look_elsewhere(page, address, uploads)


def look_for_somebody(page: "Page", address: str) -> Iterator[str]:
    """Sign in, search, look at one, at those who look like that, refine and keep the search."""
    sign_in(page, address)
    yield "sign-in"
    page.locator("main button.primary").click()
    page.wait_for_url(f"{address}/")
    yield "search"
    page.locator("#q").fill(QUERY)
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=*")
    yield "results"
    cards = page.locator(".card")
    cards.nth(0).click()
    yield "crop"
    page.locator("[data-zoom]").last.click()
    yield "zoom"
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.wait_for_url("**/similar*")
    yield "similar"
    page.go_back()
    page.locator("[data-back]").click()
    page.wait_for_url("**/?q=*")
    for name, number in (("right", 0), ("right", 1), ("wrong", 6)):
        # As the keys y and x do; by the mouse, what floats at the end of the window can be in the way.
        page.locator(f"[name={name}]").nth(number).evaluate("box => box.click()")
    yield "marked"
    page.locator(".refine button").click()
    page.wait_for_url("**right=*")
    page.locator(".menu > summary").click()
    page.locator("#name").fill(f"Red jacket, {time.strftime('%H:%M:%S')}")
    yield "refined"
    page.locator(".menu button").click()
    page.wait_for_url("**/searches")
    yield "searches"


def look_elsewhere(page: "Page", address: str, uploads: list[Path]) -> Iterator[str]:
    """Filter, ask in vain, upload, and read the audit log."""
    fields = "from_hour=8&to_hour=9&also=a+lady+with+long+dark+hair&once=1"
    page.goto(f"{address}/?q={QUERY.replace(' ', '+')}&{fields}")
    page.locator(".filters > summary").click()
    yield "filtered"
    page.goto(f"{address}/?q={QUERY.replace(' ', '+')}&since=2027-01-01T00:00")
    yield "nobody"
    page.goto(f"{address}/?q=rote+Jacke+mit+Kapuze")
    yield "german"
    page.goto(f"{address}/crops/999999")
    yield "problem"
    if uploads:
        page.goto(f"{address}/upload")
        page.locator("[value=photographs]").check()
        page.locator("[name=camera]").fill("plaza")
        page.locator("[type=file]").set_input_files([os.fspath(path) for path in uploads])
        yield "upload-form"
        page.locator(".upload .primary").click()
        page.locator("progress").wait_for()
        page.locator("[data-live]").filter(has_text="1 of").or_(page.locator(".state.done")).first.wait_for()
    else:
        page.goto(f"{address}/upload")
    yield "upload"
    page.goto(f"{address}/audit")
    page.locator(".check-chain button").click()
    yield "audit"


def contact_sheet(pictures: dict[str, Path]) -> Image.Image:
    """Put the pictures of a session beside each other, with their titles."""
    height = round(SHOWN * DESKTOP["height"] / DESKTOP["width"])
    rows = -(-len(SESSION) // COLUMNS)
    size = (COLUMNS * (SHOWN + GAP) + GAP, rows * (height + TITLE + GAP) + GAP)
    sheet = Image.new("RGB", size, (233, 236, 242))
    draw = ImageDraw.Draw(sheet)
    for number, (name, title) in enumerate(SESSION):
        x = GAP + number % COLUMNS * (SHOWN + GAP)
        y = GAP + number // COLUMNS * (height + TITLE + GAP)
        draw.text((x, y + 4), title, font=font(20, bold=True), fill=(26, 32, 48))
        with Image.open(pictures[name]) as picture:
            sheet.paste(picture.convert("RGB").resize((SHOWN, height), Image.Resampling.LANCZOS), (x, y + TITLE))
    return sheet


def photograph(address: str, out: Path, uploads: list[Path], *, every: bool) -> dict[str, Path]:
    """Visit the page in a browser, and write what is to be seen; returns the pictures of the last visit by name."""
    from playwright.sync_api import sync_playwright

    looks = [(True, "light", "en")]
    if every:
        looks = [(True, "dark", "de"), (False, "dark", "en"), (False, "light", "de"), (True, "light", "en")]
    made: dict[str, Path] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for wide, scheme, language in looks:
            context = browser.new_context(
                color_scheme=scheme,  # type: ignore[arg-type]
                viewport=DESKTOP if wide else PHONE,  # type: ignore[arg-type]
                locale=language,
            )
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            last = (wide, scheme, language) == looks[-1]
            for name in visit(page, address, uploads if last else []):
                page.wait_for_load_state("networkidle")
                page.wait_for_function(DRAWN)
                path = out / ("-".join((name, "desktop" if wide else "phone", scheme, language)) + ".png")
                page.screenshot(path=path, full_page=every and name not in ("zoom", "marked"))
                made[name] = path
            context.close()
        browser.close()
    return made


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", action="store_true", help="every page, in every look")
    parser.add_argument("--backup", type=Path, help="the gallery of an earlier run; made where there is none")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="textreid-pictures-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL of root is run by another user
        data = Path(folder) / "data"
        data.mkdir()
        make_gallery(given.video.resolve(), data, given.backup)
        shots = given.out if given.every else Path(folder)
        with serving(data) as address:
            made = photograph(address, shots, photographs(given.video, Path(folder), 6), every=given.every)
        if not given.every:
            with Image.open(made["marked"]) as picture:
                picture.convert("RGB").quantize(256).save(given.out / "service.png", optimize=True)
            contact_sheet(made).save(given.out / "session.jpg", quality=82)


if __name__ == "__main__":
    main()
