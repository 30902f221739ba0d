"""Pages escape what they show, need no network, and derive from one template a room: reports' or the service's."""

import base64
import re
from io import BytesIO
from pathlib import Path

import pytest
from jinja2 import TemplateNotFound, UndefinedError
from PIL import Image

import textreid
from textreid.reporting.html import data_uri, render_page

PACKAGE = Path(textreid.__file__).parent
TEMPLATES = sorted(PACKAGE.rglob("*.html"))
ROOTS = [PACKAGE / "reporting" / "page.html", PACKAGE / "service" / "templates" / "base.html"]
DERIVED = (
    '{% extends "textreid.reporting/page.html" %}',
    '{% extends "textreid.service/templates/base.html" %}',
    "{% macro ",  # parts of the service's pages
)
DANGEROUS = "<script>alert('\"&')</script>"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with a template of its own."""
    folder = tmp_path / "package_with_page"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "own.html").write_text(
        '{% extends "textreid.reporting/page.html" %}{% block title %}{{ name }}{% endblock %}'
        '{% block body %}<p title="{{ name }}">{{ share|number(".1%") }}</p>'
        '<img src="{{ picture|data_uri }}">{% endblock %}',
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    return folder.name


def test_every_value_is_escaped_wherever_it_stands(package: str) -> None:
    page = render_page(package, "own.html", name=DANGEROUS, share=0.123, picture=Image.new("RGB", (2, 2)))
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#39;&#34;&amp;&#39;)&lt;/script&gt;") == 2
    assert "<p " in page
    assert ">12.3%<" in page
    assert 'src="data:image/jpeg;base64,' in page


def test_a_value_that_is_missing_is_an_error_and_so_is_a_page(package: str) -> None:
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        render_page(package, "own.html")
    with pytest.raises((TemplateNotFound, OSError)):
        render_page(package, "other.html")


def test_a_file_is_embedded_as_it_is_and_an_image_as_jpeg(tmp_path: Path) -> None:
    picture = Image.new("RGB", (3, 4), "red")
    for suffix, kind in ((".png", "png"), (".jpg", "jpeg"), (".jpeg", "jpeg"), (".webp", "webp")):
        path = tmp_path / f"picture{suffix}"
        picture.save(path)
        head, _, content = data_uri(path).partition(",")
        assert head == f"data:image/{kind};base64"
        assert base64.b64decode(content) == path.read_bytes()
    head, _, content = data_uri(picture).partition(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(BytesIO(base64.b64decode(content))).size == (3, 4)


def test_no_template_turns_escaping_off_or_asks_the_network() -> None:
    for path in TEMPLATES:
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"\|\s*safe|autoescape|https?:|//|@import|url\(", text) == [], path
        if path in ROOTS:
            assert text.startswith("<!doctype html>"), path
        else:
            assert text.startswith(DERIVED), path
    assert "prefers-color-scheme: dark" in ROOTS[0].read_text(encoding="utf-8")
    assert len(TEMPLATES) >= 4
