"""Which floating-point type a machine computes with fastest (`model.dtype=auto`).

bfloat16 takes half the memory, but only processors with instructions for it multiply it quickly:
an x86 CPU without AVX-512 takes some eight times as long as with float32.
"""

import time
from functools import cache

import torch

WORTH_IT = 1.2
"""bfloat16, with its rounding, is chosen if it is faster by this factor."""
_ROWS, _INNER, _OUTER = 64, 576, 1536
"""Sizes of a product in a small model."""


def fastest_dtype(device: str) -> str:
    """Return "bfloat16" where it is clearly faster than float32, else "float32".

    Args:
        device: "cpu" or "cuda"; on a GPU its kind decides, on a CPU a measurement of about a tenth
            of a second, made once in a process.
    """
    if device == "cuda":
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        is_fast = product_speed("bfloat16") > WORTH_IT * product_speed("float32")
    return "bfloat16" if is_fast else "float32"


@cache
def product_speed(dtype: str) -> float:
    """Floating-point operations per second of matrix products on the CPU, with torch's threads."""
    kind = getattr(torch, dtype)
    rows = torch.ones(_ROWS, _INNER, dtype=kind)
    weights = torch.ones(_OUTER, _INNER, dtype=kind)
    seconds = []
    for _ in range(5):  # the first one prepares the kernel
        start = time.perf_counter()
        torch.nn.functional.linear(rows, weights)
        seconds.append(time.perf_counter() - start)
    return 2 * _ROWS * _INNER * _OUTER / min(seconds[1:])
