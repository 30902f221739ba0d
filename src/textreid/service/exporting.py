"""The result of a search as evidence: one ZIP file, and what the audit log keeps of it."""

import json
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from textreid.gallery.asking import Answer, FoundPerson
from textreid.gallery.exhibits import case_of, exhibits_of
from textreid.gallery.query.evidence import write_evidence
from textreid.gallery.store import Database, Filters, Store
from textreid.service.access import Access
from textreid.service.uploads import upload_folder

if TYPE_CHECKING:
    import psycopg

    from textreid.gallery.query.question import Question
    from textreid.service.ranking import Found, Wanted


@dataclass(frozen=True)
class Evidence:
    """A ZIP file, its SHA-256 in hexadecimal, and when it was made."""

    content: bytes
    digest: str
    made: datetime


@dataclass(frozen=True)
class Exported:
    """An export that was made: when, by whom, and the SHA-256 of its ZIP file."""

    time: str
    actor: str
    digest: str


def make_evidence(store: Store, access: Access, question: "Question", wanted: "Wanted", found: "Found") -> Evidence:
    """Pack what was found, with the frames that it was cut from where those are still there.

    Raises:
        ConfigError: nothing was found.
        StoreError: a crop is gone.
    """
    made = datetime.now(UTC)
    people = tuple(FoundPerson(hit) for hit in found.page.hits)
    answer = Answer(people, found.page.next, found.unread, found.notes, found.verdict, found.page.exact)
    case = case_of(store, question, answer, access.narrow(wanted.filters) or Filters(), made)
    if access.cameras is not None:
        # How many crops there are of other cameras is not for who may see some.
        case = replace(case, searched=f"gallery {store.name}: the cameras {', '.join(sorted(access.cameras))}")
    told = {"exported by": access.actor, "purpose": wanted.purpose or "not told"}
    case = replace(case, facts={**case.facts, **told})
    folder = upload_folder(store.database, store.id)
    folder.mkdir(parents=True, exist_ok=True)
    # There, so that what a kill leaves is deleted when the service is started again.
    with tempfile.TemporaryDirectory(prefix="export-", dir=folder) as name:
        path = Path(name) / "evidence.zip"
        digest = write_evidence(path, case, exhibits_of(store, people))
        return Evidence(path.read_bytes(), digest, made)


def exports_of(database: Database, gallery: str, numbers: Collection[int]) -> tuple[Exported, ...]:
    """List the exports that show any of these crops: they are out of our hands, and whoever has them must be told."""
    wanted = set(numbers)

    def read(connection: "psycopg.Connection") -> list[str]:
        query = 'SELECT entry FROM audit WHERE position(\'"action": "export"\' IN entry) > 0 ORDER BY number'
        return [row[0] for row in connection.execute(query).fetchall()]

    told = [json.loads(text) for text in database.run(read)]
    return tuple(
        Exported(one["time"], one["actor"], one["sha256"])
        for one in told
        if one["action"] == "export" and one.get("gallery") == gallery and not wanted.isdisjoint(one["shown"])
    )
