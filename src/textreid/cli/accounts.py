"""``textreid account``: who may use the service, and what they may see."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from textreid.gallery.store import Database

account = typer.Typer(help="Say who may use the service: accounts, their cameras, their tokens.", no_args_is_help=True)
_DATABASE = typer.Option(
    None, "--database", metavar="URL", help="A PostgreSQL server; else $TEXTREID_DATABASE, or the embedded one."
)
_SCOPE = typer.Option(["search"], "--scope", metavar="SCOPE", help="search, index or admin; may be repeated.")


@account.command()
def add(
    name: str = typer.Argument(help="By which they sign in."),
    scope: list[str] = _SCOPE,
    camera: list[str] | None = typer.Option(
        None, "--camera", metavar="CAMERA", help="Whose crops they may see; may be repeated; else all."
    ),
    no_password: bool = typer.Option(False, "--no-password", help="For programs, which take tokens."),
    database: str | None = _DATABASE,
) -> None:
    """Make an account. From the first on, nobody uses the service without one.

    The password is asked for, or read from $TEXTREID_PASSWORD.
    """
    from textreid.service.accounts import add_account

    password = None if no_password else os.environ.get("TEXTREID_PASSWORD")
    if password is None and not no_password:
        password = typer.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    with _opened(database) as opened:
        add_account(opened, name, password, scope, camera)
    sys.stderr.write(f"account {name!r} can {', '.join(scope)} {'all cameras' if camera is None else camera}\n")


@account.command("list")
def list_accounts(database: str | None = _DATABASE) -> None:
    """List the accounts: name, scopes, cameras, tokens."""
    from textreid.service.accounts import accounts

    with _opened(database) as opened:
        for one in accounts(opened):
            cameras = "all cameras" if one.cameras is None else ", ".join(one.cameras) or "no camera"
            tokens = ", ".join(f"{name} until {expires:%Y-%m-%d}" for name, expires in one.tokens) or "no token"
            typer.echo("\t".join((one.name, ", ".join(one.scopes), cameras, tokens)))


@account.command()
def remove(name: str = typer.Argument(help="Of the account."), database: str | None = _DATABASE) -> None:
    """Delete an account with its tokens, at once. The audit log keeps what it did."""
    from textreid.service.accounts import remove_account

    with _opened(database) as opened:
        remove_account(opened, name)


@account.command()
def token(
    name: str = typer.Argument(help="Of the account."),
    label: str = typer.Option("default", "--label", metavar="LABEL", help="What the token is for."),
    scope: list[str] = _SCOPE,
    days: float = typer.Option(90, "--days", metavar="DAYS", help="After which it expires."),
    database: str | None = _DATABASE,
) -> None:
    """Print a new token for a program. It is shown this once."""
    from textreid.service.accounts import make_token

    with _opened(database) as opened:
        typer.echo(make_token(opened, name, label, scope, days))


@account.command()
def revoke(
    name: str = typer.Argument(help="Of the account."),
    label: str = typer.Option("default", "--label", metavar="LABEL", help="Of the token."),
    database: str | None = _DATABASE,
) -> None:
    """Make a token worthless, at once."""
    from textreid.service.accounts import revoke_token

    with _opened(database) as opened:
        revoke_token(opened, name, label)


@contextmanager
def _opened(url: str | None) -> "Iterator[Database]":
    from textreid.gallery.store import open_database

    with open_database(url) as database:
        yield database
