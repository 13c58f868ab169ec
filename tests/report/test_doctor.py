"""The doctor on machines made of files, and on packages that are broken in every way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dff_edge.report.doctor import Finding, clocks, cpu, devices, native
from dff_edge.report.doctor.cgroup import cpu_quota, memory_limit
from dff_edge.report.doctor.finding import look
from tests.report.doctor.machines import (
    CONTAINER,
    CPUFREQ,
    LAPTOP,
    ORIN,
    all_findings,
    by_name,
    tree,
)


def test_laptop_whose_governor_saves_power(tmp_path: Path) -> None:
    found = all_findings(tree(tmp_path, LAPTOP))

    assert found["model"].text == "Intel(R) Core(TM) i7-1185G7"
    assert found["avx512_vnni"].state == "ok"
    assert found["avx_vnni"].state == "info"
    assert found["INT8"].state == "ok"
    assert found["cores"] == Finding("cores", "ok", "4 usable of 8")
    assert found["memory"].text == "16.4 GB, 8.2 GB of it free"
    assert found["governor"].state == "warn"
    assert "frame times vary" in found["governor"].text
    assert found["governor"].fix.startswith(
        "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    )
    assert found["frequency"].text == (
        "1.20 to 1.80 GHz now, the hardware has 4.80 GHz, but is capped at 3.00 GHz"
    )
    assert found["frequency"].fix.startswith("echo 4800000 | sudo tee")
    assert found["throttling"].text == "by heat since boot: core 7 times, package 0 times"
    assert found["temperature"] == Finding(
        "temperature", "ok", "61 C (x86_pkg_temp), slow from 85 C"
    )
    assert found["/dev/video0"] == Finding("/dev/video0", "ok", "Integrated Camera")
    assert "Jetson Linux" not in found


def test_jetson_in_a_slow_power_mode(tmp_path: Path) -> None:
    found = all_findings(tree(tmp_path, ORIN))

    assert found["model"].text == "Cortex-A78AE, NVIDIA Jetson Orin Nano Developer Kit"
    assert found["asimddp"].state == "ok"
    assert found["i8mm"].state == "info"
    assert found["INT8"].text == "fast here: asimddp"
    assert found["Jetson Linux"].text == "36.4.3"
    assert found["power mode"].text == "15W (mode 0) keeps the clocks below those of MAXN_SUPER"
    assert found["power mode"].fix == "sudo nvpmodel -m 2 && sudo jetson_clocks"
    assert found["governor"].fix == "sudo jetson_clocks"
    assert found["frequency"].fix.startswith("sudo nvpmodel")
    assert found["temperature"].state == "warn"
    assert found["temperature"].text == "96 C (cpu-thermal), slow from 99 C"
    assert found["memory"].state == "warn"
    assert found["NVIDIA driver"].text == "the one of Jetson Linux"


def test_container_without_sysfs(tmp_path: Path) -> None:
    found = all_findings(tree(tmp_path, CONTAINER))

    assert found["INT8"].state == "warn"
    assert "weights of 7 bits" in found["INT8"].text
    assert "--weight-bits 7" in found["INT8"].fix
    assert found["cores"].state == "warn"
    assert "quota is 1.5" in found["cores"].text
    assert found["cores"].fix.startswith("dff-edge run ... --threads 1 ")
    assert found["memory"].text.endswith("the container's limit is 0.3 GB: little")
    assert found["memory"].state == "warn"
    for name in ("governor", "frequency", "throttling", "temperature"):
        assert found[name].state == "info"
        assert found[name].text.startswith("unreadable: no ")
    assert "docker run --device" in found["cameras"].fix


def test_machine_without_any_file_is_still_reported(tmp_path: Path) -> None:
    found = all_findings(tmp_path)

    assert len(found) >= 10
    path = tmp_path / "proc/cpuinfo"
    assert found["model"].text == f"unreadable: No such file or directory: {path}"


@pytest.mark.parametrize("noise", ["", "\0\0", ":", "x", "-1", "a:b:c\n" * 3, "\udcff"])
def test_files_full_of_nonsense_are_still_reported(tmp_path: Path, noise: str) -> None:
    for name in {**LAPTOP, **ORIN, **CONTAINER}:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise.encode(errors="surrogateescape"))

    found = all_findings(tmp_path)

    assert {"model", "cores", "memory", "governor", "temperature"} <= set(found)


def test_failing_probe_keeps_what_it_had_found(tmp_path: Path) -> None:
    def probe(root: Path):
        yield Finding("first", "ok", "")
        raise ZeroDivisionError("odd")

    found = look("second", probe, tmp_path)

    assert [finding.name for finding in found] == ["first", "second"]
    assert found[1].text == "unreadable: ZeroDivisionError: odd"


def test_governor_at_performance(tmp_path: Path) -> None:
    name = CPUFREQ.format(0) + "scaling_governor"
    root = tree(tmp_path, {**ORIN, name: "performance\n"})
    assert [finding.state for finding in clocks.governor(root)] == ["ok"]


def test_clock_held_by_jetson_clocks_is_fine(tmp_path: Path) -> None:
    name = CPUFREQ.format(0) + "scaling_min_freq"
    (finding,) = clocks.governor(tree(tmp_path, {**ORIN, name: "1510400\n"}))
    assert finding.state == "ok"
    assert "held at one frequency" in finding.text


def test_powersave_of_a_plain_driver_is_the_lowest_clock(tmp_path: Path) -> None:
    drivers = {CPUFREQ.format(core) + "scaling_driver": "acpi-cpufreq\n" for core in (0, 1)}
    (finding,) = clocks.governor(tree(tmp_path, {**LAPTOP, **drivers}))
    assert "lowest frequency" in finding.text


def test_fastest_power_mode_is_fine(tmp_path: Path) -> None:
    root = tree(tmp_path, {**ORIN, "var/lib/nvpmodel/status": "pmode:0002\n"})
    assert by_name(list(clocks.power_mode(root)))["power mode"].state == "ok"


ZONE = "sys/class/thermal/thermal_zone0/"


def test_sensor_that_is_switched_off_is_not_told(tmp_path: Path) -> None:
    root = tree(tmp_path, {ZONE + "type": "gpu-thermal\n", ZONE + "temp": "-256000\n"})
    assert [finding.state for finding in clocks.temperature(root)] == ["info"]


def test_critical_temperature_ends_the_system_and_does_not_slow_it(tmp_path: Path) -> None:
    trip = {ZONE + "trip_point_0_type": "critical\n", ZONE + "trip_point_0_temp": "105000\n"}
    root = tree(tmp_path, {ZONE + "type": "soc\n", ZONE + "temp": "84000\n", **trip})
    (finding,) = clocks.temperature(root)
    assert finding.text == "84 C (soc), slow from 85 C"
    assert finding.state == "warn"


def test_camera_of_another_group_names_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, LAPTOP)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (finding,) = devices.cameras(root)
    assert finding.state == "warn"
    assert finding.fix.startswith("sudo usermod -aG video $USER")


def test_display_is_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":7")
    assert [finding.text for finding in devices.display(tmp_path)] == ["DISPLAY is :7"]
    monkeypatch.delenv("DISPLAY")
    assert [finding.state for finding in devices.display(tmp_path)] == ["info"]


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.104.05  Release Build\n",
    ],
)
def test_nvidia_driver_tells_its_version(tmp_path: Path, line: str) -> None:
    root = tree(tmp_path, {"proc/driver/nvidia/version": line})
    assert [finding.text for finding in devices.nvidia_driver(root)] == ["535.104.05"]


def test_nvidia_card_without_driver(tmp_path: Path) -> None:
    card = "sys/bus/pci/devices/0000:01:00.0/"
    root = tree(tmp_path, {card + "vendor": "0x10de\n", card + "class": "0x030000\n"})
    assert [finding.state for finding in devices.nvidia_driver(root)] == ["missing"]
    tree(tmp_path, {card + "class": "0x040300\n"})  # its sound chip alone
    assert [finding.text for finding in devices.nvidia_driver(root)] == ["no NVIDIA card"]


def test_limits_of_nested_groups_of_version_1(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/x\n",
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu/docker/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "300\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert cpu_quota(root) == 2.5
    assert memory_limit(root) == 300


def test_no_limit_is_none(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/../..\n",
            "sys/fs/cgroup/cpu.max": "max 100000\n",
            "sys/cpu.max": "1 100000\n",  # where the dots would lead
        },
    )
    assert cpu_quota(root) is None
    assert memory_limit(root) is None


def test_cpu_pinned_to_some_cores(tmp_path: Path) -> None:
    root = tree(tmp_path, {**LAPTOP, "proc/self/status": "Cpus_allowed_list: 1,4-5,9\n"})
    assert [finding.text for finding in cpu.cores(root)] == ["3 usable of 8"]  # 9 is offline


def test_native_parts_for_gpus_are_told(tmp_path, monkeypatch):
    for variable in ("DFF_CUDA_LIBRARY", "DFF_TENSORRT_PLUGIN"):
        monkeypatch.delenv(variable, raising=False)
    kernels, plugin = native.gpu_libraries(tmp_path)
    assert (kernels.state, plugin.state) == ("info", "info")
    assert "DFF_CUDA=ON" in kernels.fix
    assert "TENSORRT_INCLUDE_DIR" in plugin.fix

    for file in ("libdff_cuda.so", "libdff_tensorrt10.so"):
        (tmp_path / file).touch()
    monkeypatch.setenv("DFF_CUDA_LIBRARY", str(tmp_path / "gone.so"))
    kernels, plugin = native.gpu_libraries(tmp_path)
    assert (kernels.state, plugin.state) == ("missing", "ok")
    assert "gone.so, which is no file" in kernels.text
    assert plugin.text == "libdff_tensorrt10.so"

    monkeypatch.setenv("DFF_CUDA_LIBRARY", str(tmp_path / "libdff_cuda.so"))
    kernels, _ = native.gpu_libraries(tmp_path)
    assert kernels.state == "ok"
