"""dff-edge plan: what it prints and writes, and how it fails; on a made-up machine."""

import json
import shlex

import pytest

from dff_edge.cli.run import command as run_command
from dff_edge.plan import planner, verify
from dff_edge.plan.accuracy import Curve
from dff_edge.plan.verify import Speed
from tests.plan.machines import MadeUpMachine

WIDTH = 100
CURVE = Curve({n: 0.8 - 0.01 * n for n in range(31)}, {n: 0.8 - 0.05 * n for n in range(16)})


@pytest.fixture
def heavy(monkeypatch):
    """A network of 300 ms in int8, of which the rest of a frame takes 8 ms."""
    return MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300})


@pytest.fixture
def known(monkeypatch):
    """Have accuracy by distance recorded."""
    monkeypatch.setattr(planner, "recorded_curve", lambda *_: CURVE)


def rows(result):
    """Return the cells of the lines of the table."""
    lines = result.stdout.split("---\n", 1)[1].split("\n\n")[0].splitlines()
    return [line.split() for line in lines]


def run_line(result):
    (line,) = [line.strip() for line in result.stdout.splitlines() if "dff-edge run" in line]
    return shlex.split(line)


def test_the_best_is_printed_with_its_line(dff_edge, bundle_path, heavy, known):
    result = dff_edge("plan", bundle_path, "--rate", 30, "--max-age", "50ms")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.split("Best:")[0].splitlines()[2:])) <= WIDTH
    first, *others = rows(result)
    assert first[:4] == ["int8", "onnxruntime/2", "idle,", "background"]
    assert first[-1] == "best"
    assert any("drops" in row for row in others)
    assert any(row[-2:] == ["late,", "drops"] for row in others)
    words = run_line(result)
    assert words[:3] == ["dff-edge", "run", str(bundle_path)]
    with run_command.make_context("run", words[2:]) as context:
        assert context.params["keys"] == "background"
    assert "Per-frame inference (int8, at its best) would answer" in result.stdout
    assert "of which one without an answer keeps the answer before it" in " ".join(
        result.stdout.split()
    )
    assert "measuring int8 in onnxruntime, 2 threads, keys background" in result.stderr


def test_per_frame_inference_is_named_where_it_is_better(dff_edge, bundle_path, monkeypatch, known):
    MadeUpMachine(monkeypatch, {"fp32": 8, "int8": 4}, short_ms=3.0)
    result = dff_edge("plan", bundle_path)
    assert result.exit_code == 0, result.output
    assert "Plain per-frame inference is the better choice here" in result.stdout
    assert run_line(result)[-4:] == ["--policy", "fixed:1", "--threads", "2"]


def test_a_plan_with_little_room_says_so(dff_edge, bundle_path, monkeypatch, known):
    # Beside key frames on one thread a frame takes 26 * 1.2 = 31.2 of the camera's 33.3 ms.
    MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300}, short_ms=26.0)
    result = dff_edge("plan", bundle_path)
    assert "It is at work for 94% of the time" in result.stdout
    MadeUpMachine(monkeypatch, {"fp32": 1500, "int8": 300}, short_ms=15.0)
    result = dff_edge("plan", bundle_path)
    assert run_line(result)
    assert "It is at work for" not in result.stdout


def test_the_table_fits_a_terminal_whatever_is_missed(dff_edge, bundle_path, heavy, known):
    result = dff_edge("plan", bundle_path, "--max-age", "9ms", "--max-loss", 2)
    table = result.stdout.split("Nothing fits")[0].splitlines()[2:]
    assert any(len(row) >= 3 and {"late,", "loss,"} & set(row[-3:]) for row in rows(result))
    assert max(map(len, table)) <= WIDTH
    assert "loss: against 80.0 of the full network" in result.stdout


def test_where_nothing_fits_the_nearest_and_what_would_help(dff_edge, bundle_path, heavy, known):
    result = dff_edge("plan", bundle_path, "--max-loss", 2)
    assert result.exit_code == 0, result.output
    assert "Nothing fits. The nearest miss:" in result.stdout
    assert "--max-loss" in result.stdout.split("It would fit")[1]
    assert not any(row[-1] == "best" for row in rows(result))


def test_numbers_are_written(dff_edge, bundle_path, heavy, known):
    result = dff_edge("plan", bundle_path, "--max-age", "0.05s", "--json", "-")
    assert result.exit_code == 0, result.output
    numbers = json.loads(result.stdout)
    assert numbers["wishes"]["max_age_s"] == 0.05
    assert numbers["fits"] is True
    assert shlex.split(numbers["run"])[0] == "dff-edge"
    best = numbers["candidates"][0]
    assert (best["keys"], best["policy"], best["fits"]) == ("background", "idle", True)
    assert best["fps"] == pytest.approx(30 * best["answered_share"])
    assert {c["policy"] for c in numbers["candidates"]} >= {"fixed:1", "fixed:10", "idle"}
    assert all(c["misses"] for c in numbers["candidates"] if not c["fits"])


def test_all_candidates_are_printed_on_request(dff_edge, bundle_path, heavy, known):
    few, all_of_them = dff_edge("plan", bundle_path), dff_edge("plan", bundle_path, "--all")
    assert len(rows(all_of_them)) > len(rows(few))
    assert f"--all prints {len(rows(all_of_them))}" in " ".join(few.stdout.split())


def test_bounds_are_marked(dff_edge, bundle_path, heavy, monkeypatch):
    short = Curve({n: 0.8 - 0.01 * n for n in range(5)})
    monkeypatch.setattr(planner, "recorded_curve", lambda *_: short)
    result = dff_edge("plan", bundle_path)
    assert any(cell.startswith("<") for row in rows(result) for cell in row)
    assert "<: at most so much" in result.stdout


def test_verified_is_predicted_beside_measured(dff_edge, bundle_path, heavy, known, monkeypatch):
    asked = []

    def measured(bundle, candidate, images, *, rate, frames, streams):
        asked.append((candidate.policy, len(images) > 0, rate, frames, streams))
        return Speed(20.0, 2 / 3, 0.016, 0.02, 0.016, 0.016, 15.0)

    monkeypatch.setattr(verify, "verify", measured)
    result = dff_edge("plan", bundle_path, "--verify", "--frames", 90)
    assert result.exit_code == 0, result.output
    assert asked == [("idle", True, 30.0, 90, 1)]
    (fps,) = [line.split() for line in result.stdout.splitlines() if line.startswith("fps ")]
    assert fps == ["fps", "30.0", "20.0", "+50%"]
    assert "About half of the answers" not in result.stdout


def test_a_verified_median_of_two_kinds_is_a_range(
    dff_edge, bundle_path, heavy, known, monkeypatch, tmp_path
):
    # By the forecast a frame takes 12 ms, and features of 300 beside it.
    measured = Speed(30.0, 1.0, 0.1, 0.2, 0.012, 0.1, 15.0)
    monkeypatch.setattr(verify, "verify", lambda *_, **__: measured)
    result = dff_edge("plan", bundle_path, "--verify", "--json", tmp_path / "plan.json")
    assert result.exit_code == 0, result.output
    assert "12.0 to 100.0" in result.stdout
    assert "About half of the answers are key frames" in result.stdout
    numbers = json.loads((tmp_path / "plan.json").read_text())
    assert numbers["off"]["age_p50_s"] == pytest.approx(0, abs=0.02)
    assert numbers["off"]["age_p99_s"] < -0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-age", "50"], "expected a number with its unit, as in 50ms"),
        (["--max-age", "0ms"], "expected a number with its unit"),
        (["--size", "1280"], "expected HEIGHTxWIDTH in pixels, the height first"),
        (["--rate", "0"], "0"),
        (["--streams", "65"], "65"),
        (["--engine", "abacus"], "abacus"),
    ],
)
def test_wrong_options_are_told_before_anything_is_measured(
    dff_edge, bundle_path, heavy, options, message
):
    result = dff_edge("plan", bundle_path, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert heavy.measured == []


def test_a_bound_of_the_loss_needs_accuracy(dff_edge, bundle_path, heavy):
    result = dff_edge("plan", bundle_path, "--max-loss", 2)
    assert result.exit_code == 1
    assert "has no record of its accuracy" in result.stderr
    assert heavy.measured == []


def test_the_size_is_height_and_width_as_of_all_frames(dff_edge, bundle_path, heavy, known):
    result = dff_edge("plan", bundle_path, "--size", "48x80", "--streams", 2)
    assert "each of 2 cameras of 48x80 px (height x width) at 30 Hz" in result.stdout
    assert "px high" not in result.stderr
    assert run_line(result)[3:5] == ["0", "1"]


def test_a_size_that_may_be_the_wrong_way_round_is_told(dff_edge, bundle_path, heavy, known):
    result = dff_edge("plan", bundle_path, "--size", "80x48")
    assert "a camera of 80x48 px (height x width)" in result.stdout
    assert "frames of --size 80x48 are 80 px high and 48 px wide" in " ".join(result.stderr.split())
