"""Names that commands, manifests and runtime share; importing this module loads nothing else.

The names of the backends are those of ``runtime/engines/backends.py``.
"""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "int8"]
# task_maps is a detector's task network up to its learned maps.
Subnet = Literal["feature", "flow", "task", "task_maps", "propagate"]
# Rules of quantisation that a graph follows: ONNX Runtime's (and OpenVINO's), or TensorRT's.
Flavour = Literal["ort", "trt"]
# For TensorRT, propagate has the warp as a plugin node; the portable form is another file.
GraphName = Literal["feature", "flow", "task", "task_maps", "propagate", "propagate_portable"]
# Source of flow and scale field: flow.onnx, or a function of engines/hand_crafted_flow.py.
FlowFunction = Literal[
    "network",
    "dis-ultrafast",
    "dis-fast",
    "dis-medium",
    "farneback",
    "siftflow-fast",
    "siftflow-slow",
]
# Of INT8 weights for ONNX Runtime and OpenVINO; 7 for x86 without VNNI.
WeightBits = Literal[8, 7]
# The package for the CUDA driver.
DriverName = Literal["cuda-python", "pycuda"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
CALIBRATED: tuple[Precision, ...] = ("int8", "fp16")  # made of fp32 by calibration
# Graphs of every bundle; those of detection also have task_maps.
SUBNETS: tuple[Subnet, ...] = ("feature", "flow", "task", "propagate")
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)
TENSORRT_GRAPHS: tuple[GraphName, ...] = (*SUBNETS, "propagate_portable")
FLOWS: tuple[FlowFunction, ...] = get_args(FlowFunction)
HAND_CRAFTED_FLOWS: tuple[FlowFunction, ...] = FLOWS[1:]
WEIGHT_BITS: tuple[WeightBits, ...] = get_args(WeightBits)
DRIVERS: tuple[DriverName, ...] = get_args(DriverName)
