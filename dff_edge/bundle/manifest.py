"""manifest.json: the task of a bundle, its graphs, and records of their making.

The manifest is read before anything else in a bundle, so everything in it is
bounded and checked, and every problem is reported by the name of its field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from dff_edge.bundle.contract import GraphContract, graph_contract
from dff_edge.bundle.levels import MapLevels
from dff_edge.bundle.manifest_json import check_not_newer, check_version, parse_object
from dff_edge.bundle.paths import MANIFEST_NAME, path_problem
from dff_edge.bundle.problems import describe
from dff_edge.bundle.records import (
    Accuracy,
    Byte,
    Calibration,
    FileRecord,
    Interval,
    Name,
    Parity,
    Provenance,
    Record,
    ScoreThreshold,
)
from dff_edge.bundle.rfcn import MAX_BOX_WORK, RfcnSettings
from dff_edge.bundle.staleness import StalenessModel
from dff_edge.bundle.tasks import FORMATS, TaskFormat, TaskName
from dff_edge.errors import BundleError
from dff_edge.names import (
    FLAVOURS,
    SUBNETS,
    TENSORRT_GRAPHS,
    Flavour,
    FlowFunction,
    GraphName,
    Precision,
)

SCHEMA_VERSION = 3
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILES = 64
MAX_FEATURE_BYTES = 1 << 28  # a 4K frame has 265 MB with 2048 channels
MAX_FRAME_PIXELS = 1 << 24

# Every graph that a flavour may have; a bundle's task and flow determine which of them it has.
# ``task_maps`` is the runtime's task network of detection. ``propagate`` is warp
# and task in one graph: for ONNX Runtime in standard operators, for TensorRT with the warp as a
# plugin node, and ``propagate_portable`` is then the one in standard operators.
GRAPHS_OF: Mapping[Flavour, tuple[GraphName, ...]] = {
    "ort": (*SUBNETS, "task_maps"),
    "trt": TENSORRT_GRAPHS,
}
QUANTISED: tuple[Precision, ...] = ("int8",)  # precisions with a calibration record


def _check_path(path: str) -> str:
    problem = path_problem(path)
    if problem:
        raise ValueError(problem)
    return path


def _known_task(task: str) -> str:
    if task not in FORMATS.names:
        raise ValueError(" or ".join(map(repr, FORMATS.names)))
    return task


def _known_decoding(decoding: str) -> str:
    known = [FORMATS.find(task).decoding for task in FORMATS.names]
    if decoding not in known:
        raise ValueError(" or ".join(map(repr, known)))
    return decoding


RelativePath = Annotated[str, AfterValidator(_check_path)]
_Pixel = Annotated[float, Field(ge=0, le=255, allow_inf_nan=False)]
_Deviation = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
_Side = Annotated[int, Field(ge=32, le=8192, multiple_of=16)]
_Files = Annotated[dict[RelativePath, FileRecord], Field(max_length=MAX_FILES)]


class ClassInfo(Record):
    """One class: its index is its place in the list."""

    name: Name
    colour: tuple[Byte, Byte, Byte]  # RGB


class Normalisation(Record):
    """Mean and deviation of uint8 BGR values, which the graphs subtract and divide by."""

    mean: tuple[_Pixel, _Pixel, _Pixel]
    std: tuple[_Deviation, _Deviation, _Deviation]


class Manifest(Record):
    """manifest.json.

    Attributes:
        schema_version: 3. Newer and older ones are refused.
        task: the task of the bundle.
        classes: classes by index; the background of detection is none of them.
        frame_size: ``(H, W)`` of the network's frames, multiples of 16.
        normalisation: BGR mean and deviation; informational, they are inside the graphs.
        stride: frame pixels per feature cell.
        channels: C of the feature map.
        flow_function: source of flow and scale field; any but "network" replaces the
            flow graphs, and runs on the CPU alone, so that there are no graphs for TensorRT.
        correction: true where the flow network returns what is added to the task network's maps of
            propagated features; absent elsewhere.
        decoding: how the task network's outputs become the result, see docs/design/networks.md.
        rfcn: what its detector has to know beside its weights; of detection only.
        score_threshold: from which score on boxes are shown; of tasks that give some, where it
            was chosen.
        default_key_interval: l, unless the user sets one.
        graphs: path by flavour, precision and name; a file may have several places. At least one
            precision for ONNX Runtime is there; without fp32 there is nothing to calibrate from.
        files: every file of the bundle but this one.
        calibration: by flavour and quantised precision, of all graphs of these.
        accuracy: the measured accuracies.
        parity: of the exported graphs against torch.
        staleness: predicts how far an answer is from the full network's; None where it was not
            fitted.
    """

    schema_version: Literal[3] = 3
    task: Annotated[TaskName, AfterValidator(_known_task)] = "segmentation"
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=1, max_length=256)]
    frame_size: tuple[_Side, _Side]
    normalisation: Normalisation
    stride: Literal[8, 16] = 16
    channels: int = Field(ge=1, le=4096)
    flow_function: FlowFunction = "network"
    correction: Literal[True] | None = None
    decoding: Annotated[str, AfterValidator(_known_decoding)] = "bilinear_half_pixel_argmax"
    rfcn: RfcnSettings | None = None
    score_threshold: ScoreThreshold | None = None
    default_key_interval: Interval
    graphs: dict[Flavour, dict[Precision, dict[GraphName, RelativePath]]]
    files: _Files
    provenance: Provenance
    calibration: dict[Flavour, dict[Precision, Calibration]] = {}
    accuracy: Annotated[tuple[Accuracy, ...], Field(max_length=1000)] = ()
    parity: Annotated[tuple[Parity, ...], Field(max_length=1000)] = ()
    staleness: StalenessModel | None = None

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a manifest from its file. See ``parse``; for a whole bundle use ``Bundle.open``."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_MANIFEST_BYTES + 1)
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
        return cls.parse(data)

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read a manifest from its bytes.

        Raises:
            BundleError: too large, not JSON, another schema, or fields that are missing,
                unknown or out of bounds; one line per problem.
        """
        check_version(_fields(data), SCHEMA_VERSION)
        try:
            return cls.model_validate_json(data, strict=True)
        except ValidationError as error:
            raise BundleError(f"{MANIFEST_NAME} is not valid:\n{describe(error)}") from error

    @classmethod
    def build(cls, **fields: Any) -> Manifest:
        """Make a manifest from field values, plain or models.

        Raises:
            BundleError: as ``parse``.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise BundleError(f"{MANIFEST_NAME} would not be valid:\n{describe(error)}") from error

    def dump(self) -> bytes:
        """Return the bytes of manifest.json, the same for equal manifests."""
        return (self.model_dump_json(indent=2, exclude_none=True) + "\n").encode()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""
        return tuple(info.name for info in self.classes)

    def graph_paths(self, flavour: Flavour = "ort") -> dict[Precision, dict[GraphName, str]]:
        """Return the paths of a flavour's graphs by precision and name; none where it has none."""
        return self.graphs.get(flavour, {})

    @property
    def task_format(self) -> TaskFormat:
        """The common format of the task's bundles."""
        return FORMATS.find(self.task)

    def task_graph(self, flavour: Flavour = "ort") -> GraphName:
        """Return the name of the graph that the runtime runs as the task network."""
        return self.task_format.runtime_graph if flavour == "ort" else "task"

    def map_levels(self, precision: Precision, flavour: Flavour = "ort") -> MapLevels | None:
        """Return the quantisation of features and scale field; None where they are floats."""
        record = self.calibration.get(flavour, {}).get(precision)
        if record is None or record.features is None or record.scale is None:
            return None
        return MapLevels(record.features.levels(flavour), record.scale.levels(flavour))

    def known_distance(self, precision: Precision, flavour: Flavour = "ort") -> int | None:
        """Return the largest i - k that a precision was trained and calibrated for, in frames.

        None where neither is known.
        """
        calibrated = self.calibration.get(flavour, {}).get(precision)
        known = [self.provenance.max_distance]
        if calibrated is not None:
            known.append(calibrated.max_distance)
        return min((distance for distance in known if distance is not None), default=None)

    def contract(
        self, precision: Precision, graph: GraphName, flavour: Flavour = "ort"
    ) -> GraphContract:
        """Return the inputs and outputs that a graph must have."""
        maps = "float32"
        if flavour == "trt":
            maps = {"fp32": "float32", "fp16": "float16", "int8": "int8"}[precision]
        elif self.map_levels(precision) is not None:
            maps = "uint8"
        return graph_contract(
            graph,
            frame_size=self.frame_size,
            channels=self.channels,
            classes=len(self.classes),
            maps=maps,
            task=self.task,
            settings=self.rfcn,
            flavour=flavour,
            stride=self.stride,
            correction=bool(self.correction),
        )

    @model_validator(mode="after")
    def _is_consistent(self) -> Manifest:
        height, width = self.frame_size
        feature_bytes = height * width // self.stride**2 * self.channels * 4
        if feature_bytes > MAX_FEATURE_BYTES:
            raise ValueError(f"feature maps below {MAX_FEATURE_BYTES} bytes, not {feature_bytes}")
        if height * width > MAX_FRAME_PIXELS:
            raise ValueError(f"frames of at most {MAX_FRAME_PIXELS} pixels, not {height * width}")
        if self.rfcn is not None and self.rfcn.work(len(self.classes)) > MAX_BOX_WORK:
            raise ValueError(
                "fewer bins, proposals or classes: what R-FCN would do with them takes minutes"
            )
        if len(set(self.class_names)) < len(self.classes):
            raise ValueError("classes of different names")
        self._check_task()
        self._check_graphs()
        self._check_calibration()
        self._check_measured()
        folded = [path.casefold() for path in self.files]
        if len(set(folded)) < len(folded):
            raise ValueError("file names that differ by more than upper and lower case")
        if MANIFEST_NAME in folded:
            raise ValueError(f"files without {MANIFEST_NAME}, which cannot hold its own digest")
        others = self.files.keys() - {path for _, _, own in self._places() for path in own.values()}
        if others:
            raise ValueError(f"files that are graphs, unlike {min(others)!r}")
        return self

    def _check_task(self) -> None:
        known = self.task_format
        if self.decoding != known.decoding:
            raise ValueError(f"decoding '{known.decoding}' for {self.task}")
        if (self.rfcn is not None) != (known.settings == "rfcn"):
            raise ValueError(f"{'no ' if self.rfcn else ''}settings 'rfcn' for {self.task}")
        if self.score_threshold is None:
            return
        if known.truth != "boxes":
            raise ValueError(f"no score_threshold for {self.task}, which gives no boxes")
        if self.rfcn is not None and self.score_threshold.score < self.rfcn.min_score:
            raise ValueError(
                f"a score_threshold of at least rfcn.min_score, {self.rfcn.min_score}: boxes that "
                "score less are not reported"
            )

    def _check_graphs(self) -> None:
        if not self.graph_paths("ort"):
            raise ValueError("graphs of at least one precision for ort")
        has_network = self.flow_function == "network"
        if self.correction and not has_network:
            raise ValueError(f"no correction, for flow_function {self.flow_function!r}")
        if self.graph_paths("trt") and not has_network:
            raise ValueError(f"no graphs for trt, for flow_function {self.flow_function!r}")
        for flavour, precision, paths in self._places():
            expected = set(GRAPHS_OF[flavour])
            if not has_network:
                expected.discard("flow")
            if not self.task_format.has_task_maps:
                expected.discard("task_maps")
            optional = {"propagate"} if flavour == "ort" and precision != "fp32" else set()
            if not expected - optional <= paths.keys() <= expected:
                raise ValueError(
                    f"in graphs.{flavour}.{precision} {_listed(expected)}, for {self.task} and "
                    f"flow_function {self.flow_function!r}, not {_listed(paths)}"
                )
            unlisted = set(paths.values()) - self.files.keys()
            if unlisted:
                raise ValueError(f"an entry in files for the graph {min(unlisted)!r}")

    def _check_calibration(self) -> None:
        for flavour in FLAVOURS:
            records = self.calibration.get(flavour, {})
            wanted = self.graph_paths(flavour).keys() & set(QUANTISED)
            if records.keys() != wanted:
                raise ValueError(
                    f"calibration.{flavour} of the quantised precisions that are there, "
                    f"{_listed(wanted)}, not of {_listed(records)}"
                )
        for precision in self.calibration.get("trt", {}):
            levels = self.map_levels(precision, "trt")
            if levels is None or levels.features.zero != 0 or levels.scale.zero != 0:
                raise ValueError(
                    f"levels of features and scale with zero 0 in calibration.trt.{precision}"
                )

    def _check_measured(self) -> None:
        measured = {(record.flavour, record.precision) for record in self.accuracy}
        measured |= {(record.flavour, record.precision) for record in self.parity}
        for flavour, precision in sorted(measured):
            if precision not in self.graph_paths(flavour):
                raise ValueError(
                    "accuracy and parity of graphs that are there, not of "
                    f"{precision} for {flavour}"
                )

    def _places(self) -> Iterator[tuple[Flavour, Precision, Mapping[GraphName, str]]]:
        for flavour, by_precision in self.graphs.items():
            for precision, paths in by_precision.items():
                yield flavour, precision, paths


def listed_files(data: bytes) -> set[str]:
    """Return the names of a bundle's files by its manifest, also of an older schema.

    Replacing a bundle depends on this alone, so every schema has ``schema_version`` and
    ``files``.

    Raises:
        BundleError: as ``Manifest.parse``, but for other fields than these.
    """
    fields = _fields(data)
    check_not_newer(fields, SCHEMA_VERSION)
    try:
        return set(TypeAdapter(_Files).validate_python(fields.get("files"), strict=True))
    except ValidationError as error:
        raise BundleError(f"{MANIFEST_NAME}: files is not valid:\n{describe(error)}") from error


def _fields(data: bytes) -> Any:
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{MANIFEST_NAME} has more than {MAX_MANIFEST_BYTES} bytes, the most it may have."
        )
    return parse_object(data)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
