"""Plans for made-up machines, and one of a real bundle on this machine."""

import numpy as np
import pytest

from dff_edge.errors import BundleError, ConfigError, EngineError, MissingDependencyError
from dff_edge.plan import planner, timing
from dff_edge.plan.accuracy import Curve
from dff_edge.plan.footage import Footage
from dff_edge.plan.judge import Wishes
from dff_edge.plan.planner import plan_bundle
from tests.bundle.bundles import make_bundle
from tests.plan.machines import MadeUpMachine
from tests.report.clips import NoiseClip

FOOTAGE = Footage([np.zeros((32, 64, 3), np.uint8)])
CURVE = Curve({n: 0.8 - 0.01 * n for n in range(61)}, {n: 0.8 - 0.05 * n for n in range(16)})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "small"
    return make_bundle(folder, (32, 64), precisions=("fp32", "int8"))


@pytest.fixture
def known(monkeypatch):
    """Have the manifest record ``CURVE`` for fp32, and a point less for int8."""
    lower = Curve({n: value - 0.01 for n, value in CURVE.at.items()}, CURVE.held)
    curves = {"fp32": CURVE, "int8": lower}
    monkeypatch.setattr(planner, "recorded_curve", lambda bundle, precision, _: curves[precision])


def plan(bundle, *, engines=("onnxruntime",), **wishes):
    return plan_bundle(bundle, FOOTAGE, Wishes(**wishes), engines=engines)


def kind(choice):
    setup = choice.candidate.setup
    return setup.precision, str(setup.keys), choice.candidate.policy


def test_a_heavy_network_runs_in_the_background(bundle, known, monkeypatch):
    MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300})
    found = plan(bundle, max_age_s=0.05)
    assert found.best.fits
    assert kind(found.best) == ("int8", "background", "idle")
    assert found.best.candidate.setup.threads == 2  # the features come sooner
    assert found.best.forecast.answered_share > 0.99
    in_order = [c for c in found.choices if c.candidate.setup.keys.is_in_order]
    assert in_order
    assert not any(choice.fits for choice in in_order)


def test_a_light_network_answers_every_frame_by_itself(bundle, known, monkeypatch):
    machine = MadeUpMachine(monkeypatch, {"fp32": 8, "int8": 4}, short_ms=3.0)
    found = plan(bundle)
    assert found.best.candidate.is_per_frame
    assert found.best.candidate.setup.precision == "fp32"  # it is in time, and more accurate
    # Nothing is gained in the background, so nothing was measured there.
    assert all(setup.keys.is_in_order for setup in machine.measured)


def test_a_network_between_is_spread_by_a_key_interval(bundle, known, monkeypatch):
    # A key frame takes 40 ms of a frame's 33: not every frame, but every third or so.
    MadeUpMachine(monkeypatch, {"fp32": 400, "int8": 30}, short_ms=10.0)
    found = plan(bundle, max_age_s=0.06)
    precision, keys, policy = kind(found.best)
    assert precision == "int8"
    best = found.best.accuracy.value
    assert all(c.accuracy.value <= best + 0.002 for c in found.choices if c.fits)
    assert (keys, policy) != ("in-order", "fixed:1")


def test_a_bound_of_the_loss_rules_out_old_features(bundle, known, monkeypatch):
    MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300})
    found = plan(bundle, max_loss=2.0)
    assert not found.best.fits
    assert found.full == 0.8
    assert [miss.wish for miss in found.best.misses] in (
        ["loss"],
        ["answered"],
        ["answered", "loss"],
    )
    assert plan(bundle, max_loss=30.0).best.fits


def test_where_nothing_fits_a_slower_camera_may(bundle, known, monkeypatch):
    MadeUpMachine(monkeypatch, {"fp32": 300, "int8": 100}, short_ms=60.0)
    found = plan(bundle, rate=30.0)
    assert not found.best.fits
    rate, choice = found.fitting_rate()
    assert rate < 1 / 0.06
    assert choice.fits
    assert found.judged(Wishes(rate=rate))[0].fits


def test_no_rate_helps_an_age_that_is_too_short(bundle, known, monkeypatch):
    MadeUpMachine(monkeypatch, {"fp32": 300, "int8": 100}, short_ms=60.0)
    assert plan(bundle, max_age_s=0.02).fitting_rate() is None


def test_cameras_that_share_the_machine_get_less_of_it(bundle, known, monkeypatch):
    MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300})
    one, four = plan(bundle), plan(bundle, streams=4)
    assert one.best.fits
    assert not four.best.fits
    assert four.best.forecast.fps < 30


def test_cameras_share_engines_on_the_cpu_only(bundle, known, monkeypatch):
    machine = MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300})
    found = plan(bundle, engines=("onnxruntime", "cuda"), streams=2)
    assert {setup.engine for setup in machine.measured} == {"onnxruntime"}
    assert "cuda: several cameras share engines on the CPU only" in found.left_out


def test_a_slower_engine_is_looked_at_and_left_out(bundle, known, monkeypatch):
    machine = MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300})
    found = plan(bundle, engines=("onnxruntime", "openvino"))
    assert {setup.engine for setup in machine.measured} == {"onnxruntime"}
    assert "int8 in openvino: slower than int8 in onnxruntime" in found.left_out


def test_the_choice_is_measured_for_longer(bundle, known, monkeypatch):
    machine = MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300})
    found = plan(bundle)
    assert machine.measured[-1] == found.best.candidate.setup
    assert machine.measured.count(found.best.candidate.setup) == 2
    assert len(machine.measured) == len(set(machine.measured)) + 1


def test_a_lucky_first_look_does_not_decide(bundle, known, monkeypatch):
    machine = MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300})
    measured = machine._measure

    def measure(setup, images, *, rate, seconds):
        is_lucky = setup.threads == 1 and seconds == planner._SECONDS
        times = measured(setup, images, rate=rate, seconds=seconds)
        if is_lucky and times.feature_s:
            times.feature_s = [0.1]
        return times

    monkeypatch.setattr(planner, "measure", measure)
    found = plan(bundle)
    assert found.best.candidate.setup.threads == 2
    assert min(found.times[found.best.candidate.setup].feature_s) > 0.3


def test_engines_that_fail_are_left_out_unless_they_were_asked_for(bundle, known, monkeypatch):
    failing = {"openvino": EngineError("no such graph."), "cuda": MissingDependencyError("none")}
    MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300}, failing=failing)
    monkeypatch.setattr(planner, "engines_here", lambda: ("onnxruntime", "openvino", "cuda"))
    left_out = plan(bundle, engines=None).left_out
    assert "int8 in openvino: no such graph" in left_out
    assert sum(reason.startswith("cuda: ") for reason in left_out) == 1
    with pytest.raises(EngineError, match="no such graph"):
        plan(bundle, engines=("openvino",))
    with pytest.raises(MissingDependencyError):
        plan(bundle, engines=("cuda",))


def test_an_engine_whose_sums_overflow_is_left_out_unless_it_was_asked_for(
    bundle, known, monkeypatch
):
    MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300})
    monkeypatch.setattr(planner, "outdone", lambda screened: {})  # OpenVINO is slower there
    monkeypatch.setattr(planner, "overflows", lambda bundle, precision: precision == "int8")
    found = plan(bundle, engines=None)
    assert "int8 in openvino: sums overflow on this CPU, without VNNI" in found.left_out
    assert ("int8", "openvino") not in found.curves
    # The record is of exact sums: where they overflow none of it is promised, and it is said why.
    for engines in (("openvino",), ("openvino", "onnxruntime")):
        found = plan(bundle, engines=engines)
        assert ("int8", "openvino") not in found.curves
        assert any("recorded accuracy of int8 in openvino" in text for text in found.left_out)
        known_to_be = {
            choice.candidate.setup.engine: choice.accuracy
            for choice in found.choices
            if choice.candidate.setup.precision == "int8"
        }
        assert known_to_be["openvino"] is None
        assert known_to_be.get("onnxruntime", 1) is not None


def test_a_setup_too_slow_to_be_measured_is_left_out(bundle, known, monkeypatch):
    machine = MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300})
    measured = machine._measure

    def measure(setup, images, **how):
        times = measured(setup, images, **how)
        if setup.precision == "fp32":
            times.feature_s.clear()
        return times

    monkeypatch.setattr(planner, "measure", measure)
    found = plan(bundle)
    assert any("no key frame was done in time" in reason for reason in found.left_out)
    assert kind(found.best)[0] == "int8"


def test_without_records_fresher_features_stand_for_accuracy(bundle, monkeypatch):
    MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300})
    found = plan(bundle)
    assert (found.data, found.full, found.curves) == (None, None, {})
    fitting = [choice for choice in found.choices if choice.fits]
    assert found.best.forecast.staleness == min(c.forecast.staleness for c in fitting)
    with pytest.raises(ConfigError, match=r"at most 2 points .* no record .* --record"):
        plan(bundle, max_loss=2.0)


def test_precisions_that_are_not_there_are_refused(bundle, known, monkeypatch):
    MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300})
    with pytest.raises((BundleError, ConfigError), match="fp16"):
        plan_bundle(bundle, FOOTAGE, Wishes(), precisions=["fp16"])


def test_a_real_bundle_is_planned_and_its_accuracy_measured(bundle, monkeypatch):
    for module, name, seconds in (
        (planner, "_SECONDS", 0.2),
        (planner, "_LONGER_SECONDS", 0.2),
        (planner, "_ACCURACY_SECONDS", 0.0),
        (planner, "_SURELY_FASTER", 1e9),  # so small a network needs no background
        (timing, "_SCREEN_SECONDS", 0.02),
    ):
        monkeypatch.setattr(module, name, seconds)
    clip = NoiseClip(1, length=70)
    footage = Footage([clip.image(n) for n in range(4)], [clip])
    told = []
    found = plan_bundle(
        bundle,
        footage,
        Wishes(rate=500.0, min_answered=0.0),
        precisions=["int8"],
        engines=["onnxruntime"],
        say=told.append,
    )
    assert found.best.fits
    assert found.data == "4 frames, against labels"
    assert set(found.curves) == {("fp32", "onnxruntime"), ("int8", "onnxruntime")}
    modes = {str(choice.candidate.setup.keys) for choice in found.choices}
    assert modes == {"in-order", "background"}
    assert any("measuring int8 in onnxruntime" in text for text in told)
    for choice in found.choices:
        assert 0 < choice.forecast.answered_share <= 1
        assert choice.loss == pytest.approx(100 * (found.full - choice.accuracy.value))
