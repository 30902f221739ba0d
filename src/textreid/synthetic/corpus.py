"""A corpus on disk: ``imgs/``, the truth in ``people.jsonl``, and ``reid_raw.json`` in the form of CUHK-PEDES."""

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from pathlib import Path
from typing import Any

from textreid.artifacts import fingerprint, new_folder, read_manifest, write_json, write_text
from textreid.errors import AnnotationError, ArtifactError, ConfigError
from textreid.seeding import Chance, generator
from textreid.synthetic.attributes import Person, View
from textreid.synthetic.describer import describe
from textreid.synthetic.domains import DOMAINS, Domain
from textreid.synthetic.drawing.render import Shot, render
from textreid.synthetic.sampling import sample_person

KIND = "synthetic-corpus"
FORMAT_VERSION = 1
PEOPLE = "people.jsonl"
# As in CUHK-PEDES, whose form ``reid_raw.json`` has.
_CAPTIONS = 2
_Row = dict[str, Any]
Renderer = Callable[[Person, int, Domain, int, int], Shot]
_Job = tuple[str, str, int, int, int, Renderer]


def write_corpus(
    folder: Path,
    domain: str,
    identities: int,
    images_per_identity: int,
    seed: int,
    split: str = "test",
    workers: int = 1,
    first_identity: int = 0,
    *,
    renderer: Renderer = render,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Render a corpus; equal arguments give equal files, whatever ``workers`` is.

    Args:
        folder: where it goes; must not exist.
        domain: a key of `DOMAINS`.
        identities: how many people.
        images_per_identity: crops of each, from as many different cameras as the domain has.
        seed: of the people and of the crops.
        split: what ``reid_raw.json`` calls them.
        workers: processes that render.
        first_identity: number of the first person (two corpora with separate ranges share nobody).
        renderer: draws a crop as `render` does, with its arguments; several workers need one that can be pickled.
        progress: called with the number of finished images after each person.

    Raises:
        ConfigError: an unknown domain, or a count below 1.
        ArtifactError: ``folder`` exists or cannot be written, or one of the ``workers`` was killed.
    """
    if domain not in DOMAINS:
        raise ConfigError(f"domain: no such domain {domain!r}; known: {', '.join(DOMAINS)}")
    for name, value in (("identities", identities), ("images per identity", images_per_identity), ("workers", workers)):
        if value < 1:
            raise ConfigError(f"{name}: expected at least 1, got {value}")
    facts: dict[str, Any] = {
        "domain": domain,
        "identities": identities,
        "images_per_identity": images_per_identity,
        "images": identities * images_per_identity,
        "seed": seed,
        "split": split,
        "first_identity": first_identity,
    }
    facts["fingerprint"] = fingerprint({"kind": KIND, "format_version": FORMAT_VERSION, **facts})
    with new_folder(folder, KIND, FORMAT_VERSION, **facts) as partial:
        (partial / "imgs").mkdir()
        jobs = [
            (str(partial), domain, identity, images_per_identity, seed, renderer)
            for identity in range(first_identity, first_identity + identities)
        ]
        rows: list[_Row] = []
        for done in _run(jobs, workers):
            rows += done
            if progress:
                progress(len(rows))
        write_text(partial / PEOPLE, "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
        write_json(partial / "reid_raw.json", [_annotation(row, split, seed) for row in rows])


def read_people(root: Path) -> dict[str, tuple[Person, View]]:
    """Read the truth of every corpus at or below ``root``, by image path relative to ``root``.

    Raises:
        ArtifactError: there is none, or one is incomplete.
        AnnotationError: a line of a ``people.jsonl`` cannot be read; names it.
    """
    files = sorted(root.rglob(PEOPLE))
    if not files:
        raise ArtifactError(f"{root}: no synthetic corpus here or below (no {PEOPLE}); see textreid synthesize")
    people = {}
    for path in files:
        read_manifest(path.parent, KIND, FORMAT_VERSION)
        images = (path.parent / "imgs").relative_to(root)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                row = json.loads(line)
                truth = (Person.from_dict(row["person"]), View.from_dict(row["view"]))
                people[(images / row["image"]).as_posix()] = truth
            except (ValueError, KeyError, TypeError) as error:
                raise AnnotationError(f"{path}, line {number}: not a person of a synthetic corpus: {error}") from error
    return people


def _run(jobs: list[_Job], workers: int) -> Iterator[list[_Row]]:
    if workers == 1:
        yield from map(_render_identity, jobs)
        return
    # A forked process would inherit the locks of this one's threads (a progress bar's, torch's) as they are held. The
    # results come in order, so that the files do not depend on the number of workers.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(_render_identity, jobs, chunksize=4)
    except BrokenProcessPool as error:
        raise ArtifactError("a process that draws people was ended from outside, perhaps for want of memory") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _render_identity(job: _Job) -> list[_Row]:
    """Render and store the crops of one person; runs in a worker."""
    folder, name, identity, count, seed, renderer = job
    domain = DOMAINS[name]
    # By seed, domain and number alone: neither the count of crops nor a neighbour changes who somebody is.
    person = sample_person(domain, generator("person", seed, name, identity))
    order = shuffled_cameras(len(domain.cameras), count, Chance.of("cameras", seed, name, identity))
    rows = []
    for shot, camera in enumerate(order):
        # Seeds lie a million apart: no shot of one has the number of a shot of another before the millionth.
        result = renderer(person, identity, domain, camera, seed * 1_000_003 + shot)
        image = f"{name}_{identity:06d}_c{camera:02d}_{shot:03d}.jpg"
        result.image.save(Path(folder) / "imgs" / image, quality=domain.cameras[camera].quality)
        who = {"image": image, "identity": identity, "camera": camera}
        rows.append({**who, "person": person.to_dict(), "view": result.view.to_dict()})
    return rows


def shuffled_cameras(cameras: int, count: int, chance: Chance) -> list[int]:
    """Draw ``count`` cameras in random order, each used once before any is used again."""
    rounds = []
    for _ in range(-(-count // cameras)):
        left = list(range(cameras))
        rounds.append([left.pop(chance.whole(0, len(left))) for _ in range(cameras)])
    return list(chain.from_iterable(rounds))[:count]


def _annotation(row: _Row, split: str, seed: int) -> _Row:
    person, view = Person.from_dict(row["person"]), View.from_dict(row["view"])
    # By the image's name, so that a caption does not depend on how many images were described before.
    start = int(generator("captions", seed, row["image"]).integers(0, 1 << 31))
    captions = [describe(person, view, start + n) for n in range(_CAPTIONS)]
    # Identities of CUHK-PEDES count from 1.
    return {"split": split, "captions": captions, "file_path": row["image"], "id": row["identity"] + 1}
