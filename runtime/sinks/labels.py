"""A PNG of class indices for each frame: labels to measure with, or to train on."""

from __future__ import annotations

from pathlib import Path

from dff_edge.runtime.errors import SinkError
from dff_edge.runtime.frames import Result
from dff_edge.runtime.opencv import cv2
from dff_edge.runtime.sinks.base import OutputFile, Sink, check_not_source


def no_label_maps(uri: str) -> SinkError:
    """What a sink of label maps says to detections."""
    return SinkError(
        f"'{uri}' takes label maps, and this bundle detects. Write its boxes to a file of lines "
        "instead: out.jsonl"
    )


class LabelSink(Sink):
    """Writes ``FOLDER/000012.png``, 8-bit grey, the pixel being the class; 12 is the frame's index.

    Makes the folder if only the folder itself is missing. Files of the same name are replaced.
    """

    def __init__(self, uri: str, folder: Path, source: str | Path | None = None) -> None:
        super().__init__(uri)
        check_not_source(folder, uri, source)
        try:
            folder.mkdir(exist_ok=True)
        except FileNotFoundError as error:
            raise SinkError(
                f"'{uri}' cannot be written: there is no folder '{folder.parent}'. Make it first: "
                f"mkdir -p '{folder}'"
            ) from error
        except FileExistsError as error:
            raise SinkError(f"'{uri}': '{folder}' is a file, expected a folder.") from error
        except OSError as error:
            raise SinkError(f"'{uri}' cannot be written: {error.strerror}.") from error
        self._folder = folder

    def _write(self, result: Result) -> None:
        if result.labels is None:
            raise no_label_maps(self.uri)
        _, data = cv2.imencode(".png", result.labels)
        path = self._folder / f"{result.frame.index:06d}.png"
        file = OutputFile(path)
        try:
            file.write(data.tobytes())
        except OSError:
            file.close()
            path.unlink(missing_ok=True)  # half a PNG is of no use to anyone
            raise
        file.close()
