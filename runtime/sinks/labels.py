"""A PNG of class indices for each frame, to measure with or to train on."""

from __future__ import annotations

from pathlib import Path

from dff_edge.errors import SinkError
from dff_edge.frames import Result
from dff_edge.opencv import cv2
from dff_edge.runtime.sinks.base import Sink
from dff_edge.runtime.sinks.numbered_files import NumberedFiles


def no_label_maps(uri: str, task: str) -> SinkError:
    """Return the error of a task whose results are not label maps."""
    return SinkError(
        f"'{uri}' accepts label maps, and this bundle does {task}. Write its results to a file of "
        "lines instead: out.jsonl"
    )


class LabelSink(Sink):
    """Writes ``FOLDER/000012.png``, 8-bit grey, the pixel being the class; 12 is the frame's index.

    For the folder see ``NumberedFiles``.
    """

    def __init__(
        self, uri: str, folder: Path, source: str | Path | None = None, *, replace: bool = False
    ) -> None:
        super().__init__(uri)
        self._files = NumberedFiles(folder / "%06d.png", uri, source, replace=replace)

    @property
    def place(self) -> Path:
        return self._files.folder

    def _write(self, result: Result) -> None:
        if result.labels is None:
            raise no_label_maps(self.uri, result.task)
        _, data = cv2.imencode(".png", result.labels)
        self._files.write(result.frame.index, data.tobytes())

    def _finish(self, *, has_failed: bool) -> None:
        self._files.close()
