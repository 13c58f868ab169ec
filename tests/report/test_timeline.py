"""The trace as a picture, and the share of overlap, counted by hand."""

import cv2
import numpy as np
import pytest

from dff_edge.report.stages import STAGE_COLOURS
from dff_edge.report.timeline import draw_timeline, overlapped_share
from dff_edge.runtime.trace import StageSpan


def span(stage, stream, start, end, frame=0, key=0):
    return StageSpan(stage, stream, frame, key, start, end)


def colours_of(png):
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    return picture, {tuple(int(v) for v in pixel) for pixel in picture.reshape(-1, 3)}


@pytest.mark.parametrize(
    ("spans", "share"),
    [
        ([], 0.0),
        ([span("flow", "flow", 0, 4)], 0.0),
        ([span("flow", "flow", 0, 4), span("task", "task", 4, 6)], 0.0),
        ([span("flow", "flow", 0, 4), span("task", "task", 3, 5)], 1 / 5),
        # A pause counts for neither; three at once count once.
        (
            [
                span("flow", "flow", 0, 4),
                span("task", "task", 2, 4),
                span("decode", "decode", 3, 4),
                span("flow", "flow", 10, 14),
            ],
            2 / 8,
        ),
    ],
)
def test_share_of_overlap(spans, share):
    assert overlapped_share(spans) == pytest.approx(share)


def colour_of(stage):
    return tuple(bytes.fromhex(STAGE_COLOURS[stage][1:]))


def test_each_stage_has_its_colour():
    picture, colours = colours_of(
        draw_timeline(
            [
                span("feature", "feature", 0, 20),
                span("flow", "flow", 5, 9, frame=1),
                span("warp", "task", 20, 22, frame=1),
            ]
        )
    )
    assert min(picture.shape[:2]) > 300
    assert {colour_of("feature"), colour_of("flow"), colour_of("warp")} <= colours
    assert colour_of("decode") not in colours, "nothing was decoded"


def test_only_the_latest_frames_are_shown():
    old = [span("flow", "flow", index, index + 0.9, frame=index) for index in range(10)]
    new = [span("task", "task", 10 + index, 10.9 + index, frame=10 + index) for index in range(3)]
    _, colours = colours_of(draw_timeline(old + new, frames=3))
    assert colour_of("task") in colours
    assert colour_of("flow") not in colours


def test_features_of_an_older_frame_are_shown_where_they_ran_meanwhile():
    late = [span("feature", "feature", 8, 12, frame=1, key=1)]
    before = [span("decode", "decode", index, index + 0.9, frame=index) for index in range(8)]
    latest = [
        span("flow", "flow", 10 + index, 10.9 + index, frame=10 + index) for index in range(3)
    ]
    _, colours = colours_of(draw_timeline(before + late + latest, frames=3))
    assert {colour_of("feature"), colour_of("flow")} <= colours
    assert colour_of("decode") not in colours


def test_short_stages_are_seen_in_a_long_time():
    flows = [
        span("flow", "flow", 100 * index, 100 * index + 0.01, frame=index) for index in range(9)
    ]
    picture, _ = colours_of(draw_timeline(flows))
    lane = (picture[len(picture) // 4 :] == colour_of("flow")).all(axis=-1).any(axis=0)
    assert np.count_nonzero(np.diff(lane.astype(int)) == 1) == len(flows)


def test_an_empty_trace_is_a_picture_too():
    picture, _ = colours_of(draw_timeline([]))
    assert min(picture.shape[:2]) > 300
