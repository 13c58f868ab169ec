"""Agreement of a precision's results with those of fp32: from frames to labels or boxes.

``compare`` runs each graph on fp32's inputs and compares its maps, to find one that is broken. Here
the graphs of a precision run one after the other, as on the device, and the results are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from dff_edge.bundle.levels import MapLevels
from dff_edge.bundle.reader import Bundle
from dff_edge.calibration.compare import Compared
from dff_edge.calibration.sampling.samples import Samples
from dff_edge.detection_matching import SURE_SCORE
from dff_edge.names import Flavour, GraphName, Precision
from dff_edge.runtime.engines.base import Engine
from dff_edge.runtime.engines.hand_crafted_flow import HandCraftedFlow
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.sequential import Arrays, SequentialRunner
from dff_edge.runtime.tasks import AgreementRule, decoder_of, task_of
from dff_edge.runtime.tasks.decoders import Decoder

MOST_KEYS = 8


@dataclass(frozen=True)
class Agreement:
    """Share of equal results on some frames.

    Attributes:
        rule: of the task: the things counted, and the usual share of equal ones.
        on_keys: share of it on key frames, 0..1; None where there is nothing to count.
        propagated: the same on frames predicted from another one's features.
        overall: on all of them together.
        keys, pairs: how many frames of each kind.
    """

    rule: AgreementRule
    on_keys: float | None
    propagated: float | None
    overall: float | None
    keys: int
    pairs: int


class Reference:
    """Results of fp32 on some of the samples.

    Args:
        bundle: holds the fp32 graphs.
        samples: the calibration samples; at most ``MOST_KEYS`` key frames are used, evenly
            spread, with all their pairs.
    """

    def __init__(self, bundle: Bundle, samples: Samples) -> None:
        self._bundle, self._samples = bundle, samples
        self._task = task_of(bundle.manifest)
        count = min(MOST_KEYS, len(samples.keys))
        chosen = np.linspace(0, len(samples.keys) - 1, count).round().astype(int)
        self._keys = [samples.keys[number] for number in chosen]
        graphs: dict[GraphName, bytes] = {
            name: bundle.graph_bytes("fp32", name) for name in ("feature", "task", "propagate")
        }
        if bundle.manifest.flow_function == "network":
            graphs["flow"] = bundle.graph_bytes("fp32", "flow")
        self._answers = list(self._run(graphs, "ort", None))

    def agreement(
        self, graphs: Mapping[GraphName, bytes], flavour: Flavour, levels: MapLevels | None
    ) -> Agreement:
        """Run the graphs of a precision, and compare their results with those of fp32.

        Args:
            graphs: of the precision.
            flavour: of these; for TensorRT the portable form is run.
            levels: of features and scale field, where they are quantised.
        """
        shares: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        found = self._run(graphs, flavour, levels)
        for (is_key, expected), (_, answer) in zip(self._answers, found, strict=True):
            shares[is_key].append(self._task.kept(answer, expected))
        return Agreement(
            rule=self._task.calibrated,
            on_keys=_mean(shares[True]),
            propagated=_mean(shares[False]),
            overall=_mean(shares[True] + shares[False]),
            keys=len(shares[True]),
            pairs=len(shares[False]),
        )

    def _run(
        self, graphs: Mapping[GraphName, bytes], flavour: Flavour, levels: MapLevels | None
    ) -> Iterator[tuple[bool, Any]]:
        """Yield whether each frame is a key frame, and its result at the network's size."""
        decoder = decoder_of(self._bundle.manifest)
        warped: GraphName = "propagate" if flavour == "ort" else "propagate_portable"
        half = self._samples.half
        with ExitStack() as stack:

            def opened(name: GraphName) -> Engine:
                return stack.enter_context(closing(OrtEngine(graphs[name], name=name)))

            flow = opened("flow") if "flow" in graphs else self._flow_function(stack, levels)
            runner = SequentialRunner(
                Subnets(opened("feature"), flow, opened("task"), levels, opened(warped))
            )
            for key in self._keys:
                features = runner.extract(self._samples.full[key.clip, key.index])
                yield True, self._decoded(decoder, runner.score(features))
                key_half = half[key.clip, key.index]
                for distance in key.distances:
                    moved = runner.estimate_flow(key_half, half[key.clip, key.index + distance])
                    yield False, self._decoded(decoder, runner.propagate(features, moved))

    def _flow_function(self, stack: ExitStack, levels: MapLevels | None) -> Engine:
        manifest = self._bundle.manifest
        return stack.enter_context(
            closing(
                HandCraftedFlow(
                    manifest.flow_function,
                    manifest.frame_size,
                    manifest.channels,
                    scale_levels=None if levels is None else levels.scale,
                    stride=manifest.stride,
                )
            )
        )

    def _decoded(self, decoder: Decoder, outputs: Arrays) -> Any:
        whole = self._task.whole_answer(outputs)
        if whole is not None:
            return whole
        maps = {name: array.astype(np.float32, copy=False) for name, array in outputs.items()}
        return decoder.decode(maps, self._bundle.manifest.frame_size).content


def describe(
    label: str,
    precision: Precision,
    size_bytes: int,
    agreement: Agreement,
    compared: Sequence[Compared],
) -> list[str]:
    """Describe a precision, a line each: its agreement with fp32 first, then its maps.

    Args:
        label: its name in messages.
        precision: the precision.
        size_bytes: of its graphs.
        agreement: of its results with fp32's.
        compared: its graphs beside fp32's, one by one.
    """
    wrote = f"wrote {label}, {size_bytes / 1e6:.1f} MB"
    if agreement.overall is None:
        lines = [
            wrote,
            f"Warning: detections of {label} were not compared with fp32, which has no certain "
            f"ones on these clips: no object scores {SURE_SCORE} or more. Calibrate on clips with "
            "objects, or train the model longer.",
        ]
    else:
        parts = [
            f"{share:.1%} on {count} {name} frames"
            for count, name, share in (
                (agreement.keys, "key", agreement.on_keys),
                (agreement.pairs, "propagated", agreement.propagated),
            )
            if share is not None
        ]
        lines = [f"{wrote}: {agreement.overall:.1%} {agreement.rule.text} ({', '.join(parts)})"]
        least = agreement.rule.least[precision]
        if agreement.overall < least:
            lines.append(
                f"Warning: {label} agrees less with fp32 than usual for trained models, "
                f"{least:.1%} and more. Are the clips like the training data of the model? "
                "`dff-edge benchmark` measures the cost in accuracy."
            )
    maps = [one for one in compared if one.mean_error is not None]
    if maps:
        typical = max(one.mean_error or 0.0 for one in maps)
        worst = max(maps, key=lambda one: one.record.relative_error).record
        lines.append(
            f"  values of its maps are off by {typical:.1%} of their range on average, at most "
            f"by {worst.relative_error:.1%} ({worst.output}); that matters where a result changes"
        )
    return lines


def _mean(counts: Sequence[tuple[float, float]]) -> float | None:
    total = sum(of for _, of in counts)
    return sum(same for same, _ in counts) / total if total else None
