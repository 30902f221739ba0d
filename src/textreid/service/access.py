"""Who asks, and which crops they may see."""

from dataclasses import dataclass, replace
from typing import Literal

from textreid.errors import TextReidError
from textreid.gallery.store import Filters

Scope = Literal["search", "index", "admin"]
SCOPES: tuple[Scope, ...] = ("search", "index", "admin")


class UnknownError(TextReidError):
    """There is no such thing, or whoever asks may not see it: nobody can tell which."""


@dataclass(frozen=True)
class Access:
    """What somebody may do.

    Attributes:
        actor: who it is, as the audit log names them.
        scopes: what they may do; ``admin`` includes the others.
        cameras: whose crops they may see; None of all, also of crops whose camera nobody knows.
    """

    actor: str
    scopes: frozenset[Scope]
    cameras: frozenset[str] | None = None

    def may(self, scope: Scope) -> bool:
        """Tell whether they may do what a scope stands for."""
        return scope in self.scopes or "admin" in self.scopes

    def narrow(self, filters: Filters) -> Filters | None:
        """Add to filters what they may see; None where nothing is left.

        Everything that reads crops goes through here. None, because filters without a camera would mean all of them.
        """
        if self.cameras is None:
            return filters
        allowed = self.cameras.intersection(filters.cameras) if filters.cameras else self.cameras
        return replace(filters, cameras=tuple(sorted(allowed))) if allowed else None


LOCAL = Access("local", frozenset(SCOPES))
