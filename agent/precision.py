"""Which of torch's two matrix libraries multiplies float32 matrices on a CPU."""

from typing import Any, Literal

import torch


def set_matmul_precision(precision: Literal["highest", "high", "medium"]) -> None:
    """Sets torch's float32 matrix-product precision; full precision comes from whichever library is fast here.

    At `highest` torch multiplies with MKL, which uses no AVX-512 units but Intel's. At `medium` it multiplies with
    oneDNN, which uses anybody's, and is free to round factors to bf16, but does so only on units for that (AMX). Where
    there are none, `medium` is as precise as `highest`, and takes its place.

    Args:
        precision: as `torch.set_float32_matmul_precision` takes it; `high` leaves torch to its own choice.
    """
    torch.set_float32_matmul_precision(precision)
    if precision == "highest" and prefers_onednn():
        torch.set_float32_matmul_precision("medium")
        if not _full():
            torch.set_float32_matmul_precision("highest")


def prefers_onednn() -> bool:
    """Whether oneDNN multiplies faster here than MKL does, and at full precision.

    It is told by what the processor is, and never timed: a run that goes on must compute as it did before.
    """
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if torch.cuda.is_available():  # which would round to TF32 at the same word
        return False
    processor: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not every torch has it
    rounds = any(processor.get(units) for units in ("amx_tile", "amx_bf16", "amx_fp16"))
    return bool(processor.get("avx512_f")) and not rounds and "Intel" not in processor.get("cpu_name", "Intel")


def _full() -> bool:
    """Whether matrix products keep what bf16 would lose."""
    factor = torch.full((256, 256), 1 + 2**-12)
    return torch.allclose(factor @ torch.eye(256), factor, rtol=2**-20)
