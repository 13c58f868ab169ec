"""NVIDIA GPUs: the device, and engines that run on it. Needs cuda-python or pycuda."""

from __future__ import annotations

from dff_edge.runtime.devices.cuda.device import CudaDevice as CudaDevice
from dff_edge.runtime.devices.cuda.device import open_device as open_device
