"""What stands beside the code says the same as the code."""

import re
from pathlib import Path

import textreid

CHECKOUT = Path(__file__).parents[1]


def test_the_citation_names_this_version() -> None:
    (cited,) = re.findall(r"^version: (.+)$", (CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited == textreid.__version__


def test_the_list_of_changes_has_this_version_first() -> None:
    titles = re.findall(r"^## (.+)$", (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert next(title for title in titles if title != "Unreleased") == textreid.__version__
