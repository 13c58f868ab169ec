"""A window that shows the annotated frames."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from dff_edge.errors import SinkError
from dff_edge.frames import Result
from dff_edge.opencv import cv2
from dff_edge.packages import install_command
from dff_edge.runtime.drawing.style import DEFAULT_STYLE, Style
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.sinks.base import Sink
from dff_edge.runtime.tasks.drawing import draw_result

_STOP_KEYS = (ord("q"), 27)  # q and Escape


class DisplaySink(Sink):
    """Shows each result in a window; q, Escape or closing it sets ``stop_requested``."""

    needs_caller = True

    def __init__(
        self,
        uri: str,
        classes: Sequence[str],
        colours: Colours,
        *,
        style: Style = DEFAULT_STYLE,
    ) -> None:
        super().__init__(uri)
        self._style = style
        self._classes = tuple(classes)
        self._colours = colours
        self._title = f"dff-edge {id(self):x}"  # OpenCV identifies windows by title
        on_linux = sys.platform.startswith("linux")
        if on_linux and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            # Checked first: some builds of OpenCV end the whole process here.
            raise SinkError(
                f"'{uri}': there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set). "
                "Over ssh use ssh -X, or write a file instead: out.mp4"
            )
        try:
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            reason = str(error.err).partition(". ")[0]  # the rest is advice on building OpenCV
            raise SinkError(
                f"'{uri}': this OpenCV opens no windows ({reason}). Install one that does: "
                f"{install_command('window')}; or write a file instead: out.mp4"
            ) from error

    def _write(self, result: Result) -> None:
        if self.stop_requested:
            return
        picture = draw_result(result, self._classes, self._colours, self._style)
        try:
            cv2.imshow(self._title, picture)
        except cv2.error as error:
            raise self._explain_window(error) from error
        self.idle()

    def idle(self) -> None:
        if self.stop_requested:
            return
        try:
            key = cv2.waitKey(1) & 0xFF
            is_gone = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error as error:
            raise self._explain_window(error) from error
        self.stop_requested = key in _STOP_KEYS or is_gone

    def _finish(self, *, has_failed: bool) -> None:
        with contextlib.suppress(cv2.error):  # the user may have closed it
            cv2.destroyWindow(self._title)

    def _explain_window(self, error: cv2.error) -> SinkError:
        return SinkError(f"'{self.uri}': the window failed: {error.err}")
