"""The manifest's model of staleness: what is refused, and that it is written without the graphs."""

from __future__ import annotations

import json
import math

import pytest

from dff_edge.bundle import writer as writer_module
from dff_edge.bundle.manifest import Manifest
from dff_edge.bundle.reader import Bundle
from dff_edge.errors import BundleError
from tests.bundle.bundles import make_bundle
from tests.bundle.staleness_models import staleness_fields, with_staleness


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("staleness") / "bundle")


def parse(bundle, **changes):
    fields = json.loads(bundle.manifest.dump())
    fields["staleness"] = staleness_fields(**changes)
    return Manifest.parse(json.dumps(fields).encode())


def term(**changes):
    return {"distance": {"weight": 1.0, "centre": 0.0, "deviation": 1.0} | changes}


def test_a_model_is_read_as_it_was_written(tmp_path):
    written = with_staleness(make_bundle(tmp_path / "b"))
    model = Bundle.open(written.path).manifest.staleness

    assert model.model_dump(mode="json") == staleness_fields()
    assert make_bundle(tmp_path / "other").manifest.staleness is None


def test_a_model_is_added_without_reading_the_graphs_again(tmp_path, monkeypatch):
    made = make_bundle(tmp_path / "b")
    monkeypatch.setattr(writer_module, "read_graph_bytes", None)

    assert with_staleness(made).manifest.staleness.bias == -3.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias": math.nan}, r"staleness\.bias: received nan, expected"),
        ({"bias": math.inf}, r"staleness\.bias: received inf, expected"),
        ({"terms": {}}, r"staleness\.terms: received \{\}"),
        ({"terms": term(weight=-0.1)}, r"terms\.distance\.weight: received -0\.1, expected"),
        ({"terms": term(deviation=0.0)}, r"terms\.distance\.deviation: received 0"),
        ({"terms": term(centre=math.nan)}, r"terms\.distance\.centre: received nan"),
        ({"terms": {"colour": term()["distance"]}}, r"terms\.colour: received 'colour'"),
        ({"terms": term(weight=0.0)}, r"expected a weight above 0 in terms"),
        ({"growth": -1.0}, r"staleness\.growth: received -1"),
        ({"max_distance": 0}, r"staleness\.max_distance: received 0"),
        ({"source": "a\x1b[2Jb"}, r"staleness\.source: .* without control characters"),
        ({"layers": 3}, r"staleness\.layers: received 3, expected no field of this name"),
    ],
)
def test_a_model_that_cannot_be_is_refused_by_its_field(bundle, changes, message):
    with pytest.raises(BundleError, match=message):
        parse(bundle, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank_correlation": 1.5}, r"quality\.rank_correlation: received 1\.5"),
        ({"within_distance": math.nan}, r"quality\.within_distance: received nan"),
        ({"calibration": []}, r"quality\.calibration: received \[\]"),
        (
            {"calibration": [{"expected": 2.0, "found": 0.1, "pairs": 1}]},
            r"quality\.calibration\[0\]\.expected: received 2",
        ),
    ],
)
def test_a_quality_that_cannot_be_is_refused_by_its_field(bundle, changes, message):
    with pytest.raises(BundleError, match=message):
        parse(bundle, quality=staleness_fields()["quality"] | changes)
