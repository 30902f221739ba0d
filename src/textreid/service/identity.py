"""Who sends a request: by a token, by the cookie of a browser that signed in, or whoever uses this machine."""

import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from textreid.errors import TextReidError
from textreid.gallery.store import Database
from textreid.service import accounts
from textreid.service.access import LOCAL, Access, Scope
from textreid.service.engine import Engine
from textreid.service.limits import RateLimit

COOKIE = "textreid-session"
FORM_KEY = "form_key"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_BEARER = HTTPBearer(auto_error=False, description="A token: textreid account token NAME")


class NotSignedInError(TextReidError):
    """Nobody knows who asks."""


class ForbiddenError(TextReidError):
    """Whoever asks may not do this."""


class TooOftenError(TextReidError):
    """Somebody asks too often.

    Attributes:
        seconds: after which they may ask again.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__("too many requests; wait a little")
        self.seconds = seconds


@dataclass(frozen=True)
class Identity:
    """Who sends a request.

    Attributes:
        access: what they may do.
        form_key: of a browser's session, that its forms send along; None of others.
    """

    access: Access
    form_key: str | None = None


class Door:
    """Lets requests in: knows accounts, and how often each of them, or an address that guesses, may ask."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._requests = RateLimit(engine.settings.rate, 10 * engine.settings.rate)
        self._failures = RateLimit(1 / 6, 10)  # ten wrong tokens or passwords at once, then ten a minute

    def identify(self, request: Request) -> Identity | None:
        """Return who sends a request; None of who has not signed in.

        Raises:
            NotSignedInError: the token is unknown or has expired.
            TooOftenError: they ask too often.
        """
        address = request.client.host if request.client else "?"
        with self.engine.stores.database() as database:
            if request.headers.get("authorization"):
                return self._allowed(Identity(self._by_token(database, request, address)))
            cookie = request.cookies.get(COOKIE)
            session = accounts.session_of(database, cookie) if cookie else None
            if session:
                return self._allowed(Identity(session.access, session.form_key))
            # Asked each time: from the first account on, nobody comes in without.
            if self.engine.settings.is_local and _is_here(address) and not accounts.are_there_any(database):
                return Identity(LOCAL)
        return None

    def sign_in(self, request: Request, name: str, password: str) -> str | None:
        """Start a session, and return what its cookie holds; None where name or password is wrong.

        Raises:
            TooOftenError: too many were wrong.
        """
        keys = (f"address {request.client.host if request.client else '?'}", f"name {name}")
        self._refuse_guessing(*keys)
        with self.engine.stores.database() as database:
            access = accounts.check_password(database, name, password)
            if access is None:
                for key in keys:
                    self._failures.take(key)
                self.engine.log(name[:100], "sign-in refused")
                return None
            self.engine.log(access.actor, "sign-in")
            return accounts.start_session(database, access.actor)

    def _by_token(self, database: Database, request: Request, address: str) -> Access:
        scheme, _, token = request.headers["authorization"].partition(" ")
        access = accounts.access_of_token(database, token.strip()) if scheme.lower() == "bearer" else None
        if access is None:
            # Only of wrong ones: whoever guesses must not lock out others behind the same proxy.
            if seconds := self._failures.take(f"address {address}"):
                raise TooOftenError(seconds)
            raise NotSignedInError("the token is unknown, or has expired")
        return access

    def _refuse_guessing(self, *keys: str) -> None:
        seconds = max(self._failures.wait(key) for key in keys)
        if seconds:
            raise TooOftenError(seconds)

    def _allowed(self, identity: Identity) -> Identity:
        seconds = self._requests.take(identity.access.actor)
        if seconds:
            raise TooOftenError(seconds)
        return identity


def _is_here(address: str) -> bool:
    """Tell whether an address is of this machine; a proxy on it says whom it asks for (X-Forwarded-For)."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


async def the_door(request: Request) -> Door:
    """Return the door of the application that answers a request; async, so that no thread is asked for it."""
    door: Door = request.app.state.door
    return door


def check_form_key(identity: Identity, given: str | None) -> None:
    """Refuse a change that a browser was made to send by another web site.

    Raises:
        ForbiddenError: the key is not that of the session.
    """
    if identity.form_key is not None and not hmac.compare_digest(identity.form_key.encode(), (given or "").encode()):
        raise ForbiddenError("this form is not of your session any more; load the page again")


def needs(scope: Scope) -> Callable[..., Access]:
    """Make a dependency: the access of who sends a request, if they may do what a scope stands for."""

    def check(
        request: Request,
        door: Annotated[Door, Depends(the_door)],
        _: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> Access:
        identity = door.identify(request)
        if identity is None:
            raise NotSignedInError("send a token: Authorization: Bearer …")
        if request.method not in _SAFE:
            check_form_key(identity, request.headers.get("x-form-key"))
        if not identity.access.may(scope):
            raise ForbiddenError(f"this needs the scope {scope!r}, which your account or token does not have")
        return identity.access

    return check


Searching = Annotated[Access, Depends(needs("search"))]
Indexing = Annotated[Access, Depends(needs("index"))]
Administering = Annotated[Access, Depends(needs("admin"))]
