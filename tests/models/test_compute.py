import pytest
import torch

from textreid.models import compute as module
from textreid.models.compute import choose_compute


@pytest.mark.parametrize(
    ("precision", "fast", "dtype", "reason"),
    [
        ("auto", True, torch.bfloat16, "no GPU; this CPU multiplies bfloat16"),
        ("auto", False, torch.float32, "no GPU; this CPU does not multiply bfloat16"),
        ("fp32", True, torch.float32, "precision is fp32"),
        ("bf16", False, torch.bfloat16, "precision is bf16"),
    ],
)
def test_precision_on_a_cpu(
    precision: str, fast: bool, dtype: torch.dtype, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "_cpu_multiplies_bf16", lambda: fast)
    compute = choose_compute(precision)  # type: ignore[arg-type]
    assert (compute.device.type, compute.dtype, compute.reason) == ("cpu", dtype, reason)
    with compute.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == dtype


def test_this_cpu_answers() -> None:
    assert module._cpu_multiplies_bf16() in (True, False)
