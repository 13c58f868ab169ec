"""The pipeline, the main entry point: frames in, label maps or boxes out, in order.

    with Pipeline.open("street", policy="fixed:10") as pipeline:
        for result in pipeline.run(open_source("street.mp4")):
            print(result.frame.index, result.labels.shape)

There is no global state: several pipelines run side by side in one process, no signal handler is
set, and after ``close`` no thread is left. An unclosed pipeline does no harm: see ``lifetime``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.shipped import find_bundle
from dff_edge.errors import FrameError, PipelineError, raises_out_of_memory
from dff_edge.frames import Frame, Result, check_stamp
from dff_edge.lifetime import EXIT_S, Closing, bind, is_inherited
from dff_edge.names import Precision
from dff_edge.runtime.assembly import Assembled, assemble
from dff_edge.runtime.engines.backends import DEFAULT_BACKEND, backend_of
from dff_edge.runtime.engines.options import CudaOptions
from dff_edge.runtime.engines.subnets import Opened
from dff_edge.runtime.exclusive import ExclusiveCalls
from dff_edge.runtime.key_selection import KeySelector
from dff_edge.runtime.key_turns import KeyTurn
from dff_edge.runtime.keys import IN_ORDER, KeyMode
from dff_edge.runtime.known_distances import KnownDistances
from dff_edge.runtime.policy import KeyFramePolicy
from dff_edge.runtime.schedule import Schedule
from dff_edge.runtime.scheduler import Scheduler
from dff_edge.runtime.trace import Trace

_log = logging.getLogger("dff_edge.runtime")


class Pipeline(Closing):
    """Deep Feature Flow over one video stream.

    Use it from one thread at a time; concurrent calls raise. ``close`` and ``force_key``
    may be called in any thread. Open one pipeline for each stream, or `Pipelines`, which share
    engines.

    Example:
        >>> with Pipeline.open("street.bundle") as pipeline:  # doctest: +SKIP
        ...     for result in pipeline.run(open_source("drive.mp4")):
        ...         print(result.frame.index, result.key_index, result.labels.shape)

    Args:
        scheduler: where frames are computed.
        policy: when to take a key frame.
        opened: engines and device, closed with the pipeline.
        turn: at the feature network, among the pipelines that share it.
        bundle: where the engines are from.
        schedule: how their work is shared out, and why.
        distances: those that the bundle is known for, beyond which a warning is logged.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        policy: KeyFramePolicy,
        *,
        opened: Opened,
        turn: KeyTurn,
        bundle: Bundle | None = None,
        schedule: Schedule | None = None,
        distances: KnownDistances | None = None,
    ) -> None:
        self.policy = policy
        self.bundle = bundle
        self.schedule = schedule
        self._scheduler = scheduler
        self._opened = opened
        self._turn = turn
        self._distances = distances or KnownDistances(None)
        self._selector = KeySelector(scheduler, turn)
        self._next_index = 0
        self._is_closed = False
        self._run: object = None
        self._is_run_left = False  # an interrupted run left frames in flight, to be dropped
        self._calls = ExclusiveCalls()
        bind(self, at_exit=Pipeline._end_at_exit)

    @classmethod
    @raises_out_of_memory("opening the pipeline")
    def open(
        cls,
        bundle: str | Path | Bundle,
        *,
        precision: Precision = "fp32",
        policy: str | KeyFramePolicy | None = None,
        depth: int = 3,
        threads: int | None = None,
        engine: str = DEFAULT_BACKEND,
        overlap: bool | None = None,
        keys: str | KeyMode = IN_ORDER,
        confidence: bool = False,
        trace: Trace | None = None,
        cuda: CudaOptions | None = None,
    ) -> Pipeline:
        """Open a bundle for running, on the CPU or a GPU.

        Args:
            bundle: its folder, the name of a model that comes with dff-edge (``dff-edge zoo``),
                or an open bundle. Of a model, a bundle that is ready is used where it holds the
                precision, else one is exported, once.
            precision: "fp32", "fp16" or "int8"; the bundle must hold it.
            policy: when to take a key frame: "fixed:10"; "adaptive:0.05" for one where more than 5%
                of an answer would be stale, and at a cut of the scene; "saving:0.3" for one where
                it saves so many wholly wrong answers, and at a cut; "idle" for one as soon as the
                one before is done, with key frames in the background; or a ``KeyFramePolicy`` of
                your own. None takes "idle" with ``keys`` "background", else the bundle's key
                interval.
            depth: frames in flight at most. 1 computes each frame by itself, as fast as it can be
                answered. More let networks of several frames run side by side, the flow network
                on half the threads, and ``run`` then hands out a result ``depth - 1`` frames
                later; on two cores 3 gave the most frames per second.
            threads: threads of the feature network on the CPU; None means all cores of this
                process or, with key frames in the background, as many as leave the other networks
                their speed, which is measured in a few seconds.
            engine: what computes the graphs: "onnxruntime" or "openvino" on the CPU, "cuda" (ONNX
                Runtime) or "tensorrt" on an NVIDIA GPU.
            overlap: whether the networks of several frames run side by side. None has it measured
                on a GPU, which takes about three seconds, longer with slow networks
                (``schedule`` says the outcome); on the CPU they do.
            keys: when the features of a new key frame are used. "in-order": its own answer waits
                for them. "background": frames, that one included, are answered from the older key
                frame until they are ready, and the feature network has the lowest priority; for
                live sources. "lag:n": the same with the features used exactly n frames after
                their key frame, so that results do not depend on the machine. The first frame, and
                the first after a gap or a change of size, waits for its own features in any case.
            confidence: whether results have a confidence for each pixel, beside the label map.
            trace: takes the time of every stage on every stream.
            cuda: how the GPU is used.

        Raises:
            BundleError: when there is none, or it is damaged or lacks the precision.
            ConfigError: for a confidence of a task without label maps, and for a policy or key mode
                that does not exist, or does not fit the other.
            EngineError: when a graph cannot be loaded, or has not been deployed here.
            MissingDependencyError: when the engine, or a package for the first use of a model,
                is not installed.
            OutOfMemoryError: when there is too little memory for its buffers.
        """
        if not isinstance(bundle, Bundle):
            reopen = partial(
                cls.open,
                precision=precision,
                policy=policy,
                depth=depth,
                threads=threads,
                engine=engine,
                overlap=overlap,
                keys=keys,
                confidence=confidence,
                trace=trace,
                cuda=cuda,
            )
            flavour = backend_of(engine).flavour
            folder = find_bundle(bundle, holding=(precision,), flavour=flavour)
            return Bundle.use(folder, reopen)
        (assembled,) = assemble(
            bundle,
            precision,
            policies=[policy],
            depth=depth,
            threads=threads,
            engine=engine,
            overlap=overlap,
            keys=keys,
            confidence=confidence,
            traces=[trace],
            cuda=cuda,
        )
        return cls.of(assembled, bundle)

    @classmethod
    def of(cls, assembled: Assembled, bundle: Bundle) -> Pipeline:
        """Return the pipeline of parts that were opened from a bundle."""
        return cls(
            assembled.scheduler,
            assembled.policy,
            opened=assembled.opened,
            turn=assembled.turn,
            bundle=bundle,
            schedule=assembled.schedule,
            distances=assembled.distances,
        )

    @property
    def depth(self) -> int:
        """Frames in flight at most."""
        return self._scheduler.depth

    @property
    def keys(self) -> KeyMode:
        """When the features of a new key frame are used."""
        return self._scheduler.keys

    @property
    def is_full(self) -> bool:
        """Whether ``poll`` must return a result before ``submit`` accepts another frame."""
        return self._scheduler.is_full and not self._is_run_left

    def submit(self, frame: Frame | Any, stamp_s: float | None = None) -> None:
        """Start computing a frame.

        Returns as soon as its image is read; the array may then be reused.

        The exception is a ``Frame``: its image becomes part of the result and must not change.

        Args:
            frame: a ``Frame``, or an image uint8 ``(H, W, 3)`` BGR (grey and BGRA are converted)
                that gets the next number.
            stamp_s: ``time.monotonic()`` at the capture of an image; None for now. A capture time
                of another clock goes into a ``Frame``.

        Raises:
            FrameError: for an image that cannot be used, a frame number that does not grow, or a
                stamp that is not finite or lies in the future. The frame is not counted.
            OutOfMemoryError: the frame was not accepted; smaller ones may be.
            PipelineError: when ``is_full``, closed, in use by another thread, or a stage failed.
        """
        with self._in_call("submit"):
            self._submit(frame, stamp_s)

    def _submit(self, frame: Frame | Any, stamp_s: float | None) -> None:
        if not isinstance(frame, Frame):
            image = self._opened.device.check_image(frame)
            if isinstance(image, np.ndarray) and np.may_share_memory(image, frame):
                image = image.copy()  # the caller's memory: a camera driver reuses it
            now_s = time.monotonic()
            stamp_s = now_s if stamp_s is None else check_stamp(stamp_s, live=True, now_s=now_s)
            frame = Frame(
                image, self._next_index, stamp_s, segment=self._selector.segment, live=True
            )
        else:
            check_stamp(frame.stamp_s, live=frame.live, now_s=time.monotonic())
            image = self._opened.device.check_image(frame.image)
            if image is not frame.image:
                frame = replace(frame, image=image)
        if frame.index < self._next_index:
            raise FrameError(
                f"frame {frame.index} was submitted after frame {self._next_index - 1}; numbers "
                "must grow. Call reset() before another source."
            )
        self._selector.submit(frame, self.policy)
        self._next_index = frame.index + 1

    def poll(self, *, block: bool = False) -> Result | None:
        """Return the next result, in frame order.

        Args:
            block: wait for it when frames are in flight.

        Returns:
            None when nothing is in flight, or, without ``block``, when the next result is not
            ready.

        Raises:
            PipelineError: when closed, in use by another thread, or a stage has failed.
        """
        with self._in_call("poll"):
            if not self._scheduler.in_flight or not (block or self._scheduler.is_next_done):
                return None
            return self._collect_next()

    def run(self, source: Iterable[Frame]) -> Generator[Result, None, None]:
        """Yield the results of all frames of a source, in order.

        Keeps ``depth`` frames in flight, so a result is returned ``depth - 1`` frames after its
        own was read; a live source is run with one frame in flight and adds no such delay. Open the
        pipeline with ``depth=1`` for one: else its flow network has half the threads. Frames
        that cannot be used are logged and, where the source counts, counted as failed. When the
        source itself fails, the frames before are finished, then its error is raised.

        Args:
            source: from ``open_source``, or any iterable of frames in order. It is not closed.

        Raises:
            PipelineError: when closed, in use by another thread, a stage has failed, or another
                ``run`` was begun since.
        """
        self.reset()
        this_run = self._run = object()
        in_flight = 1 if getattr(source, "live", False) else self.depth
        failure: Exception | None = None
        frames = iter(source)
        try:
            while True:
                try:
                    frame = next(frames)
                except StopIteration:
                    break
                except Exception as error:  # raised when the frames read before are finished
                    failure = error
                    break
                try:
                    self.submit(frame)
                except FrameError as error:
                    number = frame.index if isinstance(frame, Frame) else "?"
                    _log.warning("frame %s skipped: %s", number, error)
                    counts = getattr(source, "counts", None)
                    if counts is not None:
                        counts.fail(str(error))
                    continue
                if self._scheduler.in_flight >= in_flight:
                    yield self._collect()
                    self._check_is_current(this_run)
            while self._scheduler.in_flight:
                yield self._collect()
                self._check_is_current(this_run)
            if failure is not None:
                raise failure
        finally:
            # A generator may be collected long after another run has begun, in a forked child, and
            # in a thread of this pipeline, where waiting is impossible: the next call cleans up.
            if not is_inherited(self) and self._run is this_run:
                self._is_run_left = True

    def force_key(self) -> None:
        """Make the next frame a key frame that waits for its own features; for any thread.

        For after a gap in the frames of a robot's own camera, or a cut.

        Raises:
            PipelineError: when closed.
        """
        self._check_open()
        self._selector.force()

    def reset(self) -> None:
        """Drop the frames in flight and start over: the next frame is a key frame, numbered from 0.

        Raises:
            PipelineError: when closed, or in use by another thread.
        """
        with self._in_call("reset"):
            self._begin_anew()

    def close(self) -> None:
        """Wait for the frames in flight, end all threads, free all graphs; twice is allowed.

        For any thread: a call in another thread is waited for, its next one raises.
        """
        self._is_closed = True
        with self._calls.lock:
            self._turn.leave()
            # Again on a second call: the first may have been interrupted.
            self._scheduler.close()
            self._opened.close()

    @contextmanager
    def _in_call(self, call: str) -> Iterator[None]:
        """Exclude other threads, drop an interrupted run's frames, raise ``OutOfMemoryError``."""
        with self._calls.enter(call):
            self._check_open()
            if self._is_run_left:
                self._begin_anew()
            with raises_out_of_memory(f"{call}()"):
                yield

    def _begin_anew(self) -> None:
        self._scheduler.drop_all()
        self._scheduler.forget_key()
        self._selector.forget()
        self._next_index = 0
        self._is_run_left = False

    def _collect(self) -> Result:
        with self._in_call("run"):
            return self._collect_next()

    def _collect_next(self) -> Result:
        result = self._scheduler.collect()
        self._selector.add(result)
        self._distances.add(result)
        return result

    def _end_at_exit(self) -> None:
        """Drop the frames in flight and admit no more calls.

        A thread of the user's that returns from native code after the interpreter has ended would
        abort the process.
        """
        self._is_closed = True
        self._scheduler.abandon()
        if not self._calls.lock.acquire(timeout=EXIT_S):
            return
        try:
            self.close()
        finally:
            self._calls.lock.release()

    def _check_is_current(self, run: object) -> None:
        if self._run is not run:
            raise PipelineError("another run was begun on this pipeline, which ended this one.")

    def _check_open(self) -> None:
        if self._is_closed:
            raise PipelineError("the pipeline is closed; open another one.")
