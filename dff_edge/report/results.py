"""Results of a benchmark as data: JSON when dumped, checked when read again."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dff_edge.bundle.manifest import ClassInfo
from dff_edge.errors import ConfigError
from dff_edge.names import Precision
from dff_edge.report.machine import Machine
from dff_edge.report.repeated import ENOUGH, Number, Repeated
from dff_edge.runtime.engines.backends import names_on

FP16_NOTE = (
    "FP16 is emulated on a CPU: ONNX Runtime converts to FP32 and back around operators without "
    "FP16. Its speed here says nothing about a GPU; its accuracy and size do."
)
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Latency(_Model):
    """Milliseconds from ``submit`` to the result, one frame in flight."""

    count: int
    p50_ms: Number
    p99_ms: Number


class Row(_Model):
    """One precision at one key interval.

    Attributes:
        interval: l.
        accuracy: "DFF at l", 0..1, by ``Settings.metric``; None when nothing was scored.
        consistency: mean IoU of each result with the one before, moved by the true flow; None
            if not requested or not known.
        frames: frames of one repetition.
        seconds: wall time of each repetition.
        fps: frames by the median of ``seconds``.
        speedup: frames a second by those of per-frame FP32, in each repetition.
        key, other: latency of key frames and of other frames; None where there were none.
        cost_ratio: r, latency of other frames by that of key frames (medians).
        predicted_speedup: s of Eq. 7 by that r, over every frame a key frame in this precision.
        own_speedup: the same, measured; None when l = 1 was not measured.
        size_mb: feature, flow and task graph, in 10^6 bytes.
        key_share: key frames by frames.
        expected_disagreement: mean over the frames; None where the bundle has no model of it.
    """

    precision: Precision
    interval: int
    accuracy: Share | None
    consistency: Share | None
    frames: int
    seconds: tuple[Number, ...]
    fps: Number
    speedup: Repeated
    key: Latency
    other: Latency | None
    cost_ratio: Number | None
    predicted_speedup: Number | None
    own_speedup: Repeated | None
    size_mb: Number
    key_share: Share
    expected_disagreement: Share | None = None


class PrecisionAccuracy(_Model):
    """Accuracy of one precision in detail.

    Attributes:
        at_distance: accuracy at i - k = 0, 1, ...
        by_class_frame: of each class on key frames.
        by_class: the same over all distances up to the largest interval.
    """

    at_distance: tuple[Share | None, ...]
    by_class_frame: dict[str, Share | None]
    by_class: dict[str, Share | None]


class Stage(_Model):
    """Statistics of one stage of the computation.

    Attributes:
        runs: number of its runs in the measured frames.
        p50_ms: median of one run.
        ms_per_frame: its time by all frames, also those without it.
        share: of the time of all stages.
    """

    name: str
    runs: int
    p50_ms: Number
    ms_per_frame: Number
    share: Share


class StageTable(_Model):
    """Time of one configuration by stage; shares add up to 1."""

    precision: Precision
    interval: int
    stages: tuple[Stage, ...]


class BundleInfo(_Model):
    """The bundle that was measured."""

    path: str
    digest: str
    frame_size: tuple[int, int]
    channels: int
    classes: tuple[ClassInfo, ...]
    training_data: str
    calibration_source: str | None


class Settings(_Model):
    """Settings of the measurement.

    Attributes:
        source: the labelled data.
        metric: the measure of accuracy, for people.
        clips: number of clips.
        max_interval: the largest l; frames with fewer than l - 1 frames before them are not scored.
        repetitions: of each configuration, taking turns.
        threads: of the feature network.
        engine: the backend.
        depth: frames in flight where fps is measured.
        keys: when the features of a new key frame are used where speed is measured.
        schedules: by precision, whether the networks overlapped there, and why.
    """

    source: str
    metric: str
    clips: int
    max_interval: int
    repetitions: int
    threads: int
    engine: str
    depth: int
    keys: str = "in-order"
    schedules: dict[Precision, str] = {}


class Benchmark(_Model):
    """A benchmark of a bundle: settings, machine, and the numbers."""

    bundle: BundleInfo
    machine: Machine
    settings: Settings
    rows: tuple[Row, ...]
    accuracy: dict[Precision, PrecisionAccuracy]
    stages: StageTable

    @property
    def baseline(self) -> Row:
        """Per-frame FP32, the baseline of the speed-ups."""
        return self.row("fp32", 1)

    @property
    def headline(self) -> Row:
        """The configuration whose stages were measured: the lowest precision, the largest l."""
        return self.row(self.stages.precision, self.stages.interval)

    @property
    def doubt(self) -> str | None:
        """Why the headline's speed-up is not reliable, for people; None where it is."""
        speedup, machine = self.headline.speedup, self.machine
        if not speedup.is_steady:
            return f"too noisy to say: {speedup} in {speedup.count} repetitions"
        if machine.is_busy:
            return (
                f"too noisy to say: other programs kept {machine.busy_cores:.1f} of the "
                f"{machine.cores} cores busy"
            )
        if speedup.count < ENOUGH:
            return f"too few repetitions to say: {speedup.count}, expected {ENOUGH} or more"
        return None

    @property
    def is_fp16_emulated(self) -> bool:
        """Whether FP16 was measured on a device without FP16 arithmetic."""
        return "fp16" in self.accuracy and self.settings.engine in names_on("cpu")

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks that a reader needs beside the numbers, a sentence or two each."""
        notes = [FP16_NOTE] if self.is_fp16_emulated else []
        if self.settings.source == self.bundle.calibration_source:
            notes.append(
                "INT8 was calibrated on the very data that it is measured on here; measure on "
                "other data for publishable numbers."
            )
        if self.machine.is_busy:
            notes.append(
                f"Other programs kept {self.machine.busy_cores:.1f} of the "
                f"{self.machine.cores} cores busy meanwhile, which slows down runs on all cores "
                "most: times are not reliable here, and speed-ups hardly."
            )
        noisy = sum(not row.speedup.is_steady for row in self.rows)
        if noisy:
            notes.append(
                f"Repetitions differ too much for {noisy} of the {len(self.rows)} speed-ups; a "
                "quieter machine, more repetitions or more frames make them steadier."
            )
        return tuple(notes)

    def row(self, precision: Precision, interval: int) -> Row:
        """Return one row.

        Raises:
            ConfigError: it was not measured.
        """
        for row in self.rows:
            if (row.precision, row.interval) == (precision, interval):
                return row
        measured = ", ".join(f"{row.precision} l={row.interval}" for row in self.rows)
        raise ConfigError(f"{precision} l={interval} was not measured, only {measured}.")

    @classmethod
    def from_json(cls, text: str) -> Benchmark:
        """Parse the JSON of ``dff-edge benchmark --json``.

        Raises:
            ConfigError: it is something else.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "all of it"
            raise ConfigError(
                f"this is not the JSON of dff-edge benchmark: {place}: {first['msg']}."
            ) from error
