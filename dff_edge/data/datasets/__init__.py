"""Readers of public data sets, by name: ``cityscapes://ROOT?split=val&ids=19``."""

from dff_edge.data.datasets.labelled_clip import LabelledClip
from dff_edge.data.datasets.names import (
    DATA_SETS,
    FLYING_CHAIRS,
    VID_AND_DET,
    DataName,
    DataSet,
    parse_chairs_name,
    parse_data_name,
    vid_and_det,
)

__all__ = [
    "DATA_SETS",
    "FLYING_CHAIRS",
    "VID_AND_DET",
    "DataName",
    "DataSet",
    "LabelledClip",
    "parse_chairs_name",
    "parse_data_name",
    "vid_and_det",
]
