"""The newest result as a JPEG picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dff_edge.frames import Result
from dff_edge.opencv import cv2
from dff_edge.runtime.drawing.style import DEFAULT_STYLE, Style
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.tasks.drawing import draw_result

MAX_SIDE_PX = 960  # larger frames are drawn smaller: a picture costs the same for every camera

_QUALITY = 80


def draw_jpeg(
    result: Result, classes: Sequence[str], colours: Colours, style: Style = DEFAULT_STYLE
) -> bytes:
    """Draw a result over its frame, at most ``MAX_SIDE_PX`` wide and high.

    The page has a legend of its own. For the arguments see ``draw_result``.
    """
    style = replace(style, legend=False)
    picture = draw_result(result, classes, colours, style, max_side_px=MAX_SIDE_PX)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()
