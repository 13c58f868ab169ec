"""Accuracy of INT8 bundles by the paper's protocol, all on the same labelled frames."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dff_edge.bundle.reader import Bundle
from dff_edge.data.clips import check_for_model, open_clips
from dff_edge.data.datasets import LabelledClip
from dff_edge.data.hold_out import ClipPart
from dff_edge.errors import ConfigError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.evaluation.evaluate import Predictor, evaluate
from dff_edge.evaluation.tasks import MEASURED_TASKS
from dff_edge.files.atomic import write_atomically
from dff_edge.files.documents import read_json
from dff_edge.frames import Image

_log = logging.getLogger("dff_edge.experiment")


@dataclass(frozen=True)
class Distances:
    """Distances from the key frame: ``lag`` to ``lag + interval - 1``.

    Attributes:
        interval: the largest key interval of interest, l.
        lag: frames after which the features of a key frame are used.
        are_held: whether the key frame's answer is kept, in place of propagated features.
    """

    interval: int
    lag: int = 0
    are_held: bool = False

    @property
    def largest(self) -> int:
        """Frames that a labelled frame has to have before it."""
        return self.lag + self.interval - 1


class HeldAnswers:
    """A ``Predictor`` that keeps the answer of the key frame for the frames after it.

    Args:
        predictor: answers key frames.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def extract(self, image: Image) -> Any:
        """Return the answer of a key frame."""
        return self._predictor.predict(self._predictor.extract(image), None)

    def predict(self, key: Any, image: Image | None) -> Any:
        """Return the key frame's answer, whatever the frame."""
        return key


class ScoredFrames:
    """Labelled clips, of which the same frames are scored in every measurement.

    Args:
        name: of the clips.
        before: frames that a labelled frame has to have before it to be scored.
        folder: where results are kept.
        threads: of the networks; None means the cores that the process may use.

    Raises:
        ConfigError: no labelled frame has so many before it.
        SourceError: as ``open_clips``.
    """

    def __init__(self, name: str, before: int, folder: Path, threads: int | None = None) -> None:
        self._name = name
        self._before = before
        self._folder = folder
        self._threads = threads
        self._clips: Sequence[LabelledClip] = open_clips(name)
        if not any(
            clip.is_labelled(index) for clip in self._clips for index in range(before, len(clip))
        ):
            raise ConfigError(
                f"test is '{name}', where no labelled frame has {before} frames before it in its "
                "clip, which the largest key interval or the age of features in the background "
                "needs. Give longer clips, or smaller intervals."
            )

    def accuracies(self, bundle: Bundle, distances: Distances) -> list[float]:
        """Measure "DFF at l" in INT8 for l = 1..interval.

        Returns:
            Accuracy 0..1 for each l: over the distances lag..lag + l - 1.

        Raises:
            ConfigError, SourceError: as ``evaluate``.
        """
        assert distances.largest <= self._before
        protocol = {
            "bundle": bundle.digest,
            "test": self._name,
            "before": self._before,
            "interval": distances.interval,
            "lag": distances.lag,
            "held": distances.are_held,
        }
        key = hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:12]
        kept = self._folder / f"{bundle.path.name}-{key}.json"
        if kept.is_file():
            values: list[float] = read_json(kept)["accuracy"]
            return values
        _log.info("%s: measuring %s", bundle.path.name, _described(distances))
        manifest = bundle.manifest
        check_for_model(
            self._clips, self._name, manifest.task, manifest.class_names, str(bundle.path)
        )
        start = self._before - distances.largest
        parts = [
            ClipPart(clip, start, len(clip)) for clip in self._clips if len(clip) > self._before
        ]
        with BundlePredictor(bundle, "int8", self._threads) as predictor:
            measured = evaluate(
                HeldAnswers(predictor) if distances.are_held else predictor,
                parts,
                manifest.class_names,
                distances.interval,
                task=manifest.task,
                lag=distances.lag,
            )
        values = [measured.at_interval(number + 1) for number in range(distances.interval)]
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, json.dumps({**protocol, "accuracy": values}, indent=1))
        return values

    def metric(self, bundle: Bundle) -> str:
        """Return the title of the accuracy, such as "mIoU"."""
        return MEASURED_TASKS.find(bundle.manifest.task).metric.title


def _described(distances: Distances) -> str:
    how = ", answers held" if distances.are_held else ""
    return f"distances {distances.lag} to {distances.largest}{how}"
