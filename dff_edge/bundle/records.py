"""Records in a manifest: of files, of how a bundle was made, and of measurements."""

from __future__ import annotations

import os
import re
from datetime import datetime, timezone
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from dff_edge.bundle.levels import INT8, UINT8, Levels
from dff_edge.bundle.record import Record
from dff_edge.errors import ConfigError
from dff_edge.names import Flavour, Precision, Subnet, WeightBits
from dff_edge.printable import is_printable

MAX_FILE_BYTES = 1 << 30
_MEASURE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DATE_VARIABLE = "SOURCE_DATE_EPOCH"  # reproducible-builds.org/specs/source-date-epoch


def date_of_record() -> str:
    """Return the time of now for a record, ISO 8601 in UTC, or that of ``$SOURCE_DATE_EPOCH``.

    Raises:
        ConfigError: the variable holds no number of seconds since 1970.
    """
    told = os.environ.get(_DATE_VARIABLE)
    try:
        moment = datetime.now(timezone.utc)
        if told:
            moment = datetime.fromtimestamp(int(told), timezone.utc)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(
            f"{_DATE_VARIABLE} is '{told}', expected seconds since 1970. Set it right, or unset it."
        ) from error
    return moment.isoformat(timespec="seconds")


def _check_printable(text: str) -> str:
    if not is_printable(text):
        raise ValueError("text without control characters, which a terminal would obey")
    return text


def _check_lines(text: str) -> str:
    return "\n".join(_check_printable(line) for line in text.split("\n"))


_PRINTABLE = AfterValidator(_check_printable)
Name = Annotated[str, Field(min_length=1, max_length=64), _PRINTABLE]
Text = Annotated[str, Field(max_length=4096), _PRINTABLE]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=10**9)]
Error = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Versions = Annotated[dict[Name, Name], Field(max_length=32)]
Distance = Annotated[int, Field(ge=0, le=10_000)]
Interval = Annotated[int, Field(ge=1, le=1000)]
Byte = Annotated[int, Field(ge=0, le=255)]


class FileRecord(Record):
    """Digest and size of one file."""

    sha256: Sha256
    bytes: int = Field(ge=1, le=MAX_FILE_BYTES)


class Provenance(Record):
    """Record of how the bundle was made.

    Attributes:
        created: date and time, ISO 8601.
        versions: version by package; ``dff_edge`` is always there.
        command: the command line.
        config: the training configuration, as text.
        training_data: data that the model was trained on.
        max_distance: largest i - k of the pairs that the model was trained on, in frames; None
            where it is not known.
        checkpoint_sha256: digest of the checkpoint that was exported.
    """

    created: Name
    versions: Versions
    command: Text = ""
    config: Annotated[str, Field(max_length=65536), AfterValidator(_check_lines)] = ""
    training_data: Text = ""
    max_distance: Distance | None = None
    checkpoint_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _has_own_version(self) -> Provenance:
        if "dff_edge" not in self.versions:
            raise ValueError("versions that include 'dff_edge'")
        return self


class ByteLevels(Record):
    """``value = step * (byte - zero)`` of a quantised map between subnets.

    Bytes are uint8, or int8 with a zero of 0 in the graphs for TensorRT.
    """

    step: float = Field(ge=1e-30, le=1e6, allow_inf_nan=False)  # a float32 above zero
    zero: Byte

    def levels(self, flavour: Flavour) -> Levels:
        """Return the same as ``Levels``, without pydantic, for the bytes of a flavour."""
        return Levels(self.step, self.zero, INT8 if flavour == "trt" else UINT8)


class Calibration(Record):
    """Source and result of a quantised precision's calibration.

    Attributes:
        source: the clips, as given on the command line.
        sha256: digest of the frames that were used.
        clips, pairs, frames: how many were used.
        max_distance: largest i - k of these pairs, in frames.
        date: ISO 8601.
        versions: version by package.
        weight_bits: of the weights; with 7 the sums of x86 without VNNI do not overflow.
        features, scale: levels of the quantised maps between the subnets; both or neither. Without
            them the maps are float32; for TensorRT they are always present.
    """

    source: Text
    sha256: Sha256
    clips: Count
    pairs: Count
    frames: Count
    max_distance: Distance | None = None
    date: Name
    versions: Versions
    weight_bits: WeightBits = 8
    features: ByteLevels | None = None
    scale: ByteLevels | None = None

    @model_validator(mode="after")
    def _has_both_levels(self) -> Calibration:
        if (self.features is None) != (self.scale is None):
            raise ValueError("levels of features and scale, or of neither")
        return self


class Accuracy(Record):
    """One measurement: at a key interval (DFF at l), or at one distance ``i - k``.

    Beside the fields there is one number, 0..1, by the name of its measure: ``miou`` of
    segmentation, ``map`` (at an IoU of 0.5) of detection, or the ``Metric.key`` of another task.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Share]

    precision: Precision
    flavour: Flavour = "ort"
    data: Text
    protocol: Text
    key_interval: Interval | None = None
    distance: int | None = Field(default=None, ge=0, le=1000)

    @property
    def metric(self) -> str:
        """Name of the measure."""
        return next(iter(self.__pydantic_extra__))

    @property
    def value(self) -> float:
        """The accuracy, 0..1."""
        return self.__pydantic_extra__[self.metric]

    @model_validator(mode="after")
    def _is_one_number(self) -> Accuracy:
        if (self.key_interval is None) == (self.distance is None):
            raise ValueError("either key_interval or distance, not both or neither")
        measures = list(self.__pydantic_extra__)
        if len(measures) != 1 or not _MEASURE.fullmatch(measures[0]):
            raise ValueError("one measure beside the other fields, such as miou or map")
        return self


class ScoreThreshold(Record):
    """The score from which detections are shown, chosen on labelled video.

    Attributes:
        score: detections that score less are not drawn, written or counted, unless a user names
            another score.
        f1: F1 at that score, the mean over the classes.
        data: the labelled video, which accuracy is not reported on.
        key_interval: l; the pairs at the distances 0..l-1 were used together.
    """

    score: Share
    f1: Share
    data: Text
    key_interval: Interval


class Parity(Record):
    """Difference between a graph's output and its torch model's, on some inputs.

    Attributes:
        flavour: of the graph; ONNX Runtime runs those for TensorRT too.
        output: name of the output.
        inputs: kind of inputs, for example ``"random"`` or ``"real frames"``.
        tolerance: the largest ``relative_error`` that was accepted.
        max_abs_error: largest absolute difference.
        relative_error: that divided by the largest absolute value of the reference.
    """

    precision: Precision
    flavour: Flavour = "ort"
    subnet: Subnet
    output: Name
    inputs: Text
    tolerance: Error
    max_abs_error: Error
    relative_error: Error
