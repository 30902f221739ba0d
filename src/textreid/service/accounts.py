"""Accounts, their tokens for programs, and the sessions of browsers, in the gallery's database."""

import hashlib
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from textreid.errors import ConfigError, nearest_name
from textreid.gallery.store import Database
from textreid.service.access import SCOPES, Access, Scope

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST_PASSWORD = 10
LONGEST_SESSION_H = 12
_LONGEST_NAME = 100
_PREFIX = "textreid_"  # so that a token that somebody published by mistake is recognised
# Each check takes 64 MiB and a core for some 50 ms: a crowd that tries passwords shall not take the machine.
_CHECKS = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class Account:
    """Somebody who may use the service; ``tokens`` are the names of theirs, with the time at which each expires."""

    name: str
    scopes: tuple[Scope, ...]
    cameras: tuple[str, ...] | None
    has_password: bool
    tokens: tuple[tuple[str, datetime], ...]


@dataclass(frozen=True)
class Session:
    """A browser that has signed in: what it may do, and the key that its forms send along."""

    access: Access
    form_key: str


def are_there_any(database: Database) -> bool:
    """Tell whether anybody has an account."""
    row = database.run(lambda c: c.execute("SELECT EXISTS (SELECT FROM account)").fetchone(), atomic=False)
    return bool(row and row[0])


def add_account(
    database: Database, name: str, password: str | None, scopes: Iterable[str], cameras: Iterable[str] | None
) -> None:
    """Make an account.

    Args:
        database: that holds the galleries.
        name: by which they sign in, and which the audit log keeps.
        password: of the page; None for programs, which take tokens.
        scopes: what they may do.
        cameras: whose crops they may see; None of all.

    Raises:
        ConfigError: the name is taken or none, the password short, a scope unknown.
    """
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise ConfigError(f"{name[:60]!r}: no name of an account; take letters and digits")
    if "admin" in (scopes := _checked(scopes)) and cameras is not None:
        raise ConfigError("an administrator sees all cameras: the audit log tells of all")
    if password is not None and len(password) < SHORTEST_PASSWORD:
        raise ConfigError(f"a password has at least {SHORTEST_PASSWORD} characters")
    hashed = None if password is None else _hasher().hash(password)
    kept = None if cameras is None else sorted(set(cameras))
    values = (name, hashed, list(scopes), kept)
    statement = "INSERT INTO account (name, password, scopes, cameras) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
    if not database.run(lambda c: c.execute(statement, values).rowcount):
        raise ConfigError(f"there is an account {name!r} already; remove it first")


def remove_account(database: Database, name: str) -> None:
    """Delete an account with its tokens and sessions, at once; the audit log keeps what it did.

    Raises:
        ConfigError: there is none of that name.
    """
    if not database.run(lambda c: c.execute("DELETE FROM account WHERE name = %s", (name,)).rowcount):
        raise _unknown(database, name)


def accounts(database: Database) -> list[Account]:
    """List the accounts by name."""
    query = (
        "SELECT a.name, a.scopes, a.cameras, a.password IS NOT NULL, "
        "array_agg(t.name ORDER BY t.name) FILTER (WHERE t.name IS NOT NULL), "
        "array_agg(t.expires ORDER BY t.name) FILTER (WHERE t.name IS NOT NULL) "
        "FROM account a LEFT JOIN token t ON t.account_id = a.id GROUP BY a.id ORDER BY a.name"
    )
    return [
        Account(
            name, tuple(scopes), None if cameras is None else tuple(cameras), has_password,
            tuple(zip(tokens or (), expire or (), strict=True)),
        )
        for name, scopes, cameras, has_password, tokens, expire in database.run(lambda c: c.execute(query).fetchall())
    ]  # fmt: skip


def make_token(database: Database, account: str, name: str, scopes: Iterable[str], days: float) -> str:
    """Make a token, which is shown this once: only its hash is kept.

    Raises:
        ConfigError: there is no such account, a token of that name already, or a scope is unknown.
    """
    if days <= 0:
        raise ConfigError(f"days: expected more than 0, got {days}")
    if account not in [one.name for one in accounts(database)]:
        raise _unknown(database, account)
    text = _PREFIX + secrets.token_urlsafe(32)
    statement = (
        "INSERT INTO token (digest, account_id, name, scopes, expires) "
        "SELECT %s, id, %s, %s, now() + %s * interval '1 day' FROM account WHERE name = %s ON CONFLICT DO NOTHING"
    )
    values = (_digest(text), name, list(_checked(scopes)), days, account)
    if not database.run(lambda c: c.execute(statement, values).rowcount):
        raise ConfigError(f"{account!r} has a token {name!r} already; revoke it first")
    return text


def revoke_token(database: Database, account: str, name: str) -> None:
    """Make a token worthless, at once.

    Raises:
        ConfigError: there is none of that name.
    """
    statement = "DELETE FROM token t USING account a WHERE a.id = t.account_id AND a.name = %s AND t.name = %s"
    if not database.run(lambda c: c.execute(statement, (account, name)).rowcount):
        raise ConfigError(f"{account!r} has no token {name!r}")


def access_of_token(database: Database, text: str) -> Access | None:
    """Return what the holder of a token may do; None of one that is unknown or has expired."""
    query = (
        "SELECT a.name, a.scopes, a.cameras, t.scopes FROM token t JOIN account a ON a.id = t.account_id "
        "WHERE t.digest = %s AND t.expires > now()"
    )
    row = database.run(lambda c: c.execute(query, (_digest(text),)).fetchone(), atomic=False)
    if row is None:
        return None
    account = _access(*row[:3])
    return Access(account.actor, frozenset(scope for scope in row[3] if account.may(scope)), account.cameras)


def access_of_account(database: Database, number: int) -> Access | None:
    """Return what an account may do, by its number in the database; None of one that is gone."""
    query = "SELECT name, scopes, cameras FROM account WHERE id = %s"
    row = database.run(lambda c: c.execute(query, (number,)).fetchone(), atomic=False)
    return _access(*row) if row else None


def check_password(database: Database, name: str, password: str) -> Access | None:
    """Return what somebody may do who signs in; None where name or password is wrong."""
    from argon2.exceptions import VerifyMismatchError

    query = "SELECT name, scopes, cameras, password FROM account WHERE name = %s"
    # PostgreSQL takes no NUL; names have only what can be printed.
    row = database.run(lambda c: c.execute(query, (name,)).fetchone()) if name.isprintable() else None
    # As long for a name that is not there: the time tells nothing.
    expected = row[3] if row and row[3] else _nobodys()
    try:
        with _CHECKS:
            _hasher().verify(expected, password)
    except VerifyMismatchError:
        return None
    return _access(*row[:3]) if row and row[3] else None


def start_session(database: Database, account: str) -> str:
    """Start a session of somebody who has signed in, and return what the cookie holds; old sessions are deleted."""
    cookie, form_key = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    statement = (
        "INSERT INTO session (digest, account_id, form_key, expires) "
        "SELECT %s, id, %s, now() + %s * interval '1 hour' FROM account WHERE name = %s"
    )

    def start(connection: Any) -> None:
        connection.execute("DELETE FROM session WHERE expires < now()")
        connection.execute(statement, (_digest(cookie), form_key, LONGEST_SESSION_H, account))

    database.run(start)
    return cookie


def session_of(database: Database, cookie: str) -> Session | None:
    """Return the session of a cookie; None of one that is unknown or has ended."""
    query = (
        "SELECT a.name, a.scopes, a.cameras, s.form_key FROM session s JOIN account a ON a.id = s.account_id "
        "WHERE s.digest = %s AND s.expires > now()"
    )
    row = database.run(lambda c: c.execute(query, (_digest(cookie),)).fetchone(), atomic=False)
    return Session(_access(*row[:3]), row[3]) if row else None


def end_session(database: Database, cookie: str) -> None:
    """End a session."""
    database.run(lambda c: c.execute("DELETE FROM session WHERE digest = %s", (_digest(cookie),)))


def _access(name: str, scopes: Iterable[Scope], cameras: Iterable[str] | None) -> Access:
    return Access(name, frozenset(scopes), None if cameras is None else frozenset(cameras))


def _checked(scopes: Iterable[str]) -> tuple[str, ...]:
    given = tuple(dict.fromkeys(scopes))
    for scope in given:
        if scope not in SCOPES:
            raise ConfigError(f"scope {scope!r}; {nearest_name(scope, SCOPES)}")
    return given


def _unknown(database: Database, name: str) -> ConfigError:
    names = [one.name for one in accounts(database)]
    hint = nearest_name(name, names) if names else "there is none yet: textreid account add NAME"
    return ConfigError(f"there is no account {name!r}; {hint}")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


@cache
def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher

    return PasswordHasher()


@cache
def _nobodys() -> str:
    return _hasher().hash(secrets.token_urlsafe(32))
