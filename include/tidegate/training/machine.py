"""What the machine at hand computes with, found out without loading torch."""

from __future__ import annotations

import os
from pathlib import Path

from tidegate.training.spec import Precision

_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def fitting_precision(wanted: str) -> Precision:
    """Return ``wanted``, or for ``auto`` bfloat16 where this machine's processor multiplies in it, else float32."""
    if wanted == "bfloat16":
        return "bfloat16"
    return "bfloat16" if wanted == "auto" and _flags() & _BFLOAT16_FLAGS else "float32"


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def _flags() -> frozenset[str]:
    """Return the processor's feature flags as Linux names them."""
    described = Path("/proc/cpuinfo")
    if not described.is_file():
        return frozenset()
    lines = described.read_text(encoding="utf-8", errors="replace").splitlines()
    return frozenset(word for line in lines if line.startswith(("flags", "Features")) for word in line.split())
