"""Which part of a ranking somebody asks for, and what of it they are shown."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from textreid.gallery.asking import calibration_of
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.query.nobody import Verdict
from textreid.gallery.query.question import EncodedQuestion
from textreid.gallery.store import Cursor, Filters, Page, Store
from textreid.service.access import Access

_NOTHING = Page((), None, exact=True)


@dataclass(frozen=True)
class Wanted:
    """Which part of a ranking is asked for, and what for; the other attributes are those of `Store.search`.

    Attributes:
        purpose: for the audit log.
        right, wrong: crops of an earlier ranking that somebody judged: it moves towards those, and leaves these out.
        verdict: whether to tell how likely it is that anybody there fits.
        saved: number of the saved search that this is a run of.
        alert: whether it runs because crops have arrived, not because somebody asks.
    """

    filters: Filters = field(default_factory=Filters)
    top: int = 20
    after: Cursor | None = None
    one_per_track: bool = False
    purpose: str | None = None
    right: tuple[int, ...] = ()
    wrong: tuple[int, ...] = ()
    verdict: bool = False
    saved: int | None = None
    alert: bool = False

    def to_json(self) -> dict[str, Any]:
        """Write it as the audit log keeps it."""
        filters = {name: value for name, value in asdict(self.filters).items() if value}
        for name in filters.keys() & {"since", "until"}:
            filters[name] = filters[name].isoformat()
        after = None if self.after is None else str(self.after)
        return {
            "filters": filters or None,
            "after": after,
            "purpose": self.purpose,
            "right": self.right or None,
            "wrong": self.wrong or None,
            "saved": self.saved,
            "alert": self.alert or None,
        }


@dataclass(frozen=True)
class Found:
    """A page of a ranking.

    Attributes:
        page: its hits.
        unread: the ends of sentences that the model did not read.
        notes: lines for the user on the query.
        verdict: how likely it is that anybody there fits; None where that was not asked, or cannot be told.
    """

    page: Page
    unread: str = ""
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None


def rank(store: Store, access: Access, vector: npt.NDArray[np.float32], wanted: Wanted) -> Page:
    """Rank the crops that somebody may see by their likeness to a vector (D,)."""
    filters = access.narrow(wanted.filters)
    if filters is None:
        return _NOTHING
    page = store.search(vector, filters, wanted.top, after=wanted.after, one_per_track=wanted.one_per_track)
    return _without_others(store, access, page)


def verdict_of(
    store: Store, encoder: GalleryEncoder, access: Access, encoded: EncodedQuestion, wanted: Wanted
) -> Verdict | None:
    """Tell how likely it is that anybody fits whom they may see; None where that was not asked, or nobody passes."""
    filters = access.narrow(wanted.filters) if wanted.verdict and wanted.after is None else None
    best = None if filters is None else store.search(encoded.features.vector(), filters, 1).hits
    if filters is None or not best:
        return None
    return calibration_of(store, encoder, encoded, filters).judge(best[0].score)


def _without_others(store: Store, access: Access, page: Page) -> Page:
    """Take out of a cursor how many crops of other cameras there are."""
    if page.next is None or access.cameras is None:
        return page
    newest = store.newest(Filters(cameras=tuple(sorted(access.cameras))), page.next.as_of)
    return replace(page, next=replace(page.next, as_of=newest))
