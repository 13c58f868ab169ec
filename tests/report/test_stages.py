"""Every stage of the runtime has a place and a colour in reports."""

import inspect
import re

from dff_edge.report.stages import STAGE_COLOURS
from dff_edge.runtime import enqueuer


def test_every_stage_of_the_runtime_has_a_colour():
    enqueued = set(re.findall(r'\.(?:stage|on_host)\("([^"]+)"', inspect.getsource(enqueuer)))
    assert {"feature", "flow", "task", "staleness", "copy flow", "propagate"} <= enqueued
    assert enqueued | {"resize", "runtime"} == STAGE_COLOURS.keys()
    assert len({*STAGE_COLOURS.values()}) == len(STAGE_COLOURS)
