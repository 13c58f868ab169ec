"""Folders and globs of images: order, formats, and what cannot be read."""

import logging
import os

import cv2
import numpy as np
import pytest

from dff_edge.runtime.errors import ConfigError, SourceError
from dff_edge.runtime.sources import open_source


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)


def numbered(folder, names):
    """Images whose first pixel is the place of their name in ``names``."""
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((4, 5, 3), number, np.uint8))


def read_all(uri):
    with open_source(uri) as source:
        return list(source), source


def test_natural_order(tmp_path):
    names = ["a1.png", "a2.png", "a10.png", "A11.png", "b1x2.png", "b1x10.png", "b02.png"]
    numbered(tmp_path, names)

    frames, source = read_all(tmp_path)

    assert [int(frame.image[0, 0, 0]) for frame in frames] == list(range(7))
    assert [frame.index for frame in frames] == list(range(7))
    assert (source.live, source.length, source.size) == (False, 7, (4, 5))


def test_order_of_a_glob_over_folders(tmp_path):
    for number, name in enumerate(["s2/1.png", "s2/5.png", "s10/1.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((4, 5, 3), number, np.uint8))

    frames, _ = read_all(f"{tmp_path}/*/*.png")

    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 1, 2]


def test_stamps_are_index_over_rate(tmp_path):
    numbered(tmp_path, ["1.png", "2.png", "3.png"])

    frames, source = read_all(tmp_path)
    slow, slow_source = read_all(f"{tmp_path}?fps=10")

    assert [frame.stamp_s for frame in frames] == pytest.approx([0, 1 / 30, 2 / 30])
    assert [frame.stamp_s for frame in slow] == pytest.approx([0, 0.1, 0.2])
    assert (source.fps, slow_source.fps) == (30, 10)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF", ".ppm"])
def test_lossless_formats_are_read_to_the_bit(tmp_path, image, suffix):
    (tmp_path / f"a{suffix}").write_bytes(cv2.imencode(suffix.lower(), image)[1].tobytes())

    frames, _ = read_all(tmp_path / f"a{suffix}")

    np.testing.assert_array_equal(frames[0].image, image)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_are_read(tmp_path, suffix):
    cv2.imwrite(str(tmp_path / f"a{suffix}"), np.full((16, 24, 3), (200, 50, 100), np.uint8))

    frames, _ = read_all(tmp_path)

    np.testing.assert_allclose(frames[0].image[8, 12].astype(int), (200, 50, 100), atol=6)


def test_grey_alpha_and_16_bit_become_bgr(tmp_path, image):
    grey = image[:, :, 0]
    alpha = np.dstack([image, np.full(grey.shape, 7, np.uint8)])
    cv2.imwrite(str(tmp_path / "1.png"), grey)
    cv2.imwrite(str(tmp_path / "2.png"), alpha)
    cv2.imwrite(str(tmp_path / "3.png"), image.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "4.png"), grey.astype(np.uint16) * 257)

    frames, _ = read_all(tmp_path)

    grey_bgr = np.dstack([grey] * 3)
    for frame, expected in zip(frames, [grey_bgr, image, image, grey_bgr], strict=True):
        assert frame.image.dtype == np.uint8
        np.testing.assert_array_equal(frame.image, expected)


def test_sizes_may_differ(tmp_path):
    for number, size in enumerate([(4, 5), (9, 3), (1, 1)]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((*size, 3), np.uint8))

    frames, _ = read_all(tmp_path)

    assert [frame.image.shape[:2] for frame in frames] == [(4, 5), (9, 3), (1, 1)]


def test_unreadable_image_is_a_counted_skip_that_keeps_its_number(tmp_path, caplog):
    numbered(tmp_path, ["0.png", "1.png", "2.png", "3.png", "4.png"])
    (tmp_path / "1.png").write_bytes(b"not an image")
    (tmp_path / "3.png").write_bytes(b"")

    with caplog.at_level(logging.WARNING, "dff_edge.runtime"):
        frames, source = read_all(tmp_path)

    assert [frame.index for frame in frames] == [0, 2, 4]
    assert frames[1].stamp_s == pytest.approx(2 / 30)
    assert (source.counts.read, source.counts.failed) == (3, 2)
    assert "1.png' is damaged or not an image" in source.counts.reasons[0]
    assert r"3.png' is empty (0 bytes)" in source.counts.reasons[1]
    assert "1.png' is damaged" in caplog.text


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_cut_off_image_is_skipped(tmp_path, suffix):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = cv2.imencode(suffix, image)[1].tobytes()
    (tmp_path / f"0{suffix}").write_bytes(data)
    (tmp_path / f"1{suffix}").write_bytes(data[: len(data) * 3 // 4])
    (tmp_path / f"2{suffix}").write_bytes(data + b"trailing bytes of some camera")

    frames, source = read_all(tmp_path)

    assert [frame.index for frame in frames] == [0, 2]
    assert "is cut off: its end is missing" in source.counts.reasons[0]


def test_cut_off_jpeg_with_a_whole_thumbnail_is_skipped(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    thumbnail = cv2.imencode(".jpg", image[:8, :8])[1].tobytes()
    segment = b"\xff\xe5" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    (tmp_path / "0.jpg").write_bytes(data[:2] + segment + data[2:])
    (tmp_path / "1.jpg").write_bytes(data[:2] + segment + data[2:-500])

    frames, source = read_all(tmp_path)

    assert [frame.index for frame in frames] == [0]
    assert "is cut off" in source.counts.reasons[0]


def test_image_that_vanished_is_a_counted_skip(tmp_path):
    numbered(tmp_path, ["0.png", "1.png", "2.png"])
    with open_source(tmp_path) as source:
        (tmp_path / "1.png").unlink()
        os.mkfifo(tmp_path / "1.png")  # nor must a pipe block
        frames = list(source)

    assert [frame.index for frame in frames] == [0, 2]
    assert "missing or not a regular file" in source.counts.reasons[0]


def test_other_and_hidden_files_are_passed_over(tmp_path):
    numbered(tmp_path, ["0.png", "._1.png"])
    (tmp_path / "notes.txt").write_text("x")

    frames, source = read_all(tmp_path)

    assert len(frames) == source.length == 1


def test_name_with_glob_signs_is_a_file(tmp_path):
    numbered(tmp_path, ["a[1].png"])

    assert len(read_all(str(tmp_path / "a[1].png"))[0]) == 1


def test_folder_without_a_readable_image_is_refused(tmp_path):
    (tmp_path / "1.png").write_bytes(b"x")
    (tmp_path / "2.png").write_bytes(b"x")

    with pytest.raises(SourceError, match=r"none of the 2 images .* read; the first: .*1\.png"):
        open_source(tmp_path)


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"holds no images; expected \.bmp"):
        open_source(tmp_path)


def test_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "a.txt").touch()

    with pytest.raises(SourceError, match=r"holds no images \(1 other files\)"):
        open_source(tmp_path)


def test_glob_without_a_match_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"No image matches '.*\*\.png'"):
        open_source(f"{tmp_path}/*.png")


def test_absent_image_is_refused():
    with pytest.raises(SourceError, match=r"There is no file 'absent\.png'"):
        open_source("absent.png")


def test_absurd_rate_is_refused(tmp_path):
    numbered(tmp_path, ["0.png"])
    with pytest.raises(ConfigError, match="fps is '-5'"):
        open_source(f"{tmp_path}?fps=-5")


def test_closed_source_gives_nothing(tmp_path):
    numbered(tmp_path, ["0.png", "1.png"])
    source = open_source(tmp_path)
    source.close()

    assert list(source) == []
