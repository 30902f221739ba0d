"""The languages of the page: nothing that is to be read is outside the catalogues, and German has all of it."""

import ast
import re
import runpy
import sys
from collections.abc import Iterator
from datetime import datetime
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from fastapi import Request
from jinja2 import Environment, nodes

import textreid
from textreid.gallery.query.words import without_notes
from textreid.service.languages import LANGUAGES, into, language, language_of
from textreid.service.told import TOLD

PACKAGE = Path(textreid.__file__).parent
CATALOGUES = Path(__file__).parents[2] / "scripts" / "translations"
TEMPLATES = sorted((PACKAGE / "service" / "templates").glob("*.html"))
READ = {"alt", "title", "aria-label", "placeholder", "label"}  # attributes that are read to people
IN_ENGLISH = {"a lady with long dark hair", "a hat"}  # examples of what the model reads
SIGNS = {"textreid", "Enter", "Esc", "Ctrl"}  # names, and what stands on keys
NOT_READ = {"number", "join", "replace", "map", "said", "urlencode"}  # filters whose own arguments nobody reads
LETTERS = re.compile(r"[^\W\d_]{2,}")


class Readable(HTMLParser):
    """What of a page of HTML is read by people."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.texts += [value for name, value in attrs if name in READ and value]

    def handle_data(self, data: str) -> None:
        if not self.rawdata.startswith("<script"):
            self.texts.append(data)


def outside(source: str) -> list[str]:
    """The texts of a template that are in no catalogue."""
    tree = Environment(autoescape=True, extensions=["jinja2.ext.i18n"]).parse(source)
    page = Readable()
    page.feed("".join(node.data if isinstance(node, nodes.TemplateData) else "\n" for node in written(tree)))
    found = [text.strip() for part in page.texts for text in part.splitlines()]
    found += [text for output in tree.find_all(nodes.Output) for child in output.nodes for text in literals(child)]
    return [text for text in found if LETTERS.search(text) and text not in SIGNS | IN_ENGLISH and text != "· textreid"]


def written(tree: nodes.Node) -> Iterator[nodes.Node]:
    """What a template writes, in its order."""
    for output in tree.find_all(nodes.Output):
        yield from output.nodes


def literals(node: nodes.Node) -> Iterator[str]:
    """The texts of an expression that are written as they are."""
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in ("_", "ngettext"):
        for argument in node.kwargs:
            yield from literals(argument.value)
    elif isinstance(node, nodes.Filter) and node.name in NOT_READ and node.node:
        # What the program says is translated where it is known, and marked as English where it is not.
        yield from literals(node.node) if node.name != "said" else ()
    elif isinstance(node, nodes.CondExpr):
        yield from literals(node.expr1)
        yield from literals(node.expr2 or nodes.Const(None))
    elif isinstance(node, nodes.Const):
        yield from [node.value] if isinstance(node.value, str) else []
    elif not isinstance(node, nodes.TemplateData | nodes.Compare | nodes.Getattr | nodes.Getitem):
        for child in node.iter_child_nodes():
            yield from literals(child)


def test_no_text_of_a_template_is_outside_the_catalogues() -> None:
    assert {path.name: found for path in TEMPLATES if (found := outside(path.read_text()))} == {}
    assert len(TEMPLATES) >= 10
    wrong = [
        "<p>Hello you</p>", '<a title="Hello">{{ x }}</a>', '{{ "Hello" if x else y }}', "{{ x or 'Hello' }}",
        '<p>{{ _("a %(b)s", b="Hello") }}', '<p aria-label="Say {{ x }}">', "<b>{% if x %}Hello{% endif %}</b>",
        '{{ "Hello"|upper }}',
    ]  # fmt: skip
    assert [source for source in wrong if not outside(source)] == []


def test_every_catalogue_has_every_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["translations", "--check"])
    status = runpy.run_path(str(CATALOGUES))["main"]()
    assert (status, capsys.readouterr().err) == (0, "")
    assert set(LANGUAGES) == {path.stem for path in (PACKAGE / "service" / "translations").glob("*.po")}


def test_the_script_writes_no_text_of_its_own() -> None:
    script = files("textreid.service").joinpath("static", "page.js").read_text()
    said = re.findall(r'"([^"\n]*)"|`([^`]*)`', re.sub(r"//.*", "", script))
    texts = [text for pair in said for text in pair if text]
    assert len(texts) > 30
    assert [
        text
        for text in texts
        if re.search(r"[a-z]{2,} [a-z]{2,}", text) and text[0] not in "[.#" and text != "use strict"
    ] == []


def said_by_the_program() -> set[str]:
    """Every text of the code, with a sign in place of what it is filled with."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())) if path.name != "told.py" else ():
            if isinstance(node, ast.JoinedStr):
                found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_what_the_program_says_is_what_the_catalogues_know_of_it() -> None:
    said = said_by_the_program()
    texts = {text for text in TOLD if " " in text and not text.startswith("the model has not learned")}
    assert {text for text in texts if re.sub(r"%\(\w+\)s", "\0", text) not in said} == set()
    assert len(texts) > 30


@pytest.mark.parametrize(
    ("header", "cookie", "tag"),
    [
        ("de-DE,de;q=0.9,en;q=0.8", "", "de"),
        ("en-GB,de;q=0.9", "", "en"),
        ("fr, de;q=0.3, en;q=0.2", "", "de"),
        ("fr", "", "en"),
        ("", "", "en"),
        ("*", "", "en"),
        ("de;q=0, en;q=0.1", "", "en"),
        ("de;q=x,;,=;", "", "en"),
        ("en", "de", "de"),
        ("de", "xx", "de"),
        ("de", "../de", "de"),
    ],
)
def test_the_language_is_the_chosen_one_or_the_first_that_is_known(header: str, cookie: str, tag: str) -> None:
    headers = [(b"accept-language", header.encode()), (b"cookie", f"textreid-language={cookie}".encode())]
    assert language_of(Request({"type": "http", "headers": headers})).tag == tag


def test_dates_and_numbers_are_those_of_the_language() -> None:
    time = datetime(2026, 5, 1, 8, 3, 5)
    english, german = language("en"), language("de")
    assert english.moment(time) == "Fri, 1 May 2026, 08:03:05"
    assert german.moment(time) == "Fr., 1. Mai 2026, 08:03:05"
    assert (english.decimal(1234), german.decimal(1234), german.decimal(0.318, 3)) == ("1,234", "1.234", "0,318")
    assert (english.percent(0.873), german.percent(0.873)) == ("87%", "87\xa0%")
    assert (into(7), into(3723.9)) == ("0:07", "1:02:03")
    assert german.ngettext("%(num)s person", "%(num)s people", 1) == "%(num)s Person"


def test_what_the_program_says_is_translated_with_what_fills_it() -> None:
    english, german = language("en"), language("de")
    told = "no crop 17: it was deleted, never was, or is not yours to see"
    assert german.said(told).startswith("kein Ausschnitt 17: er wurde")
    assert english.said(told) == told
    note = str(german.said(without_notes(["a <hat>"])[0]))
    assert note.startswith("ohne &#39;a &lt;hat&gt;&#39;: wirkt kaum")
    assert note.endswith("unterscheidet Hüte, Brillen und Schals nicht")
    assert "--without" not in english.said("'no' in a query hardly counts, and what follows it does: use --without")
    assert german.said("<b>unheard of</b>", "sentence") == '<span lang="en">&lt;b&gt;unheard of&lt;/b&gt;.</span>'
    assert german.said("running", "title") == "Läuft"
