"""Which sources a folder or a glob is."""

from pathlib import Path

import pytest

from dff_edge.errors import ConfigError
from dff_edge.runtime.sources.several import expand_sources, is_camera


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("v/b10.mp4", "v/b2.MKV", "v/.hidden.mp4", "v/notes.txt", "p/1.png", "p/2.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["0", "rtsp://c/a", "v/b10.mp4"], ["0", "rtsp://c/a", "v/b10.mp4"]),
        (["v"], ["v/b2.MKV", "v/b10.mp4"]),
        (["v/"], ["v/b2.MKV", "v/b10.mp4"]),
        (["v/*"], ["v/b2.MKV", "v/b10.mp4"]),
        (["v/b*.mp4?rate=30"], ["v/b10.mp4?rate=30"]),
        (["v?rate=30"], ["v/b2.MKV?rate=30", "v/b10.mp4?rate=30"]),
        (["p"], ["p"]),
        (["p/*"], ["p/*"]),
        (["gone/*.mp4"], ["gone/*.mp4"]),
        (["p/1.png", "v/b10.mp4"], ["p/1.png", "v/b10.mp4"]),
    ],
)
def test_videos_are_sources_each_and_images_are_one(folder, given, expected):
    assert expand_sources(given) == expected


@pytest.mark.parametrize("given", ["m", "m/*", "m/"])
def test_images_and_videos_together_are_refused_with_what_to_say(folder, given):
    (folder / "m").mkdir()
    for name in ("m/1.png", "m/a.mp4"):
        (folder / name).touch()
    message = r"holds 1 images and 1 videos.*'m/\*\.png' or 'm/\*\.mp4'"
    with pytest.raises(ConfigError, match=message):
        expand_sources([given])


def test_file_that_looks_like_a_glob_is_itself(folder):
    Path("v/a[1].png").touch()
    assert expand_sources(["v/a[1].png"]) == ["v/a[1].png"]


def test_cameras_are_known_by_their_names():
    cameras = ["0", "csi://0", "gst://a ! b", "rtsp://c/a.mp4", "v4l2:///dev/video0", "http://c/a"]
    cameras += ["http://c/a.mjpg?x=1", "http://c/a.mp4?as=live"]
    assert [uri for uri in cameras if not is_camera(uri)] == []
    ending = ["a.mp4", "a.mp4?rate=30", "synthetic://street?frames=3&rate=5", "http://c/a.mp4"]
    ending += ["http://c/a.MP4?token=1", "http://c/a?as=recording"]
    assert [uri for uri in ending if is_camera(uri)] == []
