"""Signals after OpenVINO's graphs are gone, in a process of their own: it may die of them."""

import ctypes
import subprocess
import sys

import pytest

from dff_edge.runtime.engines.signal_stack import SignalStack, kept_signal_stack, signal_stack
from tests.bundle.bundles import make_bundle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="alternate stacks as on Linux")


def test_stack_of_before_is_given_back():
    before = signal_stack()
    memory = ctypes.create_string_buffer(1 << 20)
    other = SignalStack(ctypes.addressof(memory), 0, len(memory))
    with kept_signal_stack():
        assert ctypes.CDLL(None).sigaltstack(ctypes.byref(other), None) == 0
        assert signal_stack().sp == other.sp

    after = signal_stack()
    assert (after.sp, after.flags, after.size) == (before.sp, before.flags, before.size)


def test_signals_are_handled_after_an_openvino_pipeline_was_closed(tmp_path):
    pytest.importorskip("openvino")
    bundle = make_bundle(tmp_path / "bundle", (64, 128))
    code = f"""
import signal
from dff_edge.runtime import Pipeline
from dff_edge.runtime.engines.signal_stack import signal_stack

handled = []
signal.signal(signal.SIGUSR1, lambda *_: handled.append(1))
before = signal_stack()
with Pipeline.open({str(bundle.path)!r}, engine="openvino", threads=1):
    assert signal_stack().sp == before.sp
for _ in range(5):
    signal.raise_signal(signal.SIGUSR1)
print(len(handled))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
