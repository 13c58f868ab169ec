"""The parts of pipelines, opened together: engines, decoder, policy, schedule, scheduler."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError
from dff_edge.names import Precision
from dff_edge.runtime.engines.backends import backend_of, names_on
from dff_edge.runtime.engines.base import usable_cores
from dff_edge.runtime.engines.open import open_subnets
from dff_edge.runtime.engines.options import CudaOptions
from dff_edge.runtime.engines.shared import share_engines
from dff_edge.runtime.engines.subnets import Opened
from dff_edge.runtime.key_turns import KeyTurn, KeyTurns
from dff_edge.runtime.keys import KeyMode, parse_keys
from dff_edge.runtime.known_distances import KnownDistances
from dff_edge.runtime.overlap import OverlapChoice, choose_overlap
from dff_edge.runtime.policy import (
    AsSoonAsIdle,
    FixedInterval,
    ForetoldPolicy,
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
        turn: at the feature network, among the pipelines that share it.
        opened: engines and device; whoever closes the scheduler closes them after it.
        schedule: how their work is shared out, and why.
        distances: those that the bundle is known for.
    """

    scheduler: Scheduler
    policy: KeyFramePolicy
    turn: KeyTurn
    opened: Opened
    schedule: Schedule
    distances: KnownDistances


def assemble(
    bundle: Bundle,
    precision: Precision,
    *,
    policies: Sequence[str | KeyFramePolicy | None],
    depth: int,
    threads: int | None,
    engine: str,
    overlap: bool | None,
    keys: str | KeyMode,
    confidence: bool,
    traces: Sequence[Trace | None],
    cuda: CudaOptions | None,
    names: Sequence[str | None] = (None,),
) -> list[Assembled]:
    """Open the parts of a pipeline, or of several that share engines.

    Args:
        policies, traces: one of each for each pipeline.
        names: likewise, of their streams, for warnings; None where there is one only.

    The other arguments and the errors are those of ``Pipeline.open``.

    Raises:
        ConfigError: several on a device other than the CPU, too.
    """
    keys = parse_keys(keys) if isinstance(keys, str) else keys
    parsed = [policy_of(policy, keys, bundle) for policy in policies]
    if len(parsed) > 1 and backend_of(engine).device != "cpu":
        raise ConfigError(
            f"engine is '{engine}' for {len(parsed)} streams, expected "
            f"{' or '.join(names_on('cpu'))}: engines are shared on the CPU only. Open a Pipeline "
            "for each stream, which holds its own."
        )
    given_threads, threads = threads, threads or usable_cores()
    decoders = [decoder_of(bundle.manifest, threads=threads, confidence=confidence) for _ in parsed]
    # The threads of a small network mostly wake each other: run beside others, it gets fewer.
    is_alone = depth == 1 and keys.is_in_order and len(parsed) == 1
    opened = open_subnets(
        bundle,
        precision,
        engine,
        threads=threads,
        flow_threads=threads if is_alone else max(1, threads // 2),
        cuda=cuda,
        background=not keys.is_in_order,
    )
    made: list[Assembled] = []
    try:
        share = None
        if opened.open_feature is not None and not keys.is_in_order:
            if given_threads is not None:
                share = ThreadShare(given_threads, "as requested")
            else:
                opened, share = choose_share(opened, opened.open_feature, threads)
        interval = parsed[0].interval or bundle.manifest.default_key_interval
        if overlap is not None:
            choice = OverlapChoice(overlap, "as requested")
        elif not opened.device.copies:
            choice = OverlapChoice(True, "the networks share out the CPU's threads")
        else:
            choice = choose_overlap(
                opened.device, opened.subnets, decoders[0], depth=depth, interval=interval
            )
        schedule = Schedule(choice, keys, share)
        turns = KeyTurns()
        holds = [opened] if len(parsed) == 1 else share_engines(opened, len(parsed))
        for policy, trace, decoder, held, name in zip(
            parsed, traces, decoders, holds, names, strict=True
        ):
            distances = KnownDistances.of(bundle, precision, engine, name)
            scheduler = Scheduler(
                held.device,
                held.subnets,
                decoder,
                depth=depth,
                overlap=choice.overlap,
                keys=keys,
                trace=trace,
                staleness=staleness_of(bundle.manifest),
            )
            turn = turns.join(partial(_is_feature_busy, scheduler))
            made.append(Assembled(scheduler, policy, turn, held, schedule, distances))
    except BaseException:
        for parts in made:
            parts.scheduler.close()
        opened.close()
        raise
    _log.info(
        "%s: %s in %s on %s, %s%d threads, %s, %s",
        bundle.path,
        precision,
        engine,
        opened.device.name,
        f"{len(parsed)} streams, " if len(parsed) > 1 else "",
        threads if share is None else share.threads,
        parsed[0],
        schedule,
    )
    for parts in made:
        parts.distances.expect(parts.policy, keys)
    return made


def _is_feature_busy(scheduler: Scheduler) -> bool:
    return scheduler.is_feature_busy


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
    if isinstance(policy, ForetoldPolicy) and bundle.manifest.staleness is None:
        raise ConfigError(
            f"the policy is '{policy}', and {bundle.path} has no model of how stale an answer is. "
            f"Fit it with `dff-edge calibrate {bundle.path} --source CLIPS`, on video like that of "
            "the device, or take fixed:l."
        )
    return policy
