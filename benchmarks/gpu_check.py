"""Ask one GPU all that matters, in under eight minutes: its tests, the training step, embedding, the cost of masking.

    scripts/gpu-check                        # a table, and gpu-check.json
    scripts/gpu-check --wheels wheels        # with packages that the machine lacks, from a folder of wheels
    scripts/gpu-check --tiny                 # tiny shapes, a GPU or not: does the check itself still run?

Each part is a process with a limit of time, and the limits add up to less than eight minutes; a part that fails is
named, the others run on, and the exit code is 1. `pip download --no-deps -d wheels NAME` fills the folder of wheels.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GPU_TEST = "pytest.mark.gpu"
LEAST_TORCH = (2, 9)
COLUMNS = ("part", "what", "figure", "note")
Row = tuple[str, str, str, str]


@dataclass(frozen=True)
class Part:
    """One process of the check.

    Attributes:
        name: what the table and the file call it.
        command: arguments of Python.
        seconds: it may take.
        tiny: arguments in addition, for the tiny shapes.
        gpu_only: whether it is left out where there is no GPU.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    tiny: tuple[str, ...] = ()
    gpu_only: bool = False


STEP = ("benchmarks/train_step.py", "--only", "steps")
TINY_STEP = ("--tiny", "--pairs", "8", "--rounds", "1")
PARTS = (
    Part("train_step", STEP, 100, TINY_STEP),
    Part("train_step compiled", (*STEP, "--compile"), 160, TINY_STEP, gpu_only=True),
    Part(
        "embedding",
        ("benchmarks/embedding.py", "--images", "512", "--texts", "1024", "--rounds", "2"), 100,
        ("--tiny", "--images", "8", "--texts", "8", "--rounds", "1"),
    ),
    Part("nam_overhead", ("benchmarks/nam_overhead.py", "--batch", "128"), 50, ("--tiny", "--batch", "8")),
)  # fmt: skip
TEST_SECONDS = 60
PATIENCE = 6  # times the limits where a busy machine only tries the check


def main() -> None:
    """Run the parts, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("gpu-check.json"), metavar="FILE", help="where figures go")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="wheels of packages that are lacking here")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, a GPU or not")
    options = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        if options.wheels:
            install(options.wheels, Path(scratch))
        machine = describe_machine(scratch)
        if not (machine["gpu"] or options.tiny):
            sys.exit("gpu-check: torch sees no GPU here; --tiny runs the check itself on tiny shapes")
        found = {"tests": run_tests(scratch, options.tiny)}
        for part in PARTS:
            if machine["gpu"] or not part.gpu_only:
                command = [*part.command, *(part.tiny if options.tiny else ())]
                found[part.name] = run(command, part.seconds * (PATIENCE if options.tiny else 1), scratch)
    result = {"machine": machine, "tiny": options.tiny, "seconds": round(time.monotonic() - begin, 1), "parts": found}
    options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print_table([row for name, figures in found.items() for row in rows_of(name, figures)])
    print(f"{', '.join(f'{key} {value}' for key, value in machine.items())}; {result['seconds']:.0f} s; {options.json}")
    sys.exit(1 if any("error" in figures for figures in found.values()) else 0)


def install(wheels: Path, folder: Path) -> None:
    """Unpack wheels where the parts look first; the packages of the machine stay as they are."""
    files = sorted(str(file) for file in wheels.glob("*.whl"))
    if not files:
        sys.exit(f"gpu-check: {wheels}: not a folder with wheels")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(folder)]
    subprocess.run([*command, *files], check=True)


def describe_machine(folder: str) -> dict[str, str]:
    """Versions, the GPU, and which of our dependencies are lacking (a part that needs one will say so)."""
    sys.path.insert(0, folder)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = [line.split(">")[0].split("[")[0] for line in settings["project"]["dependencies"]]
    versions: dict[str, str] = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "lacking"
    if versions["torch"] == "lacking" or tuple(map(int, versions["torch"].split(".")[:2])) < LEAST_TORCH:
        sys.exit(f"gpu-check: torch is {versions['torch']} here; {'.'.join(map(str, LEAST_TORCH))} or newer is needed")
    import torch

    return {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "lacking": " ".join(name for name, found in versions.items() if found == "lacking") or "nothing",
    }


def run_tests(folder: str, tiny: bool) -> dict[str, Any]:
    """Run the tests that need a GPU, with pytest alone; on a machine without one they are skipped, which is told."""
    if lacking := [name for name in ("pytest", "hypothesis") if find_spec(name) is None]:
        return {"said": f"not run: {' and '.join(lacking)} lacking here"}
    files = [
        path for path in sorted((ROOT / "tests").rglob("test_*.py")) if GPU_TEST in path.read_text(encoding="utf-8")
    ]
    command = ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *map(str, files)]
    done = run(command, TEST_SECONDS * (PATIENCE if tiny else 1), folder, json_output=False)
    if not tiny and "passed" not in done.get("said", ""):
        done.setdefault("error", "not one test ran")
    return done


def run(command: list[str], seconds: float, folder: str, json_output: bool = True) -> dict[str, Any]:
    """Run one process of Python; what it printed as an object, or ``error`` with the last line that it said."""
    paths = [folder, str(ROOT / "src")]
    # Plugins of pytest that happen to be there are none of ours.
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    begin = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {seconds:.0f} s"}
    took = {"seconds": round(time.monotonic() - begin, 1)}
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        return {"error": lines[-1], "exit_code": done.returncode, **took}
    if json_output:
        return {**json.loads(done.stdout), **took}
    return {"said": done.stdout.strip().splitlines()[-1], **took}


def rows_of(name: str, figures: dict[str, Any]) -> list[Row]:
    """The lines of the table for one part."""
    if "error" in figures:
        return [(name, "FAILED", "", figures["error"])]
    if name == "tests":
        return [(name, "with a GPU", "", figures["said"])]
    if name == "nam_overhead":
        note = f"at most {figures['target']}; {figures['lowest']} to {figures['highest']}"
        return [(name, "NAM step / EM step", f"{figures['ratio']:.3f}", note)]
    if name == "embedding":
        return [
            (
                name,
                f"{way}, {figures[way]['precision']}",
                f"{figures[way]['images_per_s']:.0f} images/s",
                f"{figures[way]['texts_per_s']:.0f} texts/s; "
                f"{figures[way]['images_times_loop']['median']} times the loop; "
                f"{100 * figures[way]['share_of_peak']:.1f} % of the peak",
            )
            for way in ("loop", "fp32", "auto")
        ]
    return [
        (
            name,
            f"{way}, {one['dtype']}",
            f"{one['pairs_per_second']:.0f} pairs/s",
            f"{one['times_release']} times the release; {one['tflops']} TFLOP/s, "
            f"{100 * one['share_of_peak']:.1f} % of the peak",
        )
        for way, one in figures["step"].items()
    ]


def print_table(rows: list[Row]) -> None:
    """Print columns of plain text."""
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    for row in (COLUMNS, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
