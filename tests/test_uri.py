"""Parsing of source URIs, and which are refused."""

from pathlib import Path

import pytest

from dff_edge.errors import ConfigError
from dff_edge.uri import parse_source


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
        ("0?retry=2.5", "camera", "0", {"retry": "2.5"}),
        ("csi://1?fps=60&retry=0", "csi", "1", {"fps": "60", "retry": "0"}),
        ("clip.mp4?rate=30", "video", "clip.mp4", {"rate": "30"}),
        ("rtsp://10.0.0.7:554/a", "stream", "rtsp://10.0.0.7:554/a", {}),
        ("RTSPS://cam/a?transport=udp", "stream", "RTSPS://cam/a", {"transport": "udp"}),
        (
            "http://cam/v?retry=3&size=2&fps=5",
            "stream",
            "http://cam/v?size=2&fps=5",
            {"retry": "3"},
        ),
        ("rtsp://cam/v?track=3&range=x", "stream", "rtsp://cam/v?track=3&range=x", {}),
        ("http://cam/v?track=3&a=b", "stream", "http://cam/v?a=b", {"track": "3"}),
        ("https://cam/v?a=1/2?b", "stream", "https://cam/v?a=1/2?b", {}),
        ("gst://a ! b", "gstreamer", "a ! b", {}),
        ("gst://a uri=http://c/?x=1 ! b", "gstreamer", "a uri=http://c/?x=1 ! b", {}),
        ("gst://a u=h://c/?x=1?retry=5", "gstreamer", "a u=h://c/?x=1", {"retry": "5"}),
    ],
)
def test_source_uri_is_recognised(uri, kind, target, options):
    parsed = parse_source(uri)

    assert (parsed.kind, parsed.target) == (kind, target)
    if kind not in ("stream", "gstreamer"):  # addresses are shown in part
        assert parsed.text == uri
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
        ("rtsp://", ConfigError, "expected an address, for example rtsp://10.0.0.7/stream"),
        ("rtsp://a b/c", ConfigError, "expected an address"),
        ("rtsp://host/x?transport=pigeon", ConfigError, "is 'pigeon', expected tcp or udp"),
        ("http://host/x?transport=udp", ConfigError, "transport is for rtsp:// only"),
        ("http://host/x?retry=1&retry=2", ConfigError, "gives retry twice"),
        ("csi://left", ConfigError, "expected the number of the camera, for example csi://0"),
        ("csi://0?rate=3", ConfigError, "unknown key 'rate'. Keys of a csi source: fps, height"),
        ("gst://", ConfigError, "expected a pipeline, for example 'gst://v4l2src"),
        ("frames/*.png?fps=5&rate=5", ConfigError, "fps has no effect. Leave one of them out"),
        ("gopher://x", ConfigError, "not a source that dff-edge knows, expected a video file"),
        ("v4l2://video0", ConfigError, "expected a device, for example v4l2:///dev/video0"),
        (
            "clip.mp4?speed=2",
            ConfigError,
            "unknown key 'speed'. Keys of a video source: deinterlace, .*track",
        ),
        ("synthetic://forest", ConfigError, "no such scene; expected synthetic://street"),
        (
            "synthetic://street?sed=5",
            ConfigError,
            "'sed'.*fps, frames, height, motion, rate, seed, split, width",
        ),
        ("0?fps=1&fps=2", ConfigError, "gives fps twice"),
    ],
)
def test_other_source_uri_is_refused(uri, error, message):
    with pytest.raises(error, match=message):
        parse_source(uri)


@pytest.mark.parametrize("value", ["", "-1", "1.5", "x", "²", "0"])
def test_count_that_is_none_is_refused(value):
    with pytest.raises(ConfigError, match=f"frames is '{value}', expected a whole number from 1"):
        parse_source(f"synthetic://street?frames={value}")


@pytest.mark.parametrize("value", ["0", "-3", "nan", "inf", "fast"])
def test_rate_that_is_none_is_refused(value):
    with pytest.raises(ConfigError, match=f"fps is '{value}', expected more than 0"):
        parse_source(f"frames/*.png?fps={value}")


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "soon", ""])
def test_duration_that_is_none_is_refused(value):
    with pytest.raises(ConfigError, match=f"retry is '{value}', expected seconds from 0 up"):
        parse_source(f"0?retry={value}")


def test_duration_may_be_nothing_or_not_given():
    assert parse_source("0?retry=0").seconds("retry") == 0
    assert parse_source("0").seconds("retry") is None


def test_parsed_source_shows_no_credentials():
    parsed = parse_source("rtsp://admin:1234@10.0.0.7/a?pin=5678&retry=1")

    assert parsed.target == "rtsp://admin:1234@10.0.0.7/a?pin=5678"
    assert parsed.text == "rtsp://***@10.0.0.7/a?***"
    assert "1234" not in repr(parsed)
    assert "5678" not in repr(parsed)


def test_what_is_only_ours_in_a_query_is_not_shown():
    assert parse_source("http://10.0.0.7/a?retry=1").text == "http://10.0.0.7/a"


@pytest.mark.parametrize(
    "uri",
    [
        "rtmp://u:secret1@h/x",
        "rtsp://u:secret1@h/x?transport=no",
        "rtsp://u:secret1@h b/x",
        "rtsp://u:no secret1@h/x",
        "rtsp://u:no secret1 @h/x",
        "rtsp://u:a?transport=secret1@h/x",
        "rtsp:/u:secret1@h/x",
        "rtsp:u:secret1@h/x",
        "rtsp//u:secret1@h/x",
        "RTSP:/u:secret1@h/x?retry=1",
        Path("rtsp://u:secret1@h/x"),
        "rtmp://h/x?p=secret1",
        "rtsp://h/x?transport=no&pin=secret1",
        "rtsp:/h/x?code=secret1",
        "http//h/x?code=secret1",
        "http:h/live/secret1",
        "rtsp:/u:secret1@h/x?next=http://h/x",
        "gst://?retry=secret1",
    ],
)
def test_refusal_shows_no_credentials(uri):
    with pytest.raises(ConfigError) as caught:
        parse_source(uri)

    assert "secret1" not in str(caught.value)


def test_path_that_is_almost_an_address_is_refused():
    with pytest.raises(ConfigError, match=r"'rtsp:/\*\*\*@h/x' is neither a file nor an address"):
        parse_source("rtsp:/user:secret1@h/x")


def test_existing_file_may_look_like_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("take:me@home.mp4").touch()

    assert parse_source("take:me@home.mp4").kind == "video"
    assert parse_source("take:me@home.mp4?rate=3").options == {"rate": "3"}
