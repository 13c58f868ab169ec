"""The CPU: model, instructions that determine the speed of INT8, cores, memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dff_edge.cpuinfo import (
    INT8_INSTRUCTIONS,
    instruction_sets,
    products_overflow,
    read_cpuinfo,
)
from dff_edge.report.doctor.cgroup import cpu_quota, memory_limit
from dff_edge.report.doctor.finding import Finding, read_text

# Rates are multiply-adds per instruction, against FP32 in vectors of the same width.
_X86 = {
    "avx2": "32-byte vectors; INT8 at up to 1.5 x FP32, with weights of 7 bits 2 x",
    "avx512f": "64-byte vectors: FP32 and INT8 at up to twice AVX2",
    "avx512_vnni": "INT8 multiply-add in one instruction, 64 bytes: up to 4 x FP32",
    "avx_vnni": "INT8 multiply-add in one instruction, 32 bytes: up to 4 x FP32",
    "amx_int8": "INT8 matrix tiles: the fastest INT8 there is on x86",
}
_ARM = {
    "asimd": "16-byte vectors (NEON); without asimddp INT8 gains little over FP32",
    "asimddp": "INT8 dot product: up to 4 x FP32",
    "i8mm": "INT8 matrix product: up to 8 x FP32",
}

# Arm kernels name no model; these are the cores of common boards.
_ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd42": "Cortex-A78AE",
}
_LITTLE_MEMORY_BYTES = 512e6


def model(root: Path) -> Iterator[Finding]:
    """Yield the CPU's name, and the board's where the firmware reports it."""
    known = read_cpuinfo(root)
    part = known.get("CPU part", "")
    name = known.get("model name") or _ARM_PARTS.get(part, f"CPU part {part}" if part else "")
    board_file = root / "proc/device-tree/model"
    board = read_text(board_file) if board_file.exists() else known.get("Model", "")
    text = ", ".join(word for word in (name, board) if word)
    yield Finding("model", "info", text or "unreadable: /proc/cpuinfo names none")


def instructions(root: Path) -> Iterator[Finding]:
    """Yield a finding for each relevant instruction set, then the verdict on INT8."""
    known = read_cpuinfo(root)
    flags = instruction_sets(known)
    if not flags:
        yield Finding("instructions", "info", "unreadable: /proc/cpuinfo lists none")
        return
    meanings = _X86 if "flags" in known else _ARM
    for name, meaning in meanings.items():
        if name in flags:
            yield Finding(name, "ok", meaning)
        else:
            yield Finding(name, "info", f"not in this CPU ({meaning})")
    best = [name for name in INT8_INSTRUCTIONS if name in flags]
    if best:
        yield Finding("INT8", "ok", f"fast here: {', '.join(best)}")
        return
    doubt = "no INT8 instructions: INT8 graphs gain little speed here"
    advice = "dff-edge benchmark BUNDLE   # measures both, per precision"
    if products_overflow(known) and "avx2" in flags:
        doubt += "; more with weights of 7 bits, at some loss of accuracy"
        advice = "dff-edge calibrate BUNDLE --source CLIPS --weight-bits 7   # once exported"
    yield Finding("INT8", "warn", doubt, advice)


def cores(root: Path) -> Iterator[Finding]:
    """Yield the cores that this process may use, by affinity and by the container's quota."""
    allowed = _allowed_cores(root)
    online_file = root / "sys/devices/system/cpu/online"
    if online_file.exists():
        online = _numbers(read_text(online_file))
        allowed &= online
    else:
        online = allowed
    text = f"{len(allowed)} usable of {len(online)}"
    quota = cpu_quota(root)
    if quota is None or quota >= len(allowed):
        yield Finding("cores", "ok", text)
        return
    yield Finding(
        "cores",
        "warn",
        f"{text}, but the container's quota is {quota:g}: more threads than that are stopped "
        "in the middle of a frame",
        f"dff-edge run ... --threads {max(1, int(quota))}   # or give it more: docker run --cpus",
    )


def memory(root: Path) -> Iterator[Finding]:
    """Yield the memory of the machine, its free part, and the container's limit."""
    kilobytes = {}
    for line in read_text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        kilobytes[name] = int(value.split()[0])
    total = kilobytes["MemTotal"] * 1024
    free = kilobytes.get("MemAvailable", kilobytes.get("MemFree", 0)) * 1024
    text = f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB of it free"
    limit = memory_limit(root)
    if limit is not None and limit < total:
        text += f"; the container's limit is {limit / 1e9:.1f} GB"
        free = min(free, limit)
    if free < _LITTLE_MEMORY_BYTES:
        yield Finding("memory", "warn", text + ": little", "end other programs, or add swap")
    else:
        yield Finding("memory", "ok", text)


def _allowed_cores(root: Path) -> set[int]:
    for line in read_text(root / "proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name == "Cpus_allowed_list":
            return _numbers(value)
    raise LookupError("/proc/self/status has no Cpus_allowed_list")


def _numbers(ranges: str) -> set[int]:
    """Return the numbers of a list such as ``0-3,8``."""
    found: set[int] = set()
    for part in ranges.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
