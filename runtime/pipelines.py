"""Several video streams in one process, over one set of engines.

    with Pipelines.open("street", 2, precision="int8", keys="background", depth=1) as pipelines:
        front, rear = pipelines
        ...  # each in a thread of its own: submit, poll

A stream has a `Pipeline` of its own, with its key frame, policy, buffers and threads. Graphs,
weights and working memory of the networks are in memory once, and the pipelines take turns at them
(`engines.shared`); their key frames do too (`key_turns`). What befalls one, a failure, a pause, its
end, does not touch the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import overload

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.shipped import find_bundle
from dff_edge.errors import ConfigError, raises_out_of_memory
from dff_edge.lifetime import Closing, bind
from dff_edge.names import Precision
from dff_edge.runtime.assembly import assemble
from dff_edge.runtime.engines.backends import DEFAULT_BACKEND, backend_of
from dff_edge.runtime.keys import IN_ORDER, KeyMode
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import KeyFramePolicy
from dff_edge.runtime.trace import Trace

MAX_STREAMS = 64


class Pipelines(Closing, Sequence[Pipeline]):
    """Pipelines of several streams that share engines on the CPU, as a sequence.

    Each is used as a `Pipeline` by itself, in any thread, and may be closed before the others. The
    engines are freed with the last of them.

    Args:
        pipelines: one for each stream.
    """

    def __init__(self, pipelines: Sequence[Pipeline]) -> None:
        self._pipelines = tuple(pipelines)
        bind(self)

    @classmethod
    @raises_out_of_memory("opening the pipelines")
    def open(
        cls,
        bundle: str | Path | Bundle,
        streams: int,
        *,
        precision: Precision = "fp32",
        policy: str | Sequence[KeyFramePolicy] | None = None,
        depth: int = 3,
        threads: int | None = None,
        engine: str = DEFAULT_BACKEND,
        overlap: bool | None = None,
        keys: str | KeyMode = IN_ORDER,
        confidence: bool = False,
        traces: Sequence[Trace] | None = None,
        names: Sequence[str] | None = None,
    ) -> Pipelines:
        """Open a bundle for several streams.

        Args:
            bundle: as of ``Pipeline.open``.
            streams: how many, 1 to 64.
            policy: the name of a policy, which each stream gets an object of, or as many objects
                as there are streams.
            traces: one for each stream, or None.
            names: of the streams, for warnings; None numbers them from 0.
            precision, depth, threads, engine, overlap, keys, confidence: as of ``Pipeline.open``;
                ``depth`` is of each stream, ``threads`` of a network however many use it.

        Raises:
            ConfigError: another number of streams, policies, traces or names, or an engine that
                does not run on the CPU.
            BundleError, EngineError, MissingDependencyError, OutOfMemoryError: as
                ``Pipeline.open``. Nothing is left open.
        """
        if not 1 <= streams <= MAX_STREAMS:
            raise ConfigError(f"streams is {streams}, expected 1 to {MAX_STREAMS}.")
        policies = _policies_of(policy, streams)
        taken = [None] * streams if traces is None else traces
        if len(taken) != streams:
            raise ConfigError(f"there are {len(taken)} traces for {streams} streams.")
        if names is None:
            names = [f"stream {number}" for number in range(streams)]
        if len(names) != streams:
            raise ConfigError(f"there are {len(names)} names for {streams} streams.")
        if not isinstance(bundle, Bundle):
            reopen = partial(
                cls.open,
                streams=streams,
                precision=precision,
                policy=policy,
                depth=depth,
                threads=threads,
                engine=engine,
                overlap=overlap,
                keys=keys,
                confidence=confidence,
                traces=traces,
                names=names,
            )
            flavour = backend_of(engine).flavour
            folder = find_bundle(bundle, holding=(precision,), flavour=flavour)
            return Bundle.use(folder, reopen)
        assembled = assemble(
            bundle,
            precision,
            policies=policies,
            depth=depth,
            threads=threads,
            engine=engine,
            overlap=overlap,
            keys=keys,
            confidence=confidence,
            traces=taken,
            cuda=None,
            names=names,
        )
        return cls([Pipeline.of(parts, bundle) for parts in assembled])

    @overload
    def __getitem__(self, index: int) -> Pipeline: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Pipeline, ...]: ...

    def __getitem__(self, index: int | slice) -> Pipeline | tuple[Pipeline, ...]:
        return self._pipelines[index]

    def __len__(self) -> int:
        return len(self._pipelines)

    def __iter__(self) -> Iterator[Pipeline]:
        return iter(self._pipelines)

    def close(self) -> None:
        """Close all pipelines, and with them the engines. Closing twice is allowed."""
        with ExitStack() as stack:  # all of them, also when one is interrupted
            for pipeline in self._pipelines:
                stack.callback(pipeline.close)


def _policies_of(
    policy: str | Sequence[KeyFramePolicy] | None, streams: int
) -> Sequence[str | KeyFramePolicy | None]:
    if policy is None or isinstance(policy, str):
        return [policy] * streams
    if not isinstance(policy, Sequence) or len({id(each) for each in policy}) != streams:
        raise ConfigError(
            f"policy is {policy!r} for {streams} streams, expected the name of one, or a list of "
            f"{streams} objects: each serves one stream."
        )
    return policy
