"""DLPack's structures by ctypes, as dlpack.h has them: a producer and a consumer of capsules."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

CPU, CUDA = 1, 2
UINT8 = (1, 8, 1)

_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class ManagedTensor(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(ManagedTensor))
ManagedTensor._fields_ = [
    ("tensor", Tensor),
    ("context", ctypes.c_void_p),
    ("deleter", _Deleter),
]


class Producer:
    """An image of another library.

    Args:
        pointer: its memory.
        shape: in elements.
        strides: in elements; None where it is contiguous.
        device: kind and number.
        dtype: code, bits, lanes.
        byte_offset: of the first element.
    """

    def __init__(self, pointer, shape, strides=None, device=(CUDA, 0), dtype=UINT8, byte_offset=0):
        self.device = device
        self.asked_streams: list[int | None] = []
        self.deleted = 0
        self.before_export: Callable[[int], None] = lambda stream: None
        self._shape = (ctypes.c_int64 * len(shape))(*shape)
        self._strides = None if strides is None else (ctypes.c_int64 * len(strides))(*strides)
        steps = self._strides if strides is not None else ctypes.POINTER(ctypes.c_int64)()
        tensor = Tensor(pointer, *device, len(shape), *dtype, self._shape, steps, byte_offset)
        self._managed = ManagedTensor(tensor, None, _Deleter(self._delete))

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, *, stream=None):
        self.asked_streams.append(stream)
        self.before_export(stream)
        return _api.PyCapsule_New(ctypes.addressof(self._managed), b"dltensor", None)

    def _delete(self, _):
        self.deleted += 1


class Consumer:
    """Contents of a capsule as another library reads it; ``release`` lets go of it."""

    def __init__(self, capsule):
        address = _api.PyCapsule_GetPointer(capsule, b"dltensor")
        self._managed = ManagedTensor.from_address(address)
        _api.PyCapsule_SetName(capsule, b"used_dltensor")
        tensor = self._managed.tensor
        self.pointer = tensor.data + tensor.byte_offset
        self.device = (tensor.device_type, tensor.device_id)
        self.dtype = (tensor.code, tensor.bits, tensor.lanes)
        self.shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
        self.strides = tuple(tensor.strides[i] for i in range(tensor.ndim))

    def release(self):
        self._managed.deleter(ctypes.byref(self._managed))
