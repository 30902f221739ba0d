"""How fast a gallery answers, and how well, beside numpy, FAISS and Qdrant Edge on the same vectors in the same run.

The vectors are drawn: people are points in a space of 64 dimensions within 256 (--dim), 20 crops lie around each
(mean cosine 0.8), and a query is as far from its person as a sentence is from a photograph (cosine 0.4). Recall
is of the ten nearest by numpy in float32, with its 95 % interval over the queries. Times are of one search at a time,
as a client of one process measures them; of the gallery they include reading the rows of the hits from the database.

    python benchmarks/gallery.py                            # 5,000 to 100,000 crops; some five minutes on two cores
    python benchmarks/gallery.py --candidates 100 160 250   # what the HNSW index finds in which time
    python benchmarks/gallery.py --crops 6000 --dim 660 --only gallery   # and what "nobody matches" costs
    python benchmarks/gallery.py --crops 100000 --like cuhk-pedes=FOLDER --only gallery numpy
    python benchmarks/gallery.py --crops 1000000 --keep FOLDER --only nothing         # builds, and measures nothing
    python benchmarks/gallery.py --crops 1000000 --keep FOLDER --only gallery numpy   # measures what was built there

What --keep begins goes on there after a kill; FOLDER may lie where another user can enter (PostgreSQL of root is one).
``processor_ms`` is the processor time of a search, half of them taking less: of the database's process and of this one.
It means something on a busy machine too.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from textreid.datasets import read_benchmark
from textreid.evaluation.chance_level import bootstrap_means, interval
from textreid.gallery.asking import calibration_of
from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.query.question import Question, encode_question
from textreid.gallery.store import Filters, NewCrop, NewFile, Store, hnsw, open_database

Array = npt.NDArray[np.float32]
Search = Callable[[Array], list[int]]

RANK, CROPS_A_PERSON, TOP = 64, 20, 10
BATCH = 1000  # crops a transaction
START = datetime(2026, 5, 1)
FRACTIONS = (0.001, 0.01, 0.1, 0.5)  # of the crops that pass a filter


@dataclass
class Engine:
    """A way to search, ready: its build in seconds, its size in bytes, and how many of ten it finds."""

    name: str
    search: Search
    build_s: float
    size: int
    server: int = 0  # its process, if it is not this one


def main() -> None:
    """Draw vectors, build every engine, search, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, nargs="+", default=[5_000, 10_000, 20_000, 100_000])
    parser.add_argument("--dim", type=int, default=256, help="numbers of a vector; those of the default have 716")
    parser.add_argument("--like", metavar="NAME=FOLDER", help="a benchmark: vectors as its photographs', its sentences")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--candidates", type=int, nargs="+", default=[hnsw.CANDIDATES], help="of the HNSW index")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=["gallery", "numpy", "faiss", "qdrant"])
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="the databases stay there, and are used again")
    options = parser.parse_args()
    figures = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "seed": options.seed,
        "queries": options.queries,
        "sentence_ms": sentence_ms(),
        "engines": [row for crops in options.crops for row in compare(crops, options)],
    }
    print(json.dumps(figures, indent=2))


def compare(count: int, options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Measure every engine on ``count`` crops."""
    if options.like:
        crops, asked = draw_like(options.like, count, options.queries, options.seed)
    else:
        crops, asked = draw(count, options.dim, options.queries, options.seed)
    nearest = [np.argpartition(-(crops @ query), TOP)[:TOP] for query in asked]
    with tempfile.TemporaryDirectory(prefix="textreid-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        for make in (numpy_engine, faiss_engine, qdrant_engine):
            if any(make.__name__.startswith(word) for word in options.only):
                with suppress(ImportError):
                    yield measure(make(crops, folder), asked, nearest, count)
        if "gallery" in options.only or options.keep:
            kind = options.like.partition("=")[0] if options.like else "drawn"
            place = options.keep / f"{kind}-{count}-{crops.shape[1]}-{options.seed}" if options.keep else folder
            with gallery(crops, place, options.candidates) as (store, engines):
                wanted = "gallery" in options.only
                for engine in engines:
                    if wanted:
                        yield measure(engine, asked, nearest, count)
                for fraction in FRACTIONS if wanted else ():
                    yield measure_filtered(store, fraction, asked, crops, count)
                if wanted:
                    yield from measure_verdict(store, count)


def draw(count: int, dim: int, queries: int, seed: int) -> tuple[Array, Array]:
    """Draw the vectors of crops (N, D) and of queries (Q, D), each of length 1."""
    generator = np.random.default_rng(seed)
    basis = generator.normal(size=(RANK, dim)).astype(np.float32)

    def directions(rows: int) -> Array:
        return unit(generator.normal(size=(rows, RANK)).astype(np.float32) @ basis)

    people = directions(-(-count // CROPS_A_PERSON))
    crops = np.repeat(people, CROPS_A_PERSON, axis=0)[:count]
    for begin in range(0, count, 50_000):  # a million at once would not fit the memory
        part = crops[begin : begin + 50_000]
        crops[begin : begin + 50_000] = unit(2 * part + directions(len(part)))
    # Crops of a person do not come one after the other: cameras see many people.
    crops = crops[generator.permutation(count)]
    chosen = people[generator.integers(0, len(people), queries)]
    return crops, unit(0.4 * chosen + np.sqrt(np.float32(1 - 0.4**2)) * directions(queries))


def draw_like(benchmark: str, count: int, queries: int, seed: int) -> tuple[Array, Array]:
    """Draw vectors as the default model's are spread over the photographs of a benchmark, and of its sentences.

    Of the photographs are the mean, the covariance, and the share of it that pictures of one person differ by; people
    are drawn from a normal distribution of these, `CROPS_A_PERSON` each. The sentences are those of the benchmark.
    """
    name, folder = benchmark.split("=", 1)
    benchmarked = read_benchmark(name, Path(folder))
    model, records = GalleryEncoder().load(), benchmarked.records
    pictures = model.encode_images([benchmarked.image_root / record.image for record in records])
    sentences = model.encode_texts([caption for record in records for caption in record.captions])
    who = np.unique([record.identity for record in records], return_inverse=True)[1]
    counts = np.bincount(who)
    mean = pictures.mean(axis=0)
    from_mean = pictures - mean
    means = np.stack([from_mean[who == person].mean(axis=0) for person in range(len(counts))])
    several = counts[who] > 1
    within = float(((from_mean - means[who])[several] ** 2).sum()) / int(several.sum() - (counts > 1).sum())
    between = 1 - within / (float((from_mean**2).sum()) / (len(pictures) - 1))
    _, lengths, axes = np.linalg.svd(from_mean, full_matrices=False)
    axes = (lengths[:, None] * axes / np.sqrt(len(pictures) - 1)).astype(np.float32)
    generator = np.random.default_rng(seed)
    people = generator.normal(size=(-(-count // CROPS_A_PERSON), len(axes))).astype(np.float32)
    # Crops of a person do not come one after the other: cameras see many people.
    order = generator.permutation(count) // CROPS_A_PERSON
    crops = np.empty((count, pictures.shape[1]), np.float32)
    for begin in range(0, count, 20_000):
        chosen = people[order[begin : begin + 20_000]]
        own = generator.normal(size=chosen.shape).astype(np.float32)
        crops[begin : begin + len(chosen)] = unit(
            mean + (np.sqrt(np.float32(between)) * chosen + np.sqrt(np.float32(1 - between)) * own) @ axes
        )
    return crops, unit(sentences[generator.choice(len(sentences), queries, replace=False)])


def unit(vectors: Array) -> Array:
    """Return the vectors (N, D) with length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def measure(engine: Engine, asked: Array, nearest: list[npt.NDArray[np.int64]], count: int) -> dict[str, object]:
    """Search for every query, twice, and time the second round."""
    for query in asked:
        engine.search(query)
    times, busy, recalls = [], [], []
    for query, wanted in zip(asked, nearest, strict=True):
        begun, begun_busy = time.perf_counter(), processor_ms(engine.server)
        rows = engine.search(query)
        times.append(time.perf_counter() - begun)
        busy.append(processor_ms(engine.server) - begun_busy)
        recalls.append(len(set(rows) & set(wanted.tolist())) / TOP)
    return {
        "crops": count,
        "engine": engine.name,
        "p50_ms": round(1000 * float(np.percentile(times, 50)), 2),
        "p99_ms": round(1000 * float(np.percentile(times, 99)), 2),
        "processor_ms": round(float(np.percentile(busy, 50)), 2),
        "recall_at_10": round(float(np.mean(recalls)), 4),
        "recall_95": [round(float(end), 4) for end in interval_of(recalls)],
        "build_s": round(engine.build_s, 1),
        "size_mb": round(engine.size / 1e6, 1),
    }


def interval_of(values: list[float]) -> Array:
    """Return the 95 % interval (2,) of a mean over queries, by drawing them again."""
    return np.asarray(interval(bootstrap_means(np.array(values)[:, None], np.arange(len(values))))[0], np.float32)


def measure_filtered(store: Store, fraction: float, asked: Array, crops: Array, count: int) -> dict[str, object]:
    """Time searches that a span of time narrows to a fraction of the crops; they are exact."""
    last = max(TOP, round(fraction * count))
    filters = Filters(until=START + timedelta(seconds=last))
    base = min(store.all_scores(asked[:1], filters)[0].tolist())
    nearest = [np.argpartition(-(crops[:last] @ query), TOP - 1)[:TOP] for query in asked]

    def search(query: Array) -> list[int]:
        return [hit.crop.id - base for hit in store.search(query, filters, TOP).hits]

    (server,) = store.database.run(lambda c: c.execute("SELECT pg_backend_pid()").fetchone() or (0,))
    name = f"gallery, exact, a filter passes {fraction:.1%}"
    return measure(Engine(name, search, 0, 0, server), asked, nearest, count)


def measure_verdict(store: Store, count: int) -> Iterator[dict[str, object]]:
    """Time what the first question whether anybody fits costs, of all crops and of half of them.

    Only where the vectors that are drawn have as many numbers as the bundled model's; what they score means nothing.
    """
    encoder = GalleryEncoder()
    if encoder.dim != store.dim:
        return
    encoded = encode_question(Question(("a woman in a red jacket",)), encoder)
    encoded.references(encoder)  # of the model, not of the gallery: kept after the first time
    (server,) = store.database.run(lambda c: c.execute("SELECT pg_backend_pid()").fetchone() or (0,))
    for name, filters in (
        ("all crops", Filters()),
        ("the same again", Filters()),
        ("a filter passes 50.0%", Filters(until=START + timedelta(seconds=count // 2))),
    ):
        begun, begun_busy = time.perf_counter(), processor_ms(server)
        calibration_of(store, encoder, encoded, filters)
        yield {
            "crops": count,
            "verdict": name,
            "ms": round(1000 * (time.perf_counter() - begun), 1),
            "processor_ms": round(processor_ms(server) - begun_busy, 1),
        }


def numpy_engine(crops: Array, folder: Path) -> Engine:
    """Compare all, in float32, in memory."""

    def search(query: Array) -> list[int]:
        scores = crops @ query
        rows = np.argpartition(-scores, TOP)[:TOP]
        return [int(row) for row in rows[np.argsort(-scores[rows])]]

    return Engine("numpy, all in float32", search, 0, crops.nbytes)


def faiss_engine(crops: Array, folder: Path) -> Engine:
    """Inverted lists of 8-bit vectors, as many as it takes to find 99 of 100."""
    import faiss

    begun = time.perf_counter()
    lists = max(1, round(4 * np.sqrt(len(crops))))
    index = faiss.index_factory(crops.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(crops[:: max(1, len(crops) // (50 * lists))])
    index.add(crops)
    probes = max(1, lists // 8)
    faiss.extract_index_ivf(index).nprobe = probes
    took = time.perf_counter() - begun
    faiss.write_index(index, str(folder / "faiss"))

    def search(query: Array) -> list[int]:
        return [int(row) for row in index.search(query[None], TOP)[1][0]]

    size = (folder / "faiss").stat().st_size
    return Engine(f"FAISS IVF{lists},SQ8, nprobe {probes}", search, took, size)


def qdrant_engine(crops: Array, folder: Path) -> Engine:
    """Qdrant in this process: HNSW of the same shape over float16 vectors, on disk."""
    import qdrant_edge as q

    begun = time.perf_counter()
    place = folder / "qdrant"
    vectors = q.EdgeVectorParams(size=crops.shape[1], distance=q.Distance.Dot, datatype=q.VectorStorageDatatype.Float16)
    graph = q.HnswIndexConfig(m=16, ef_construct=64, full_scan_threshold=1000)
    shard = q.EdgeShard.create(str(place), q.EdgeConfig(vectors=vectors, hnsw_config=graph))
    for begin in range(0, len(crops), BATCH):
        rows = range(begin, min(begin + BATCH, len(crops)))
        shard.update(q.UpdateOperation.upsert_points([q.Point(row, crops[row].tolist()) for row in rows]))
    shard.optimize()
    shard.flush()
    took = time.perf_counter() - begun
    params = q.SearchParams(hnsw_ef=100)

    def search(query: Array) -> list[int]:
        request = q.SearchRequest(query=q.Query.Nearest(query.tolist()), limit=TOP, params=params, with_payload=True)
        return [int(point.id) for point in shard.search(request)]

    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    return Engine("Qdrant Edge, HNSW", search, took, size)


@contextmanager
def gallery(crops: Array, folder: Path, candidates: list[int]) -> Iterator[tuple[Store, Iterator[Engine]]]:
    """Fill a gallery in a database of its own, and search it exactly and by its index."""
    os.environ["TEXTREID_DATA"] = str(folder)
    with open_database() as database:
        store = database.create("bench", "drawn", "drawn", crops.shape[1])
        for begin in range(store.counts().crops, len(crops), BATCH):
            begun = time.perf_counter()
            part = [
                NewCrop(crops[row], row.to_bytes(32, "big"), time=START + timedelta(seconds=row), camera=f"{row % 16}")
                for row in range(begin, min(begin + BATCH, len(crops)))
            ]
            store.add("/bench", [NewFile(f"/bench/{begin}", FileStamp(0, 0, 0), None, part)])
            store.set_fact("filled_s", (store.fact("filled_s") or 0) + time.perf_counter() - begun)
        filled = float(store.fact("filled_s"))
        base = store.as_of() - len(crops) + 1
        if store.fact("bare") is None:
            store.set_fact("bare", store.counts().size)
            store.database.run(lambda c: c.execute(f"ANALYZE crop_{store.id}"))
        bare = int(store.fact("bare"))

        def exact(query: Array) -> list[int]:
            return [hit.crop.id - base for hit in store.search(query, top=TOP, exact=True).hits]

        def indexed(query: Array) -> list[int]:
            page = store.search(query, top=TOP)
            assert not page.exact
            return [hit.crop.id - base for hit in page.hits]

        (server,) = store.database.run(lambda c: c.execute("SELECT pg_backend_pid()").fetchone() or (0,))

        def engines() -> Iterator[Engine]:
            yield Engine("gallery, exact", exact, filled, bare, server)
            if (took := store.build_index(at_least=1)) is not None:
                store.set_fact("built_s", took.total_seconds())
            built = float(store.fact("built_s"))
            size = store.counts().size
            shape = f"m {hnsw.NEIGHBOURS}, built with {hnsw.BUILD_CANDIDATES}"
            for count in candidates:
                hnsw.CANDIDATES = hnsw.MOST_CANDIDATES = count
                name = f"gallery, HNSW ({shape}), {count} candidates"
                yield Engine(name, indexed, built, size, server)

        yield store, engines()


def processor_ms(process: int) -> float:
    """Return the processor time, in milliseconds, of this process and of a server's; 0 where nobody tells."""
    schedule = Path(f"/proc/{process}/schedstat")
    server = int(schedule.read_text().split()[0]) / 1e6 if schedule.exists() else 0.0
    return 1000 * time.process_time() + server


def sentence_ms() -> dict[str, float]:
    """Time the encoding of a sentence by the bundled model, which comes before each search."""
    encoder = GalleryEncoder()
    times = []
    for number in range(100):
        begun = time.perf_counter()
        encoder.encode_query(f"a woman in a red jacket and {number} white bags")
        times.append(1000 * (time.perf_counter() - begun))
    return {"p50": round(float(np.percentile(times, 50)), 2), "p99": round(float(np.percentile(times, 99)), 2)}


if __name__ == "__main__":
    main()
