"""Places of the outputs of a run: what would overwrite something is refused before it is opened."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from dff_edge.errors import ConfigError
from dff_edge.runtime.sinks.names import parse_sink
from dff_edge.runtime.sinks.places import check_outputs


@pytest.fixture
def pictures(tmp_path):
    """The files of three pictures."""
    (tmp_path / "in").mkdir()
    paths = [tmp_path / "in" / f"{name}.png" for name in "abc"]
    for path in paths:
        cv2.imwrite(str(path), np.zeros((48, 96, 3), np.uint8))
    return paths


@pytest.mark.parametrize(
    ("sources", "outputs", "message"),
    [
        (["{0}"], ["{0}?"], "is the source itself"),
        (["{0}", "{1}"], ["{2}/"], "is the source itself"),
        (["{0}", "{0}"], ["new/"], "are the same place"),
        (["x/a.mp4", "y/a.mp4"], ["new/{{name}}.mp4"], "are the same place"),
        (["0"], ["labels://new", "new/%06d.png"], "are the same place"),
        (["0"], ["gone/a.mp4"], "there is no folder 'gone'"),
        (["0"], ["labels://gone/a"], "there is no folder 'gone'"),
        (["0"], ["gone/a/%06d.png"], "there is no folder 'gone'"),
    ],
)
def test_outputs_that_do_not_go_together_are_refused(
    pictures, tmp_path, monkeypatch, sources, outputs, message
):
    monkeypatch.chdir(tmp_path)
    names = [str(pictures[0]), str(pictures[1]), str(tmp_path / "in")]
    outputs = [parse_sink(uri.format(*names).rstrip("?")) for uri in outputs]
    with pytest.raises(ConfigError, match=message):
        check_outputs([uri.format(*names) for uri in sources], outputs)


def test_outputs_that_go_together_are_allowed(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outputs = [parse_sink(uri) for uri in ("new/", "new/{name}.jsonl", "labels://new/{name}")]
    profile = ("--profile new/{name}.json", Path("new/{name}.json"))
    check_outputs(["x/a.mp4", "y/b.mp4"], outputs, [profile])


def test_names_that_are_given_tell_sources_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cameras, outputs = ["rtsp://10.0.0.7/left", "rtsp://10.0.0.7/right"], [parse_sink("new/")]
    with pytest.raises(ConfigError, match="are the same place"):
        check_outputs(cameras, outputs)
    check_outputs(cameras, outputs, names=["left", "right"])
