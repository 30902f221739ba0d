"""What was found in a gallery, as evidence: crops, and the frames that they were cut from."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from PIL import Image

from textreid.errors import ImageError
from textreid.gallery.asking import Answer, FoundPerson
from textreid.gallery.query.evidence import Case, Exhibit
from textreid.gallery.query.question import Question
from textreid.gallery.store.rows import Crop, Filters
from textreid.images import read_image

if TYPE_CHECKING:
    from textreid.gallery.store import Store

_BESIDE_FRAME_S = 0.004  # frames of a video lie further apart


def case_of(store: "Store", question: Question, answer: Answer, filters: Filters, made: datetime) -> Case:
    """Describe a search of a gallery for evidence."""
    given = {name: str(value) for name, value in vars(filters).items() if value not in ((), None)}
    facts = {"filters": ", ".join(f"{name} {value}" for name, value in given.items()) or "none"}
    facts |= {"whether anybody fits": str(answer.verdict)} if answer.verdict else {}
    facts |= {"rewrites": " · ".join(question.rewrites)} if question.rewrites else {}
    searched = f"gallery {store.name}: {store.counts().crops:,} crops"
    when = made.isoformat(sep=" ", timespec="seconds")
    return Case(question.title, searched, store.model, store.fingerprint[:64], when, facts, answer.notes)


def exhibits_of(store: "Store", found: Sequence[FoundPerson], first: int = 1) -> list[Exhibit]:
    """Make exhibits of what was found, from rank ``first`` on, with the frames that crops were cut from where they are.

    Raises:
        StoreError: a crop is gone.
    """
    exhibits = []
    for rank, person in enumerate(found, start=first):
        crop = person.best.crop
        time = crop.time.isoformat(sep=" ") if crop.time else None
        alike = ", ".join(str(hit.crop.id) for hit in person.alike) or None
        facts = {
            "crop": crop.id, "source": crop.source, "file": crop.origin, "camera": crop.camera, "time": time,
            "seconds": crop.seconds, "frame number": crop.frame, "track": crop.track,
            "tags": ", ".join(crop.tags) or None,
            "detector's confidence": crop.confidence, "SHA-256 when indexed": crop.digest, "hardly differ": alike,
        }  # fmt: skip
        suffix = crop.path.suffix.lower() if crop.is_file else ".jpg"
        scene = None if crop.is_file or crop.box is None else partial(scene_of, crop)
        content = store.jpeg(crop.id)
        exhibits.append(Exhibit(rank, person.best.score, content, suffix, facts, crop.box, scene))
    return exhibits


def scene_of(crop: Crop) -> Image.Image:
    """Read the photograph or the frame of a video that a crop was cut from, upright.

    Raises:
        ImageError: it cannot be read any more.
    """
    if crop.seconds is None:
        return read_image(crop.path)
    from textreid.people.video import Video

    with Video(crop.path, frames_a_second=1000.0, start=max(0.0, crop.seconds - _BESIDE_FRAME_S)) as video:
        for frame in video:
            return Image.fromarray(frame.pixels)
    raise ImageError(f"{crop.path}: ends before second {crop.seconds:.2f}")
