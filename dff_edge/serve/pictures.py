"""The newest result as a JPEG picture."""

from __future__ import annotations

from collections.abc import Sequence

from dff_edge.runtime.frames import Result
from dff_edge.runtime.lettering import Colours
from dff_edge.runtime.opencv import cv2
from dff_edge.runtime.sinks.drawing import SHOWN_SCORE, draw_result

MAX_SIDE_PX = 960  # larger frames are drawn smaller: a picture costs the same for every camera

_QUALITY = 80


def draw_jpeg(
    result: Result, classes: Sequence[str], colours: Colours, min_score: float = SHOWN_SCORE
) -> bytes:
    """Draw a result over its frame, at most ``MAX_SIDE_PX`` wide and high.

    The page has a legend of its own. For the arguments see ``draw_result``.
    """
    picture = draw_result(
        result, classes, colours, min_score=min_score, legend=False, max_side_px=MAX_SIDE_PX
    )
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()
