"""Bundles by people who mean harm, or by chance: for tests that open and run them.

    python -m tests.bundle.hostile_bundles FOLDER --seconds 60 [--seed 0] [--real BUNDLE ...]

damages the small bundle of the tests, and real ones, at random, makes graphs of allowed operators
at random, opens all of them and runs what opens. Prints what took long, and stops at what was no
clean refusal; its files are then in FOLDER.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import random
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.graphs.check import check_graph, read_graph_bytes
from dff_edge.bundle.graphs.onnx_file import Node
from dff_edge.bundle.graphs.onnx_operators import OPERATORS
from dff_edge.bundle.graphs.onnx_values import Value
from dff_edge.bundle.graphs.protobuf import WireError
from dff_edge.bundle.manifest import Manifest
from dff_edge.bundle.reader import Bundle, roles_of
from dff_edge.errors import BundleError, DffEdgeError
from dff_edge.runtime.pipeline import Pipeline
from tests.bundle.bundles import IR_VERSION, OPSET

INTS = [0, 1, -1, 2, 3, 7, 16, 255, 256, 1000, 65536, 2**31 - 1, 2**31, 2**62, -(2**63), 2**63 - 1]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, 1e38, -1e38, float("inf"), float("-inf"), float("nan")]
LARGEST_VALUE = 1 << 22  # elements that a made value may have
OPEN_S, RUN_S = 20.0, 120.0  # on a machine that does other things besides; both take much less
MAX_MEMORY_BYTES = 3 << 30


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Put a file in a bundle, with the right digest in the manifest."""
    (folder / name).write_bytes(data)
    fields = json.loads((folder / "manifest.json").read_text())
    fields["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(fields))


# ---- damage


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change, remove and add a few bytes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed))
        kind = rng.randrange(5)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.choice([0x00, 0x01, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            del changed[at : at + rng.randint(1, 16)]
        elif kind == 3:
            changed[at:at] = rng.randbytes(rng.randint(1, 16))
        else:  # a part of it once more
            start = rng.randrange(len(changed))
            changed[at:at] = changed[start : start + rng.randint(1, 200)]
    return bytes(changed)


def damage_graph(data: bytes, rng: random.Random) -> bytes:
    """Change what a graph says: attributes, operators, wiring, stored numbers, told shapes."""
    model = onnx.load_from_string(data)
    graph = model.graph
    for _ in range(rng.randint(1, 3)):
        node = rng.choice(graph.node)
        kind = rng.randrange(8)
        if kind == 0 and node.attribute:
            attribute = rng.choice(node.attribute)
            if attribute.ints:
                attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(INTS)
            elif attribute.type == onnx.AttributeProto.INT:
                attribute.i = rng.choice(INTS)
            elif attribute.type == onnx.AttributeProto.FLOAT:
                attribute.f = rng.choice(FLOATS)
        elif kind == 1:
            node.op_type = rng.choice(list(OPERATORS))
        elif kind == 2 and node.input:
            names = [name for other in graph.node for name in (*other.input, *other.output)]
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
        elif kind in (3, 4) and graph.initializer:
            damage_tensor(rng.choice(graph.initializer), rng)
        elif kind == 5:
            graph.node.insert(rng.randrange(len(graph.node)), node)
        elif kind == 6:
            graph.node.remove(node)
        elif kind == 7:
            value = rng.choice([*graph.input, *graph.output])
            rng.choice(value.type.tensor_type.shape.dim).dim_value = rng.choice(INTS)
        if not graph.node:
            break
    return model.SerializeToString()


def damage_tensor(tensor: onnx.TensorProto, rng: random.Random) -> None:
    """Store other numbers of the same type and shape."""
    values = numpy_helper.to_array(tensor).copy()
    if values.size == 0:
        return
    choices: list[Any] = FLOATS if values.dtype.kind == "f" else INTS
    with np.errstate(over="ignore"):
        if values.dtype.kind in "iu":
            low, high = np.iinfo(values.dtype).min, np.iinfo(values.dtype).max
            choices = [number for number in INTS if low <= number <= high]
        if rng.random() < 0.2:
            values[...] = rng.choice(choices)
        else:
            values.reshape(-1)[rng.randrange(values.size)] = rng.choice(choices)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def damage_manifest(text: str, rng: random.Random) -> str:
    """Change values of a manifest, wherever they are."""
    fields = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        place: Any = fields
        while True:
            keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], (dict, list)) and rng.random() < 0.8:
                place = place[key]
                continue
            others: list[Any] = [
                None,
                True,
                [],
                {},
                "",
                "\x1b[2J",
                "x" * 5000,
                place[key],
                10**4000,
            ]
            place[key] = rng.choice([*others, *INTS, *FLOATS])
            break
    return json.dumps(fields)


# ---- graphs by chance

# Of what an FP32 graph may not have.
_OTHER_PRECISIONS = ("QuantizeLinear", "DequantizeLinear")


class Builder:
    """A graph of allowed operators whose shapes fit, from one input to one output, both float32."""

    def __init__(self, rng: random.Random, given: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        self._rng = rng
        self._nodes: list[onnx.NodeProto] = []
        self._stored: dict[str, np.ndarray] = {}  # type: ignore[type-arg]
        self._values = {"features": Value(np.dtype(np.float32), given)}
        self._wanted = wanted
        self._given = given

    def build(self, count: int) -> bytes:
        """Give the file of a graph of about so many nodes."""
        for _ in range(20 * count):
            self._try_node()
            if len(self._nodes) >= count:
                break
        self._finish()
        spec = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            "task",
            [spec("features", TensorProto.FLOAT, self._given)],
            [spec("scores", TensorProto.FLOAT, self._wanted)],
            [numpy_helper.from_array(array, name) for name, array in self._stored.items()],
        )
        imports = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
        return model.SerializeToString()

    def _try_node(self) -> None:
        """Add a node where its operator takes what is there."""
        rng = self._rng
        operator = rng.choice([name for name in OPERATORS if name not in _OTHER_PRECISIONS])
        count = rng.choice(OPERATORS[operator].inputs[:3])
        inputs = [self._operand(operator, at) for at in range(count)]
        if inputs and rng.random() < 0.8:
            inputs[0] = rng.choice([n for n, v in self._values.items() if not v.is_stored])
            fitting = self._fitting(operator, self._values[inputs[0]].shape)
            inputs[1:] = [self._keep(array) for array in fitting] or inputs[1:]
        self._add(operator, inputs, self._attributes(operator))

    def _fitting(self, operator: str, shape: tuple[int, ...]) -> list[Any]:
        """Stored operands that fit behind a first one of this shape; none where any may."""
        rng, size = self._rng, int(np.prod(shape))
        numbers = np.random.default_rng(rng.getrandbits(32))
        kernels, side = rng.choice([1, 3, 8, 64]), rng.choice([1, 2, 3, 5])
        last = shape[-1] if shape else 1
        if operator == "Conv" and len(shape) == 4:
            return [numbers.normal(size=(kernels, shape[1], side, side)).astype(np.float32)]
        if operator == "ConvTranspose" and len(shape) == 4:
            return [numbers.normal(size=(shape[1], kernels, side, side)).astype(np.float32)]
        if operator == "MatMul":
            return [numbers.normal(size=(last, kernels)).astype(np.float32)]
        if operator == "Gemm":
            weight = numbers.normal(size=(last, kernels)).astype(np.float32)
            return [weight, np.ones(kernels, np.float32)]
        if operator == "Reshape":
            part = rng.choice([n for n in (1, 2, 4, 8, 64) if size % n == 0])
            return [np.array(rng.choice([[-1], [part, -1], [1, part, 1, -1], [-1, 4]]), np.int64)]
        if operator == "Slice" and shape:
            axis = rng.randrange(len(shape))
            start, end = rng.choice([(0, 1), (-3, 1000), (1, 3), (0, 2**62), (-(2**63), 2)])
            return [np.array([number], np.int64) for number in (start, end, axis)]
        if operator == "TopK":
            return [np.array([rng.randint(1, max(1, last))], np.int64)]
        if operator == "Gather" and shape:
            return [numbers.integers(-shape[0] - 1, shape[0] + 1, 5)]
        if operator == "RoiAlign":
            boxes = numbers.normal(size=(6, 4)).astype(np.float32) * rng.choice([1, 100, 1e30])
            return [boxes, np.zeros(6, np.int64)]
        if operator == "NonMaxSuppression" and len(shape) == 3:
            scores = numbers.normal(size=(1, 3, shape[1])).astype(np.float32)
            limits = [np.array([0.5], np.float32), np.array([-1], np.float32)]
            return [scores, np.array([rng.choice([0, 1, 100, 2**62])], np.int64), *limits]
        if operator == "GridSample" and len(shape) == 4:
            grid = numbers.normal(size=(shape[0], 5, 6, 2)).astype(np.float32)
            return [grid * np.float32(rng.choice([1, 1e30, float("nan")]))]
        if operator == "Clip":
            return [np.float32(rng.choice([-1, 5])), np.float32(rng.choice([2, float("inf")]))]
        return []

    def _keep(self, array: Any) -> str:
        name = f"s{len(self._values)}"
        self._stored[name] = np.asarray(array)
        self._values[name] = Value(
            self._stored[name].dtype, self._stored[name].shape, True, self._stored[name]
        )
        return name

    def _add(self, operator: str, inputs: list[str], attributes: dict[str, Any]) -> str | None:
        outputs = tuple(f"v{len(self._values)}_{i}" for i in range(OPERATORS[operator].outputs))
        made = helper.make_node(operator, inputs, outputs, outputs[0], **attributes)
        known = {a.name: helper.get_attribute_value(a) for a in made.attribute}
        told = {k: tuple(v) if isinstance(v, list) else v for k, v in known.items()}
        node = Node(operator, "", outputs[0], tuple(inputs), outputs, told)
        try:
            outcome = OPERATORS[operator].rule(node, [self._values[name] for name in inputs])
        except (WireError, AssertionError, KeyError, IndexError):
            return None
        sizes = [np.prod(value.shape) for value in outcome.outputs]
        has_rows = any(self._values[name].is_most for name in inputs)
        is_refused = 0 in sizes or (has_rows and not OPERATORS[operator].rows)
        if max(sizes) > LARGEST_VALUE or (is_refused and self._rng.random() < 0.99):
            return None
        self._nodes.append(made)
        self._values.update(zip(outputs, outcome.outputs, strict=True))
        return outputs[0]

    def _operand(self, operator: str, at: int) -> str:
        rng = self._rng
        if at in OPERATORS[operator].kept or rng.random() < 0.3:
            return self._store(rng)
        return rng.choice(list(self._values))

    def _store(self, rng: random.Random) -> str:
        """Store a tensor that some operator may want."""
        rank = rng.choice([0, 1, 1, 2, 4])
        shape = tuple(rng.choice([1, 1, 2, 3, 4, 8]) for _ in range(rank))
        kind = rng.choice(["f", "f", "i", "u", "b"])
        array: np.ndarray  # type: ignore[type-arg]
        if kind == "f":
            array = np.array(np.random.default_rng(rng.getrandbits(32)).normal(size=shape), "f4")
            if rng.random() < 0.2:
                array[...] = rng.choice(FLOATS)
            if rng.random() < 0.3:
                array = np.abs(array) + np.float32(0.01)
        elif kind == "i":
            array = np.array(
                np.random.default_rng(rng.getrandbits(32)).integers(-1, 9, shape), "i8"
            )
        else:
            array = np.zeros(shape, np.uint8 if kind == "u" else np.int8)
        return self._keep(array)

    def _attributes(self, operator: str) -> dict[str, Any]:
        rng = self._rng
        side = rng.choice([1, 1, 2, 3])
        some: dict[str, dict[str, Any]] = {
            "AveragePool": {"kernel_shape": [side, side]},
            "MaxPool": {"kernel_shape": [side, side], "strides": [rng.choice([1, 2])] * 2},
            "Cast": {"to": rng.choice([1, 6])},
            "Concat": {"axis": rng.choice([0, 1, 2, 3, -1])},
            "Conv": {"pads": [rng.choice([0, 1, 2, 40])] * 4, "strides": [side, side]},
            "ConvTranspose": {"strides": [rng.choice([1, 2, 64])] * 2},
            "GridSample": {"mode": "bilinear", "padding_mode": "zeros", "align_corners": 0},
            "LeakyRelu": {"alpha": rng.choice([0.1, -1e38])},
            "ReduceSum": {"keepdims": 1},
            "RoiAlign": {"sampling_ratio": 2, "spatial_scale": rng.choice([0.0625, 1e30])},
            "Softmax": {"axis": rng.choice([0, 1, -1])},
            "TopK": {"axis": 0},
            "Transpose": {"perm": rng.sample(range(4), 4)},
        }
        return some.get(operator, {})

    def _finish(self) -> None:
        """Make the output of the last floats: their first numbers, or zeros behind them."""
        floats = [
            name
            for name, value in self._values.items()
            if value.dtype == np.float32 and not (value.is_stored or value.is_most)
        ]
        name, wanted = floats[-1], int(np.prod(self._wanted))
        held = int(np.prod(self._values[name].shape))
        flat = self._shaped(name, [held])
        if held < wanted:
            self._stored["rest"] = np.zeros(wanted - held, np.float32)
            self._values["rest"] = Value(
                np.dtype(np.float32), (wanted - held,), True, self._stored["rest"]
            )
            flat = str(self._add("Concat", [flat, "rest"], {"axis": 0}))
        elif held > wanted:
            ends = [self._number("from", [0]), self._number("to", [wanted])]
            flat = str(self._add("Slice", [flat, *ends, self._number("axes", [0])], {}))
        last = self._shaped(flat, list(self._wanted))
        self._nodes[-1].output[0] = "scores"
        assert last

    def _shaped(self, name: str, shape: list[int]) -> str:
        return str(self._add("Reshape", [name, self._number(f"shape_of_{name}", shape)], {}))

    def _number(self, name: str, values: list[int]) -> str:
        self._stored[name] = np.array(values, np.int64)
        self._values[name] = Value(np.dtype(np.int64), (len(values),), True, self._stored[name])
        return name


def task_by_chance(bundle: Bundle, rng: random.Random) -> bytes:
    """Give a task graph for a bundle of segmentation."""
    contract = bundle.manifest.contract("fp32", "task")
    builder = Builder(rng, contract.inputs["features"].shape, contract.outputs["scores"].shape)
    return builder.build(rng.choice([1, 3, 10, 60]))


# ---- opening and running


def attempt(folder: Path) -> str:
    """Open a bundle and run two frames; say how far it got.

    Raises:
        Exception: anything but the errors that a user is told.
    """
    try:
        bundle = Bundle.open(folder)
    except DffEdgeError:
        return "refused"
    images = np.random.default_rng(0).integers(
        0, 256, (2, *bundle.manifest.frame_size, 3), np.uint8
    )
    for precision in bundle.precisions:
        try:
            with Pipeline.open(
                bundle, precision=precision, policy="fixed:2", threads=1
            ) as pipeline:
                for _ in pipeline.run(list(images)):
                    pass
        except DffEdgeError:
            return "failed"
    return "ran"


def worker(inbox: Any, outbox: Any) -> None:
    """Attempt the folders that come, in bounded memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (folder := inbox.get()) is not None:
        try:
            outbox.put(attempt(Path(folder)))
        except BaseException as error:
            outbox.put(f"{type(error).__name__}: {error}")


class Runner:
    """Attempts bundles in a process that may die."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._inbox, self._outbox = context.Queue(), context.Queue()
        self._process = context.Process(
            target=worker, args=(self._inbox, self._outbox), daemon=True
        )
        self._process.start()

    def attempt(self, folder: Path) -> tuple[str, float]:
        """Say how far a bundle got, and after how many seconds; "died", "hung" are the worst."""
        started = time.monotonic()
        self._inbox.put(str(folder))
        while True:
            try:
                found = self._outbox.get(timeout=0.2)
                break
            except Exception:  # empty
                if not self._process.is_alive():
                    found = f"died: {self._process.exitcode}"
                elif time.monotonic() - started > OPEN_S + RUN_S:
                    found = "hung"
                    self._process.kill()
                else:
                    continue
                self._process.join()
                self._start()
                break
        return str(found), time.monotonic() - started

    @property
    def peak_bytes(self) -> int:
        """The most memory that the process has had."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
        return 0

    def close(self) -> None:
        """End the process."""
        self._inbox.put(None)
        self._process.join()


Change = Callable[[Path, random.Random], None]


def changes(path: Path) -> Iterator[tuple[str, Change]]:
    """Give ways to make a sound bundle another one."""
    graphs = sorted(json.loads((path / "manifest.json").read_text())["files"])
    is_segmentation = Bundle.open(path).manifest.task == "segmentation"

    def bytes_of_graph(folder: Path, rng: random.Random) -> None:
        name = rng.choice(graphs)
        replace_file(folder, name, damage_bytes((folder / name).read_bytes(), rng))

    def graph(folder: Path, rng: random.Random) -> None:
        name = rng.choice(graphs)
        replace_file(folder, name, damage_graph((folder / name).read_bytes(), rng))

    def bytes_of_manifest(folder: Path, rng: random.Random) -> None:
        data = damage_bytes((folder / "manifest.json").read_bytes(), rng)
        (folder / "manifest.json").write_bytes(data)

    def manifest(folder: Path, rng: random.Random) -> None:
        text = (folder / "manifest.json").read_text()
        (folder / "manifest.json").write_text(damage_manifest(text, rng))

    def by_chance(folder: Path, rng: random.Random) -> None:
        replace_file(folder, "task.onnx", task_by_chance(Bundle.open(folder), rng))

    yield "bytes of a graph", bytes_of_graph
    yield "a graph", graph
    yield "bytes of the manifest", bytes_of_manifest
    yield "the manifest", manifest
    if is_segmentation:
        yield "a graph by chance", by_chance


def is_clean(outcome: str, seconds: float) -> bool:
    """Whether an outcome is one that users may meet."""
    return outcome in ("refused", "failed", "ran") and seconds < RUN_S


def fuzz_checks(
    bundles: list[Path], seconds: float, seed: int, rounds: int = 10**9
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Change graphs and manifests at random, in memory, and only check them.

    Returns:
        As ``fuzz``; what is not clean is told with its error.
    """
    counts: Counter[tuple[str, str]] = Counter()
    problems: list[str] = []
    places = [
        (manifest, role, name, (path / name).read_bytes())
        for path in bundles
        for manifest in [Bundle.open(path).manifest]
        for name, roles in roles_of(manifest).items()
        for role in roles
    ]
    texts = [(path / "manifest.json").read_text() for path in bundles]
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until and number < rounds:
        rng = random.Random(f"{seed} {number}")
        kind = rng.choice(["bytes of a graph", "a graph", "a manifest", "bytes of a manifest"])
        started = time.monotonic()
        try:
            if kind.endswith("graph"):
                manifest, (flavour, precision, graph), name, data = rng.choice(places)
                change = damage_graph if kind == "a graph" else damage_bytes
                checked = read_graph_bytes(change(data, rng), name, [(flavour, graph)])
                check_graph(manifest, precision, graph, name, checked, flavour)
            elif kind == "a manifest":
                Manifest.parse(damage_manifest(rng.choice(texts), rng).encode())
            else:
                Manifest.parse(damage_bytes(rng.choice(texts).encode(), rng))
            outcome = "passed"
        except BundleError:
            outcome = "refused"
        except Exception as error:
            outcome = "unclean"
            problems.append(f"{kind}, seed '{seed} {number}': {type(error).__name__}: {error}")
        took_s = time.monotonic() - started
        if took_s > OPEN_S:
            problems.append(f"{kind}, seed '{seed} {number}': {took_s:.1f} s")
        counts[kind, outcome] += 1
        number += 1
    return counts, problems


def fuzz(
    bundles: list[Path], folder: Path, seconds: float, seed: int
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Change bundles at random for a while, open them and run what opens.

    Returns:
        How often what was changed came to what; and what was not clean, with its folder.
    """
    counts: Counter[tuple[str, str]] = Counter()
    problems: list[str] = []
    runner, until, number = Runner(), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        rng = random.Random(f"{seed} {number}")
        sound = rng.choice(bundles)
        what, change = rng.choice(list(changes(sound)))
        path = Path(shutil.copytree(sound, folder / f"{seed}_{number}"))
        change(path, rng)
        outcome, took_s = runner.attempt(path)
        counts[what, outcome if outcome in ("refused", "failed", "ran") else "unclean"] += 1
        if not is_clean(outcome, took_s) or runner.peak_bytes > MAX_MEMORY_BYTES:
            peak = runner.peak_bytes / 1e6
            problems.append(f"{what}: {outcome} after {took_s:.1f} s, {peak:.0f} MB, {path}")
            runner.close()
            runner = Runner()
        else:
            shutil.rmtree(path)
        number += 1
    runner.close()
    return counts, problems


def main() -> None:
    """Fuzz for a while."""
    parser = argparse.ArgumentParser(description="Damage bundles, open and run them.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="check only, in memory")
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    from tests.bundle.bundles import make_bundle
    from tests.bundle.detection_bundles import make_detection_bundle

    options.folder.mkdir(parents=True)
    small = make_bundle(options.folder / "small", precisions=("fp32", "int8")).path
    detector = make_detection_bundle(options.folder / "detector").path
    bundles = [small, detector, *options.real]
    if options.check:
        counts, problems = fuzz_checks(bundles, options.seconds, options.seed)
    else:
        counts, problems = fuzz(bundles, options.folder, options.seconds, options.seed)
    lines = [f"{what}: {outcome} {count}" for (what, outcome), count in sorted(counts.items())]
    sys.stdout.write("\n".join([*lines, *problems, ""]))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
