"""Annotated frames as PNG or JPEG files: one per frame, or a single one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dff_edge.errors import SinkError
from dff_edge.files.atomic import AtomicFile
from dff_edge.frames import Image, Result
from dff_edge.opencv import cv2
from dff_edge.runtime.drawing.style import DEFAULT_STYLE, Style
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.sinks.base import Sink
from dff_edge.runtime.sinks.numbered_files import NumberedFiles
from dff_edge.runtime.sinks.output_file import check_not_source
from dff_edge.runtime.tasks.drawing import draw_result

_JPEG_QUALITY = 92


class PicturesSink(Sink):
    """Writes a picture for each frame, ``frames/000012.png`` for ``frames/%06d.png``.

    For the folder see ``NumberedFiles``.
    """

    def __init__(
        self,
        uri: str,
        pattern: Path,
        classes: Sequence[str],
        colours: Colours,
        source: str | Path | None = None,
        *,
        style: Style = DEFAULT_STYLE,
        replace: bool = False,
    ) -> None:
        super().__init__(uri)
        self._how = (tuple(classes), colours, style)
        self._suffix = pattern.suffix
        self._files = NumberedFiles(pattern, uri, source, replace=replace)

    @property
    def place(self) -> Path:
        return self._files.folder

    def _write(self, result: Result) -> None:
        self._files.write(
            result.frame.index, _encode(draw_result(result, *self._how), self._suffix)
        )

    def _finish(self, *, has_failed: bool) -> None:
        self._files.close()


class PictureSink(Sink):
    """Writes the picture of a source with a single frame; see ``AtomicFile``."""

    def __init__(
        self,
        uri: str,
        path: Path,
        classes: Sequence[str],
        colours: Colours,
        source: str | Path | None = None,
        *,
        style: Style = DEFAULT_STYLE,
    ) -> None:
        super().__init__(uri)
        self._how = (tuple(classes), colours, style)
        check_not_source(path, uri, source)
        self._file = AtomicFile(path)

    @property
    def place(self) -> Path:
        return self._file.path

    def _write(self, result: Result) -> None:
        if self.written:
            raise SinkError(
                f"'{self.uri}' is one picture, and the source has more than one frame. Write a "
                f"picture of each: {self._file.path.stem}-%06d{self._file.path.suffix}"
            )
        self._file.write(_encode(draw_result(result, *self._how), self._file.path.suffix))
        self._file.commit()

    def _finish(self, *, has_failed: bool) -> None:
        self._file.close()


def _encode(picture: Image, suffix: str) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix.lower() != ".png" else []
    done, data = cv2.imencode(suffix.lower(), picture, options)
    assert done  # OpenCV always has both encoders, and frames are checked
    return data.tobytes()
