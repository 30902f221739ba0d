"""What `import textreid` offers, and what it costs."""

import json
import subprocess
import sys

import textreid

HEAVY = {"torch", "transformers", "numpy", "pyarrow", "matplotlib", "PIL", "tokenizers"}


def test_the_public_names_are_these() -> None:
    assert dir(textreid) == [
        "AsyncClient",
        "Client",
        "Config",
        "Model",
        "TextReidError",
        "__version__",
        "annotated_people",
        "caption",
        "captioned_images",
        "errors",
        "evaluate",
        "load_model",
        "presets",
        "read_benchmark",
        "read_captions",
        "search",
        "train",
    ]


def modules_after(statement: str) -> set[str]:
    code = f"import sys, json; {statement}; print(json.dumps(sorted(m.split('.')[0] for m in sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return set(json.loads(output))


def test_importing_textreid_is_light() -> None:
    loaded = modules_after("import textreid, textreid.config, textreid.presets, textreid.artifacts")
    assert "textreid" in loaded
    assert loaded & HEAVY == set()


def test_importing_textreid_is_fast() -> None:
    code = "import time; begin = time.perf_counter(); import textreid; print(time.perf_counter() - begin)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 0.1


def test_importing_the_command_line_is_light() -> None:
    loaded = modules_after("import textreid.cli")
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(textreid, "load_modle")
