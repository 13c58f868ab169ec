"""Parsing of sink URIs, refusals, and their use with several sources."""

from pathlib import Path

import pytest

from dff_edge.errors import ConfigError
from dff_edge.runtime.sinks.names import parse_sink, source_name


@pytest.mark.parametrize(
    ("uri", "kind", "path"),
    [
        ("out.mp4", "video", Path("out.mp4")),
        (Path("a/OUT.MP4"), "video", Path("a/OUT.MP4")),
        ("out.jsonl", "jsonl", Path("out.jsonl")),
        ("labels://out", "labels", Path("out")),
        ("labels:///tmp/out", "labels", Path("/tmp/out")),
        ("out.png", "picture", Path("out.png")),
        ("a/out.JPG", "picture", Path("a/out.JPG")),
        ("out%20.jpeg", "picture", Path("out%20.jpeg")),
        ("100%%d.png", "picture", Path("100%%d.png")),
        ("frames/%06d.png", "pictures", Path("frames/%06d.png")),
        ("frames/a-%d.jpg", "pictures", Path("frames/a-%d.jpg")),
        ("out/", "folder", Path("out")),
        ("display://", "display", None),
        ("null://", "null", None),
    ],
)
def test_sink_uri_is_recognised(uri, kind, path):
    parsed = parse_sink(uri)

    assert (parsed.kind, parsed.path, parsed.replace) == (kind, path, False)


@pytest.mark.parametrize("uri", ["labels://out?replace=yes", "out/%d.png?replace=yes"])
def test_files_of_another_run_may_be_replaced(uri):
    parsed = parse_sink(uri)
    assert parsed.replace
    assert "?" not in str(parsed.path)


@pytest.mark.parametrize("uri", ["", "out.avi", "out", "labels://", "null://x", "ftp://x/out.mp4"])
def test_other_sink_uri_is_refused(uri):
    with pytest.raises(ConfigError, match=r"not a sink that dff-edge knows, expected out\.mp4"):
        parse_sink(uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("labels://out?replace=maybe", "'replace=maybe' is unknown, expected replace=yes"),
        ("labels://out?fps=3", "'fps=3' is unknown, expected replace=yes"),
        ("out.png?replace=yes", "a file is replaced in any case"),
        ("%d/%d.png", "expected one number, in the name of the file"),
        ("%d-%d.png", "expected one number, in the name of the file"),
    ],
)
def test_unfit_options_are_refused(uri, message):
    with pytest.raises(ConfigError, match=message):
        parse_sink(uri)


def test_existing_folder_needs_no_slash(tmp_path):
    assert parse_sink(str(tmp_path)).kind == "folder"


def test_refused_sink_shows_no_credentials():
    with pytest.raises(ConfigError, match=r"'rtsp:/\*\*\*@h/x' is not a sink"):
        parse_sink("rtsp:/u:secret1@h/x")
    with pytest.raises(ConfigError, match=r"'rtmp://h/live/\*\*\*' is not a sink"):
        parse_sink("rtmp://h/live/secret1")


@pytest.mark.parametrize(
    ("uri", "name", "expected"),
    [
        ("out/{name}.mp4", "a", "out/a.mp4"),
        ("labels://out/{name}", "a", "out/a"),
        ("out/{name}/%06d.png", "50%d", "out/50%d/%06d.png"),
        ("out/{name}-%06d.png", "50%d", "out/50%%d-%06d.png"),
        ("out.mp4", "a", "out.mp4"),
        ("out/", "a", "out/a.mp4"),
    ],
)
def test_name_of_the_source_is_filled_in(uri, name, expected):
    assert parse_sink(uri).of_source(name).path == Path(expected)


@pytest.mark.parametrize(
    ("suffix", "expected"), [(".jpg", "out/a.jpg"), (".PNG", "out/a.PNG"), (".tif", "out/a.png")]
)
def test_one_picture_becomes_a_picture_in_a_folder(suffix, expected):
    sink = parse_sink("out/").of_source("a", picture_suffix=suffix)
    assert (sink.kind, sink.path) == ("picture", Path(expected))


@pytest.mark.parametrize(
    ("uri", "is_for_each"),
    [("out.mp4", False), ("out/", True), ("{name}.jsonl", True), ("null://", True)],
)
def test_sinks_know_whether_each_source_has_its_own(uri, is_for_each):
    assert parse_sink(uri).is_for_each == is_for_each


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("drives/monday.mp4?rate=30", "monday"),
        ("one.png", "one"),
        ("frames/*.png", "frames"),
        ("0", "camera0"),
        ("v4l2:///dev/video2", "video2"),
        ("csi://1", "csi1"),
        ("rtsp://user:secret@10.0.0.7:554/stream?token=secret", "10.0.0.7"),
        ("http://cam.local/video?user=secret", "cam.local"),
        ("gst://rtspsrc location=rtsp://u:secret@c ! x", "gstreamer"),
        ("synthetic://street?seed=5", "street"),
    ],
)
def test_source_has_a_name_for_files(uri, name):
    assert source_name(uri) == name


def test_folder_of_images_has_its_own_name(tmp_path):
    assert source_name(str(tmp_path / ".")) == tmp_path.name
