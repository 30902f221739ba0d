"""``textreid audit``: who searched what and was shown what, and whether that log is whole."""

import sys
from json import dumps

import typer

from textreid.errors import ConfigError

audit = typer.Typer(help="Check and export the log of who searched what.", no_args_is_help=True)
_DATABASE = typer.Option(
    None, "--database", metavar="URL", help="A PostgreSQL server; else $TEXTREID_DATABASE, or the embedded one."
)


@audit.command()
def verify(
    head: str | None = typer.Option(
        None, "--head", metavar="N:HASH", help="What this command printed before: that entry must still be there."
    ),
    database: str | None = _DATABASE,
) -> None:
    """Check that no entry of the audit log was changed, added or removed; prints the last number and its hash.

    Keep what it prints elsewhere: whoever may write to the database could write the whole log anew.
    """
    from textreid.gallery.store import open_database
    from textreid.service.audit import entries, verify as verify_chain

    with open_database(database) as opened:
        number, digest = verify_chain(entries(opened), _parsed(head))
    typer.echo(f"{number}:{digest}")
    sys.stderr.write(f"the audit log is whole: {number:,} {'entry' if number == 1 else 'entries'}\n")


@audit.command()
def export(database: str | None = _DATABASE) -> None:
    """Print the audit log as JSON Lines: entry and hash."""
    from textreid.gallery.store import open_database
    from textreid.service.audit import entries

    with open_database(database) as opened:
        for entry in entries(opened):
            typer.echo(dumps({"entry": entry.text, "hash": entry.hash.hex()}))


def _parsed(head: str | None) -> tuple[int, str] | None:
    if head is None:
        return None
    number, _, digest = head.partition(":")
    if not number.isdecimal() or len(digest) != 64:
        raise ConfigError(f"--head: expected N:HASH as `textreid audit verify` prints it, not {head[:80]!r}")
    return int(number), digest
