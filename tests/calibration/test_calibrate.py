"""The calibration of a bundle: it gets int8 and fp16, or stays as it was."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.staleness import StalenessModel
from dff_edge.bundle.writer import BundleWriter
from dff_edge.calibration import calibrate as calibrate_module
from dff_edge.calibration import calibrate_bundle
from dff_edge.calibration import compare as compare_module
from dff_edge.errors import BundleError, CalibrationError, DiskError
from dff_edge.synthetic import StreetScene
from tests.bundle.staleness_models import staleness_fields
from tests.calibration.conftest import SMALL
from tests.export.checkpoints import FRAME_SIZE


def test_lack_of_room_is_told_before_a_clip_is_read(copy, full_disk):
    class Clip:
        def __getattr__(self, name):
            raise AssertionError("a clip was looked at")

    with pytest.raises(DiskError, match=r"the graphs of int8 and fp16 will take about \d+\.\d MB"):
        calibrate_bundle(copy, [Clip()], source="clips")


def test_progress_says_what_was_read_and_how_good_it_is(calibrated):
    _, lines = calibrated

    assert lines[0].startswith("read 10 key frames and ")
    assert "at distances 1 to 3 from 2 clips" in lines[0]
    assert lines[1] == (
        "Warning: the model was trained for distances up to 2 frames. Measure the accuracy beyond, "
        "with `dff-edge evaluate --max-interval 4`."
    )
    assert [line.split(",")[0] for line in lines if line.startswith("wrote ")] == [
        "wrote int8",
        "wrote int8 for TensorRT",
        "wrote fp16",
        "wrote fp16 for TensorRT",
    ]


def test_a_graph_that_is_off_everywhere_is_broken_though_no_cell_is_far_off(
    copy, clips, monkeypatch
):
    """FP16 rounds every value; here no more than that is allowed in the mean."""
    monkeypatch.setitem(compare_module._MEAN_TOLERANCES, "fp16", 1e-6)

    with pytest.raises(CalibrationError, match=r"fp16 \w+ graph is broken: .* in the mean"):
        calibrate_bundle(copy, clips, source="a", precisions=("fp16",), **SMALL)
    assert Bundle.open(copy).precisions == ("fp32",)


def test_one_precision_can_be_added_and_added_again(copy, clips):
    calibrate_bundle(copy, clips, source="a", precisions=("fp16",), **SMALL)
    made = calibrate_bundle(copy, clips, source="b", precisions=("fp16",), **SMALL)

    assert made.precisions == ("fp32", "fp16")
    assert made.manifest.calibration == {}


def test_too_little_data_leaves_the_bundle_as_it_was(copy, clips):
    before = Bundle.open(copy).digest

    with pytest.raises(CalibrationError, match="longest of 2 clips has 8 frames, .* 10 for key"):
        calibrate_bundle(copy, clips, source="short", interval=10)
    assert Bundle.open(copy).digest == before


def test_default_interval_of_the_bundle_is_taken(copy, clips):
    with pytest.raises(CalibrationError, match="longest of 0 clips .* for key interval 4"):
        calibrate_bundle(copy, [], source="none")


@pytest.mark.parametrize(
    ("flavour", "function", "label"),
    [("ort", "quantize_graph", ""), ("trt", "quantize_symmetric", r" \(TensorRT\)")],
)
def test_broken_graph_is_refused_by_name(copy, clips, monkeypatch, flavour, function, label):
    before = Bundle.open(copy).digest
    real = getattr(calibrate_module, function)

    def on_black(graph, samples, levels, **options):
        black = ({n: a * 0 for n, a in inputs.items()} for inputs in samples)
        return real(graph, black, levels, **options)

    monkeypatch.setattr(calibrate_module, function, on_black)

    with pytest.raises(
        CalibrationError, match=rf"int8 (feature|task){label} graph is broken: '\w+' differs"
    ):
        calibrate_bundle(
            copy, clips, source="black", precisions=("int8",), flavours=(flavour,), **SMALL
        )
    assert Bundle.open(copy).digest == before


def test_an_overflow_of_fp16_is_told_and_int8_can_be_made_without_it(copy, clips, monkeypatch):
    """One precision that fails keeps the others out until it is not asked for."""
    real = calibrate_module.to_half

    def overflowing(graph):
        model = onnx.load_from_string(real(graph))
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT16:
                largest = np.full_like(numpy_helper.to_array(tensor), 65504)
                tensor.CopyFrom(numpy_helper.from_array(largest, tensor.name))
        return model.SerializeToString()

    monkeypatch.setattr(calibrate_module, "to_half", overflowing)

    with pytest.raises(
        CalibrationError,
        match=r"fp16 feature \(TensorRT\).*beyond 65504.*--precision and --flavour",
    ):
        calibrate_bundle(copy, clips, source="x", flavours=("trt",), **SMALL)
    assert Bundle.open(copy).precisions_for("trt") == ("fp32",)
    made = calibrate_bundle(
        copy, clips, source="x", flavours=("trt",), precisions=("int8",), **SMALL
    )
    assert made.precisions_for("trt") == ("fp32", "int8")


def test_unknown_precision_is_refused(copy, clips):
    with pytest.raises(CalibrationError, match=r"\('fp32',\), expected 'ort', 'trt' or both, and"):
        calibrate_bundle(copy, clips, source="x", precisions=("fp32",))


@pytest.mark.parametrize("flavours", [(), ("trt", "tvm")])
def test_unknown_flavour_is_refused(copy, clips, flavours):
    with pytest.raises(CalibrationError, match="expected 'ort', 'trt' or both"):
        calibrate_bundle(copy, clips, source="x", flavours=flavours)


def test_a_flavour_is_calibrated_alone_and_the_other_stays(copy, clips):
    calibrate_bundle(copy, clips, source="a", precisions=("int8",), flavours=("trt",), **SMALL)
    first = Bundle.open(copy)
    assert first.precisions == ("fp32",)
    assert first.precisions_for("trt") == ("fp32", "int8")
    before = first.graph_bytes("int8", "flow", "trt")

    made = calibrate_bundle(
        copy, clips, source="b", precisions=("int8",), flavours=("ort",), **SMALL
    )

    assert made.precisions == made.precisions_for("trt") == ("fp32", "int8")
    assert made.graph_bytes("int8", "flow", "trt") == before
    assert made.manifest.calibration["trt"]["int8"].source == "a"
    assert made.manifest.calibration["ort"]["int8"].source == "b"


def test_a_bundle_without_fp32_for_tensorrt_is_told_to_be_exported_again(tmp_path, bundle, clips):
    with BundleWriter.create(tmp_path / "old") as writer:
        for subnet in ("feature", "flow", "task", "propagate"):
            writer.add_graph("fp32", subnet, bundle.graph_bytes("fp32", subnet))
        fields = bundle.manifest.model_dump(mode="json", exclude_none=True)
        for name in ("schema_version", "graphs", "files"):
            del fields[name]
        writer.update(**fields)
        old = writer.commit()

    with pytest.raises(CalibrationError, match="`dff-edge export` again, or .* --flavour ort"):
        calibrate_bundle(old.path, clips, source="x", **SMALL)
    made = calibrate_bundle(
        old.path, clips, source="x", flavours=("ort",), precisions=("fp16",), **SMALL
    )
    assert made.precisions == ("fp32", "fp16")
    assert made.precisions_for("trt") == ()


def test_folder_without_a_bundle_is_refused(tmp_path, clips):
    with pytest.raises(BundleError, match="is not a bundle"):
        calibrate_bundle(tmp_path, clips, source="x")


class Scenes:
    """A frame of another street each, or several of one where seeds repeat."""

    name = "scenes"

    def __init__(self, seeds):
        self._seeds = seeds

    def __len__(self):
        return len(self._seeds)

    def image(self, index):
        return StreetScene(self._seeds[index], "train", FRAME_SIZE, 40).render(index)[0]


def test_stills_are_refused_and_the_bundle_stays(copy):
    before = Bundle.open(copy).digest

    with pytest.raises(
        CalibrationError,
        match=r"11 of 11 pairs of neighbouring frames of 'stills' show unrelated pictures \(the "
        r"first: frames 0 and 1 of 'scenes'\).*so give a video",
    ):
        calibrate_bundle(copy, [Scenes(range(12))], source="stills", **SMALL)
    assert Bundle.open(copy).digest == before


def test_cuts_are_told_and_video_is_not(copy, clips):
    lines = []
    wanted = {"precisions": ["fp16"], "flavours": ["ort"], "progress": lines.append, **SMALL}
    cut = Scenes([1] * 4 + [2] * 4 + [3] * 4)

    calibrate_bundle(copy, [cut], source="cut.mp4", interval=3, **wanted)
    told = [line for line in lines if "unrelated" in line]
    lines.clear()
    calibrate_bundle(copy, clips, source="video", **wanted)

    assert len(told) == 1
    assert told[0].startswith("Warning: 2 of 11 pairs of neighbouring frames of 'cut.mp4' show")
    assert not any("unrelated" in line for line in lines)


def test_a_source_that_is_no_utf8_is_written_out_in_the_manifest(copy, clips, tmp_path):
    moved = copy.rename(tmp_path / os.fsdecode(b"b\xfcndle"))
    source = os.fsdecode(b"d\xe4ta")
    wanted = {"precisions": ["int8"], "flavours": ["ort"], **SMALL}

    made = calibrate_bundle(moved, clips, source=source, **wanted)

    assert made.manifest.calibration["ort"]["int8"].source == "d\\udce4ta"


def test_staleness_is_written_and_stays_where_clips_are_too_few_for_another(
    copy, clips, monkeypatch
):
    lines = []
    how = {"source": "the clips", "flavours": ("ort",), "precisions": ("fp16",), **SMALL}
    with monkeypatch.context() as patch:
        patch.setattr(
            calibrate_module, "fit_staleness", lambda *_, **__: StalenessModel(**staleness_fields())
        )
        calibrate_bundle(copy, clips, **how)
    assert Bundle.open(copy).manifest.staleness.growth == 0.5

    calibrate_bundle(copy, clips, progress=lines.append, **how)
    assert Bundle.open(copy).manifest.staleness.growth == 0.5
    assert any(line.startswith("not fitted how stale an answer is: 2 clips") for line in lines)
