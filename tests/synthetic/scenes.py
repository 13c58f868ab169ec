"""Scenes of given surfaces, in place of drawn ones."""

import numpy as np

from dff_edge.synthetic import CLASSES, StreetScene
from dff_edge.synthetic.surfaces import Surface

SIZE = (96, 160)
SKY, VEHICLE, PEDESTRIAN, POLE = (
    CLASSES.index(name) for name in ("sky", "vehicle", "pedestrian", "pole")
)


def flat(label, depth, size, place):
    """A surface of one colour whose top left corner is at ``place(t)``."""
    texture = np.full((*size, 4), 255, np.uint8)
    return Surface(
        label,
        depth,
        texture,
        lambda t: np.array([[1.0, 0.0, place(t)[0]], [0.0, 1.0, place(t)[1]]]),
        is_object=label >= VEHICLE,
    )


def staged(*surfaces, size=(40, 60)):
    """A scene of the given surfaces, far ones first, instead of the drawn ones."""
    scene = StreetScene(0, "val", size, 60)
    scene._surfaces[:] = surfaces
    scene._labels_of = np.array([surface.label for surface in surfaces], np.uint8)
    return scene
