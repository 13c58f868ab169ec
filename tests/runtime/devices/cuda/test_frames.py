"""Images that come in on the device, and label maps that leave on it."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import EngineError, FrameError
from dff_edge.runtime.devices.cuda.driver import CurrentContext, DeviceMemory
from dff_edge.runtime.devices.cuda.frames import DeviceImage
from dff_edge.runtime.devices.cuda.memory import ArrayPool
from tests.runtime.devices.cuda.bench import CudaBench, Gate, stays_undone
from tests.runtime.devices.cuda.dlpack import CPU, CUDA, UINT8, Consumer, Producer

HEIGHT, WIDTH = 10, 14
OUT = TensorSpec("frame", np.dtype(np.uint8), (1, 5, 7, 3))


class Interface:
    """An image of another library by ``__cuda_array_interface__``."""

    def __init__(self, pointer, shape=(HEIGHT, WIDTH, 3), **fields):
        self.__cuda_array_interface__ = {
            "data": (pointer, False),
            "shape": shape,
            "typestr": "|u1",
            "version": 3,
            **fields,
        }


@pytest.fixture
def picture():
    return np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture
def stream(any_device):
    stream = any_device.stream("copy in")
    yield stream
    stream.close()


def put(device, stream, array):
    """A host array in device memory."""
    buffer = device.buffer(TensorSpec("image", array.dtype, array.shape), host=True)
    buffer.array[...] = array
    device.copy_in(buffer, stream)
    stream.synchronize()
    return buffer


def resized(device, image, stream):
    out = device.buffer(OUT, host=True)
    device.resize(image, out, stream)
    device.copy_out(out, stream)
    stream.synchronize()
    return out.array.copy()


def assert_halved(got, picture):
    """A picture at half its size has the means of four pixels, to the nearest level."""
    means = picture.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean((1, 3))
    assert np.abs(got[0] - means).max() <= 0.5


@pytest.mark.parametrize("padding", [0, 5], ids=["packed", "padded rows"])
@pytest.mark.parametrize("protocol", ["interface", "dlpack"])
def test_an_image_on_the_device_is_read_in_place(any_device, stream, picture, protocol, padding):
    rows = np.zeros((HEIGHT, WIDTH * 3 + padding), np.uint8)
    rows[:, : WIDTH * 3] = picture.reshape(HEIGHT, -1)
    buffer = put(any_device, stream, rows)
    strides = (WIDTH * 3 + padding, 3, 1) if padding else None
    if protocol == "interface":
        image = Interface(buffer.pointer, strides=strides)
    else:
        image = Producer(buffer.pointer, picture.shape, strides)
    taken = any_device.check_image(image)

    assert isinstance(taken, DeviceImage)
    assert (taken.pointer, taken.shape) == (buffer.pointer, (HEIGHT, WIDTH, 3))
    assert taken.row_bytes == WIDTH * 3 + padding
    assert_halved(resized(any_device, taken, stream), picture)


def test_an_image_of_the_host_stays_there(any_device, picture):
    assert any_device.check_image(picture) is picture


def test_an_image_is_taken_once(any_device, stream, picture):
    taken = any_device.check_image(Interface(put(any_device, stream, picture).pointer))

    assert any_device.check_image(taken) is taken


def test_dlpack_is_taken_of_an_image_that_has_both(any_device, stream, picture):
    buffer = put(any_device, stream, picture)
    image = Producer(buffer.pointer, picture.shape)
    image.__cuda_array_interface__ = Interface(4096).__cuda_array_interface__

    assert any_device.check_image(image).pointer == buffer.pointer


def test_the_byte_offset_of_a_capsule_counts(any_device, stream, picture):
    buffer = put(any_device, stream, np.concatenate([np.zeros(32, np.uint8), picture.ravel()]))
    taken = any_device.check_image(Producer(buffer.pointer, picture.shape, byte_offset=32))

    assert taken.pointer == buffer.pointer + 32


def test_the_memory_is_kept_until_the_image_goes(any_device, stream, picture):
    buffer = put(any_device, stream, picture)
    producer, image = Producer(buffer.pointer, picture.shape), Interface(buffer.pointer)
    kept = weakref.ref(image)
    taken = [any_device.check_image(producer), any_device.check_image(image)]
    del image
    gc.collect()
    assert producer.deleted == 0
    assert kept() is not None
    taken.clear()
    gc.collect()

    assert producer.deleted == 1
    assert kept() is None


def test_the_producers_stream_is_waited_for(device, picture, driver_library):
    producing, stream = device.stream("producer"), device.stream("copy in")
    buffer = put(device, stream, picture)
    gate = Gate(CudaBench(device, driver_library), producing)
    taken = device.check_image(Interface(buffer.pointer, stream=producing.handle))
    out, done = device.buffer(OUT), stream.event()
    device.resize(taken, out, stream)
    stream.record(done)

    assert stays_undone(done)
    gate.open()
    done.synchronize()
    for one in (producing, stream):
        one.close()


def test_a_dlpack_producer_makes_our_stream_wait(device, picture, driver_library):
    """As the protocol has it: the producer is told a stream, and has that one wait."""
    producing, stream = device.stream("producer"), device.stream("copy in")
    buffer = put(device, stream, picture)
    gate = Gate(CudaBench(device, driver_library), producing)
    producer = Producer(buffer.pointer, picture.shape)

    def wait(handle):
        event = producing.event()
        producing.record(event)
        device.external_stream(handle).wait(event)

    producer.before_export = wait
    taken = device.check_image(producer)
    out, done = device.buffer(OUT), stream.event()
    device.resize(taken, out, stream)
    stream.record(done)

    assert stays_undone(done)
    assert producer.asked_streams[0] not in (None, 0)
    gate.open()
    done.synchronize()
    for one in (producing, stream):
        one.close()


def test_pycuda_takes_no_foreign_stream(leaves_nothing, driver_library):
    from tests.runtime.conftest import open_or_skip

    with open_or_skip("pycuda") as device:
        with pytest.raises(EngineError, match=r"stream 0x1234 of another library.*cuda-python"):
            device.check_image(Interface(4096, stream=0x1234))
        device.check_image(Interface(4096, stream=1))  # the default stream is no stranger


REFUSED = {
    "grey": ({"shape": (HEIGHT, WIDTH)}, r"shape \(10, 14\), expected \(H, W, 3\)"),
    "channels first": ({"shape": (3, HEIGHT, WIDTH)}, r"Channels come last"),
    "with alpha": ({"shape": (HEIGHT, WIDTH, 4)}, r"expected \(H, W, 3\)"),
    "empty": ({"shape": (0, WIDTH, 3)}, r"14 x 0 pixels, expected 1 to 16384"),
    "huge": ({"shape": (20000, WIDTH, 3)}, r"14 x 20000 pixels"),
    "float": ({"typestr": "<f4"}, r"dtype <f4, expected uint8"),
    "signed": ({"typestr": "|i1"}, r"dtype \|i1, expected uint8"),
    "flipped": ({"strides": (-42, 3, 1)}, r"strides \(-42, 3, 1\), expected pixels side by side"),
    "transposed": ({"strides": (3, 30, 1)}, r"strides \(3, 30, 1\)"),
    "of RGBA": ({"strides": (56, 4, 1)}, r"strides \(56, 4, 1\)"),
    "planar": ({"strides": (14, 1, 140)}, r"strides \(14, 1, 140\)"),
    "overlapping rows": ({"strides": (41, 3, 1)}, r"strides \(41, 3, 1\)"),
    "masked": ({"mask": object()}, r"has a mask"),
    "of an ambiguous stream": ({"stream": 0}, r"stream 0.*1 for the default stream"),
}


@pytest.mark.parametrize(("fields", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_image_is_refused(device, fields, message):
    with pytest.raises(FrameError, match=message):
        device.check_image(Interface(4096, **fields))


def test_a_row_by_itself_may_have_any_stride(device):
    assert device.check_image(Interface(4096, (1, 7, 3), strides=(1, 3, 1))).row_bytes == 21


def test_a_capsule_of_another_dtype_is_refused(device):
    with pytest.raises(FrameError, match="code 2 of 32 bits and 1 lanes, expected uint8"):
        device.check_image(Producer(4096, (HEIGHT, WIDTH, 3), dtype=(2, 32, 1)))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((CPU, 0), "on the CPU 0, expected a numpy array or memory of CUDA device 0"),
        ((CUDA, 1), "on a GPU 1, expected"),
        ((10, 0), "a device of kind 10 0"),
    ],
)
def test_memory_elsewhere_is_refused(device, place, message):
    producer = Producer(4096, (HEIGHT, WIDTH, 3), device=place)

    with pytest.raises(FrameError, match=message):
        device.check_image(producer)
    assert producer.asked_streams == []


def test_a_torch_tensor_of_the_cpu_is_refused(device):
    torch = pytest.importorskip("torch")

    with pytest.raises(FrameError, match=r"on the CPU 0.*numpy\.asarray\(frame\)"):
        device.check_image(torch.zeros((HEIGHT, WIDTH, 3), dtype=torch.uint8))


def test_what_is_no_array_is_refused(device):
    with pytest.raises(FrameError, match="The frame is a str"):
        device.check_image("frame.png")


def decode(device, stream):
    """A label map on the device."""
    scores = put(device, stream, np.zeros((1, 3, 5, 4), np.float32))
    labels, _ = device.decode(scores, (6, 10), stream, confidence=False)
    stream.synchronize()
    return labels


def test_a_label_map_leaves_by_the_array_interface(any_device, stream):
    labels = decode(any_device, stream)
    assert labels.__cuda_array_interface__ == {
        "shape": (6, 10),
        "typestr": "|u1",
        "data": (labels.pointer, False),
        "strides": None,
        "stream": None,
        "version": 3,
    }


def test_a_label_map_leaves_by_dlpack(any_device, stream):
    labels = decode(any_device, stream)
    consumer = Consumer(labels.__dlpack__(stream=7, max_version=(1, 0)))

    assert labels.__dlpack_device__() == consumer.device == (CUDA, 0)
    assert (consumer.pointer, consumer.dtype) == (labels.pointer, UINT8)
    assert consumer.shape == (6, 10)
    assert consumer.strides == (10, 1)
    consumer.release()


def test_a_capsule_that_nobody_took_lets_go(any_device, stream):
    labels = decode(any_device, stream)
    kept, capsule = weakref.ref(labels), labels.__dlpack__()
    del labels
    gc.collect()
    assert kept() is not None
    del capsule
    gc.collect()

    assert kept() is None


def test_the_memory_of_a_label_map_waits_for_its_last_user(any_device, stream):
    labels = decode(any_device, stream)
    pointer, consumer = labels.pointer, Consumer(labels.__dlpack__())
    del labels
    gc.collect()
    others = [decode(any_device, stream), decode(any_device, stream)]
    assert pointer not in [other.pointer for other in others]
    consumer.release()
    gc.collect()

    assert decode(any_device, stream).pointer == pointer


class RacingDriver:
    """While a pool frees its blocks, another thread lets go of the pool's last array."""

    def __init__(self):
        self.pool = ArrayPool(self)
        self.freed, self.closed = [], 0
        self.push = lambda: None

    def current(self):
        return CurrentContext(push=self.push, pop=lambda: None)

    def allocate(self, nbytes):
        return DeviceMemory(4096, None)

    def free(self, memory):
        self.freed.append(memory.pointer)

    def close(self):
        self.closed += 1


def test_arrays_let_go_by_two_threads_at_once_close_the_driver_once():
    driver = RacingDriver()
    array = driver.pool.array((6, 10))
    driver.pool.close()
    assert driver.closed == 0
    driver.push = driver.pool._close_when_unused
    del array

    assert (driver.freed, driver.closed) == ([4096], 1)


@pytest.mark.parametrize("asked", [{"copy": True}, {"dl_device": (CPU, 0)}], ids=str)
def test_a_label_map_is_not_copied_for_a_consumer(any_device, stream, asked):
    labels = decode(any_device, stream)
    with pytest.raises(BufferError, match="handed out as it is on device"):
        labels.__dlpack__(**asked)
