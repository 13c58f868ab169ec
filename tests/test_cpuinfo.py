"""CPUs on which sums of INT8 overflow, by their instruction sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from dff_edge.cpuinfo import instruction_sets, overflows_here, products_overflow, read_cpuinfo

SKYLAKE = (
    "processor : 0\nmodel name : Intel(R) Core(TM)\ti5-8250U\nflags : fpu avx2\n\n"
    "processor : 1\nflags : fpu\n"
)
MILAN = "vendor_id : AuthenticAMD\nflags\t\t: fpu sse2 avx2 vaes\n"
ICE_LAKE = "flags : avx2 avx512f avx512_vnni\n"
ALDER_LAKE = "flags : avx2 avx_vnni\n"
CORTEX_A72 = "Features : fp asimd\nCPU part : 0xd08\n"
RISC_V = "isa : rv64imafdc\n"


def cpuinfo(tmp_path: Path, text: str) -> dict[str, str]:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(text)
    return read_cpuinfo(tmp_path)


def test_the_first_value_of_each_name_is_read(tmp_path):
    found = cpuinfo(tmp_path, SKYLAKE)

    assert found["model name"] == "Intel(R) Core(TM) i5-8250U"
    assert instruction_sets(found) == {"fpu", "avx2"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(SKYLAKE, True, id="Skylake"),
        pytest.param(MILAN, True, id="Milan"),
        pytest.param(ICE_LAKE, False, id="Ice Lake"),
        pytest.param(ALDER_LAKE, False, id="Alder Lake"),
        pytest.param(CORTEX_A72, False, id="Cortex-A72: its kernels add in 32 bits"),
        pytest.param(RISC_V, False, id="RISC-V: unknown"),
    ],
)
def test_products_overflow_on_x86_without_vnni(tmp_path, text, expected):
    assert products_overflow(cpuinfo(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("machine", "expected"), [("x86_64", True), ("AMD64", True), ("arm64", False)]
)
def test_a_system_that_does_not_tell_counts_as_one_that_overflows(monkeypatch, machine, expected):
    def missing() -> dict[str, str]:
        raise FileNotFoundError("/proc/cpuinfo")

    monkeypatch.setattr("dff_edge.cpuinfo.read_cpuinfo", missing)
    monkeypatch.setattr("platform.machine", lambda: machine)

    assert overflows_here.__wrapped__() == expected


def test_no_cpuinfo_is_an_error(tmp_path):
    with pytest.raises(OSError, match="cpuinfo"):
        read_cpuinfo(tmp_path)
