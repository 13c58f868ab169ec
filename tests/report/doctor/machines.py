"""Files of machines that the doctor examines."""

from __future__ import annotations

from pathlib import Path

from dff_edge.report.doctor import Finding, examine_machine

CPUFREQ = "sys/devices/system/cpu/cpu{}/cpufreq/"
X86_CPUINFO = (
    "processor : 0\nmodel name : Intel(R) Core(TM) i7-1185G7\nflags : fpu avx2 avx512f {}\n"
)
MEMINFO = "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n"

LAPTOP = {
    "proc/cpuinfo": X86_CPUINFO.format("avx512_vnni"),
    "proc/self/status": "Name: python\nCpus_allowed_list:\t0-3\n",
    "proc/self/cgroup": "0::/user.slice/session.scope\n",
    "proc/meminfo": MEMINFO,
    "sys/devices/system/cpu/online": "0-7\n",
    **{
        CPUFREQ.format(core) + name: text
        for core in (0, 1)
        for name, text in {
            "scaling_governor": "powersave\n",
            "scaling_driver": "intel_pstate\n",
            "scaling_min_freq": "400000\n",
            "scaling_max_freq": "3000000\n",
            "scaling_cur_freq": f"{1200000 + 600000 * core}\n",
            "cpuinfo_max_freq": "4800000\n",
        }.items()
    },
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "7\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "0\n",
    "sys/class/thermal/thermal_zone0/type": "acpitz\n",
    "sys/class/thermal/thermal_zone0/temp": "27800\n",
    "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
    "sys/class/thermal/thermal_zone1/temp": "61000\n",
    "dev/video0": "",
    "sys/class/video4linux/video0/name": "Integrated Camera\n",
}

ORIN = {
    "proc/cpuinfo": "processor : 0\nFeatures : fp asimd asimddp\nCPU part : 0xd42\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/self/status": "Cpus_allowed_list: 0-5\n",
    "proc/meminfo": "MemTotal: 7800000 kB\nMemAvailable: 400000 kB\n",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n",
    "etc/nvpmodel.conf": (
        "# < POWER_MODEL ID=9 NAME=MAXN_COMMENT >\n"
        "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=MAXN >\n"
        "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
    ),
    "var/lib/nvpmodel/status": "pmode:0000\n",
    CPUFREQ.format(0) + "scaling_governor": "schedutil\n",
    CPUFREQ.format(0) + "scaling_driver": "tegra194\n",
    CPUFREQ.format(0) + "scaling_min_freq": "729600\n",
    CPUFREQ.format(0) + "scaling_max_freq": "1510400\n",
    CPUFREQ.format(0) + "scaling_cur_freq": "729600\n",
    CPUFREQ.format(0) + "cpuinfo_max_freq": "1728000\n",
    "sys/class/thermal/thermal_zone0/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "-256000\n",
    "sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "96500\n",
    "sys/class/thermal/thermal_zone1/trip_point_0_type": "critical\n",
    "sys/class/thermal/thermal_zone1/trip_point_0_temp": "104500\n",
    "sys/class/thermal/thermal_zone1/trip_point_1_type": "passive\n",
    "sys/class/thermal/thermal_zone1/trip_point_1_temp": "99000\n",
}

# Docker on cgroup version 2, of which this process sees its own group as the root.
CONTAINER = {
    "proc/cpuinfo": X86_CPUINFO.format(""),
    "proc/self/status": "Cpus_allowed_list: 0-7\n",
    "proc/self/cgroup": "0::/\n",
    "proc/meminfo": MEMINFO,
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/memory.max": "300000000\n",
}


def tree(folder: Path, files: dict[str, str]) -> Path:
    """Write files below a folder; their names are relative to it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def all_findings(root: Path) -> dict[str, Finding]:
    return by_name([found for section in examine_machine(root).values() for found in section])
