"""Captioning through an OpenAI-compatible server: this package's job next to the obvious program.

The server (``tests/captioning/server.py``) answers at most so many captions a second, after a latency, from a process
of its own; more requests queue there, and beyond a longest queue it refuses them. Both programs run in processes of
their own too and write their captions to disk. The obvious program is an ``asyncio.gather`` over one client of httpx2
with a semaphore and two retries, and writes all its captions so far as JSON after every tenth image.

    python benchmarks/captioning.py                              # throughput at 30, 100 and 300 captions a second
    python benchmarks/captioning.py --scenario faults            # 5 % of 500s, 2 % hanging, 429s, 20 s without a server
    python benchmarks/captioning.py --scenario memory --images 100000   # peak memory, as fast as it goes
    python benchmarks/captioning.py --scenario crash             # killed at half time, started again
"""

import argparse
import asyncio
import base64
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from textreid.captioning.backends.openai_compatible import OpenAICompatible, ServingOptions
from textreid.captioning.counts import JobCounts
from textreid.captioning.engine import LocalEngine
from textreid.captioning.instructions import dynamic_instructions, static_instruction
from textreid.captioning.job import caption_images
from textreid.captioning.requests import Settings, slots_of
from textreid.listing import list_images

if TYPE_CHECKING:
    import httpx2

ROOT = Path(__file__).resolve().parents[1]
_CAPTIONS = 2  # an image: static and dynamic
_SEMAPHORE = 64  # of the obvious program
_TIMEOUT = 10.0  # seconds, of an attempt


def make_images(folder: Path, count: int) -> None:
    """``count`` names of 100 smooth pictures the size of pedestrian crops."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:07}.jpg"
        if number < 100:
            noise = Image.fromarray(rng.integers(0, 255, (12, 4, 3), dtype=np.uint8))
            noise.resize((128, 384), Image.Resampling.BICUBIC).save(path, quality=90)
        else:
            os.link(folder / f"{number % 100:07}.jpg", path)


def ours(url: str, images: Path, out: Path) -> dict[str, Any]:
    """The captioning job of this package."""
    marks: list[tuple[float, int]] = []

    def watch(counts: JobCounts) -> None:
        marks.append((time.monotonic(), counts.saved_now))

    names = [path.name for path in list_images(images).images]
    captioner = OpenAICompatible("sim", "sim", [url], options=ServingOptions(timeout=_TIMEOUT))
    counts = caption_images(
        images,
        names,
        out,
        LocalEngine([captioner]),
        slots_of(["sim"], ["static", "dynamic"]),
        Settings(attempts=1),
        watch=watch,
    )
    requests = captioner.outcomes()[url]
    return {"captions": counts.done, "new": counts.saved_now, "steady": steady_rate(marks), "requests": requests}


async def _post(client: "httpx2.AsyncClient", url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a chat request, at the third attempt at the latest."""
    import httpx2

    for attempt in range(2):
        try:
            response = (await client.post(f"{url}/chat/completions", json=body)).raise_for_status()
            break
        except httpx2.HTTPError:
            await asyncio.sleep(0.5 * 2**attempt)
    else:
        response = (await client.post(f"{url}/chat/completions", json=body)).raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


def obvious(url: str, images: Path, out: Path) -> dict[str, Any]:
    """What one writes in twenty minutes; an error that two retries cannot mend ends it."""
    import httpx2

    marks: list[tuple[float, int]] = []
    captions: dict[str, dict[str, str]] = json.loads(out.read_text()) if out.exists() else {}
    before = sum(map(len, captions.values()))
    dynamic = dynamic_instructions()

    async def run(client: httpx2.AsyncClient) -> None:
        semaphore = asyncio.Semaphore(_SEMAPHORE)

        async def ask(path: Path, kind: str, text: str) -> None:
            async with semaphore:
                uri = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
                content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": text}]
                messages = [{"role": "user", "content": content}]
                answer = await _post(client, url, {"model": "sim", "max_tokens": 160, "messages": messages})
                captions.setdefault(path.name, {})[kind] = answer["choices"][0]["message"]["content"] or ""

        async def describe(number: int, path: Path) -> None:
            if len(captions.get(path.name, {})) == _CAPTIONS:
                return
            await ask(path, "static", static_instruction().text)
            await ask(path, "dynamic", dynamic[number % len(dynamic)].text)
            done = sum(map(len, captions.values())) - before
            marks.append((time.monotonic(), done))
            if number % 10 == 0:
                out.write_text(json.dumps(captions))

        await asyncio.gather(*(describe(number, path) for number, path in enumerate(list_images(images).images)))
        out.write_text(json.dumps(captions))

    async def main() -> None:
        limits = httpx2.Limits(max_connections=_SEMAPHORE)
        async with httpx2.AsyncClient(timeout=_TIMEOUT, limits=limits) as client:
            await run(client)

    asyncio.run(main())
    done = sum(map(len, captions.values()))
    return {"captions": done, "new": done - before, "steady": steady_rate(marks), "requests": {}}


def steady_rate(marks: Sequence[tuple[float, int]]) -> float:
    """Captions a second between a half and nine tenths of the captions: without start and end."""
    if not marks:
        return 0.0
    last = marks[-1][1]
    inner = [mark for mark in marks if 0.5 * last <= mark[1] <= 0.9 * last]
    return (inner[-1][1] - inner[0][1]) / (inner[-1][0] - inner[0][0]) if len(inner) > 1 else 0.0


@contextmanager
def server(*options: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The URL of a server, and its process."""
    command = [sys.executable, "-m", "tests.captioning.server", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.stdin.close()
        process.wait(timeout=30)


def report_of(process: "subprocess.Popen[str]", order: str = "report") -> dict[str, Any]:
    """What a server counted so far, after it carried out an order."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{order}\n")
    process.stdin.flush()
    report: dict[str, Any] = json.loads(process.stdout.readline())
    return report


def start(program: str, url: str, images: Path, out: Path) -> "subprocess.Popen[str]":
    """Start one of the programs in a process of its own."""
    command = [sys.executable, __file__, "--worker", program, url, str(images), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result_of(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """What a program printed at its end."""
    output, _ = process.communicate()
    return json.loads(output) if process.returncode == 0 else {"failed": process.returncode}


def work(program: str, url: str, images: str, out: str) -> None:
    """One program's run, in this process; prints its figures."""
    begin = time.monotonic()
    figures = {"ours": ours, "obvious": obvious}[program](url, Path(images), Path(out))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures |= {"seconds": time.monotonic() - begin, "cpu": usage.ru_utime + usage.ru_stime}
    print(json.dumps(figures | {"peak_mib": usage.ru_maxrss / 1024}))


def show(title: str, program: str, figures: dict[str, Any], report: dict[str, Any], before: dict[str, Any]) -> None:
    """One line of a table."""
    served = {key: count - before["outcomes"].get(key, 0) for key, count in report["outcomes"].items()}
    if "failed" in figures:
        print(f"{title:<18}{program:<9}ended with an error; the server counted {served}", flush=True)
        return
    wasted = sum(served.values()) - figures["new"]
    seconds = figures["seconds"]
    print(
        f"{title:<18}{program:<9}{figures['captions']:>8} captions {figures['new'] / seconds:>7.1f}/s, "
        f"steady {figures['steady']:>6.1f}/s; requests in vain {wasted} ({wasted / sum(served.values()):.2%}) "
        f"{ {key: count for key, count in served.items() if key != 'ok'} }; CPU client {figures['cpu'] / seconds:.0%} "
        f"server {(report['cpu'] - before['cpu']) / seconds:.0%}; peak {figures['peak_mib']:.0f} MiB",
        flush=True,
    )


def throughput(folder: Path, images: Path, arguments: argparse.Namespace) -> None:
    """At each capacity, how much of it is used."""
    for capacity in arguments.capacity:
        count = int(capacity * arguments.seconds / _CAPTIONS)
        some = folder / f"images-{capacity}"
        make_images(some, min(count, arguments.images or count))
        for program in arguments.programs:
            options = ["--capacity", str(capacity), "--queue", "64", "--latency", str(arguments.latency)]
            with server(*options) as (url, process):
                before = report_of(process)
                figures = result_of(start(program, url, some, folder / f"{program}-{capacity}"))
                show(f"capacity {capacity}/s", program, figures, report_of(process), before)


def faults(folder: Path, images: Path, arguments: argparse.Namespace) -> None:
    """5 % of 500s, 2 % that never answer, 1 % of 429s, and a server that dies for 20 s."""
    options = [
        "--capacity",
        "100",
        "--queue",
        "64",
        "--error-500",
        "0.05",
        "--hang",
        "0.02",
        "--too-many",
        "0.01",
        "--latency",
    ]
    for program in arguments.programs:
        with server(*options, str(arguments.latency)) as (url, process):
            before = report_of(process)
            running = start(program, url, images, folder / f"{program}-faults")
            time.sleep(arguments.seconds / 4)
            report_of(process, f"die {min(20, arguments.seconds / 3)}")
            show("faults", program, result_of(running), report_of(process), before)


def memory(folder: Path, images: Path, arguments: argparse.Namespace) -> None:
    """Peak memory at a number of images, with a server that is faster than the client."""
    for program in arguments.programs:
        with server("--latency", "0.01") as (url, process):
            before = report_of(process)
            figures = result_of(start(program, url, images, folder / f"{program}-memory"))
            show("memory", program, figures, report_of(process), before)


def crash(folder: Path, images: Path, arguments: argparse.Namespace) -> None:
    """Killed at half time and started again: what is paid for twice."""
    for program in arguments.programs:
        with server("--capacity", "100", "--latency", str(arguments.latency)) as (url, process):
            before = report_of(process)
            out = folder / f"{program}-crash"
            running = start(program, url, images, out)
            time.sleep(arguments.seconds / 2)
            running.send_signal(signal.SIGKILL)
            running.communicate()
            paid = report_of(process)["outcomes"].get("ok", 0)
            figures = result_of(start(program, url, images, out))
            if "failed" in figures:
                show("crash", program, figures, report_of(process), before)
                continue
            twice = report_of(process)["outcomes"]["ok"] - figures["captions"]
            print(
                f"{program:<9}{paid} of {figures['captions']} captions were paid for when it was killed; "
                f"the second run took {figures['seconds']:.1f} s; {twice} captions were paid for twice",
                flush=True,
            )


def main() -> None:
    """Run a scenario, or one program for it."""
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
        return
    scenarios = {"throughput": throughput, "faults": faults, "memory": memory, "crash": crash}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=scenarios, default="throughput")
    parser.add_argument("--programs", nargs="+", choices=["ours", "obvious"], default=["ours", "obvious"])
    parser.add_argument("--capacity", nargs="+", type=int, default=[30, 100, 300], help="captions a second")
    parser.add_argument("--seconds", type=float, default=60, help="that a run takes at the server's capacity")
    parser.add_argument("--latency", type=float, default=0.5, help="seconds of an answer that waits for nothing")
    parser.add_argument("--images", type=int, default=0, help="how many, in place of as many as --seconds takes")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {vars(arguments)}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = folder / "images"
        if arguments.scenario != "throughput":
            make_images(images, arguments.images or int(100 * arguments.seconds / _CAPTIONS))
        scenarios[arguments.scenario](folder, images, arguments)


if __name__ == "__main__":
    main()
