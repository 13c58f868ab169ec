"""Import of one package and its features as JSON; run in a process that may die of it.

Imports the standard library only, like all of the doctor.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

# As dff_edge.runtime.sinks.video.ENCODERS, which costs the imports that may fail here.
ENCODERS = ("libx264", "libopenh264", "libvpx-vp9")


def main(module_name: str) -> None:
    """Write one line of JSON to stdout: ``version`` and facts, or ``error``."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # no telemetry for a probe
    try:
        module = importlib.import_module(module_name)
        facts = {"version": _version(module), **_FACTS.get(module_name, _no_facts)(module)}
    except Exception as error:  # a broken package raises anything
        is_absent = isinstance(error, ModuleNotFoundError) and error.name in _parents(module_name)
        facts = {"error": f"{type(error).__name__}: {error}", "is_absent": is_absent}
    sys.stdout.write("\n" + json.dumps(facts) + "\n")


def opencv_build(information: str) -> dict[str, str]:
    """Return the parts of ``cv2.getBuildInformation()`` on GStreamer, V4L2 and windows.

    Returns:
        ``gstreamer``, ``v4l2`` and ``gui``, each the text of the build or ``"NO"``.
    """
    lines = [line.partition(":") for line in information.splitlines() if ":" in line]
    values = {name.strip(): value.strip() for name, _, value in lines}
    gui = values.get("GUI", "")
    if not gui:  # older builds list them, one per line
        toolkits = [name for name in ("QT", "GTK+", "Cocoa", "Win32 UI") if _is_yes(values, name)]
        gui = toolkits[0] if toolkits else "NO"
    return {
        "gstreamer": values.get("GStreamer", "NO"),
        "v4l2": values.get("v4l/v4l2", "NO"),
        "gui": "NO" if gui == "NONE" else gui,
    }


def _is_yes(values: dict[str, str], name: str) -> bool:
    return values.get(name, "NO").startswith("YES")


def _version(module: Any) -> str:
    version = getattr(module, "__version__", None) or getattr(module, "VERSION_TEXT", None)
    return str(version) if version else "of unknown version"


def _parents(module_name: str) -> list[str]:
    """Return the module and the packages around it: ``a.b`` becomes ``a``, ``a.b``."""
    words = module_name.split(".")
    return [".".join(words[: count + 1]) for count in range(len(words))]


def _no_facts(module: Any) -> dict[str, Any]:
    return {}


def _opencv(cv2: Any) -> dict[str, Any]:
    return dict(opencv_build(cv2.getBuildInformation()))


def _pyav(av: Any) -> dict[str, Any]:
    from av.codec import Codec

    def has(name: str, mode: Any) -> bool:
        try:
            Codec(name, mode)
        except ValueError:  # UnknownCodecError is one
            return False
        return True

    return {
        "encoders": [name for name in ENCODERS if has(name, "w")],
        "decodes_h264": has("h264", "r"),
        "has_rtsp": "rtsp" in av.formats_available,
    }


def _onnxruntime(onnxruntime: Any) -> dict[str, Any]:
    return {"providers": list(onnxruntime.get_available_providers())}


def _native(native: Any) -> dict[str, Any]:
    simd = getattr(native, "simd", None)
    return {"version": f"kernels for {simd()}" if callable(simd) else "loaded"}


_FACTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "av": _pyav,
    "cv2": _opencv,
    "dff_edge._native": _native,
    "onnxruntime": _onnxruntime,
}
