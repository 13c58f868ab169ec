"""Readers of public data sets, by name: ``cityscapes://ROOT?split=val&ids=19``."""

from dff_edge.runtime.datasets.names import DATA_SETS, DataName, DataSet, parse_data_name

__all__ = ["DATA_SETS", "DataName", "DataSet", "parse_data_name"]
