"""The whole task graph of detection: the steps after R-FCN's learned maps, in standard operators.

The device's own code does the same faster (``runtime/kernels/detect.py``); this is the portable
form, and the reference for that code.

Shapes stay static although the number of boxes is not: the boxes that NonMaxSuppression selects are
scattered into the scores of all candidates, -1 for the others, and TopK returns the maximum number.
Position-sensitive pooling is RoiAlign with the bins as batch: each bin of each box is a region of
its own that reads the maps of that bin alone; pooling all channels would cost k * k times as
much.

Source: Dai et al., "R-FCN", NIPS 2016; section 4 of Zhu et al., CVPR 2017, arXiv:1611.07715.

Shapes: h x w maps, A anchors a cell, k x k bins, K classes, P proposals, D detections.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.anchors import anchor_sizes
from dff_edge.bundle.rfcn import NO_LIMIT, RfcnSettings
from dff_edge.onnx_graphs.tidy import finish

# R-FCN's learned outputs, by name.
MAPS = ("objectness", "deltas", "class_maps", "box_maps")

_LARGEST_GROWTH = math.log(1000 / 16)  # of a side, as in the native code
_NO_SCORE = -1.0  # marks empty rows


def whole_task(task_maps: bytes, settings: RfcnSettings, stride: int) -> bytes:
    """Append proposals, pooling and NMS to a graph that ends with the four maps.

    Of equal scores the lower anchor comes first, then the lower proposal, and of two classes the
    lower.

    Args:
        task_maps: ``features`` to ``objectness (1, h, w, A)``, ``deltas (1, h, w, 4A)``,
            ``class_maps (1, h, w, k*k*(K+1))`` and ``box_maps (1, h, w, k*k*4)``, float32.
        settings: anchors, bins and numbers of boxes.
        stride: pixels of the frame per cell of the maps.

    Returns:
        ``features`` to ``boxes`` float32 ``(1, D, 4)`` in pixels of the network's frame, ``scores``
        float32 ``(1, D)``, ``labels`` int32 ``(1, D)`` and ``count`` int32 ``(1,)``. Rows from
        ``count`` on are zero.
    """
    model = onnx.load_from_string(task_maps)
    depths = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.output
    }
    _, height, width, depth = depths["class_maps"]
    behind = _Behind(model, settings, (height, width), depth // settings.bins**2 - 1, stride)
    proposals, is_proposal = behind.propose()
    scores, deltas = behind.vote(proposals)
    behind.answer(proposals, is_proposal, scores, deltas)
    model.graph.name = "task"
    return finish(model)


class _Behind:
    """A model while the nodes after its maps are added."""

    def __init__(
        self,
        model: onnx.ModelProto,
        settings: RfcnSettings,
        map_size: tuple[int, int],
        classes: int,
        stride: int,
    ) -> None:
        self._graph = model.graph
        self._settings = settings
        self._map_size = map_size
        self._classes = classes
        self._stride = stride
        self._anchor_count = map_size[0] * map_size[1] * settings.anchors
        counts = settings.counts(map_size[0] * map_size[1], classes)
        self._candidates, self._proposals, self._detections = counts

    def propose(self) -> tuple[str, str]:
        """Add nodes for the boxes ``(P, 4)``, and whether each is one, bool ``(P, 1)``."""
        count, wanted = self._candidates, self._proposals
        logits = self._reshape("objectness", [self._anchor_count])
        _, order = self._top(logits, count)
        deltas = self._add("Gather", self._reshape("deltas", [self._anchor_count, 4]), order)
        centres, sizes = self._anchors()
        boxes, is_solid = self._decode(
            self._add("Gather", self._constant(centres), order),
            self._add("Gather", self._constant(sizes), order),
            deltas,
        )
        # The order itself is the score: no two are equal.
        places = np.arange(count, 0, -1, dtype=np.float32)
        score = self._add(
            "Where",
            self._reshape(is_solid, [count]),
            self._constant(places),
            self._constant(np.float32(_NO_SCORE)),
        )
        kept = self._suppress(
            boxes, self._reshape(score, [1, count]), (1, count), wanted, self._settings.proposal_nms
        )
        value, row = self._top(self._reshape(kept, [count]), wanted)
        is_one = self._add("Greater", value, self._constant(np.float32(0)))
        return self._add("Gather", boxes, row), self._reshape(is_one, [wanted, 1])

    def vote(self, boxes: str) -> tuple[str, str]:
        """Add nodes for probabilities ``(P, K)`` without the background, and deltas ``(P, 4)``."""
        cells, depth = self._settings.bins**2, self._classes + 1
        # One pooling for both: in it a region costs as much as a few of its maps.
        maps = [self._by_bin("class_maps", depth), self._by_bin("box_maps", 4)]
        pooled = self._add(
            "RoiAlign",
            self._add("Concat", *maps, axis=1),
            self._bins_of(boxes),
            self._constant(np.repeat(np.arange(cells, dtype=np.int64), self._proposals)),
            coordinate_transformation_mode="half_pixel",
            mode="avg",
            output_height=1,
            output_width=1,
            sampling_ratio=2,
            spatial_scale=1 / self._stride,
        )
        # The mean over the bins as a product: operator sets differ in ReduceMean.
        share = self._constant(np.full((1, cells), 1 / cells, np.float32))
        votes = self._add("MatMul", share, self._reshape(pooled, [cells, -1]))
        votes = self._reshape(votes, [self._proposals, depth + 4])
        scores = self._add("Softmax", self._columns(votes, 0, depth), axis=1)
        return self._columns(scores, 1, depth), self._columns(votes, depth, depth + 4)

    def _by_bin(self, maps: str, depth: int) -> str:
        """Add nodes that turn channels-last maps to ``(k * k, depth, h, w)``."""
        (height, width), cells = self._map_size, self._settings.bins**2
        rows = self._reshape(maps, [height * width, cells * depth])
        planes = self._add("Transpose", rows, perm=[1, 0])
        return self._reshape(planes, [cells, depth, height, width])

    def answer(self, proposals: str, is_proposal: str, scores: str, deltas: str) -> None:
        """Add the graph's outputs."""
        count, classes, wanted = self._proposals, self._classes, self._settings.detections
        low, high = self._columns(proposals, 0, 2), self._columns(proposals, 2, 4)
        sizes = self._add("Sub", high, low)
        half = self._constant(np.float32(0.5))
        centres = self._add("Mul", self._add("Add", low, high), half)
        boxes, is_solid = self._decode(centres, sizes, deltas)
        is_candidate = self._add("And", is_solid, is_proposal)
        none = self._constant(np.float32(_NO_SCORE))
        scores = self._add("Where", is_candidate, scores, none)
        scores = self._add("Transpose", scores, perm=[1, 0])
        limit = self._settings.score_limit
        kept = self._suppress(boxes, scores, (classes, count), count, self._settings.nms, limit)
        found = self._detections
        score, place = self._top(self._reshape(kept, [classes * count]), found)
        is_found = self._add("Greater", score, self._constant(np.float32(NO_LIMIT)))
        per_class = self._constant(np.int64(count))
        label = self._add("Div", place, per_class)
        row = self._add("Sub", place, self._add("Mul", label, per_class))
        zero = self._constant(np.float32(0))
        boxes = self._add(
            "Where", self._reshape(is_found, [found, 1]), self._add("Gather", boxes, row), zero
        )
        score = self._add("Where", is_found, score, zero)
        label = self._add("Cast", label, to=TensorProto.INT32)
        label = self._add("Where", is_found, label, self._constant(np.int32(0)))
        total = self._add("Cast", is_found, to=TensorProto.INT32)
        total = self._add("ReduceSum", total, keepdims=1)
        del self._graph.output[:]
        self._put_out("boxes", self._padded(boxes, [found, 4], np.float32), [1, wanted, 4])
        self._put_out("scores", self._padded(score, [found], np.float32), [1, wanted])
        self._put_out("labels", self._padded(label, [found], np.int32), [1, wanted])
        self._put_out("count", total, [1])

    def _anchors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return centres and sizes ``(h * w * A, 2)``."""
        height, width = self._map_size
        sizes = anchor_sizes(self._settings)
        y, x = np.mgrid[:height, :width].reshape(2, -1)
        centres = (np.stack([x, y], axis=1).astype(np.float32) + 0.5) * self._stride
        return np.repeat(centres, len(sizes), axis=0), np.tile(sizes, (height * width, 1))

    def _decode(self, centres: str, sizes: str, deltas: str) -> tuple[str, str]:
        """Add nodes for boxes within the frame ``(n, 4)``; ``(n, 1)`` tells which are not empty."""
        shift, growth = self._columns(deltas, 0, 2), self._columns(deltas, 2, 4)
        centres = self._add("Add", centres, self._add("Mul", shift, sizes))
        growth = self._add("Min", growth, self._constant(np.float32(_LARGEST_GROWTH)))
        half = self._add("Mul", sizes, self._add("Exp", growth))
        half = self._add("Mul", half, self._constant(np.float32(0.5)))
        boxes = self._add(
            "Concat", self._add("Sub", centres, half), self._add("Add", centres, half), axis=1
        )
        height, width = (self._stride * side for side in self._map_size)
        frame = np.array([width, height, width, height], np.float32)
        zero = self._constant(np.float32(0))
        boxes = self._add("Min", self._add("Max", boxes, zero), self._constant(frame))
        wide = self._add("Greater", self._columns(boxes, 2, 3), self._columns(boxes, 0, 1))
        high = self._add("Greater", self._columns(boxes, 3, 4), self._columns(boxes, 1, 2))
        is_solid = self._add("And", wide, high)
        # NaN would be cast to an index within RoiAlign.
        return self._add("Where", is_solid, boxes, zero), is_solid

    def _bins_of(self, boxes: str) -> str:
        """Add nodes for each bin of each box ``(k * k * P, 4)``, bin by bin."""
        bins, count = self._settings.bins, self._proposals
        rows, columns = np.divmod(np.arange(bins**2), bins)
        begin = np.stack([columns, rows], axis=1)[:, None] / bins  # (k * k, 1, 2)
        low = self._reshape(self._columns(boxes, 0, 2), [1, count, 2])
        side = self._add("Sub", self._reshape(self._columns(boxes, 2, 4), [1, count, 2]), low)
        ends = [
            self._add("Add", low, self._add("Mul", side, self._constant(np.float32(share))))
            for share in (begin, begin + 1 / bins)
        ]
        return self._reshape(self._add("Concat", *ends, axis=2), [bins**2 * count, 4])

    def _suppress(
        self,
        boxes: str,
        scores: str,
        shape: tuple[int, int],
        most: int,
        iou: float,
        above: float = 0.0,
    ) -> str:
        """Add nodes for scores ``(rows, n)`` of the boxes ``(n, 4)`` that NMS keeps, else -1."""
        rows, count = shape
        chosen = self._add(
            "NonMaxSuppression",
            self._reshape(boxes, [1, count, 4]),
            self._reshape(scores, [1, rows, count]),
            self._constant(np.array([most], np.int64)),
            self._constant(np.array([iou], np.float32)),
            self._constant(np.array([above], np.float32)),
        )
        places = self._columns(chosen, 1, 3)  # row, box
        nothing = self._constant(np.full(shape, _NO_SCORE, np.float32))
        return self._add("ScatterND", nothing, places, self._add("GatherND", scores, places))

    def _top(self, values: str, count: int) -> tuple[str, str]:
        """Add nodes for a vector's greatest values and their places; of equal ones the first."""
        name = self._name("TopK")
        wanted = self._constant(np.array([count], np.int64))
        outputs = [f"{name}/values", f"{name}/places"]
        self._graph.node.append(helper.make_node("TopK", [values, wanted], outputs, name, axis=0))
        return outputs[0], outputs[1]

    def _columns(self, rows: str, begin: int, end: int) -> str:
        numbers = [self._constant(np.array([number], np.int64)) for number in (begin, end, 1)]
        return self._add("Slice", rows, *numbers)

    def _padded(self, rows: str, shape: list[int], dtype: Any) -> str:
        missing = self._settings.detections - shape[0]
        if missing == 0:
            return rows
        zeros = np.zeros([missing, *shape[1:]], dtype)
        return self._add("Concat", rows, self._constant(zeros), axis=0)

    def _put_out(self, name: str, value: str, shape: list[int]) -> None:
        self._add("Reshape", value, self._constant(np.array(shape, np.int64)), output=name)
        kind = TensorProto.FLOAT if name in ("boxes", "scores") else TensorProto.INT32
        self._graph.output.append(helper.make_tensor_value_info(name, kind, shape))

    def _reshape(self, value: str, shape: Sequence[int]) -> str:
        return self._add("Reshape", value, self._constant(np.array(shape, np.int64)))

    def _add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or self._name(operator)
        self._graph.node.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def _constant(self, array: Any) -> str:
        name = f"detect/constant_{len(self._graph.initializer)}"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def _name(self, operator: str) -> str:
        return f"detect/{operator.lower()}_{len(self._graph.node)}"
