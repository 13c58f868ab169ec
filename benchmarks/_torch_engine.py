"""torch modules as engines on a CUDA stream: what the scheduler runs where no TensorRT is.

For tests and benchmarks of the scheduler. Nothing here is quick to start or lean: torch allocates
from its own pool on every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dff_edge.bundle.tensors import TensorSpec


class TorchEngine:
    """A module that takes and gives tensors in the order of the specs.

    Args:
        module: on the CPU or the GPU; moved to the GPU.
        inputs, outputs: as in ``graph_contract``; outputs are cast to their dtype.
        name: what messages call it.
        half: whether it runs under float16 autocast.
        graphs: whether each set of buffers is captured as a CUDA graph and replayed.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        name: str,
        half: bool = False,
        graphs: bool = False,
    ) -> None:
        self.name = name
        self.inputs = {spec.name: spec for spec in inputs}
        self.outputs = {spec.name: spec for spec in outputs}
        self._module = module.cuda().eval()
        self._half = half
        self._has_graphs = graphs
        self._graphs: dict[tuple[int, ...], torch.cuda.CUDAGraph | None] = {}
        self._tensors: dict[int, torch.Tensor] = {}

    def enqueue(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], stream: Any) -> None:
        own = torch.cuda.ExternalStream(stream.handle)
        sources = [self._tensor(inputs[name]) for name in self.inputs]
        targets = [self._tensor(outputs[name]) for name in self.outputs]
        key = tuple(tensor.data_ptr() for tensor in (*sources, *targets))
        with torch.cuda.stream(own):
            if not self._has_graphs or key not in self._graphs:
                self._compute(sources, targets)
                self._graphs.setdefault(key, None)  # the first run is eager: it may allocate
                return
            graph = self._graphs[key]
            if graph is None:
                graph = torch.cuda.CUDAGraph()
                # Other streams go on while this one captures.
                with torch.cuda.graph(graph, stream=own, capture_error_mode="thread_local"):
                    self._compute(sources, targets)
                self._graphs[key] = graph
            graph.replay()

    def run(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        sources = [torch.from_numpy(np.asarray(inputs[name])).cuda() for name in self.inputs]
        specs = self.outputs.values()
        targets = [torch.from_numpy(spec.empty()).cuda() for spec in specs]
        self._compute(sources, targets)
        for name, target in zip(self.outputs, targets, strict=True):
            np.copyto(outputs[name], target.cpu().numpy())

    def close(self) -> None:
        self._graphs.clear()
        self._tensors.clear()

    @torch.inference_mode()
    def _compute(self, sources: list[torch.Tensor], targets: list[torch.Tensor]) -> None:
        with torch.autocast("cuda", torch.float16, enabled=self._half):
            results = self._module(*sources)
        results = results if isinstance(results, tuple) else (results,)
        for target, result in zip(targets, results, strict=True):
            target.copy_(result)

    def _tensor(self, buffer: Any) -> torch.Tensor:
        """The buffer's memory as a tensor, not copied."""
        if buffer.pointer not in self._tensors:
            self._tensors[buffer.pointer] = torch.as_tensor(buffer, device="cuda")
        return self._tensors[buffer.pointer]
