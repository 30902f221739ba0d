"""MLLMs that run in this process: any image-text-to-text model that transformers can load."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textreid.captioning.requests import Caption, CaptionFailure, Request, Usage, read_picture
from textreid.errors import ConfigError, ImageError, ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

_ONE_AT_A_TIME = threading.Lock()  # the random numbers are those of the whole process


@dataclass(frozen=True)
class LocalOptions:
    """Options of a local MLLM.

    Attributes:
        batch_size: requests of one forward pass, at most; halved for good when memory does not suffice.
        longest_side: pixels of the longer side of a picture, at most.
        max_tokens: of an answer.
        temperature: of sampling; 0 takes the likeliest word, so that the seed does not matter.
        device: ``"cuda"``, ``"cpu"``, ...; the best there is when None.
    """

    batch_size: int = 16
    longest_side: int = 448
    max_tokens: int = 160
    temperature: float = 0.7
    device: str | None = None


@dataclass
class _Waiting:
    """Request that waits for its turn, and the place of its answer."""

    picture: "Image"
    request: Request
    answer: "asyncio.Future[Caption | CaptionFailure]"


class LocalMLLM:
    """Model on this machine; requests that wait are answered in batches, one batch at a time.

    The seed of a batch is that of its first request: sampled answers depend on what else was in the batch.

    Args:
        name: the first half of its slots.
        model: folder or hub name of an image-text-to-text model.
        options: how to run it.

    Raises:
        ModelError: the model cannot be loaded, or has no chat template.
    """

    def __init__(self, name: str, model: str, options: LocalOptions | None = None) -> None:
        self.name = name
        self.model = model
        self.options = options or LocalOptions()
        self._processor, self._network = _load(model, self.options)
        self._batch_size = self.options.batch_size
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"LocalMLLM({self.name!r}, {self.model!r})"

    async def caption(self, image: Path, requests: Sequence[Request]) -> list[Caption | CaptionFailure]:
        """Answer every request about ``image``, in batches with those of other images."""
        try:
            picture = await asyncio.to_thread(read_picture, image, self.options.longest_side)
        except ImageError as error:
            return [CaptionFailure("unreadable-image", str(error), permanent=True)] * len(requests)
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(picture, request, loop.create_future()) for request in requests]
        self._waiting += waiting
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        return list(await asyncio.gather(*(each.answer for each in waiting)))

    async def aclose(self) -> None:
        """Free the model."""
        if self._worker:
            await self._worker
        del self._network

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # let the others that are ready come in
            batch, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
            for each, answer in zip(batch, await self._answer(batch), strict=True):
                if not each.answer.done():  # else nobody waits for it any more
                    each.answer.set_result(answer)

    async def _answer(self, batch: Sequence[_Waiting]) -> list[Caption | CaptionFailure]:
        import torch

        try:
            return list(await asyncio.to_thread(self._generate, batch))
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                message = f"{self.model}: one picture does not fit into memory: {error}"
                return [CaptionFailure("out-of-memory", message, permanent=True)]
        except Exception as error:  # whatever a model's own code raises
            if len(batch) == 1:
                message = f"{self.model}: {type(error).__name__}: {error}"
                return [CaptionFailure("model-error", message, permanent=True)]
            # One by one, so that only the request at fault fails.
            return [answer for each in batch for answer in await self._answer([each])]
        # Outside the handler: while the error is there, its traceback holds the tensors of the pass that failed.
        torch.cuda.empty_cache()
        half = (len(batch) + 1) // 2
        self._batch_size = min(self._batch_size, half)
        return [*await self._answer(batch[:half]), *await self._answer(batch[half:])]

    def _generate(self, batch: Sequence[_Waiting]) -> list[Caption]:
        import torch

        options = self.options
        sampling = (
            {"do_sample": True, "temperature": options.temperature} if options.temperature else {"do_sample": False}
        )
        # Forked: the random numbers of a program that captions in between stay what they would have been.
        with _ONE_AT_A_TIME, torch.inference_mode(), torch.random.fork_rng(enabled=True):
            torch.manual_seed(batch[0].request.seed)
            inputs = self._processor.apply_chat_template(
                [_conversation(each) for each in batch],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"padding": True},
            ).to(self._network.device, dtype=self._network.dtype)
            tokens = self._network.generate(**inputs, max_new_tokens=options.max_tokens, **sampling)
        written = tokens[:, inputs["input_ids"].shape[1] :]
        read = inputs["attention_mask"].sum(dim=1).tolist()
        texts = self._processor.batch_decode(written, skip_special_tokens=True)
        return [
            Caption(text.strip(), usage=Usage(prompt, count), finish_reason=reason)
            for text, prompt, (count, reason) in zip(texts, read, map(self._end_of, written.tolist()), strict=True)
        ]

    def _end_of(self, written: Sequence[int]) -> tuple[int, str]:
        """Return the number of tokens in an answer without its padding, and why it ends, as servers say it."""
        # A number, a list of several, or nothing, by model.
        ends = self._network.generation_config.eos_token_id
        ends = self._processor.tokenizer.eos_token_id if ends is None else ends
        ends = ends if isinstance(ends, list) else [ends]
        ended = next((place + 1 for place, token in enumerate(written) if token in ends), None)
        return (len(written), "length") if ended is None else (ended, "stop")


def _load(model: str, options: LocalOptions) -> tuple[Any, Any]:
    """Load the processor and the network, ready to generate."""
    import torch

    try:
        import transformers
    except ImportError as error:
        raise ConfigError(f"{model}: a local MLLM needs transformers: pip install 'textreid[mllm]'") from error
    library: Any = transformers  # partly untyped
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    try:
        processor = library.AutoProcessor.from_pretrained(model)
        network = library.AutoModelForImageTextToText.from_pretrained(model, dtype=dtype).to(device).eval()
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(f"{model}: cannot be loaded as an image-text-to-text model: {error}") from error
    if getattr(processor, "chat_template", None) is None:
        raise ModelError(f"{model}: has no chat template, so it cannot be given instructions; take an instructed model")
    # Answers begin where the prompts end, so shorter prompts are filled up on the left.
    processor.tokenizer.padding_side = "left"
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return processor, network


def _conversation(asked: _Waiting) -> list[dict[str, Any]]:
    parts = [{"type": "image", "image": asked.picture}, {"type": "text", "text": asked.request.instruction.text}]
    return [{"role": "user", "content": parts}]
