"""Deployment: each engine from the cache or built, all checked together, and only then kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Literal

from dff_edge.bundle.reader import Bundle
from dff_edge.deploy.agreement import agreement
from dff_edge.deploy.check import (
    Reference,
    answer_frames,
    compute_reference,
    draw_frames,
    graph_answers,
    relative_errors,
)
from dff_edge.deploy.measure import median_ms
from dff_edge.deploy.target import Built, Progress, Target, refusal_of
from dff_edge.errors import EngineError
from dff_edge.files.disk import check_room
from dff_edge.hiding import hide_credentials
from dff_edge.names import GraphName, Precision
from dff_edge.printable import printable
from dff_edge.runtime.engines.backends import targets_on
from dff_edge.runtime.engines.base import Engine
from dff_edge.runtime.engines.cache import (
    CachedEngine,
    DamagedEngineError,
    EngineCache,
    EngineKey,
    EngineRecord,
)
from dff_edge.runtime.engines.deployed import why_missing
from dff_edge.runtime.engines.hand_crafted_flow import open_flow
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.tasks import decoder_of, task_of


@dataclass(frozen=True)
class EngineReport:
    """Outcome for one graph.

    Attributes:
        origin: whether it was in the cache, or was built now.
        reason: why it was built; empty when it was in the cache.
        record: its record.
        path: its folder in the cache.
    """

    origin: Literal["cache", "built"]
    reason: str
    record: EngineRecord
    path: Path


@dataclass(frozen=True)
class Deployed:
    """One precision of a bundle, ready to run.

    Attributes:
        precision: the precision.
        engines: by graph.
        fidelity: agreement of the results with those of the graphs that the engines were built
            from, 0..1; see ``agreement``.
        floor: the lowest fidelity that is accepted.
        agreement: agreement with the results of the FP32 graphs.
        measure: the things that the two are shares of, for people.
    """

    precision: Precision
    engines: dict[GraphName, EngineReport]
    fidelity: float
    floor: float
    agreement: float
    measure: str


def deploy_bundle(
    bundle: Bundle,
    target: Target,
    precisions: Sequence[Precision],
    cache: EngineCache,
    *,
    source: str = "synthetic://street",
    rebuild: bool = False,
    progress: Progress = lambda text: None,
) -> Iterator[Deployed]:
    """Build the missing engines of a bundle for a target, check and keep them.

    Nothing of a precision is kept unless all of it computes the same as its graphs. Precisions
    finished before a failure are kept.

    Args:
        bundle: a verified bundle.
        target: from ``open_target``.
        precisions: of the graphs, one after the other.
        cache: where engines are kept.
        source: frames to check with.
        rebuild: whether to build existing engines, too.
        progress: called with a line for each step.

    Yields:
        Each precision when it is done.

    Raises:
        BundleError: the bundle does not hold a precision for the target.
        DiskError: there is no room for the engines, or the cache cannot be written to.
        EngineError: the target does not support a precision, an engine cannot be built, or the
            engines agree too little with their graphs.
    """
    deploying = _Deploying(bundle, target, cache, source, progress)
    for precision in precisions:
        yield deploying.deploy(precision, rebuild=rebuild)


@dataclass
class _Missing:
    """An engine that was built and is not kept yet."""

    built: Built
    reason: str
    build_s: float


@dataclass
class _Deploying:
    bundle: Bundle
    target: Target
    cache: EngineCache
    source: str
    progress: Progress

    @cached_property
    def _reference(self) -> Reference:
        """The reference, computed once for all precisions, if an engine must be checked."""
        self.progress(f"FP32 graphs on the CPU, frames of {hide_credentials(self.source)}")
        return compute_reference(self.bundle, draw_frames(self.source))

    def deploy(self, precision: Precision, *, rebuild: bool) -> Deployed:
        refusal = refusal_of(self.target, precision)
        if refusal is not None:
            raise EngineError(f"{precision} on the target {self._name}: {refusal}.")
        flow = self.bundle.manifest.flow_function
        if flow != "network" and self.target.platform.hardware is not None:
            fitting = " or ".join(targets_on("cpu"))
            raise EngineError(
                f"the target is {self._name}, expected {fitting}: the flow of {self.bundle.path} "
                f"is computed by '{flow}', which runs on the CPU."
            )
        # Only graphs have engines to build.
        graphs = tuple(g for g in self._graphs if g != "flow" or flow == "network")
        keys = {g: self.target.platform.key(self.bundle, precision, g) for g in graphs}
        found: dict[GraphName, CachedEngine] = {}
        reasons: dict[GraphName, str] = {}
        for graph, key in keys.items():
            entry, reason = (None, "asked for") if rebuild else self._find(key)
            if entry is not None:
                found[graph] = entry
            else:
                reasons[graph] = reason
        rule = task_of(self.bundle.manifest).deployed
        floor, measure = rule.least[precision], rule.text
        if not reasons:
            fidelity = min(entry.record.fidelity for entry in found.values())
            agreed = min(entry.record.agreement for entry in found.values())
            reports = {g: self._report("cache", "", found[g].record) for g in graphs}
            return Deployed(precision, reports, fidelity, floor, agreed, measure)

        # Faults of the cache or the source are reported before a long build.
        nbytes = self.bundle.size_bytes(precision, self.target.platform.flavour)
        check_room(self.cache.folder, nbytes, f"the {precision} engines")
        reference = self._reference
        missing = {g: self._build(precision, g, reason) for g, reason in reasons.items()}
        with ExitStack() as stack:
            engines: dict[GraphName, Engine] = {}
            for graph in graphs:
                data = found[graph].data if graph in found else missing[graph].built.data
                name = f"{precision} {graph}"
                engines[graph] = self.target.platform.load(
                    data, name=name, graph=graph, threads=None
                )
                stack.callback(engines[graph].close)
            if flow != "network":
                engines["flow"] = stack.enter_context(closing(open_flow(self.bundle, precision)))
            fidelity, agreed = self._check(precision, engines, reference)
            records = {
                graph: self._record(keys[graph], engines[graph], made, reference, fidelity, agreed)
                for graph, made in missing.items()
            }
        for graph, record in records.items():
            self.cache.store(missing[graph].built.data, record)
        return Deployed(
            precision,
            {
                graph: self._report("cache", "", found[graph].record)
                if graph in found
                else self._report("built", missing[graph].reason, records[graph])
                for graph in graphs
            },
            fidelity,
            floor,
            agreed,
            measure,
        )

    @property
    def _graphs(self) -> tuple[GraphName, ...]:
        """Return the graphs of the bundle that the target needs."""
        needed, flavour = self.target.graphs, self.target.platform.flavour
        manifest = self.bundle.manifest
        # For such a task propagate.onnx does not return the decoder's inputs.
        if manifest.task_format.has_task_maps and "propagate" in needed and flavour == "ort":
            raise EngineError(
                f"the target {self._name} has no warp of its own here, and needs it for "
                f"{manifest.task}: libdff_cuda.so was not built. Build the CUDA kernels "
                "(docs/gpu.md), or deploy to tensorrt or cpu."
            )
        task = manifest.task_graph(flavour)
        return tuple(task if graph == "task" else graph for graph in needed)

    @property
    def _name(self) -> str:
        return self.target.platform.target

    def _find(self, key: EngineKey) -> tuple[CachedEngine | None, str]:
        """Return the engine of a key, or why it must be built."""
        try:
            entry = self.cache.load(key)
        except DamagedEngineError as error:
            return None, str(error)
        if entry is None:
            return None, f"not built before{why_missing(self.cache, key)}"
        # Only options that are set: without a limit any engine will do.
        for name, value in self.target.options.items():
            before = entry.record.options.get(name)
            if value is not None and value != before:
                return None, f"built with {name} {before}, now {value}"
        return entry, ""

    def _build(self, precision: Precision, graph: GraphName, reason: str) -> _Missing:
        name = f"{precision} {graph}"
        self.progress(f"{name}: building ({reason})")
        platform = self.target.platform
        data = self.bundle.graph_bytes(precision, graph, platform.flavour)
        contract = self.bundle.manifest.contract(precision, graph, platform.flavour)
        started = time.perf_counter()
        built = self.target.build(data, name=name, kind=graph, contract=contract)
        return _Missing(built, reason, time.perf_counter() - started)

    def _check(
        self, precision: Precision, engines: dict[GraphName, Engine], reference: Reference
    ) -> tuple[float, float]:
        """Return fidelity and agreement of opened engines."""
        self.progress(f"{precision}: comparing with the graphs on the CPU")
        flavour = self.target.platform.flavour
        subnets = Subnets(
            engines["feature"],
            engines["flow"],
            engines[self.bundle.manifest.task_graph(flavour)],
            self.bundle.manifest.map_levels(precision, flavour),
            propagate=engines.get("propagate") or engines.get("propagate_portable"),
        )
        task, decoder = task_of(self.bundle.manifest), decoder_of(self.bundle.manifest)
        answers = answer_frames(self.target.device, subnets, decoder, reference.frames)
        agreed = agreement(task, answers, reference.answers)
        # FP32 is the same in both flavours.
        fidelity = (
            agreed
            if precision == "fp32"
            else agreement(
                task, answers, graph_answers(self.bundle, precision, flavour, reference.frames)
            )
        )
        rule = task.deployed
        if fidelity < rule.least[precision]:
            raise EngineError(
                f"the {precision} engines for {self._name} have {fidelity:.2%} {rule.text} "
                f"on {hide_credentials(self.source)} as by the graphs that they were built from, "
                f"expected {rule.least[precision]:.1%}: {self.target.platform.runtime} computes "
                f"something else. Nothing of {precision} was kept. Use another precision, and "
                "report this with the output of dff-edge doctor."
            )
        return fidelity, agreed

    def _record(
        self,
        key: EngineKey,
        engine: Engine,
        made: _Missing,
        reference: Reference,
        fidelity: float,
        agreed: float,
    ) -> EngineRecord:
        levels = self.bundle.manifest.map_levels(key.precision, self.target.platform.flavour)
        errors = relative_errors(engine, key.subnet, reference, levels)
        return EngineRecord(
            key=key,
            sha256=hashlib.sha256(made.built.data).hexdigest(),
            built=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            build_s=made.build_s,
            median_ms=median_ms(engine, self.target.device),
            relative_error=max(errors.values()),
            fidelity=fidelity,
            agreement=agreed,
            source=printable(hide_credentials(self.source)),
            options=self.target.options,
            summary=made.built.summary,
        )

    def _report(
        self, origin: Literal["cache", "built"], reason: str, record: EngineRecord
    ) -> EngineReport:
        return EngineReport(origin, reason, record, self.cache.path(record.key))
