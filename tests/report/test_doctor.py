"""The doctor on machines made of files, and on packages that are broken in every way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import dff_edge.packages
from dff_edge.report.doctor import Finding, clocks, cpu, devices, examine_machine, is_fit, native
from dff_edge.report.doctor import packages as doctor_packages
from dff_edge.report.doctor.cgroup import cpu_quota, memory_limit
from dff_edge.report.doctor.finding import look
from dff_edge.report.doctor.packages import PACKAGES, Package, examine_packages
from dff_edge.report.doctor.probe import ENCODERS, opencv_build

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
    assert "saturate" in found["INT8"].text
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


# As printed by the wheel, the headless wheel, and a build of version 4.5 with GTK.
BUILD = "  Video I/O:\n    GStreamer:  {}\n    v4l/v4l2:   YES (linux/videodev2.h)\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  GUI:   QT5\n    QT:  YES (ver 5.15.0)\n" + BUILD.format("NO"), ("NO", "QT5")),
        ("  GUI:   NONE\n" + BUILD.format("NO"), ("NO", "NO")),
        (
            "  GUI: \n    QT:  NO\n    GTK+:  YES (ver 3.24)\n" + BUILD.format("YES (1.20.3)"),
            ("YES (1.20.3)", "GTK+"),
        ),
        ("", ("NO", "NO")),
    ],
)
def test_opencv_tells_its_build(text: str, expected: tuple[str, str]) -> None:
    build = opencv_build(text)
    assert (build["gstreamer"], build["gui"]) == expected


def test_encoders_are_those_of_the_sink() -> None:
    from dff_edge.runtime.sinks import video

    assert ENCODERS == video.ENCODERS


FAKE = "doctor_fake"  # the name of a package that the tests write


def examine_fake(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, **options: object
) -> Finding:
    tree(folder, {f"{FAKE}.py": code})
    monkeypatch.syspath_prepend(str(folder))
    package = Package(FAKE, "Runtime", **options)
    (finding, *_) = examine_packages((package,))["Runtime"]
    return finding


def test_package_that_loads_tells_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "__version__ = '1.2.3'\nprint('a greeting, as some packages have', end='')\n"
    found = examine_fake(tmp_path, monkeypatch, code, is_needed=True)
    assert found == Finding(FAKE, "ok", "1.2.3", is_needed=True)


@pytest.mark.parametrize(
    ("code", "text", "fix"),
    [
        (
            "raise ImportError('libGL.so.1: cannot open shared object file: No such file')",
            "broken: ImportError: libGL.so.1: cannot open shared object file: No such file",
            "sudo apt-get install libgl1",
        ),
        (
            "raise ImportError('libodd.so.3: cannot open shared object file: No such file')",
            "broken: ImportError: libodd.so.3: cannot open shared object file: No such file",
            "apt-file search libodd.so.3",
        ),
        (
            "raise AttributeError('_ARRAY_API not found')",
            "broken: AttributeError: _ARRAY_API not found",
            f"pip install --force-reinstall {FAKE}",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
            "broken: its import ends the process with SIGILL",
            f"pip install --force-reinstall {FAKE}",
        ),
        (
            "import os; os.write(2, b'license expired\\n'); os._exit(3)",
            "broken: its import ends the process: license expired",
            f"pip install --force-reinstall {FAKE}",
        ),
        (
            "import no_such_package_of_its_own",
            "broken: ModuleNotFoundError: No module named 'no_such_package_of_its_own'",
            f"pip install --force-reinstall {FAKE}",
        ),
    ],
    ids=["library", "unknown library", "any error", "signal", "exit", "its dependency"],
)
def test_broken_package_shows_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, text: str, fix: str
) -> None:
    found = examine_fake(tmp_path, monkeypatch, code, is_needed=True)
    assert (found.state, found.text) == ("missing", text)
    assert fix in found.fix


@pytest.mark.parametrize(("is_needed", "state"), [(True, "missing"), (False, "info")])
@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.part"])
def test_absent_package_names_the_command(module: str, is_needed: bool, state: str) -> None:
    package = Package(module, "Runtime", is_needed=is_needed)
    (finding,) = examine_packages((package,))["Runtime"]
    fix = "pip install no_such_package"
    assert finding == Finding(module, state, "not installed", fix, is_needed)
    assert is_fit({"Runtime": [finding]}) is not is_needed


def details(module: str) -> Package:
    return next(package for package in PACKAGES if package.module == module)


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(
        dff_edge.packages, "version_of", lambda name: "1.0" if name in names else None
    )


def test_two_onnxruntimes_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    found = by_name(details("onnxruntime").details({"providers": ["CPUExecutionProvider"]}))
    assert found["conflict"].state == "warn"
    assert found["conflict"].fix.startswith("pip uninstall -y onnxruntime-gpu onnxruntime && ")


def test_two_opencvs_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "opencv-python", "opencv-python-headless")
    facts = {"v4l2": "YES", "gstreamer": "NO", "gui": "QT5"}
    found = by_name(details("cv2").details(facts))
    assert found["conflict"].state == "warn"
    assert found["conflict"].fix.endswith(" && pip install opencv-python")


def test_a_build_without_windows_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "opencv-python-headless", "onnxruntime")
    found = by_name(details("cv2").details({"v4l2": "YES", "gstreamer": "NO", "gui": "NO"}))
    windows = found["OpenCV: windows (display://)"]
    assert windows.state == "info"
    assert windows.fix == (
        "pip uninstall -y opencv-python-headless && pip install 'opencv-python>=4.8'"
    )


def test_advice_in_an_environment_with_onnxruntime_never_brings_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, "onnxruntime", "opencv-python-headless")
    absent = {"error": "", "is_absent": True}
    monkeypatch.setattr(doctor_packages, "_facts_of", lambda module: absent)
    fixes = [f.fix for found in examine_packages().values() for f in found]
    assert "pip install 'dff-edge[tensorrt]'" in fixes
    assert "pip install 'cuda-python>=12.3'" in fixes
    assert not any("[cuda]" in fix for fix in fixes)


def test_onnxruntime_without_its_cpu_provider_is_not_fit() -> None:
    found = details("onnxruntime").details({"providers": []})
    assert not is_fit({"Runtime": found})


@pytest.mark.parametrize(
    ("encoders", "state"), [([], "missing"), (["libvpx-vp9"], "warn"), (list(ENCODERS), "ok")]
)
def test_pyav_needs_an_encoder(encoders: list[str], state: str) -> None:
    facts = {"encoders": encoders, "decodes_h264": True, "has_rtsp": True}
    assert by_name(details("av").details(facts))["PyAV: encoders"].state == state


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
