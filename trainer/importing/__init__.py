"""Import of published weights as weights of this project."""

from dff_edge.trainer.importing.import_weights import ImportCard, import_weights
from dff_edge.trainer.importing.mxnet_params import read_mxnet_params
from dff_edge.trainer.importing.normalisation import IMAGENET, Normalisation

__all__ = ["IMAGENET", "ImportCard", "Normalisation", "import_weights", "read_mxnet_params"]
