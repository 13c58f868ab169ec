"""Made-up machines for the planner: times by precision, engine, threads and key mode."""

from __future__ import annotations

from contextlib import contextmanager

from dff_edge.plan import planner
from dff_edge.plan.candidates import Screened
from dff_edge.plan.simulation import Service, Times


def same(seconds):
    return [Service(seconds, seconds)]


class MadeUpMachine:
    """Replaces what the planner measures.

    Args:
        feature_ms: of the feature network, by precision; on one thread it takes twice as long.
        short_ms: of the rest of a frame.
        failing: engines that cannot be opened, with the error.

    Attributes:
        measured: setups, in the order of their measurements.
    """

    def __init__(self, monkeypatch, feature_ms, short_ms=8.0, failing=None):
        self._feature_ms, self._short_ms = feature_ms, short_ms
        self._failing = failing or {}
        self.measured = []
        monkeypatch.setattr(planner, "opened", self._opened)
        monkeypatch.setattr(planner, "screen", self._screen)
        monkeypatch.setattr(planner, "measure", self._measure)
        monkeypatch.setattr(planner, "usable_cores", lambda: 2)
        monkeypatch.setattr(planner, "engines_here", lambda: ("onnxruntime", "openvino"))
        monkeypatch.setattr(planner, "overflows", lambda bundle, precision: False)
        monkeypatch.setattr(planner, "_SIMULATED_FRAMES", 250)  # nothing is at random here

    @contextmanager
    def _opened(self, bundle, setup, streams=1):
        if setup.engine in self._failing:
            raise self._failing[setup.engine]
        yield [setup]

    def _key_s(self, setup):
        slower = 2 if setup.threads == 1 else 1
        openvino = 1.5 if setup.engine == "openvino" else 1.0  # slower in everything
        return slower * openvino * self._feature_ms[setup.precision] / 1e3

    def _short_s(self, setup):
        return self._short_ms * (1.5 if setup.engine == "openvino" else 1.0) / 1e3

    def _screen(self, setup, images):
        return Screened(self._key_s(setup), self._short_s(setup))

    def _measure(self, setup, images, *, rate, seconds):
        self.measured.append(setup)
        key, short = self._key_s(setup), self._short_s(setup)
        if setup.keys.is_in_order:
            return Times([1e-4], same(key + short), same(short))
        # Two threads of features leave less of the machine to the rest.
        beside = same(short * (1.5 if setup.threads == 2 else 1.2))
        return Times([1e-4], same(key + short), same(short), beside, beside, [key * 1.1])
