"""Instruction sets of the CPU, from ``/proc/cpuinfo``, and whether sums of INT8 overflow."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

# Each adds products of bytes in 32 bits. The x86 instruction before them adds two in 16 bits, where
# those of 8-bit weights may not fit: 255 * 127 + 255 * 127 > 32767.
INT8_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def read_cpuinfo(root: Path = Path("/")) -> dict[str, str]:
    """Return the first value of each name, under this root.

    Raises:
        OSError: there is no such file, as on macOS.
    """
    text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    known: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        known.setdefault(name.strip(), " ".join(value.split()))
    return known


def instruction_sets(cpuinfo: Mapping[str, str]) -> frozenset[str]:
    """Return the instruction sets as Linux spells them; none where it does not tell."""
    # "flags" of x86, "Features" of Arm
    return frozenset(f"{cpuinfo.get('flags', '')} {cpuinfo.get('Features', '')}".split())


def products_overflow(cpuinfo: Mapping[str, str]) -> bool:
    """Return whether fast INT8 kernels add products in 16 bits: x86 without VNNI and AMX."""
    return "flags" in cpuinfo and not instruction_sets(cpuinfo) & set(INT8_INSTRUCTIONS)


@cache
def overflows_here() -> bool:
    """Return ``products_overflow`` of this machine; where the system does not tell, of any x86."""
    try:
        return products_overflow(read_cpuinfo())
    except OSError:
        return platform.machine().lower() in ("x86_64", "amd64")
