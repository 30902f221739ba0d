"""The version of the package, in the one place the build reads it from, and the commit it runs from."""

from pathlib import Path

__version__ = "0.1.0"

_ROOT = Path(__file__).parents[2]


def source_commit() -> str | None:
    """The commit of the source checkout this package runs from; None when it is installed."""
    git = _ROOT / ".git"
    if not ((_ROOT / "pyproject.toml").is_file() and (git / "HEAD").is_file()):
        return None
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head
    reference = git / head.removeprefix("ref: ")
    return reference.read_text().strip() if reference.is_file() else None
