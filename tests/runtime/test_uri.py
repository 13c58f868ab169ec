"""What each source and sink URI means, and what is refused."""

from pathlib import Path

import pytest

from dff_edge.runtime.errors import ConfigError, SourceError
from dff_edge.runtime.uri import parse_sink, parse_source


@pytest.mark.parametrize(
    ("uri", "kind", "target", "options"),
    [
        ("0", "camera", "0", {}),
        ("12?width=640&fps=15", "camera", "12", {"width": "640", "fps": "15"}),
        ("v4l2:///dev/video0", "camera", "/dev/video0", {}),
        ("clip.mp4", "video", "clip.mp4", {}),
        ("a folder/clip.MOV", "video", "a folder/clip.MOV", {}),
        ("one.PNG", "images", "one.PNG", {}),
        ("frames/*.jpg", "images", "frames/*.jpg", {}),
        ("frames/f?.png", "images", "frames/f?.png", {}),
        ("frames/f?.png?fps=10", "images", "frames/f?.png", {"fps": "10"}),
        ("synthetic://street", "synthetic", "street", {}),
        ("synthetic://street?seed=5&frames=9", "synthetic", "street", {"seed": "5", "frames": "9"}),
    ],
)
def test_source_uri_is_recognised(uri, kind, target, options):
    parsed = parse_source(uri)

    assert (parsed.text, parsed.kind, parsed.target) == (uri, kind, target)
    assert parsed.options == options


def test_existing_folder_is_images(tmp_path):
    assert parse_source(str(tmp_path)).kind == "images"


def test_existing_file_comes_before_its_query_and_its_glob(tmp_path):
    for name in ("a?fps=3", "b[1].mp4"):
        (tmp_path / name).touch()
        parsed = parse_source(str(tmp_path / name))
        assert (parsed.kind, parsed.target) == ("video", str(tmp_path / name))


def test_path_object_is_never_a_camera():
    assert parse_source(Path("0")).kind == "video"


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("", ConfigError, "empty, expected a video file"),
        ("rtsp://host/x", SourceError, "rtsp:// sources are not supported.*Record the stream"),
        ("csi://0", SourceError, "csi:// sources are not supported by this version, which reads"),
        ("gopher://x", ConfigError, "not a source that dff-edge knows, expected a video file"),
        ("v4l2://video0", ConfigError, "expected a device, for example v4l2:///dev/video0"),
        ("clip.mp4?rate=30", ConfigError, r"\?rate=.*not supported.*Leave it out"),
        ("clip.mp4?speed=2", ConfigError, "unknown key 'speed'. Keys of a video source: none"),
        ("synthetic://forest", ConfigError, "no such scene; expected synthetic://street"),
        ("synthetic://street?sed=5", ConfigError, "'sed'.*fps, frames, height, seed, split, width"),
        ("0?fps=1&fps=2", ConfigError, "gives fps twice"),
    ],
)
def test_other_source_uri_is_refused(uri, error, message):
    with pytest.raises(error, match=message):
        parse_source(uri)


@pytest.mark.parametrize("value", ["", "-1", "1.5", "x", "²", "0"])
def test_count_that_is_none_is_refused(value):
    with pytest.raises(ConfigError, match=f"frames is '{value}', expected a whole number from 1"):
        parse_source(f"synthetic://street?frames={value}").integer("frames")


@pytest.mark.parametrize("value", ["0", "-3", "nan", "inf", "fast"])
def test_rate_that_is_none_is_refused(value):
    with pytest.raises(ConfigError, match=f"fps is '{value}', expected more than 0"):
        parse_source(f"frames/*.png?fps={value}").rate()


@pytest.mark.parametrize(
    ("uri", "kind", "path"),
    [
        ("out.mp4", "video", Path("out.mp4")),
        (Path("a/OUT.MP4"), "video", Path("a/OUT.MP4")),
        ("out.jsonl", "jsonl", Path("out.jsonl")),
        ("labels://out", "labels", Path("out")),
        ("labels:///tmp/out", "labels", Path("/tmp/out")),
        ("display://", "display", None),
        ("null://", "null", None),
    ],
)
def test_sink_uri_is_recognised(uri, kind, path):
    parsed = parse_sink(uri)

    assert (parsed.kind, parsed.path) == (kind, path)


@pytest.mark.parametrize("uri", ["", "out.avi", "out", "labels://", "null://x", "ftp://x/out.mp4"])
def test_other_sink_uri_is_refused(uri):
    with pytest.raises(ConfigError, match=r"not a sink that dff-edge knows, expected out\.mp4"):
        parse_sink(uri)


def test_folder_as_sink_hints_at_labels(tmp_path):
    with pytest.raises(ConfigError, match=f"is a folder.*say labels://{tmp_path}"):
        parse_sink(str(tmp_path))
