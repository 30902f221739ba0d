"""The benchmark of the service, in a small form: it runs, nothing is refused, and memory does not run away."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks/service.py"


@pytest.mark.slow
def test_the_benchmark_asks_both_programs_and_nothing_is_refused() -> None:
    options = ["--clients", "4", "--crops", "200", "--seconds", "1.5", "--model", "tiny"]
    result = subprocess.run([sys.executable, PROGRAM, *options], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    for program in ("service", "bare"):
        told = figures[program]
        assert told["searches"] > 4
        assert told["refused"] == 0
        assert 0 < told["p50_ms"] <= told["longest_ms"] * 1.01
        assert told["memory_after"]["program"] < 1.3 * told["memory_before"]["program"]
