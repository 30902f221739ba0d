"""How many searches a second the service answers, beside a bare FastAPI and numpy program in the same run.

Vectors are drawn; the model is the bundled one, so that encoding a sentence costs what it does. Hardly a sentence is
asked twice. Each client keeps one connection and, with ``--rate``, sends at that rate for all together whether earlier
answers were late or not: a time counts from the moment at which the request was due. Without it each client asks again
as soon as it is answered. The service is asked with a token, writes its audit log, and ranks by its index from 20,000
crops on; the bare program encodes the sentence and multiplies it with all vectors, and does nothing else.

    python benchmarks/service.py --clients 32 --crops 100000 --seconds 600 --rate 100    # the full form
    python benchmarks/service.py --clients 32 --crops 100000 --seconds 120               # as fast as it goes
"""

import argparse
import asyncio
import io
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.gallery.embedding_cache import FileStamp
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.store import NewCrop, NewFile, open_database
from textreid.service.accounts import add_account, make_token

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP, BATCH = 20, 1000
COLOURS = ["red", "blue", "green", "black", "white", "grey", "yellow", "brown", "orange", "pink", "purple", "beige"]
TOPS = ["jacket", "coat", "shirt", "hoodie", "sweater", "blouse", "vest", "dress"]
BOTTOMS = ["jeans", "trousers", "shorts", "skirt", "leggings"]
CARRIED = ["a backpack", "a handbag", "a suitcase", "an umbrella", "a shopping bag", "nothing", "a phone", "a hat"]


def main() -> None:
    """Fill a gallery, ask both programs in turn, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--crops", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--rate", type=float, default=0, help="searches a second of all clients; 0: as fast as it goes")
    parser.add_argument("--model", default=None)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=["service", "bare"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="textreid-load-") as name:
        data = Path(name)
        data.chmod(0o711)  # PostgreSQL of root runs as another user
        os.environ["TEXTREID_DATA"] = name
        figures: dict[str, Any] = {
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
            "options": vars(options),
        }
        token = fill(data, options)
        for program in options.only:
            with running(program, options, data) as (port, process):
                ask = Asked(port, token, options)
                asyncio.run(ask.for_seconds(min(5.0, options.seconds / 4)))  # warm: connections, caches, imports
                before, used = memory(process, data), processor_s(process, data)
                ask = Asked(port, token, options)
                asyncio.run(ask.for_seconds(options.seconds))
                told, now = ask.figures(), processor_s(process, data)
                told["processor_ms"] = {name: 1000 * (now[name] - used[name]) / told["searches"] for name in used}
                figures[program] = {**told, "memory_before": before, "memory_after": memory(process, data)}
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


def draw(count: int, dim: int, seed: int) -> npt.NDArray[np.float32]:
    """Draw vectors (N, D) of length 1."""
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def fill(data: Path, options: argparse.Namespace) -> str:
    """Make the gallery, its index and an account; returns a token of that."""
    encoder = GalleryEncoder(options.model)
    vectors = draw(options.crops, encoder.dim, options.seed)
    np.save(data / "vectors.npy", vectors)
    stream = io.BytesIO()
    Image.effect_noise((64, 128), 60).convert("RGB").save(stream, "JPEG")
    begin = datetime(2026, 5, 1)
    with open_database() as database:
        store = database.create("load", encoder.name, encoder.spaces[-1], encoder.dim)
        for first in range(0, options.crops, BATCH):
            crops = [
                NewCrop(
                    vector, number.to_bytes(32, "big"), stream.getvalue() if number < TOP else b"", number, number / 10,
                    begin + timedelta(seconds=number), f"camera {number % 8}", (1, 2, 30, 60), number // 5,
                )
                for number, vector in enumerate(vectors[first : first + BATCH], start=first)
            ]  # fmt: skip
            store.add("/load", [NewFile(f"/load/{first}.avi", FileStamp(1, 2, 3), b"x", crops, kind="video")])
        store.build_index()
        add_account(database, "load", None, ["search"], None)
        return make_token(database, "load", "load", ["search"], 1)


@contextmanager
def running(program: str, options: argparse.Namespace, data: Path) -> "Iterator[tuple[int, subprocess.Popen[str]]]":
    """Start a program; gives its port and process."""
    command = [sys.executable, __file__, "--serve-bare", str(data / "vectors.npy"), options.model or ""]
    if program == "service":
        command = [
            *(sys.executable, "-m", "textreid", "serve", "--gallery", "load", "--port", "0", "--rate", "1000000"),
            *("--connections", str(options.connections)),
        ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = ""
            while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", line)):
                line = process.stderr.readline()
                assert line, "it ended"
            yield int(found[1]), process
        finally:
            process.terminate()


class Asked:
    """Clients of a program, and how long each of their searches took."""

    def __init__(self, port: int, token: str, options: argparse.Namespace) -> None:
        self._port, self._token, self._options = port, token, options
        self._seconds: list[float] = []
        self._refused = 0
        self._began = self._ended = 0.0

    async def for_seconds(self, seconds: float) -> None:
        """Let every client ask."""
        self._began = time.perf_counter()
        until = self._began + seconds
        await asyncio.gather(*(self._client(number, until) for number in range(self._options.clients)))
        self._ended = time.perf_counter()

    async def _client(self, number: int, until: float) -> None:
        generator = random.Random(f"{self._options.seed} {number} {until}")  # noqa: S311
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        pause = self._options.clients / self._options.rate if self._options.rate else 0.0
        due = self._began + pause * number / self._options.clients
        while due < until:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            begun = due if pause else time.perf_counter()
            writer.write(self._request(generator))
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", head.lower())
            assert found
            await reader.readexactly(int(found[1]))
            self._seconds.append(time.perf_counter() - begun)
            self._refused += not head.startswith(b"HTTP/1.1 200")
            due = due + pause if pause else time.perf_counter()
        writer.close()

    def _request(self, generator: random.Random) -> bytes:
        one, two = generator.choices(COLOURS, k=2)
        said = f"a {generator.choice(('man', 'woman'))} in a {one} {generator.choice(TOPS)} and {two} "
        said += f"{generator.choice(BOTTOMS)} with {generator.choice(CARRIED)} and {generator.choice(CARRIED)}"
        body = json.dumps({"query": said, "top": TOP}).encode()
        head = (
            f"POST /api/v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def figures(self) -> dict[str, Any]:
        """Summarise: searches a second, and milliseconds of each."""
        times = sorted(self._seconds)
        cuts = statistics.quantiles(times, n=1000) if len(times) > 1 else [0.0] * 999
        return {
            "searches": len(times), "refused": self._refused,
            "a_second": round(len(times) / (self._ended - self._began), 1),
            "p50_ms": round(1000 * cuts[499], 1), "p99_ms": round(1000 * cuts[989], 1),
            "longest_ms": round(1000 * times[-1], 1),
        }  # fmt: skip


def processes(process: "subprocess.Popen[str]", data: Path) -> dict[str, list[int]]:
    """Numbers of the processes of a program, and of PostgreSQL."""
    found = {"program": [process.pid]}
    if pid_file := next(data.rglob("postmaster.pid"), None):
        parent = int(pid_file.read_text().split()[0])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        found["postgresql"] = [parent, *map(int, children)]
    return found


def memory(process: "subprocess.Popen[str]", data: Path) -> dict[str, float]:
    """Read memory in MiB, what processes share counted once."""

    def of(number: int) -> int:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{number}/smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    return {name: round(sum(map(of, some)) / 1024, 1) for name, some in processes(process, data).items()}


def processor_s(process: "subprocess.Popen[str]", data: Path) -> dict[str, float]:
    """Read the processor time in seconds until now: a machine that does other things, too, does not change it."""

    def of(number: int) -> int:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    ticks = os.sysconf("SC_CLK_TCK")
    return {name: sum(map(of, some)) / ticks for name, some in processes(process, data).items()}


def serve_bare(vectors: str, model: str) -> None:
    """Serve the same search by FastAPI and numpy alone."""
    import socket

    import uvicorn
    from fastapi import FastAPI

    encoder, matrix = GalleryEncoder(model or None), np.load(vectors)
    app = FastAPI()

    @app.post("/api/v1/search")
    def search(asked: dict[str, Any]) -> list[tuple[int, float]]:
        scores = matrix @ encoder.encode_query(asked["query"])[0]
        best = np.argpartition(-scores, min(TOP, len(scores) - 1))[:TOP]
        best = best[np.argsort(-scores[best])]
        return [(int(number), float(scores[number])) for number in best]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stderr.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stderr.flush()
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve-bare"]:
        serve_bare(*sys.argv[2:4])
    else:
        main()
