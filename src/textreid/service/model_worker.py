"""The one thread that computes with the model: sentences that are asked at the same time are encoded together."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.store import ModelChangedError
from textreid.service.stores import BusyError

_LARGEST_BATCH = 32
_LONGEST_QUEUE = 1024
_PATIENCE_S = 30.0
Encoded = tuple[npt.NDArray[np.float32], str]


class ModelWorker(GalleryEncoder):
    """An encoder that many threads share: a query waits for its turn, and is encoded with those that wait, too.

    One thread, because the libraries below use all cores for one batch already: two would only disturb each other.
    """

    def __init__(self, model: str, on_batch: Callable[[int], None] = lambda size: None) -> None:
        """Open the text side of a model and start the thread; ``on_batch`` is told the size of each batch."""
        super().__init__(model)
        self._on_batch = on_batch
        self._closed = False
        self._closing = threading.Lock()
        self._waiting: queue.Queue[tuple[str, Future[Encoded]] | None] = queue.Queue(_LONGEST_QUEUE)
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def encode_query(self, query: str) -> Encoded:
        """Return the vector (D,) of a query, of length 1, and the end of it that the model did not read.

        Raises:
            CaptionError: the query has no letter and no digit.
            BusyError: too many wait.
            ModelChangedError: it was closed, because another model took its place.
        """
        # Before it joins others: one that is refused must not fail theirs.
        self.check_query(query)
        future: Future[Encoded] = Future()
        try:
            with self._closing:
                if self._closed:
                    raise ModelChangedError("another model took the place of this one")
                self._waiting.put_nowait((query, future))
            return future.result(_PATIENCE_S)
        except (queue.Full, TimeoutError):
            raise BusyError("too many searches at once; try again in a few seconds") from None

    def close(self) -> None:
        """Encode what waits, and end the thread."""
        with self._closing:
            self._closed = True
            self._waiting.put(None)
        self._thread.join(_PATIENCE_S)

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = [first], False
            while len(batch) < _LARGEST_BATCH:
                try:
                    item = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    last = True
                    break
                batch.append(item)
            self._encode([sentence for sentence, _ in batch], [future for _, future in batch])
            if last:
                return

    def _encode(self, sentences: list[str], futures: list[Future[Encoded]]) -> None:
        self._on_batch(len(sentences))
        try:
            # A sentence that several people ask at once is encoded once.
            unique = list(dict.fromkeys(sentences))
            encoded = dict(zip(unique, self.encode_queries(unique), strict=True))
            for sentence, future in zip(sentences, futures, strict=True):
                future.set_result(encoded[sentence])
        except BaseException as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)
