"""The parts of a pipeline, opened together: engines, decoder, policy, schedule, scheduler."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError
from dff_edge.names import Precision
from dff_edge.runtime.engines.base import usable_cores
from dff_edge.runtime.engines.open import open_subnets
from dff_edge.runtime.engines.options import CudaOptions
from dff_edge.runtime.engines.subnets import Opened
from dff_edge.runtime.keys import KeyMode, parse_keys
from dff_edge.runtime.known_distances import KnownDistances
from dff_edge.runtime.overlap import OverlapChoice, choose_overlap
from dff_edge.runtime.policy import (
    Adaptive,
    AsSoonAsIdle,
    FixedInterval,
    KeyFramePolicy,
    parse_policy,
)
from dff_edge.runtime.schedule import Schedule
from dff_edge.runtime.scheduler import Scheduler
from dff_edge.runtime.sharing import ThreadShare, choose_share
from dff_edge.runtime.staleness import staleness_of
from dff_edge.runtime.tasks import decoder_of
from dff_edge.runtime.trace import Trace

_log = logging.getLogger("dff_edge.runtime")


@dataclass(frozen=True, slots=True)
class Assembled:
    """The parts of a pipeline.

    Attributes:
        scheduler: where frames are computed.
        policy: when to take a key frame.
        opened: engines and device; whoever closes the scheduler closes them after it.
        schedule: how their work is shared out, and why.
        distances: those that the bundle is known for.
    """

    scheduler: Scheduler
    policy: KeyFramePolicy
    opened: Opened
    schedule: Schedule
    distances: KnownDistances


def assemble(
    bundle: Bundle,
    precision: Precision,
    *,
    policy: str | KeyFramePolicy | None,
    depth: int,
    threads: int | None,
    engine: str,
    overlap: bool | None,
    keys: str | KeyMode,
    confidence: bool,
    trace: Trace | None,
    cuda: CudaOptions | None,
) -> Assembled:
    """Open the parts of a pipeline; arguments and errors are those of ``Pipeline.open``."""
    keys = parse_keys(keys) if isinstance(keys, str) else keys
    policy = policy_of(policy, keys, bundle)
    given_threads, threads = threads, threads or usable_cores()
    decoder = decoder_of(bundle.manifest, threads=threads, confidence=confidence)
    # The threads of a small network mostly wake each other: run beside others, it gets fewer.
    is_alone = depth == 1 and keys.is_in_order
    opened = open_subnets(
        bundle,
        precision,
        engine,
        threads=threads,
        flow_threads=threads if is_alone else max(1, threads // 2),
        cuda=cuda,
        background=not keys.is_in_order,
    )
    try:
        share = None
        if opened.open_feature is not None and not keys.is_in_order:
            if given_threads is not None:
                share = ThreadShare(given_threads, "as requested")
            else:
                opened, share = choose_share(opened, opened.open_feature, threads)
        interval = policy.interval or bundle.manifest.default_key_interval
        if overlap is not None:
            choice = OverlapChoice(overlap, "as requested")
        elif not opened.device.copies:
            choice = OverlapChoice(True, "the networks share out the CPU's threads")
        else:
            choice = choose_overlap(
                opened.device, opened.subnets, decoder, depth=depth, interval=interval
            )
        schedule = Schedule(choice, keys, share)
        scheduler = Scheduler(
            opened.device,
            opened.subnets,
            decoder,
            depth=depth,
            overlap=choice.overlap,
            keys=keys,
            trace=trace,
            staleness=staleness_of(bundle.manifest),
        )
    except BaseException:
        opened.close()
        raise
    _log.info(
        "%s: %s in %s on %s, %d threads, %s, %s",
        bundle.path,
        precision,
        engine,
        opened.device.name,
        threads if share is None else share.threads,
        policy,
        schedule,
    )
    distances = KnownDistances.of(bundle, precision, engine)
    distances.expect(policy, keys)
    return Assembled(scheduler, policy, opened, schedule, distances)


def policy_of(policy: str | KeyFramePolicy | None, keys: KeyMode, bundle: Bundle) -> KeyFramePolicy:
    """Return the policy that a pipeline is opened with; see ``Pipeline.open``.

    Raises:
        ConfigError: there is none of this name, or it does not fit the key mode or the bundle.
    """
    if policy is None:
        if keys.lag is None:
            return AsSoonAsIdle()
        return FixedInterval(bundle.manifest.default_key_interval)
    if isinstance(policy, str):
        policy = parse_policy(policy)
    if isinstance(policy, AsSoonAsIdle) and keys.is_in_order:
        raise ConfigError(
            "the policy is 'idle' with key frames in order, where it would make every frame a key "
            "frame. Take keys='background', or fixed:1 for that."
        )
    if isinstance(policy, Adaptive) and bundle.manifest.staleness is None:
        raise ConfigError(
            f"the policy is '{policy}', and {bundle.path} has no model of how stale an answer is. "
            f"Fit it with `dff-edge calibrate {bundle.path} --source CLIPS`, on video like that of "
            "the device, or take fixed:l."
        )
    return policy
