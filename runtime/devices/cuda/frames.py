"""Images that are on the device already: from CuPy, torch, a hardware decoder.

An image is uint8 ``(H, W, 3)`` BGR, pixels side by side; rows may be padded. It is passed by DLPack
or by ``__cuda_array_interface__``, and is read in place: it must not be written to before its
result is there. Where an object has both, DLPack is used: it always tells when the image is
written, and the interface only in version 3 (torch's is version 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dff_edge import _native
from dff_edge.errors import FrameError
from dff_edge.runtime.devices.cuda.context import CudaContext
from dff_edge.runtime.devices.cuda.streams import CudaEvent, CudaStream, ExternalStream
from dff_edge.runtime.kernels.resize import MAX_SIDE_PX

_CHANNELS = 3
_DLPACK_DEVICES = {1: "the CPU", 2: "a GPU", 3: "pinned host memory", 13: "managed memory"}
_DLPACK_CUDA = 2
_DLPACK_UINT8 = (1, 8, 1)  # kDLUInt, bits, lanes


@dataclass(frozen=True)
class DeviceImage:
    """An image in device memory.

    Attributes:
        pointer: address of its first pixel.
        shape: ``(H, W, 3)``.
        row_bytes: distance from one row to the next.
        ready: event that its producer has written it; None where it is written already.
        owner: the object that keeps the memory alive.
    """

    pointer: int
    shape: tuple[int, int, int]
    row_bytes: int
    ready: CudaEvent | None
    owner: Any


def is_device_image(image: Any) -> bool:
    """Return whether an object offers an array interface other than numpy's."""
    return hasattr(image, "__cuda_array_interface__") or hasattr(image, "__dlpack__")


def take_image(image: Any, device: CudaContext, intake: CudaStream) -> DeviceImage:
    """Accept an image of another library, without a copy and without waiting for it.

    Args:
        image: has ``__cuda_array_interface__`` or ``__dlpack__``.
        device: the device that it must be on.
        intake: a stream that waits for the producer of the image.

    Raises:
        FrameError: another shape, dtype or layout, or not on this device.
    """
    if hasattr(image, "__dlpack__"):
        return _from_dlpack(image, device, intake)
    return _from_interface(image, device)


def _from_interface(image: Any, device: CudaContext) -> DeviceImage:
    interface = image.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise FrameError("The frame has a mask, expected a plain image. Fill it in first.")
    if interface["typestr"][1:] != "u1":
        raise FrameError(f"The frame has dtype {interface['typestr']}, expected uint8 (|u1).")
    shape, row_bytes = _layout(tuple(interface["shape"]), interface.get("strides"))
    ready = None
    number = interface.get("stream")
    if number == 0:  # which the protocol forbids: it may mean one of two default streams, or none
        raise FrameError(
            "The frame's __cuda_array_interface__ names stream 0, expected None for one that is "
            "written, 1 for the default stream, 2 for that of the thread, or a handle."
        )
    if number is not None:
        producer = ExternalStream(device, number, "the frame's")
        ready = producer.event()
        producer.record(ready)
    return DeviceImage(interface["data"][0], shape, row_bytes, ready, image)


def _from_dlpack(image: Any, device: CudaContext, intake: CudaStream) -> DeviceImage:
    kind, ordinal = image.__dlpack_device__()
    if (int(kind), ordinal) != (_DLPACK_CUDA, device.ordinal):
        place = _DLPACK_DEVICES.get(int(kind), f"a device of kind {int(kind)}")
        raise FrameError(
            f"The frame is on {place} {ordinal}, expected a numpy array or memory of CUDA device "
            f"{device.ordinal}. Move it there, or pass numpy.asarray(frame)."
        )
    # The producer has this stream wait for its own.
    tensor = _native.import_dlpack(image.__dlpack__(stream=intake.handle))
    if tensor.dtype != _DLPACK_UINT8:
        code, bits, lanes = tensor.dtype
        raise FrameError(
            f"The frame has DLPack dtype code {code} of {bits} bits and {lanes} lanes, expected "
            "uint8."
        )
    shape, row_bytes = _layout(tuple(tensor.shape), tuple(tensor.strides))
    ready = intake.event()
    intake.record(ready)
    return DeviceImage(tensor.pointer, shape, row_bytes, ready, tensor)


def _layout(
    shape: tuple[int, ...], strides_bytes: tuple[int, ...] | None
) -> tuple[tuple[int, int, int], int]:
    """Return the shape and the row bytes of a uint8 ``(H, W, 3)`` image."""
    if len(shape) != 3 or shape[2] != _CHANNELS:
        raise FrameError(
            f"The frame has shape {shape}, expected (H, W, 3) BGR on the device. Channels come "
            "last; convert grey images and drop the alpha before."
        )
    height, width, channels = shape
    if not (0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX):
        raise FrameError(
            f"The frame is {width} x {height} pixels, expected 1 to {MAX_SIDE_PX} on each side."
        )
    packed = width * channels
    row, pixel, channel = strides_bytes or (packed, channels, 1)
    if height == 1:
        row = packed  # of one row: the stride is unused, and libraries put any value there
    if (width > 1 and pixel != channels) or channel != 1 or row < packed:
        raise FrameError(
            f"The frame of shape {shape} has strides {strides_bytes}, expected pixels side by side "
            f"(at least {packed}, {channels}, 1). Make it contiguous; a flipped or transposed view "
            "needs that too."
        )
    return (height, width, channels), row
