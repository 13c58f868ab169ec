"""manifest.json: what a bundle is for, what it holds, and what is recorded of it.

The manifest is read before anything else in a bundle, so everything in it is
bounded and checked, and every problem is told by the name of its field.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from dff_edge.bundle.contract import GraphContract, graph_contract
from dff_edge.bundle.levels import MapLevels
from dff_edge.bundle.manifest_json import check_version, parse_object
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
)
from dff_edge.bundle.rfcn import MAX_BOX_WORK, RfcnSettings
from dff_edge.bundle.tasks import FORMATS, TaskFormat, TaskName
from dff_edge.errors import BundleError
from dff_edge.names import FLAVOURS, Flavour, FlowFunction, GraphName, Precision

SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILES = 64
MAX_FEATURE_BYTES = 1 << 28  # a 4K frame has 265 MB with 2048 channels
MAX_FRAME_PIXELS = 1 << 24


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


class ClassInfo(Record):
    """One class: its index is its place in the list."""

    name: Name
    colour: tuple[Byte, Byte, Byte]  # RGB


class Normalisation(Record):
    """What the graphs subtract from and divide uint8 BGR values by; it is inside them."""

    mean: tuple[_Pixel, _Pixel, _Pixel]
    std: tuple[_Deviation, _Deviation, _Deviation]


class SubnetPaths(Record):
    """Paths of one precision's graphs in the bundle; no flow graph where flow is hand-made.

    ``propagate`` is the portable form of warp and task in one graph; fp32 always has it.
    ``task_maps`` is what the runtime takes for the task network of detection.
    """

    feature: RelativePath
    flow: RelativePath | None = None
    task: RelativePath
    task_maps: RelativePath | None = None
    propagate: RelativePath | None = None

    def paths(self) -> dict[GraphName, str]:
        """Path by subnet, of the subnets that are there."""
        named: dict[GraphName, str | None] = {
            "feature": self.feature,
            "flow": self.flow,
            "task": self.task,
            "task_maps": self.task_maps,
            "propagate": self.propagate,
        }
        return {graph: path for graph, path in named.items() if path is not None}


class TensorRtPaths(Record):
    """Paths of one precision's graphs for TensorRT; a file may be one of ONNX Runtime's too.

    ``propagate`` is warp and task in one graph with the warp as a plugin node,
    ``propagate_portable`` the same in standard operators.
    """

    feature: RelativePath
    flow: RelativePath
    task: RelativePath
    propagate: RelativePath
    propagate_portable: RelativePath

    def paths(self) -> dict[GraphName, str]:
        """Path by graph."""
        return {
            "feature": self.feature,
            "flow": self.flow,
            "task": self.task,
            "propagate": self.propagate,
            "propagate_portable": self.propagate_portable,
        }


class Manifest(Record):
    """manifest.json.

    Attributes:
        schema_version: 1. A newer one is refused.
        task: what the bundle computes.
        classes: classes by index; the background of detection is none of them.
        frame_size: ``(H, W)`` of the network's frames, multiples of 16.
        normalisation: BGR mean and deviation; informational, they are inside the graphs.
        stride: frame pixels per feature cell.
        channels: C of the feature map.
        flow_function: what gives flow and scale field; any but "network" takes the place of the
            flow graphs, and runs on the CPU alone, so that there are no graphs for TensorRT.
        decoding: how what the task network gives becomes the answer, see docs/design/networks.md.
        rfcn: what its detector has to know beside its weights; of detection only.
        default_key_interval: l, where the user names none.
        subnets: the graphs of each precision; fp32 is always there.
        tensorrt: the graphs of each precision for TensorRT; empty in older bundles.
        files: every file of the bundle but this one.
        calibration: by quantised precision, of ``subnets``.
        tensorrt_calibration: of the int8 graphs for TensorRT.
        accuracy: what was measured.
        parity: of the exported graphs against torch.
    """

    schema_version: Literal[1] = 1
    task: Annotated[TaskName, AfterValidator(_known_task)] = "segmentation"
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=1, max_length=256)]
    frame_size: tuple[_Side, _Side]
    normalisation: Normalisation
    stride: Literal[8, 16] = 16
    channels: int = Field(ge=1, le=4096)
    flow_function: FlowFunction = "network"
    decoding: Annotated[str, AfterValidator(_known_decoding)] = "bilinear_half_pixel_argmax"
    rfcn: RfcnSettings | None = None
    default_key_interval: Interval
    subnets: dict[Precision, SubnetPaths]
    tensorrt: dict[Precision, TensorRtPaths] = {}
    files: Annotated[dict[RelativePath, FileRecord], Field(max_length=MAX_FILES)]
    provenance: Provenance
    calibration: dict[Literal["fp16", "int8"], Calibration] = {}
    tensorrt_calibration: Calibration | None = None
    accuracy: Annotated[tuple[Accuracy, ...], Field(max_length=1000)] = ()
    parity: Annotated[tuple[Parity, ...], Field(max_length=1000)] = ()

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
            BundleError: too large, not JSON, a newer schema, or fields that are missing,
                unknown or out of bounds; one line a problem.
        """
        if len(data) > MAX_MANIFEST_BYTES:
            raise BundleError(
                f"{MANIFEST_NAME} has more than {MAX_MANIFEST_BYTES} bytes, the most it may have."
            )
        check_version(parse_object(data), SCHEMA_VERSION)
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
        """Give the bytes of manifest.json, the same for equal manifests."""
        return (self.model_dump_json(indent=2, exclude_none=True) + "\n").encode()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""
        return tuple(info.name for info in self.classes)

    def graph_paths(self, flavour: Flavour = "ort") -> dict[Precision, dict[GraphName, str]]:
        """Paths of a flavour's graphs by precision and name."""
        if flavour == "trt":
            return {precision: paths.paths() for precision, paths in self.tensorrt.items()}
        return {precision: paths.paths() for precision, paths in self.subnets.items()}

    @property
    def task_format(self) -> TaskFormat:
        """What bundles of the task have in common."""
        return FORMATS.find(self.task)

    def task_graph(self, flavour: Flavour = "ort") -> GraphName:
        """Which graph the runtime takes for the task network."""
        return self.task_format.runtime_graph if flavour == "ort" else "task"

    def map_levels(self, precision: Precision, flavour: Flavour = "ort") -> MapLevels | None:
        """What the bytes of features and scale field mean; None where they are floats."""
        record = None
        if flavour == "trt":
            record = self.tensorrt_calibration if precision == "int8" else None
        elif precision != "fp32":
            record = self.calibration.get(precision)
        if record is None or record.features is None or record.scale is None:
            return None
        return MapLevels(record.features.levels(), record.scale.levels())

    def contract(
        self, precision: Precision, graph: GraphName, flavour: Flavour = "ort"
    ) -> GraphContract:
        """Give the inputs and outputs that a graph must have."""
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
        self._check_subnets()
        folded = [path.casefold() for path in self.files]
        if len(set(folded)) < len(folded):
            raise ValueError("file names that differ by more than upper and lower case")
        if MANIFEST_NAME in folded:
            raise ValueError(f"files without {MANIFEST_NAME}, which cannot hold its own digest")
        others = self.files.keys() - {path for own in FLAVOURS for path in self._named(own)}
        if others:
            raise ValueError(f"files that are graphs, unlike {min(others)!r}")
        return self

    def _check_task(self) -> None:
        known = self.task_format
        if self.decoding != known.decoding:
            raise ValueError(f"decoding '{known.decoding}' for {self.task}")
        if (self.rfcn is not None) != (known.settings == "rfcn"):
            raise ValueError(f"{'no ' if self.rfcn else ''}settings 'rfcn' for {self.task}")
        for precision, paths in self.subnets.items():
            if (paths.task_maps is not None) != known.has_task_maps:
                some = "a graph" if known.has_task_maps else "no graph"
                raise ValueError(f"{some} task_maps for {self.task}, unlike {precision}'s")

    def _check_subnets(self) -> None:
        if "fp32" not in self.subnets or self.subnets["fp32"].propagate is None:
            raise ValueError("subnets of fp32 with all their graphs")
        has_network = self.flow_function == "network"
        if any((paths.flow is not None) != has_network for paths in self.subnets.values()):
            expected = "a flow graph" if has_network else "no flow graph"
            raise ValueError(
                f"{expected} in each precision, for flow_function {self.flow_function!r}"
            )
        if self.tensorrt and not has_network:
            raise ValueError(f"no graphs for TensorRT, for flow_function {self.flow_function!r}")
        if "int8" in self.subnets and "int8" not in self.calibration:
            raise ValueError("a calibration record for int8, which has subnets")
        if ("int8" in self.tensorrt) != (self.tensorrt_calibration is not None):
            raise ValueError("both or neither of tensorrt_calibration and tensorrt's int8 graphs")
        flavours = {record.flavour for record in self.calibration.values()} - {"ort"}
        own = self.tensorrt_calibration
        if flavours or (own is not None and own.flavour != "trt"):
            raise ValueError("the flavour 'ort' in calibration, and 'trt' in tensorrt_calibration")
        for flavour in FLAVOURS:
            self._check_graphs(flavour)

    def _named(self, flavour: Flavour) -> set[str]:
        paths = self.graph_paths(flavour).values()
        return {path for own in paths for path in own.values()}

    def _check_graphs(self, flavour: Flavour) -> None:
        graphs = self.graph_paths(flavour)
        named = self._named(flavour)
        unlisted = named - self.files.keys()
        if unlisted:
            raise ValueError(f"an entry in files for the subnet {sorted(unlisted)[0]!r}")
        described = {r.precision for r in self.accuracy if r.flavour == flavour}
        described |= {r.precision for r in self.parity if r.flavour == flavour}
        described |= self.calibration.keys() if flavour == "ort" else set()
        absent = described - graphs.keys()
        if absent:
            raise ValueError(f"records of precisions that are there, not of {sorted(absent)}")
