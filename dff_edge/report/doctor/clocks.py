"""Limits of the CPU's clock: governor, caps, power mode, heat."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dff_edge.report.doctor.finding import Finding, read_text

_CPUS = "sys/devices/system/cpu"
_HOT_C = 85.0  # where the system has no limit
_NEAR_C = 5.0

_SET_GOVERNOR = (
    f"echo performance | sudo tee /{_CPUS}/cpu*/cpufreq/scaling_governor"
    "   # or: sudo apt-get install linux-cpupower && sudo cpupower frequency-set -g performance"
)
_RANGES_ITSELF = ("intel_pstate", "amd-pstate-epp")  # drivers whose "powersave" is no fixed minimum


def power_mode(root: Path) -> Iterator[Finding]:
    """Yield the Jetson's release and power mode; nothing on other machines."""
    release_file = root / "etc/nv_tegra_release"
    if not release_file.exists():
        return
    release = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", read_text(release_file))
    yield Finding("Jetson Linux", "info", ".".join(release.groups()) if release else "unknown")

    current = re.search(r"pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status"))
    if current is None:
        raise LookupError("/var/lib/nvpmodel/status names no mode")
    number = int(current[1])
    modes = {
        int(mode): name
        for mode, name in re.findall(
            r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)",
            read_text(root / "etc/nvpmodel.conf"),
            re.MULTILINE,
        )
    }
    text = f"{modes.get(number, 'unknown')} (mode {number})"
    fastest = max(
        (mode for mode, name in modes.items() if name.startswith("MAXN")),
        key=lambda mode: len(modes[mode]),  # MAXN_SUPER before MAXN
        default=number,
    )
    if number == fastest:
        yield Finding("power mode", "ok", text)
    else:
        yield Finding(
            "power mode",
            "warn",
            f"{text} keeps the clocks below those of {modes[fastest]}",
            f"sudo nvpmodel -m {fastest} && sudo jetson_clocks",
        )


def governor(root: Path) -> Iterator[Finding]:
    """Yield the governor of the clock; any but ``performance`` starts each frame slowly."""
    folders = _cpufreq_folders(root)
    if not folders:
        yield _no_cpufreq("governor")
        return
    names = sorted({read_text(folder / "scaling_governor") for folder in folders})
    driver = read_text(folders[0] / "scaling_driver")
    text = f"{', '.join(names)} (driver {driver})"
    if names == ["performance"]:
        yield Finding("governor", "ok", text)
        return
    if all(
        _khz(folder, "scaling_min_freq") == _khz(folder, "scaling_max_freq") for folder in folders
    ):
        yield Finding("governor", "ok", f"{text}, held at one frequency")
        return
    if "powersave" in names and driver not in _RANGES_ITSELF:
        text += " holds the lowest frequency"
    else:
        text += " raises the clock only when a load has lasted: frame times vary"
    fix = "sudo jetson_clocks" if (root / "etc/nv_tegra_release").exists() else _SET_GOVERNOR
    yield Finding("governor", "warn", text, fix)


def frequency(root: Path) -> Iterator[Finding]:
    """Yield the current clock and the fastest one of the hardware, in GHz."""
    folders = _cpufreq_folders(root)
    if not folders:
        yield _no_cpufreq("frequency")
        return
    now = [_khz(folder, "scaling_cur_freq") for folder in folders]
    hardware = max(_khz(folder, "cpuinfo_max_freq") for folder in folders)
    allowed = max(_khz(folder, "scaling_max_freq") for folder in folders)
    text = f"{_ghz(min(now))} to {_ghz(max(now))} GHz now, the hardware has {_ghz(hardware)} GHz"
    if allowed >= hardware:
        yield Finding("frequency", "ok", text)
        return
    if (root / "etc/nv_tegra_release").exists():
        fix = "sudo nvpmodel -q   # the power mode sets the cap; see above"
    else:
        fix = f"echo {hardware} | sudo tee /{_CPUS}/cpu*/cpufreq/scaling_max_freq"
    yield Finding("frequency", "warn", f"{text}, but is capped at {_ghz(allowed)} GHz", fix)


def throttling(root: Path) -> Iterator[Finding]:
    """Yield how often heat has slowed down the CPU since boot."""
    counts = {}
    for name in ("core", "package"):
        files = sorted(root.glob(f"{_CPUS}/cpu[0-9]*/thermal_throttle/{name}_throttle_count"))
        if files:
            counts[name] = max(int(read_text(file)) for file in files)
    if not counts:
        yield Finding("throttling", "info", f"unreadable: no /{_CPUS}/cpu*/thermal_throttle")
        return
    text = ", ".join(f"{name} {count} times" for name, count in counts.items())
    if any(counts.values()):
        fix = "better cooling, or fewer --threads; watch it with: sudo turbostat, or sensors"
        yield Finding("throttling", "warn", f"by heat since boot: {text}", fix)
    else:
        yield Finding("throttling", "ok", "none by heat since boot")


def temperature(root: Path) -> Iterator[Finding]:
    """Yield the part that is nearest to the temperature at which the system slows down."""
    zones = []
    for folder in sorted(root.glob("sys/class/thermal/thermal_zone[0-9]*")):
        try:
            degrees = int(read_text(folder / "temp")) / 1000
        except (OSError, ValueError):  # a sensor of a part that is switched off
            continue
        if degrees > 0:
            limit = _slow_down_c(folder)
            zones.append((limit - degrees, degrees, limit, read_text(folder / "type")))
    if not zones:
        yield Finding("temperature", "info", "unreadable: no zone in /sys/class/thermal has one")
        return
    margin, degrees, limit, name = min(zones)
    text = f"{degrees:.0f} C ({name}), slow from {limit:.0f} C"
    if margin <= _NEAR_C:
        yield Finding("temperature", "warn", text, "better cooling, or fewer --threads")
    else:
        yield Finding("temperature", "ok", text)


def _slow_down_c(zone: Path) -> float:
    """Return the lowest temperature at which this zone slows the system, or a usual one."""
    limits = []
    for file in zone.glob("trip_point_*_type"):
        if read_text(file) in ("passive", "hot"):
            limits.append(int(read_text(file.with_name(file.name[:-4] + "temp"))) / 1000)
    return min((limit for limit in limits if limit > 0), default=_HOT_C)


def _cpufreq_folders(root: Path) -> list[Path]:
    return sorted(root.glob(f"{_CPUS}/cpu[0-9]*/cpufreq"))


def _no_cpufreq(name: str) -> Finding:
    text = f"unreadable: no /{_CPUS}/cpu*/cpufreq; in a virtual machine the host decides"
    return Finding(name, "info", text)


def _khz(folder: Path, name: str) -> int:
    return int(read_text(folder / name))


def _ghz(khz: int) -> str:
    return f"{khz / 1e6:.2f}"
