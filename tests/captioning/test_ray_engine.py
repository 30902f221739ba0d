"""The ray engine, on a real Ray of two workers: the same table, whoever dies in between."""

import asyncio
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from examples.mllm_server import Question
from tests.captioning.server import Server, stock_answer

from textreid.captioning.cluster.connection import batch_of, connect
from textreid.captioning.cluster.engine import RayEngine
from textreid.captioning.cluster.vllm_batch import (
    BatchMLLM,
    Sampling,
    VLLMProcessor,
    answer_columns,
    caption_of,
    chat_rows,
)
from textreid.captioning.counts import JobCounts
from textreid.captioning.job import caption_images
from textreid.captioning.mllms import open_engine, read_mllms
from textreid.captioning.requests import Caption, Captioner, CaptionFailure, Request, Settings, slots_of
from textreid.captions.selecting import select_images
from textreid.captions.table import CaptionRow, read_captions
from textreid.captions.writer import caption_rows
from textreid.errors import CaptionError, ConfigError
from textreid.synthetic import write_corpus

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),  # of its own defaults
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20"),  # of ray.llm
]
SLOTS = ["static", "dynamic"]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of two workers, for all tests but those that let it die."""
    assert connect(None, 2)
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "street"
    write_corpus(folder, "street", identities=20, images_per_identity=2, seed=3)
    return folder


def caption(root: Path, out: Path, engine: str, *mllms: str, limit: int | None = None) -> JobCounts:
    chosen = read_mllms(mllms)
    return caption_images(
        root,
        select_images(root, limit).images,
        out,
        open_engine(chosen, root, engine="ray" if engine == "ray" else "local"),
        slots_of([one.name for one in chosen], SLOTS),
        Settings(seed=5, in_flight=8),
        models={one.name: one.model for one in chosen},
    )


def rows_of(out: Path) -> set[CaptionRow]:
    rows = list(caption_rows(out))
    assert len({(row.image, row.slot) for row in rows}) == len(rows)
    return set(rows)


def test_the_table_is_that_of_the_local_engine(ray: Any, corpus: Path, tmp_path: Path) -> None:
    mllms = ("qwen=simulated", "draft=describe")
    both = [caption(corpus, tmp_path / engine, engine, *mllms) for engine in ("local", "ray")]
    assert rows_of(tmp_path / "ray") == rows_of(tmp_path / "local")
    assert len(read_captions(tmp_path / "ray")) == 160
    assert (both[0].statuses, both[0].rejected) == (
        both[1].statuses,
        both[1].rejected,
    )
    facts = [json.loads((tmp_path / engine / "job.json").read_text()) for engine in ("local", "ray")]
    assert facts[0] == facts[1]


def test_failures_are_counted_as_by_the_local_engine(ray: Any, corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "images"
    shutil.copytree(corpus / "imgs", root)
    (root / "no picture.jpg").write_bytes(b"GIF89a")
    counts = caption(root, tmp_path / "out", "ray", "draft=describe")
    assert counts.statuses == {"ok": 80, "failed-unreadable-image": 2}
    assert {row.image for row in rows_of(tmp_path / "out") if not row.caption} == {"no picture.jpg"}
    for number in range(3):
        (root / f"none {number}.jpg").write_bytes(b"")
    with pytest.raises(CaptionError, match=r"8 of 88 captions failed \(unreadable-image 8\), more than the 5\.0%"):
        caption(root, tmp_path / "out", "ray", "draft=describe")


def test_one_engine_finishes_what_the_other_began(ray: Any, corpus: Path, tmp_path: Path) -> None:
    mllms = ("qwen=simulated",)
    assert caption(corpus, tmp_path / "out", "local", *mllms, limit=10).saved_now == 20
    assert caption(corpus, tmp_path / "out", "ray", *mllms, limit=30).saved_now == 40
    assert caption(corpus, tmp_path / "out", "local", *mllms).saved_now == 20
    caption(corpus, tmp_path / "straight", "local", *mllms)
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "straight")
    assert caption(corpus, tmp_path / "out", "ray", *mllms).saved_now == 0


def test_images_that_a_worker_does_not_see(ray: Any, tmp_path: Path) -> None:
    engine = RayEngine(list, workers=2)
    with pytest.raises(ConfigError, match=r"elsewhere: a worker of the Ray cluster, on .*, sees no such folder"):
        caption_images(tmp_path / "elsewhere", ["1.jpg"], tmp_path / "out", engine, slots_of(["x"], SLOTS), Settings())


@dataclass
class Slow:
    """A captioner that notes in ``log`` which process asks for what."""

    log: Path
    name: str = "slow"

    async def caption(self, image: Path, requests: Sequence[Request]) -> list[Caption | CaptionFailure]:
        with self.log.open("a") as stream:
            stream.writelines(f"{os.getpid()} {image.name} slow/{one.instruction.kind}\n" for one in requests)
        await asyncio.sleep(0.05)
        return [Caption(f"A man in a red coat, {image.name}.") for _ in requests]

    async def aclose(self) -> None:
        pass


def open_slow(log: Path) -> list[Captioner]:
    return [Slow(log)]


def run_slow(folder: Path, images: int, watch: Callable[[JobCounts], None] = lambda counts: None) -> JobCounts:
    engine = RayEngine(partial(open_slow, folder / "asked"), workers=2)
    names = [f"{number}.jpg" for number in range(images)]
    return caption_images(
        folder, names, folder / "out", engine, slots_of(["slow"], SLOTS), Settings(in_flight=8), watch=watch
    )


def asked_of(folder: Path) -> Counter[str]:
    return Counter(line.partition(" ")[2] for line in (folder / "asked").read_text().splitlines())


def keys_of(folder: Path) -> set[str]:
    return {f"{row.image} {row.slot}" for row in rows_of(folder / "out")}


def test_a_killed_worker_costs_nothing_but_what_it_had_in_hand(ray: Any, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one(counts: JobCounts) -> None:
        if counts.done >= 60 and not killed:
            killed.append(int((tmp_path / "asked").read_text().split(maxsplit=1)[0]))
            os.kill(killed[0], signal.SIGKILL)

    assert run_slow(tmp_path, 300, kill_one).statuses == {"ok": 600}
    assert killed
    assert len(read_captions(tmp_path / "out")) == 600
    assert set(asked_of(tmp_path)) == keys_of(tmp_path)
    pids = {line.partition(" ")[0] for line in (tmp_path / "asked").read_text().splitlines()}
    assert len(pids) == 3  # another one took its place
    assert asked_of(tmp_path).total() - 600 <= 2 * 16 * 4 * 2  # two calls, four batches in each, two slots an image


SLOW_JOB = """
import sys
from pathlib import Path
from functools import partial
from textreid.captioning.requests import Settings, slots_of
from textreid.captioning.cluster.engine import RayEngine
from textreid.captioning.job import caption_images
from tests.captioning.test_ray_engine import open_slow
import ray, tests.captioning.test_ray_engine as module
ray.cloudpickle.register_pickle_by_value(module)

folder, images, address = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] or None
try:
    engine = RayEngine(partial(open_slow, folder / "asked"), workers=2, address=address)
    caption_images(folder, [f"{n}.jpg" for n in range(images)], folder / "out", engine,
                   slots_of(["slow"], ["static", "dynamic"]), Settings(in_flight=8),
                   watch=lambda counts: print(counts.done, flush=True))
except Exception as error:
    print(error, file=sys.stderr)
    sys.exit(getattr(error, "exit_code", 9))
"""


def start(folder: Path, images: int, address: str = "") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SLOW_JOB, str(folder), str(images), address]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0, env=os.environ | {
            "PYTHONPATH": os.pathsep.join([*sys.path, str(Path.cwd())])
        },
    )  # fmt: skip


def read_saves(process: "subprocess.Popen[str]", count: int) -> int:
    """The number of captions, once there are ``count``: a line comes every second, even before the first of them."""
    assert process.stdout
    line = "0"
    while line.strip().isdecimal() and int(line) < count:
        line = process.stdout.readline()
    if not line.strip().isdecimal():
        pytest.fail(f"{line!r}: {process.communicate()[1]}")
    return int(line)


def processes_of(group: int) -> dict[int, str]:
    """The command lines of a process group."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError, FileNotFoundError):
            if os.getpgid(int(folder.name)) == group:
                found[int(folder.name)] = (folder / "cmdline").read_text()
    return found


def test_a_killed_driver_is_resumed(ray: Any, tmp_path: Path) -> None:
    with start(tmp_path, 200, ray.get_runtime_context().gcs_address) as process:
        acknowledged = read_saves(process, 40)
        process.kill()
    saved = keys_of(tmp_path)
    assert acknowledged <= len(saved) < 400
    time.sleep(1)  # its workers end
    (tmp_path / "asked").unlink()
    assert run_slow(tmp_path, 200).done == 400
    assert set(asked_of(tmp_path)).isdisjoint(saved)
    assert len(asked_of(tmp_path)) + len(saved) == 400
    assert len(keys_of(tmp_path)) == 400


def test_stopped_it_finishes_what_is_under_way(ray: Any, tmp_path: Path) -> None:
    with start(tmp_path, 1000, ray.get_runtime_context().gcs_address) as process:
        read_saves(process, 20)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate()
    assert process.returncode == 130, errors
    saved = keys_of(tmp_path)
    assert saved == set(asked_of(tmp_path))
    assert 20 <= len(saved) < 2000
    assert errors == (
        f"stopped; {len(saved)} of 2000 captions are saved in {tmp_path / 'out'}: run the same command to go on\n"
    )


def test_a_dead_cluster_is_one_line(tmp_path: Path) -> None:
    with start(tmp_path, 1000) as process:
        acknowledged = read_saves(process, 10)
        [raylet] = [number for number, line in processes_of(process.pid).items() if "ray/raylet/raylet" in line]
        os.kill(raylet, signal.SIGKILL)
        output, errors = process.communicate()
    assert process.returncode == 1, errors
    assert re.fullmatch(r"the Ray cluster failed: .*; what was written stays: run the same command to go on\n", errors)
    assert all(line.isdecimal() for line in output.splitlines())
    assert acknowledged <= len(keys_of(tmp_path)) < 2000


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:9", "no Ray cluster answers there: .*refused"),
        ("no.such.host.invalid:6379", "no Ray cluster answers there"),
        ("somewhere", 'expected HOST:PORT of the head node, or "auto"'),
        ("ray://127.0.0.1:10001", ".* this command must run on a machine of the cluster"),
        ("127.0.0.1:99999", "no Ray cluster answers there"),
    ],
)
def test_an_unknown_cluster_is_told_at_once(tmp_path: Path, address: str, message: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match=f"--ray-address {re.escape(address)}: {message}"):
        open_engine(read_mllms(["d=describe"]), tmp_path, engine="ray", address=address)
    assert time.monotonic() - began < 6


class Confidant:
    """A captioner whose captions say whether it knows the key."""

    name = "qwen"

    async def caption(self, image: Path, requests: Sequence[Request]) -> list[Caption | CaptionFailure]:
        known = os.environ.get("QWEN_API_KEY") == "hunter2-hunter2"
        return [Caption(f"A man in a {'red' if known else 'green'} coat.")] * len(requests)

    async def aclose(self) -> None:
        pass


def open_confidant() -> list[Captioner]:
    return [Confidant()]


def test_keys_reach_the_workers_and_no_file(ray: Any, tmp_path: Path) -> None:
    assert "QWEN_API_KEY" not in os.environ
    engine = RayEngine(open_confidant, workers=1, keys={"QWEN_API_KEY": "hunter2-hunter2"})
    caption_images(tmp_path, ["1.jpg"], tmp_path / "out", engine, slots_of(["qwen"], ["static"]), Settings())
    assert [row.caption for row in rows_of(tmp_path / "out")] == ["A man in a red coat."]
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    files = [path for folder in (session, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if b"hunter2-hunter2" in path.read_bytes()]


def test_the_command_is_quiet_and_ends_what_it_started(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["caption", str(corpus), "--out", str(out), "--mllm", "d=describe", "--engine", "ray", "--workers", "1"]
    command = [sys.executable, "-c", "from textreid.cli import main; main()", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert output == f"{out}\n"
    assert re.fullmatch(r"(captioning.*\n)*80 captions of 40 images; .*80 new in \d+ s.*\n", errors)
    assert not processes_of(process.pid)


def test_options_of_ray_need_ray(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="need --engine ray"):
        open_engine(read_mllms(["d=describe"]), tmp_path, engine="local", workers=2)
    with pytest.raises(ConfigError, match="--mllm q: vllm needs --engine ray"):
        open_engine(read_mllms(["q=vllm:Qwen/VL"]), tmp_path, engine="local")


def test_vllm_wants_vllm_and_gpus(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_mllms(["q=vllm:Qwen/VL"])[0].backend == "vllm"
    with pytest.raises(ConfigError, match=r'vllm:Qwen/VL: vLLM is not installed; pip install "ray\[llm\]"'):
        open_engine(read_mllms(["q=vllm:Qwen/VL"]), tmp_path, engine="ray")
    (tmp_path / "vllm.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="needs 2 GPUs, and the Ray cluster has 0"):
        open_engine(read_mllms(["q=vllm:Qwen/VL"]), tmp_path, engine="ray", tensor_parallel=2)


def test_the_vllm_processor_has_the_stages_of_a_picture_and_its_text(ray: Any, tmp_path: Path) -> None:
    processor: Any = VLLMProcessor(str(tmp_path), tensor_parallel=2).build(copies=3)
    assert processor.list_stage_names() == [
        "PrepareMultimodalStage", "ChatTemplateStage", "TokenizeStage", "vLLMEngineStage", "DetokenizeStage",
    ]  # fmt: skip
    engine = processor.get_stage_by_name("vLLMEngineStage")
    assert engine.fn_constructor_kwargs["engine_kwargs"]["tensor_parallel_size"] == 2
    assert engine.map_batches_kwargs["compute"].min_size == engine.map_batches_kwargs["compute"].max_size == 3


def test_a_chat_request_shows_the_picture_and_then_asks(corpus: Path) -> None:
    slots = slots_of(["q"], SLOTS)
    image = select_images(corpus).images[0]
    work = {"work": pickle.dumps([(7, image, [0, 1]), (8, "no such file.jpg", [0])])}
    assert len(batch_of(work["work"])) == 2
    rows = chat_rows(work, corpus, slots, Settings(), 0, Sampling())
    assert [(row["number"], row["column"]) for row in rows] == [(7, 0), (7, 1)]
    first, second = (row["messages"][0]["content"] for row in rows)
    assert [part["type"] for part in first] == ["image_url", "text"]
    assert first[0] == second[0]  # what the prefix cache can serve
    assert first[1] != second[1]
    again = chat_rows(work, corpus, slots, Settings(), 1, Sampling())
    assert again[1]["messages"] != rows[1]["messages"]
    assert again[0]["sampling_params"]["seed"] != rows[0]["sampling_params"]["seed"]


def test_an_error_of_the_engine_is_a_failure() -> None:
    failure = caption_of({"number": 1, "__inference_error__": "ValueError: too long\n" + "x" * 999}, 160)
    assert isinstance(failure, CaptionFailure)
    assert failure.kind == "vllm-error"
    assert failure.message.startswith("ValueError: too long x")
    assert len(failure.message) == 300


def over_http(url: str) -> Any:
    """Ray Data's own HTTP processor in the place of vLLM: the same rows go in, the same columns come out."""
    from ray.data.llm import HttpRequestProcessorConfig, build_processor

    def request(row: dict[str, Any]) -> dict[str, Any]:
        return {"payload": {"model": "sim", "messages": row["messages"], **row["sampling_params"]}}

    def columns(row: dict[str, Any]) -> dict[str, Any]:
        response = row["http_response"]
        text, usage = response["choices"][0]["message"]["content"], response["usage"]
        counts = {"num_input_tokens": usage["prompt_tokens"], "num_generated_tokens": usage["completion_tokens"]}
        return answer_columns({**row, "generated_text": text, **counts})

    config = HttpRequestProcessorConfig(url=f"{url}/chat/completions", batch_size=8)
    return build_processor(config, preprocess=request, postprocess=columns)


def test_the_batch_pipeline_asks_again_and_counts_what_cannot_be_read(ray: Any, corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "images"
    shutil.copytree(corpus / "imgs", root)
    (root / "no picture.jpg").write_bytes(b"GIF89a")
    asked: Counter[str] = Counter()

    def answer(question: Question) -> str:
        kind = "dynamic" if "emplate" in question.text else "static"
        asked[kind] += 1
        return "A man with [hair]." if kind == "dynamic" and asked[kind] <= 40 else stock_answer(question)

    with Server(answer=answer) as server:
        mllm = BatchMLLM("q", partial(over_http, server.url))
        counts = caption_images(
            root, select_images(root).images, tmp_path / "out", RayEngine(list, workers=1, batch_mllms=[mllm]),
            slots_of(["q"], SLOTS), Settings(attempts=2),
        )  # fmt: skip
    assert asked == {"static": 40, "dynamic": 80}
    assert counts.statuses == {"ok": 80, "failed-unreadable-image": 2}
    assert counts.rejected == {"unfilled-slot": 40}
    assert counts.usage_now["q"].prompt_tokens > 120 * 256
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 82
    assert all(question.images for question in server.questions)
