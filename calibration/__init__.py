"""Calibration: int8 and fp16 graphs from an fp32 bundle and clips, added to the bundle."""

from dff_edge.calibration.calibrate import calibrate_bundle
from dff_edge.calibration.sampling.clips import Clip, FramesClip, open_calibration_clips

__all__ = ["Clip", "FramesClip", "calibrate_bundle", "open_calibration_clips"]
