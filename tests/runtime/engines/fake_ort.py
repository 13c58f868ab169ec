"""ONNX Runtime's CUDA provider played by its CPU provider on the emulated driver.

The session runs as a host function of the stream that it was opened with, as kernels of the real
provider would, so that a missing event gives wrong results. That the real provider takes the
options and the bindings needs a GPU.
"""

from __future__ import annotations

import ctypes
from typing import Any

import onnxruntime
import pytest

from dff_edge.runtime.engines import onnxruntime_cuda as ort_engine
from dff_edge.runtime.engines.onnxruntime import CPU_PROVIDER, CUDA_PROVIDER, Bindings, open_session

_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class StreamSession:
    """A session on the CPU that computes where its stream has come to it."""

    def __init__(self, session: Any, stream: int) -> None:
        self._session, self._stream = session, stream
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._calls: list[Any] = []  # the driver keeps no reference to a Python function
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        synchronise = "disable_synchronize_execution_providers"
        assert options.get_run_config_entry(synchronise) == "1"
        if self.failure is not None:
            raise self.failure
        call = _HOST_FUNCTION(lambda _: self._session.run_with_iobinding(binding))
        self._calls.append(call)
        assert self._driver.cuLaunchHostFunc(ctypes.c_void_p(self._stream), call, None) == 0


def play_cuda_provider(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Have ``OrtCudaEngine`` open sessions of this kind.

    Returns:
        The provider options of each that is opened.
    """
    seen: list[dict[str, str]] = []

    def opened(
        data: bytes, *, name: str, threads: int, provider: str, provider_options: Any
    ) -> Any:
        assert provider == CUDA_PROVIDER
        seen.append(dict(provider_options))
        session = open_session(data, name=name, threads=threads, provider=CPU_PROVIDER)
        return StreamSession(session, int(provider_options["user_compute_stream"]))

    providers = [CUDA_PROVIDER, CPU_PROVIDER]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)

    def bindings(session: Any, inputs: Any, outputs: Any, *, device: str, ordinal: int) -> Any:
        assert (device, ordinal) == ("cuda", 0)
        return Bindings(session, inputs, outputs)

    monkeypatch.setattr(ort_engine, "open_session", opened)
    monkeypatch.setattr(ort_engine, "Bindings", bindings)
    return seen
