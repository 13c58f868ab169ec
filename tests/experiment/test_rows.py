"""Which runs the rows of Table 5 and the points of Figure 3 are, and the picture of the latter."""

from __future__ import annotations

import cv2
import numpy as np

from dff_edge.experiment import figure3, table5
from dff_edge.experiment.recipe import Recipe
from tests.experiment.test_results import ROWS, results
from tests.experiment.tiny import tiny_config


def test_splits_share_their_starts_and_the_default_is_dff():
    config = tiny_config(splits={5: "layer4.1", 1: "head", 0: "none"})
    recipe = Recipe(config.train, 0)
    rows = table5.methods(recipe, config)

    assert list(rows) == ["frame", "layer4.1", "head", "none"]
    assert rows["head"].run.key == recipe.dff().key
    assert len({row.run.key for row in rows.values()}) == 4
    for name in config.splits.values():
        starts = {network: run.key for network, run in rows[name].run.start.items()}
        assert starts == {network: run.key for network, run in recipe.dff().start.items()}
        assert rows[name].run.config.model.split == name
    assert [row.paper.accuracy for row in rows.values()] == [71.1, 69.2, 69.2, 69.5]


def test_one_training_serves_all_key_intervals():
    names = {"name": "resnet18", "width": 0.125, "channels": 8}
    flows = [{"name": "half", "width": 0.125}, {"name": "inception", "width": 0.25}]
    config = tiny_config(features=[names], flows=flows, intervals=[1, 3])
    points = figure3.methods(Recipe(config.train, 0), config)

    assert [point.interval for point in points.values()] == [1, 3, 1, 3]
    assert len({point.run.key for point in points.values()}) == 2


def test_figure_shows_every_curve():
    def picture(names):
        rows = tuple(ROWS[n % 2].model_copy(update={"title": name}) for n, name in enumerate(names))
        data = np.frombuffer(figure3.draw_tradeoff(results(rows)), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR)

    one, two = picture(["a + x", "a + x"]), picture(["a + x", "b + y"])

    assert one.shape == two.shape
    ink = [(image < 200).any(axis=2).sum() for image in (one, two)]
    assert ink[0] != ink[1]  # a line of two points, or two of one point and a longer legend
