"""An OpenAI-compatible server that needs no GPU: try captioning end to end before there is a multimodal LLM.

It serves two simulated MLLMs, ``qwen`` and ``shikra``. They know the people of a synthetic corpus, err at a set rate,
and recognise a picture by its looks, however the client has resized or compressed it.

    textreid synthesize people --domain street --identities 100 --images 2
    python examples/mllm_server.py people --port 8000
    textreid caption people --out captions --mllm qwen=http://127.0.0.1:8000/v1#qwen
"""

import argparse
import base64
import contextlib
import io
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from textreid.captioning.backends.simulated import SimulatedMLLM
from textreid.captioning.instructions import Instruction
from textreid.captioning.templates import Template, own_templates
from textreid.errors import CaptionError, ImageError, TextReidError
from textreid.images import read_image
from textreid.synthetic import read_people

MODELS = ("qwen", "shikra")
_PICTURE_TOKENS = 256  # what a picture counts for in the usage
_THUMBNAIL = (8, 16)
_MOST_DIFFERENT = 12.0  # grey levels; two pictures of a corpus differ by more, two encodings of one by less


@dataclass(frozen=True)
class Question:
    """Question that a client asked of ``/v1/chat/completions``: texts joined, pictures as files."""

    text: str
    images: tuple[bytes, ...]
    seed: int
    model: str
    body: Mapping[str, Any]


def read_question(body: Mapping[str, Any]) -> Question:
    """Read a request's body.

    Raises:
        ValueError: a picture is no ``data:`` URI; nobody's URL is fetched.
        LookupError, TypeError, AttributeError: the body has another form.
    """
    texts: list[str] = []
    images: list[bytes] = []
    for message in body["messages"]:
        content: Any = message["content"]
        parts: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            if part["type"] == "text":
                texts.append(part["text"])
            else:
                url = part["image_url"]
                kind, _, data = (url if isinstance(url, str) else url["url"]).partition(";base64,")
                if not kind.startswith("data:"):
                    raise ValueError("a picture must be a base64 data URI")
                images.append(base64.b64decode(data, validate=True))
    return Question("\n".join(texts), tuple(images), body.get("seed") or 0, body["model"], body)


def completion(question: Question, text: str | None, finish_reason: str = "stop") -> dict[str, Any]:
    """Return the body of an answer, with rough counts of tokens."""
    read = _PICTURE_TOKENS * len(question.images) + len(question.text) // 4
    written = len((text or "").split())
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": question.model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason},
        ],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }


def model_list(names: tuple[str, ...]) -> dict[str, Any]:
    """Return the body of ``/v1/models``."""
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "textreid"} for name in names]
    return {"object": "list", "data": data}


def refusal(status: int, message: str) -> dict[str, Any]:
    """Return the body of an error."""
    return {"error": {"message": message, "type": "error", "code": status}}


class Corpus:
    """Pictures of a synthetic corpus, and simulated MLLMs that know who is in them."""

    def __init__(self, folder: Path, error_rate: float, dirt_rate: float) -> None:
        truth = read_people(folder)
        self._images = [Path(image) for image in truth]
        self._thumbnails = np.stack([_thumbnail(read_image(folder / image)) for image in self._images])
        self._mllms = {name: SimulatedMLLM(name, truth, error_rate, dirt_rate) for name in MODELS}
        self._templates = {template.text: template for template in own_templates().values()}

    def answer(self, question: Question) -> str:
        """Return what the model that was asked says about the picture that was sent.

        Raises:
            CaptionError: there is not exactly one picture, it is none of the corpus, or the template has an unknown
                slot.
            ImageError: it cannot be read.
        """
        if len(question.images) != 1:
            raise CaptionError(f"{len(question.images)} pictures; expected one")
        image = self._recognise(question.images[0])
        return self._mllms[question.model].describe(image, self._instruction(question.text), question.seed).text

    def _recognise(self, picture: bytes) -> Path:
        try:
            seen = _thumbnail(read_image(Image.open(io.BytesIO(picture))))
        except OSError as error:
            raise ImageError(f"not a picture: {error}") from error
        differences = np.sqrt(((self._thumbnails - seen) ** 2).mean(axis=1))
        if differences.min() > _MOST_DIFFERENT:
            raise CaptionError("a picture that is not of the corpus")
        return self._images[int(differences.argmin())]

    def _instruction(self, text: str) -> Instruction:
        """Return what the words of a request ask for; a simulated MLLM understands templates, and no other wish."""
        shown = re.search(r'Template: "(.+)"$', text)
        if not shown:
            return Instruction("static", text)
        return Instruction("dynamic", text, self._templates.get(shown[1], Template("shown", shown[1])))


def _thumbnail(picture: Image.Image) -> npt.NDArray[np.float32]:
    """Return the (8 * 16 * 3,) mean colours of the picture's cells, from 0 to 255."""
    return np.asarray(picture.resize(_THUMBNAIL, Image.Resampling.BOX), dtype=np.float32).ravel()


class Server(ThreadingHTTPServer):
    """Server that answers for a corpus, each request ``latency`` seconds after it came."""

    request_queue_size = 1024

    def __init__(self, port: int, corpus: Corpus, latency: float) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.corpus, self.latency = corpus, latency


class Handler(BaseHTTPRequestHandler):
    """Handler of the two addresses of the protocol that a captioning client needs."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Serve a connection until either side ends it."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        """List the models."""
        if self.path == "/v1/models":
            return self._send(200, model_list(MODELS))
        return self._send(404, refusal(404, "Not Found"))

    def do_POST(self) -> None:
        """Answer a chat request."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path != "/v1/chat/completions":
            return self._send(404, refusal(404, "Not Found"))
        try:
            question = read_question(json.loads(body))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            return self._send(400, refusal(400, f"not a chat request: {error!r}"))
        if question.model not in MODELS:
            return self._send(404, refusal(404, f"The model {question.model!r} does not exist."))
        time.sleep(self.server.latency)
        try:
            return self._send(200, completion(question, self.server.corpus.answer(question)))
        except TextReidError as error:
            return self._send(400, refusal(400, str(error)))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has in the library
        """Say nothing of single requests."""

    def _send(self, status: int, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder that `textreid synthesize` wrote")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--error-rate", type=float, default=0.15, help="of stated colours; other errors are rarer")
    parser.add_argument("--dirt-rate", type=float, default=0.0, help="of refusals, unfilled slots and the like")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds from a request to its answer")
    given = parser.parse_args()
    try:
        corpus = Corpus(given.corpus, given.error_rate, given.dirt_rate)
    except TextReidError as error:
        parser.exit(1, f"mllm_server: {error}\n")
    with Server(given.port, corpus, given.latency) as server:
        print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
