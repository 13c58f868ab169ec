"""dff-edge benchmark: what it prints and writes, and how it fails."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dff_edge.bundle.reader import Bundle
from dff_edge.cli import main
from dff_edge.report.results import Benchmark
from tests.bundle.bundles import make_bundle
from tests.report.clips import NoiseClip, write_clips

QUICK = ("--intervals", "1,2", "--frames", "2", "--repetitions", "1", "--threads", "1")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle", precisions=("fp32", "fp16", "int8"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_clips(tmp_path / "data", [NoiseClip(1, length=3)])


def test_table_goes_to_stdout(bundle: Bundle, data: Path) -> None:
    result = _benchmark(bundle, data)

    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines() if " 1.00x" in line]
    assert [row[:2] for row in rows][0] == ["fp32", "1"]
    for name in ("fp32", "fp16*", "int8"):
        assert sum(line.startswith(f"{name} ") for line in result.stdout.splitlines()) == 2
    assert "* FP16 is emulated on a CPU" in result.stdout
    assert "Where the time goes, int8 at l = 2:" in result.stdout
    assert "Eq. 7 predicts" in result.stdout


def test_json_and_plot_are_written(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    numbers, plot = tmp_path / "b.json", tmp_path / "b.png"
    result = _benchmark(bundle, data, "--json", str(numbers), "--plot", str(plot))

    assert result.exit_code == 0, result.output
    benchmark = Benchmark.from_json(numbers.read_text(encoding="utf-8"))
    assert len(benchmark.rows) == 6
    assert benchmark.settings.source == str(data)
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("overlap", "streams"), [("on", 3), ("off", 1)])
def test_timeline_is_a_picture_and_a_trace(
    bundle: Bundle, data: Path, tmp_path: Path, overlap: str, streams: int
) -> None:
    picture = tmp_path / "t.png"
    result = _benchmark(bundle, data, "--timeline", str(picture), "--overlap", overlap)

    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    events = json.loads(picture.with_suffix(".json").read_text())["traceEvents"]
    lanes = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert len(lanes - {"caller", "decode"}) == streams
    share = re.search(r"of the networks' streams in ([\d.]+)%", result.stderr)
    assert share is not None
    assert (float(share[1]) > 0) == (overlap == "on")
    said = "overlap: as requested" if overlap == "on" else "in order: as requested"
    assert f"int8: {said}" in result.stdout


def test_json_on_stdout_takes_the_place_of_the_table(bundle: Bundle, data: Path) -> None:
    result = _benchmark(bundle, data, "--precisions", "int8,fp16", "--json", "-")

    assert result.exit_code == 0, result.output
    found = [(row["precision"], row["interval"]) for row in json.loads(result.stdout)["rows"]]
    assert found == [("fp32", 1), ("fp16", 1), ("fp16", 2), ("int8", 1), ("int8", 2)]


def test_consistency_is_a_column_where_flow_is_known(bundle: Bundle, data: Path) -> None:
    result = _benchmark(bundle, data, "--consistency", "--precisions", "fp32")

    assert result.exit_code == 0, result.output  # a folder has no flow
    assert "steady" not in result.stdout


def test_record_writes_into_the_manifest(bundle: Bundle, data: Path) -> None:
    result = _benchmark(bundle, data, "--record", "--precisions", "int8")

    assert result.exit_code == 0, result.output
    assert "Recorded" in result.stderr
    recorded = Bundle.open(bundle.path).manifest.accuracy
    assert {(r.precision, r.key_interval) for r in recorded if r.key_interval} == {
        ("fp32", 1),
        ("int8", 1),
        ("int8", 2),
    }


def test_an_accuracy_of_this_cpu_alone_is_not_recorded(
    bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dff_edge.runtime.engines.openvino.overflows_here", lambda: True)

    result = _benchmark(bundle, data, "--record", "--engine", "openvino", "--precisions", "int8")

    assert result.exit_code == 2
    assert "sums of int8 overflow in OpenVINO" in " ".join(result.stderr.split())
    assert Bundle.open(bundle.path).digest == bundle.digest


def test_bundle_is_left_alone_without_record(bundle: Bundle, data: Path) -> None:
    assert _benchmark(bundle, data).exit_code == 0
    assert Bundle.open(bundle.path).digest == bundle.digest


def test_precision_that_the_bundle_lacks_is_failed_work(tmp_path: Path, data: Path) -> None:
    result = _benchmark(make_bundle(tmp_path / "small"), data, "--precisions", "int8")

    assert result.exit_code == 1
    assert "holds no int8 graphs, only fp32" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--precisions", "int4"), "'int4' is not a precision, expected some of fp32, fp16, int8"),
        (("--intervals", "0,5"), "'0,5' is not a list of numbers"),
        (("--repetitions", "0"), "0 is not in the range"),
        (("--json", "no/such/folder/b.json"), "no folder 'no/such/folder'"),
        (("--plot", "no/such/folder/b.png"), "no folder 'no/such/folder'"),
        (("--timeline", "no/such/folder/t.png"), "no folder 'no/such/folder'"),
        (("--timeline", "t.svg"), "expected a .png"),
        (("--plot", "t.svg"), "expected a .png"),
        (("--source", "synthetic://street?colour=red"), "unknown option 'colour'"),
        (("--source", "gopher://x"), "is not labelled data"),
    ],
)
def test_wrong_command_line_is_exit_code_2(
    bundle: Bundle, data: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = _benchmark(bundle, data, *arguments)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_data_of_other_classes_is_failed_work(bundle: Bundle) -> None:
    result = _benchmark(bundle, Path("data"), "--source", "synthetic://street")

    assert result.exit_code == 1
    assert "has the classes sky" in result.stderr


def test_folder_without_labels_is_failed_work(bundle: Bundle, tmp_path: Path) -> None:
    result = _benchmark(bundle, tmp_path)

    assert result.exit_code == 1
    assert "has no folder 'images'" in result.stderr


def test_damaged_bundle_is_failed_work(bundle: Bundle, data: Path) -> None:
    path = bundle.path / "int8" / "flow.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    result = _benchmark(bundle, data)

    assert result.exit_code == 1
    assert "int8/flow.onnx" in result.stderr
    assert "Traceback" not in result.output


def _benchmark(bundle: Bundle, data: Path, *arguments: str) -> Result:
    command = ["benchmark", str(bundle.path), "--source", str(data), *QUICK, *arguments]
    return CliRunner().invoke(main, command)
