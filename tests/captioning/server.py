"""A small OpenAI-compatible server with adjustable latency, capacity and faults, for tests and benchmarks.

It speaks HTTP/1.1 with kept-alive connections and the protocol of ``examples/mllm_server.py``, pictures as data URIs
included. Run as a program it prints its URL and serves until its input closes.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from types import TracebackType
from typing import Any, Self

from examples.mllm_server import Question, completion, model_list, read_question, refusal

_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
_HTML = b"<!DOCTYPE html><html><body><h1>Welcome to nginx!</h1></body></html>"


@dataclass(frozen=True)
class Behaviour:
    """How the server answers; the rates are shares of the chat requests.

    Attributes:
        latency: seconds from a request to its answer where nothing waits.
        capacity: answers a second; more wait in a queue.
        queue: longest such queue; beyond it, 429. None: no bound.
        retry_after: seconds that a 429 asks to wait.
        finish_reason: as the answer's choice tells it.
        raw: body and content type of every chat answer, in place of one.
    """

    latency: float = 0.0
    capacity: float | None = None
    queue: int | None = None
    retry_after: float = 0.05
    finish_reason: str = "stop"
    raw: tuple[bytes, str] | None = None
    error_500: float = 0.0
    too_many: float = 0.0
    hang: float = 0.0
    html: float = 0.0
    truncated: float = 0.0
    cut: float = 0.0
    no_content: float = 0.0


def stock_answer(question: Question) -> str:
    """A sentence that depends on the picture, the seed and nothing else."""
    return f"A man in a shirt number {sha256(repr((question.images, question.seed)).encode()).hexdigest()[:8]}."


@dataclass
class Server:
    """Serves in a thread of its own between ``with`` and its end.

    Attributes:
        refuses: status and body of the answer to a request that the server does not take, else None.
        message: what a text becomes in an answer; ``{"role": ..., "content": text}`` without.
        outcomes: how many chat requests ended how: "ok", "429", "500", ...
        questions: the chat requests in the order of their arrival, as many as ``keep``.
        most_at_once: the most chat requests that were under way at a time.
        headers: of each request, as many as ``keep``; names in lower case.
        bodies: of requests that were refused.
    """

    models: tuple[str, ...] = ("sim",)
    key: str | None = None
    behaviour: Behaviour = field(default_factory=Behaviour)
    answer: Callable[[Question], str] = stock_answer
    refuses: Callable[[Mapping[str, Any]], tuple[int, object] | None] = lambda body: None
    message: Callable[[str], Mapping[str, Any]] | None = None
    lists_models: bool = True
    keep: int = 10_000
    seed: int = 0
    port: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    questions: list[Question] = field(default_factory=list)
    most_at_once: int = 0
    headers: list[Mapping[str, str]] = field(default_factory=list)
    bodies: list[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._random = random.Random(self.seed)  # noqa: S311 - faults, not secrets
        self._writers: set[asyncio.StreamWriter] = set()
        self._free_at = 0.0
        self._under_way = 0
        self._dead_until = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._call(self._hang_up())
        self._call(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, **changes: Any) -> None:
        """Behave differently from the next request on."""
        self.behaviour = replace(self.behaviour, **changes)

    def die(self, seconds: float) -> None:
        """Cut all connections, and every new one at once, for a while.

        It goes on to listen: else its own client could be given its port.
        """
        self._dead_until = time.monotonic() + seconds
        self._call(self._cut_connections())

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 26, backlog=4096)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        self._listener.close()
        await self._cut_connections()

    async def _cut_connections(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if time.monotonic() < self._dead_until:
            writer.transport.abort()
            return
        self._writers.add(writer)
        # The client, or `die`, may end the connection at any moment; being stopped is the end of a request that hangs.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ", 2)
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                try:
                    await self._respond(writer, method, path, headers, body)
                except (LookupError, TypeError, ValueError) as error:
                    _refuse(writer, 500, f"the test's server failed: {error!r}")
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

    async def _respond(
        self, writer: asyncio.StreamWriter, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        if len(self.headers) < self.keep:
            self.headers.append(headers)
        if self.behaviour.html >= 1:
            self.outcomes["html"] += 1
            return _send(writer, 200, _HTML, "text/html")
        given = headers.get("authorization", "")
        if self.key is not None and given != f"Bearer {self.key}":
            self.outcomes["401"] += 1
            # Real servers echo what they were given, which is what a client must not pass on.
            return _refuse(writer, 401, f"Incorrect API key provided: {given.removeprefix('Bearer ')}")
        if (method, path) == ("GET", "/v1/models") and self.lists_models:
            return _send_json(writer, 200, model_list(self.models))
        if (method, path) == ("POST", "/v1/chat/completions"):
            if headers.get("content-type") != "application/json":
                return _refuse(writer, 400, "Expected JSON")
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            try:
                return await self._chat(writer, json.loads(body))
            finally:
                self._under_way -= 1
        return _refuse(writer, 404, "Not Found")

    async def _chat(self, writer: asyncio.StreamWriter, body: Mapping[str, Any]) -> None:
        if body["model"] not in self.models:
            self.outcomes["404"] += 1
            return _refuse(writer, 404, f"The model `{body['model']}` does not exist.")
        if refused := self.refuses(body):
            self.outcomes[str(refused[0])] += 1
            self.bodies.append(body)
            if isinstance(refused[1], bytes):
                return _send(writer, refused[0], refused[1], "text/html")
            return _send_json(writer, refused[0], refused[1])
        question = read_question(body)
        if len(self.questions) < self.keep:
            self.questions.append(question)
        behaviour, wait = self.behaviour, 0.0
        if behaviour.capacity is not None:
            now = time.monotonic()
            wait = max(0.0, self._free_at - now)
            if behaviour.queue is not None and wait * behaviour.capacity > behaviour.queue:
                return self._refuse_for_now(writer)
            self._free_at = now + wait + 1 / behaviour.capacity
        fault = self._draw_fault()
        if fault == "hang":
            self.outcomes["hang"] += 1
            await asyncio.sleep(3600)
        if fault == "too_many":
            return self._refuse_for_now(writer)
        await asyncio.sleep(behaviour.latency + wait)
        return self._finish_chat(writer, question, fault)

    def _refuse_for_now(self, writer: asyncio.StreamWriter) -> None:
        self.outcomes["429"] += 1
        seconds = self.behaviour.retry_after
        header = f"retry-after: {int(seconds)}" if seconds >= 1 else f"retry-after-ms: {int(1000 * seconds)}"
        _refuse(writer, 429, "Rate limit reached", header)

    def _draw_fault(self) -> str:
        point = self._random.random()
        for name in ("error_500", "too_many", "hang", "html", "truncated", "cut", "no_content"):
            point -= getattr(self.behaviour, name)
            if point < 0:
                return name
        return ""

    def _finish_chat(self, writer: asyncio.StreamWriter, question: Question, fault: str) -> None:
        self.outcomes[fault or "ok"] += 1
        if fault == "error_500":
            return _refuse(writer, 500, "Internal server error")
        if fault == "html":
            return _send(writer, 200, _HTML, "text/html")
        if self.behaviour.raw:
            return _send(writer, 200, *self.behaviour.raw)
        text = None if fault == "no_content" else self.answer(question)
        content = completion(question, text, self.behaviour.finish_reason)
        if self.message and text is not None:
            content["choices"][0]["message"] = self.message(text)
        payload = json.dumps(content).encode()
        if fault == "truncated":
            return _send(writer, 200, payload[: len(payload) // 2])
        if fault == "cut":
            _send(writer, 200, payload[: len(payload) // 2], length=len(payload))
            return writer.close()
        return _send(writer, 200, payload)


def _refuse(writer: asyncio.StreamWriter, status: int, message: str, *headers: str) -> None:
    _send_json(writer, status, refusal(status, message), *headers)


def _send_json(writer: asyncio.StreamWriter, status: int, content: object, *headers: str) -> None:
    _send(writer, status, json.dumps(content).encode(), "application/json", *headers)


def _send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    kind: str = "application/json",
    *headers: str,
    length: int | None = None,
) -> None:
    head = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}",
        f"content-type: {kind}",
        f"content-length: {len(body) if length is None else length}",
        *headers,
    ]
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _options() -> Iterator[tuple[str, float | None]]:
    yield from {"latency": 0.2, "capacity": None, "queue": None, "error-500": 0.0, "too-many": 0.0, "hang": 0.0}.items()


def main() -> None:
    """Serve until standard input closes; every line read is answered with the outcomes and the CPU seconds so far."""
    parser = argparse.ArgumentParser(description="A local OpenAI-compatible server with adjustable faults.")
    for name, default in _options():
        parser.add_argument(f"--{name}", type=float, default=default)
    parser.add_argument("--port", type=int, default=0)
    given = vars(parser.parse_args())
    port = given.pop("port")
    with Server(behaviour=Behaviour(**given), port=port, keep=0) as server:
        print(server.url, flush=True)  # noqa: T201 - its address is its output
        for line in sys.stdin:
            if line.startswith("die "):
                server.die(float(line.split()[1]))
            report = {"outcomes": dict(server.outcomes), "cpu": time.process_time(), "at_once": server.most_at_once}
            print(json.dumps(report), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
