"""The scheduler with torch's CUDA kernels as engines: on a real GPU only.

What the emulated driver cannot show: that real kernels on real streams give the same results
overlapped as in order, by both packages, and that other libraries read and write our memory.
"""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.bundle.contract import graph_contract
from dff_edge.frames import Frame
from dff_edge.runtime.devices.cuda.device import open_device
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.scheduler import Scheduler
from dff_edge.runtime.tasks.segmentation import LabelDecoder
from tests.runtime.devices.cuda.emulation import has_gpu

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not has_gpu(), reason="there is no NVIDIA GPU here"),
]

FRAME_SIZE, CHANNELS = (128, 256), 64


@pytest.fixture(params=["cuda-python", "pycuda"])
def device(request):
    pytest.importorskip({"cuda-python": "cuda.bindings", "pycuda": "pycuda"}[request.param])
    with open_device(request.param) as device:
        yield device


@pytest.fixture
def subnets():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch sees no GPU")
    from benchmarks._torch_engine import TorchEngine
    from dff_edge.export.graphs import FeatureGraph, FlowGraph, TaskGraph
    from dff_edge.trainer.models import (
        FeatureConfig,
        FlowConfig,
        ModelConfig,
        SegmentationConfig,
        build_model,
    )

    config = ModelConfig(
        feature=FeatureConfig(name="resnet18", channels=CHANNELS),
        flow=FlowConfig(name="inception"),
        task=SegmentationConfig(
            classes=("a", "b", "c"), colours=((0, 0, 0), (9, 9, 9), (99, 99, 99))
        ),
        frame_size=FRAME_SIZE,
    )
    torch.manual_seed(0)
    model = build_model(config).eval()
    modules = {
        "feature": FeatureGraph(model, FRAME_SIZE),
        "flow": FlowGraph(model, FRAME_SIZE, CHANNELS),
        "task": TaskGraph(model),
    }
    engines = {}
    for subnet, module in modules.items():
        contract = graph_contract(subnet, frame_size=FRAME_SIZE, channels=CHANNELS, classes=3)
        inputs, outputs = contract.inputs.values(), contract.outputs.values()
        engines[subnet] = TorchEngine(module, list(inputs), list(outputs), name=subnet)
    return Subnets(engines["feature"], engines["flow"], engines["task"])


def run(device, subnets, images, **how):
    scheduler = Scheduler(device, subnets, LabelDecoder(), **how)
    results = []
    try:
        for index, image in enumerate(images):
            if scheduler.is_full:
                results.append(scheduler.collect())
            frame = Frame(device.check_image(image), index, 0.0)
            scheduler.submit(frame, is_key=index % 5 == 0)
        while scheduler.in_flight:
            results.append(scheduler.collect())
    finally:
        scheduler.close()
    return results


@pytest.fixture
def images():
    random = np.random.default_rng(3)
    return list(random.integers(0, 256, (40, *FRAME_SIZE, 3), dtype=np.uint8))


def test_overlapped_results_are_those_in_order_to_the_bit(device, subnets, images):
    in_order = run(device, subnets, images, depth=1, overlap=False)
    for _ in range(5):
        overlapped = run(device, subnets, images, depth=3, overlap=True)
        for a, b in zip(in_order, overlapped, strict=True):
            np.testing.assert_array_equal(a.labels, b.labels)


def test_images_and_labels_of_torch_are_exchanged_in_place(device, subnets, images):
    torch = pytest.importorskip("torch")
    expected = run(device, subnets, images[:7], depth=1, overlap=False)
    far = [torch.from_numpy(image).cuda() for image in images[:7]]
    got = run(device, subnets, far, depth=3, overlap=True)
    for a, b in zip(expected, got, strict=True):
        labels = torch.from_dlpack(b.labels)
        assert labels.data_ptr() == b.labels.pointer
        assert np.mean(labels.cpu().numpy() == a.labels) >= 0.9999
