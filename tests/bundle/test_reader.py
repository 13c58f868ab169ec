"""Opening a bundle and its folder: each rule by which one is refused, what a sound one gives."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.writer import BundleWriter
from dff_edge.errors import BundleError
from tests.bundle.bundles import make_bundle, make_model, make_tensorrt_graphs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound bundle, to be damaged."""
    return make_bundle(tmp_path / "bundle").path


def edit_manifest(folder: Path, edit: Any) -> None:
    fields = json.loads((folder / "manifest.json").read_text())
    edit(fields)
    (folder / "manifest.json").write_text(json.dumps(fields))


def replace_graph(folder: Path, name: str, data: bytes) -> None:
    """Put another file in place, with the right digest in the manifest."""
    (folder / name).write_bytes(data)
    record = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit_manifest(folder, lambda fields: fields["files"].update({name: record}))


def test_a_sound_bundle_opens(tmp_path):
    made = make_bundle(tmp_path / "b", (64, 96), 5, 4, precisions=("fp32", "int8"))
    bundle = Bundle.open(tmp_path / "b")

    assert bundle == made
    assert bundle.precisions == ("fp32", "int8")
    assert bundle.manifest.frame_size == (64, 96)
    assert bundle.digest == hashlib.sha256((bundle.path / "manifest.json").read_bytes()).hexdigest()


def test_graph_bytes_are_the_file(folder):
    bundle = Bundle.open(folder)

    assert bundle.graph_bytes("fp32", "flow") == (folder / "flow.onnx").read_bytes()


def test_size_is_that_of_the_three_graphs_of_a_frame(folder):
    names = ("feature.onnx", "flow.onnx", "task.onnx")

    assert Bundle.open(folder).size_bytes("fp32") == sum(
        (folder / name).stat().st_size for name in names
    )


def test_a_summary_tells_operators(folder):
    assert Bundle.open(folder).graph_summary("fp32", "feature").operators["Conv"] == 2


def test_a_link_to_the_bundle_itself_is_followed(folder, tmp_path):
    (tmp_path / "latest").symlink_to(folder)

    assert Bundle.open(tmp_path / "latest").precisions == ("fp32",)


def test_a_staging_folder_of_a_crashed_writer_is_ignored(folder):
    (folder / ".staging-0123abcd").mkdir()
    (folder / ".staging-0123abcd" / "flow.onnx").write_bytes(b"half a fi")

    assert Bundle.open(folder).precisions == ("fp32",)


def test_an_absent_folder_is_refused(tmp_path):
    with pytest.raises(BundleError, match="nowhere does not exist, expected a bundle"):
        Bundle.open(tmp_path / "nowhere")


def test_a_file_is_refused(folder):
    with pytest.raises(BundleError, match="flow.onnx is not a folder"):
        Bundle.open(folder / "flow.onnx")


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(BundleError, match="holds no manifest.json, so it is not a bundle"):
        Bundle.open(tmp_path)


def test_an_oversized_manifest_is_refused(folder):
    with (folder / "manifest.json").open("ab") as file:
        file.write(b" " * (1 << 20))

    with pytest.raises(BundleError, match=r"'manifest.json' has \d+ bytes, expected at most"):
        Bundle.open(folder)


def test_a_manifest_that_is_not_json_is_refused(folder):
    (folder / "manifest.json").write_text("{'a': 1}")

    with pytest.raises(BundleError, match="manifest.json is not JSON"):
        Bundle.open(folder)


def test_duplicate_keys_in_the_manifest_are_refused(folder):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace("{", '{"stride": 16,', 1))

    with pytest.raises(BundleError, match="the key 'stride' twice"):
        Bundle.open(folder)


def test_a_newer_schema_is_refused(folder):
    edit_manifest(folder, lambda fields: fields.update(schema_version=4))

    with pytest.raises(BundleError, match="schema_version 4.*Upgrade dff-edge"):
        Bundle.open(folder)


def test_a_wrong_digest_is_refused(folder):
    data = bytearray((folder / "task.onnx").read_bytes())
    data[-20] ^= 1
    (folder / "task.onnx").write_bytes(data)

    with pytest.raises(BundleError, match="'task.onnx' has the digest .* the manifest says"):
        Bundle.open(folder)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_size_is_refused(folder, change):
    data = (folder / "task.onnx").read_bytes()
    (folder / "task.onnx").write_bytes(data[:-1] if change < 0 else data + b"\0")

    with pytest.raises(BundleError, match=rf"'task.onnx' has {len(data) + change} bytes"):
        Bundle.open(folder)


def test_a_missing_file_is_refused(folder):
    (folder / "flow.onnx").unlink()

    with pytest.raises(BundleError, match="'flow.onnx' is missing"):
        Bundle.open(folder)


def test_a_path_that_leaves_the_bundle_is_refused(folder):
    (folder / "flow.onnx").rename(folder.parent / "flow.onnx")

    def leave(fields: Any) -> None:
        fields["files"]["../flow.onnx"] = fields["files"].pop("flow.onnx")
        fields["graphs"]["ort"]["fp32"]["flow"] = "../flow.onnx"

    edit_manifest(folder, leave)
    with pytest.raises(BundleError, match=r"graphs\.ort\.fp32\.flow: .*stays in the bundle"):
        Bundle.open(folder)


def test_a_link_to_a_file_is_refused(folder):
    (folder / "flow.onnx").rename(folder.parent / "flow.onnx")
    (folder / "flow.onnx").symlink_to(folder.parent / "flow.onnx")

    with pytest.raises(BundleError, match="'flow.onnx' is a link"):
        Bundle.open(folder)


def test_a_link_within_the_bundle_is_refused(folder):
    (folder / "other.onnx").symlink_to("flow.onnx")

    with pytest.raises(BundleError, match="'other.onnx' is a link"):
        Bundle.open(folder)


def test_a_link_as_manifest_is_refused(folder):
    (folder / "manifest.json").rename(folder.parent / "manifest.json")
    (folder / "manifest.json").symlink_to(folder.parent / "manifest.json")

    with pytest.raises(BundleError, match="'manifest.json' is a link"):
        Bundle.open(folder)


def test_a_link_to_a_folder_is_refused(tmp_path):
    folder = make_bundle(tmp_path / "b", precisions=("fp32", "int8")).path
    (folder / "int8").rename(tmp_path / "int8")
    (folder / "int8").symlink_to(tmp_path / "int8")

    with pytest.raises(BundleError, match="'int8' is a link"):
        Bundle.open(folder)


def test_a_link_in_the_place_of_a_staging_folder_is_refused(folder, tmp_path):
    (folder / ".staging-0123abcd").symlink_to(tmp_path)

    with pytest.raises(BundleError, match="'.staging-0123abcd' is a link"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["weights.bin", ".hidden", "flow.onnx.data", ".staging-x"])
def test_an_unlisted_file_is_refused(folder, name):
    (folder / name).write_bytes(b"x")

    with pytest.raises(BundleError, match=f"the file '{name}' is not listed in manifest.json"):
        Bundle.open(folder)


def test_an_unlisted_file_in_a_folder_of_the_bundle_is_refused(tmp_path):
    folder = make_bundle(tmp_path / "b", precisions=("fp32", "int8")).path
    (folder / "int8" / "x").write_bytes(b"x")

    with pytest.raises(BundleError, match="the file 'int8/x' is not listed"):
        Bundle.open(folder)


def test_an_unlisted_folder_is_refused(folder):
    (folder / "plugins").mkdir()

    with pytest.raises(BundleError, match="the folder 'plugins' is not listed"):
        Bundle.open(folder)


def test_a_pipe_is_refused_and_not_waited_for(folder):
    (folder / "flow.onnx").unlink()
    os.mkfifo(folder / "flow.onnx")

    with pytest.raises(BundleError, match="'flow.onnx' is not a plain file"):
        Bundle.open(folder)


def test_an_unlisted_pipe_is_refused(folder):
    os.mkfifo(folder / "pipe")

    with pytest.raises(BundleError, match="'pipe' is not a plain file"):
        Bundle.open(folder)


def test_external_tensor_data_is_refused(folder):
    model = make_model("task")
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].data_location = 1
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    replace_graph(folder, "task.onnx", model.SerializeToString())

    with pytest.raises(BundleError, match=r"task.onnx keeps the tensor 'w'.*external data"):
        Bundle.open(folder)


def test_a_truncated_graph_is_refused(folder):
    replace_graph(folder, "task.onnx", make_model("task").SerializeToString()[:-30])

    with pytest.raises(BundleError, match="task.onnx is truncated or damaged"):
        Bundle.open(folder)


def test_absurd_tensor_sizes_are_refused(folder):
    model = make_model("task")
    model.graph.initializer[0].dims[0] = 1 << 50
    replace_graph(folder, "task.onnx", model.SerializeToString())

    with pytest.raises(BundleError, match="task.onnx has the tensor 'w'.*absurd shape"):
        Bundle.open(folder)


def test_a_graph_of_another_size_is_refused(folder):
    replace_graph(folder, "task.onnx", make_model("task", (48, 64)).SerializeToString())

    with pytest.raises(
        BundleError,
        match=r"task.onnx does not fit.*'features' is float32 \(1, 3, 4, 8\), "
        r"expected float32 \(1, 2, 4, 8\)",
    ):
        Bundle.open(folder)


def test_a_graph_in_the_place_of_another_is_refused(folder):
    replace_graph(folder, "flow.onnx", (folder / "feature.onnx").read_bytes())

    with pytest.raises(BundleError, match="as the flow graph: input 'key_half' is missing"):
        Bundle.open(folder)


def test_a_file_changed_after_opening_is_refused(folder):
    bundle = Bundle.open(folder)
    data = bytearray((folder / "flow.onnx").read_bytes())
    data[100] ^= 1
    (folder / "flow.onnx").write_bytes(data)

    with pytest.raises(BundleError, match="'flow.onnx' has the digest"):
        bundle.graph_bytes("fp32", "flow")


def test_a_file_replaced_by_a_link_after_opening_is_refused(folder):
    bundle = Bundle.open(folder)
    (folder / "flow.onnx").rename(folder.parent / "flow.onnx")
    (folder / "flow.onnx").symlink_to(folder.parent / "flow.onnx")

    with pytest.raises(BundleError, match="'flow.onnx' is a link"):
        bundle.graph_bytes("fp32", "flow")


def test_a_precision_that_is_not_there_is_told(folder):
    with pytest.raises(BundleError, match="holds no int8 graphs, only fp32.*calibrate"):
        Bundle.open(folder).graph_bytes("int8", "flow")


def test_graphs_for_tensorrt_that_are_not_there_are_told(folder):
    bundle = Bundle.open(folder)

    assert bundle.precisions_for("trt") == ()
    with pytest.raises(BundleError, match="no fp32 graphs for TensorRT, only none.*export"):
        bundle.graph_bytes("fp32", "flow", "trt")
    with pytest.raises(BundleError, match="no int8 graphs for TensorRT.*calibrate --flavour trt"):
        bundle.graph_bytes("int8", "flow", "trt")
    with pytest.raises(BundleError, match="no propagate_portable graph in fp32"):
        bundle.graph_bytes("fp32", "propagate_portable")


@pytest.fixture
def tensorrt(folder: Path) -> Path:
    """A sound bundle with graphs for TensorRT."""
    with BundleWriter.extend(folder) as writer:
        for graph, data in make_tensorrt_graphs(seed=1).items():
            writer.add_graph("fp32", graph, data, "trt")
        return writer.commit().path


def test_graphs_for_tensorrt_are_given_and_summarised(tensorrt):
    bundle = Bundle.open(tensorrt)
    summary = bundle.graph_summary("fp32", "propagate", "trt")

    assert summary.operators["dff::DffWarp"] == 1
    assert bundle.size_bytes("fp32", "trt") == sum(
        len(make_tensorrt_graphs(seed=1)[graph]) for graph in ("feature", "flow", "task")
    )


def test_a_graph_for_tensorrt_in_bytes_is_refused_on_opening(tensorrt):
    model = onnx.load_from_string(make_tensorrt_graphs()["task"])
    zero = onnx.numpy_helper.from_array(np.uint8(0), "zero")
    step = onnx.numpy_helper.from_array(np.float32(1), "step")
    model.graph.initializer.extend([zero, step])
    first = model.graph.node[0]
    pair = [
        onnx.helper.make_node("QuantizeLinear", ["features", "step", "zero"], ["q"], "to_bytes"),
        onnx.helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["dq"], "to_floats"),
    ]
    first.input[0] = "dq"
    nodes = [*pair, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    replace_graph(tensorrt, "trt/fp32/task.onnx", model.SerializeToString())

    with pytest.raises(
        BundleError, match=r"trt/fp32/task\.onnx has the QuantizeLinear node 'to_bytes' that is not"
    ):
        Bundle.open(tensorrt)


def test_opening_imports_neither_torch_nor_onnx_nor_onnxruntime(folder):
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxruntime'): sys.modules[name] = None\n"
        "import dff_edge.runtime.engines.onnxruntime, dff_edge.bundle.writer\n"
        "from dff_edge.bundle.reader import Bundle\n"
        "Bundle.open(sys.argv[1]).graph_bytes('fp32', 'flow')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=environment)


def test_a_graph_without_the_plugin_is_not_taken_for_the_one_with_it(tensorrt):
    """The portable form in its place would run, and far slower."""
    portable = (tensorrt / "trt/fp32/propagate_portable.onnx").read_bytes()
    replace_graph(tensorrt, "trt/fp32/propagate.onnx", portable)

    with pytest.raises(BundleError, match=r"propagate\.onnx has 0 nodes DffWarp, expected 1"):
        Bundle.open(tensorrt)
