"""MLLMs that vLLM runs inside the cluster, by Ray Data's LLM batch API: chat requests in, sentences out.

A rejected caption is asked for again when all images have had their turn, so the model is loaded once for each turn.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from textreid.captioning.cluster.connection import (
    Image,
    batch_of,
    clear_errors,
    data_set,
    images_lacking,
    in_thread,
    read,
)
from textreid.captioning.engine import FirstAnswers, Job, Work
from textreid.captioning.requests import (
    Answer,
    Caption,
    CaptionFailure,
    Settings,
    Slot,
    Usage,
    answer_of,
    encode_picture,
    is_rejected,
    requests_for,
)
from textreid.errors import ConfigError, ImageError
from textreid.images import as_data_uri

_MAX_MODEL_LENGTH = 4096  # tokens of picture, instruction and answer: many models' own limit would fill the GPU
_BATCH = 32
_ERROR = "__inference_error__"  # Ray Data's name for the column; rows that have it do not pass `answer_columns`


@dataclass(frozen=True)
class Sampling:
    """Way of asking an MLLM: pixels of the longer side of a picture and tokens of an answer, at most; temperature."""

    longest_side: int = 448
    max_tokens: int = 160
    temperature: float = 0.7


@dataclass(frozen=True)
class BatchMLLM:
    """An MLLM and how to make what runs it.

    Attributes:
        name: the first half of its slots.
        processor: from nothing to a function from a data set of `chat_rows` to one of rows with ``number``, ``column``
            and `answer_columns`.
        sampling: how it is asked.
    """

    name: str
    processor: Callable[[], Callable[[Any], Any]]
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class VLLMProcessor:
    """Maker of the vLLM processor of a model: one copy of it on every ``tensor_parallel`` GPUs of the cluster."""

    model: str
    tensor_parallel: int = 1

    def check(self) -> int:
        """Return the number of copies that the cluster can hold.

        Raises:
            ConfigError: vLLM is not installed, or there are too few GPUs.
        """
        import ray

        if find_spec("vllm") is None:
            raise ConfigError(f'vllm:{self.model}: vLLM is not installed; pip install "ray[llm]" on every machine')
        gpus = int(ray.cluster_resources().get("GPU", 0))
        if gpus < self.tensor_parallel:
            raise ConfigError(
                f"vllm:{self.model}: needs {self.tensor_parallel} GPUs, and the Ray cluster has {gpus}; "
                "give --ray-address of one that has them, or the URL of a server"
            )
        return gpus // self.tensor_parallel

    def __call__(self) -> Callable[[Any], Any]:
        """Make the processor for the cluster that this process is connected to; see `check`."""
        return self.build(self.check())

    def build(self, copies: int) -> Callable[[Any], Any]:
        """Make the processor; no model is loaded before its data set is read."""
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        config = vLLMEngineProcessorConfig(
            model_source=self.model,
            engine_kwargs={
                "tensor_parallel_size": self.tensor_parallel,
                "max_model_len": _MAX_MODEL_LENGTH,
                "limit_mm_per_prompt": {"image": 1},  # else vLLM sets memory aside for more
                "enable_prefix_caching": True,
            },
            concurrency=(copies, copies),
            batch_size=_BATCH,
            prepare_multimodal_stage={"enabled": True, "chat_template_content_format": "openai"},
            should_continue_on_error=True,  # else one request that fails would end the run of all
            log_engine_metrics=False,
        )
        processor: Callable[[Any], Any] = build_processor(config, postprocess=answer_columns)
        return processor


def chat_rows(
    row: Mapping[str, Any], root: Path, slots: Sequence[Slot], settings: Settings, turn: int, sampling: Sampling
) -> list[dict[str, Any]]:
    """Return the chat requests of a batch of images, without those of images that cannot be read.

    The picture comes before the instruction, and an image's requests follow each other, so that vLLM's prefix cache
    serves all but the first.
    """
    rows = []
    for number, image, columns in batch_of(row["work"]):
        try:
            picture = as_data_uri(encode_picture(root / image, sampling.longest_side))
        except ImageError:
            continue
        for column in columns:
            request = requests_for(image, slots[column], settings)[turn]
            content = [
                {"type": "image_url", "image_url": {"url": picture}},
                {"type": "text", "text": request.instruction.text},
            ]
            rows.append(
                {
                    "number": number,
                    "column": column,
                    "messages": [{"role": "user", "content": content}],
                    "sampling_params": {
                        "temperature": sampling.temperature, "max_tokens": sampling.max_tokens, "seed": request.seed,
                    },
                }
            )  # fmt: skip
    return rows


def answer_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of vLLM's answer to a chat request."""
    # Without the messages, or every answer would bring its picture back to the driver.
    names = ("number", "column", "generated_text", "num_input_tokens", "num_generated_tokens")
    return {name: row[name] for name in names}


def caption_of(row: Mapping[str, Any], max_tokens: int) -> Caption | CaptionFailure:
    """Return the caption in a row of answers to requests of so many tokens at most.

    Ray Data does not pass on why vLLM ended an answer; one that has as many tokens as are allowed was cut.
    """
    if row.get(_ERROR):
        return CaptionFailure("vllm-error", " ".join(str(row[_ERROR]).split())[:300], permanent=True)
    written = row["num_generated_tokens"]
    reason = "length" if written >= max_tokens else "stop"
    return Caption(row["generated_text"], usage=Usage(row["num_input_tokens"], written), finish_reason=reason)


async def ask_in_batches(mllm: BatchMLLM, job: Job) -> None:
    """Ask once for everything that ``job`` lacks of ``mllm``, and deliver every answer.

    When the job is stopped, what the engine has under way is given up.

    Raises:
        CaptionError: as `FirstAnswers.see`.
        ConfigError: the processor cannot be made.
        ClusterLostError: Ray cannot go on.
    """
    first = FirstAnswers(job.useful)
    images = images_lacking(job, {mllm.name})
    names = {number: name for number, name, _ in images}
    rejected: dict[tuple[int, int], Answer] = {}
    for turn in range(job.settings.attempts):
        if not images:
            break
        with clear_errors():
            dataset = await in_thread(partial(_answered, mllm, job, images, turn))
        before, rejected = rejected, {}
        async with aclosing(read(dataset)) as blocks:
            async for rows in blocks:
                if job.stopped.is_set():
                    return
                kept = []
                for row in rows:
                    number, column = key = (row["number"], row["column"])
                    slot, image = job.slots[column], names[number]
                    request = requests_for(image, slot, job.settings)[turn]
                    answer = answer_of(image, slot, request, caption_of(row, mllm.sampling.max_tokens), before.get(key))
                    first.see(answer)
                    # Not delivered yet: a second answer to what was delivered would be dropped.
                    if is_rejected(answer) and turn + 1 < job.settings.attempts:
                        rejected[key] = answer
                    else:
                        kept.append(job.deliver(number, [answer]))
                await asyncio.gather(*kept)  # together, for one sync of the disk
        images = [
            (number, names[number], [column for _, column in keys])
            for number, keys in groupby(sorted(rejected), key=itemgetter(0))
        ]
    # Still pending are images that `chat_rows` could not read, and what the engine has lost.
    for one in job.pending({mllm.name}):
        await job.deliver(one.number, await in_thread(partial(_without_answer, mllm, job, one)))


def _answered(mllm: BatchMLLM, job: Job, images: Sequence[Image], turn: int) -> Any:
    """Return the data set of answers; nothing happens before it is read."""
    told = (job.root.resolve(), job.slots, job.settings, turn, mllm.sampling)
    return mllm.processor()(data_set(images).flat_map(chat_rows, fn_args=told))


def _without_answer(mllm: BatchMLLM, job: Job, work: Work) -> list[Answer]:
    """Say why nothing came back."""
    failure = CaptionFailure("no-answer", f"{work.image}: the engine gave no answer")
    try:
        encode_picture(job.root / work.image, mllm.sampling.longest_side)
    except ImageError as error:
        failure = CaptionFailure("unreadable-image", str(error), permanent=True)
    requests = [requests_for(work.image, slot, job.settings)[0] for slot in work.slots]
    return [
        answer_of(work.image, slot, request, failure, None) for slot, request in zip(work.slots, requests, strict=True)
    ]
