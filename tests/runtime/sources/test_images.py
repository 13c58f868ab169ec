"""Folders and globs of images: order, formats, and what cannot be read."""

import logging
import os
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from dff_edge.errors import ConfigError, FrameError, SourceError
from dff_edge.runtime.sources import open_source
from dff_edge.runtime.sources.decoding import pages
from dff_edge.runtime.sources.images import read_image


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


def test_grey_alpha_and_16_bit_colour_become_bgr(tmp_path, image):
    grey = image[:, :, 0]
    alpha = np.dstack([image, np.full(grey.shape, 7, np.uint8)])
    cv2.imwrite(str(tmp_path / "1.png"), grey)
    cv2.imwrite(str(tmp_path / "2.png"), alpha)
    cv2.imwrite(str(tmp_path / "3.png"), image.astype(np.uint16) * 257)
    Image.fromarray(np.dstack([grey, grey // 2]), "LA").save(tmp_path / "4.png")
    Image.fromarray((grey > 99).astype(np.uint8) * 255).convert("1").save(tmp_path / "5.png")

    frames, _ = read_all(tmp_path)

    grey_bgr = np.dstack([grey] * 3)
    black_white = np.where(grey_bgr > 99, 255, 0)
    expected = [grey_bgr, image, image, grey_bgr, black_white]
    for frame, wanted in zip(frames, expected, strict=True):
        assert frame.image.dtype == np.uint8
        np.testing.assert_array_equal(frame.image, wanted)


def test_16_bit_colour_is_rounded_to_8(tmp_path):
    deep = np.array([[[0, 128, 65535], [129, 385, 386]]], np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    (tmp_path / "b.ppm").write_bytes(b"P6 1 1 1023 " + bytes([3, 255, 2, 0, 0, 0]))

    frames, _ = read_all(tmp_path)

    assert frames[0].image.tolist() == [[[0, 0, 255], [1, 1, 2]]]  # 257 to a level
    assert frames[1].image.tolist() == [[[0, 128, 255]]]  # of 1023, in RGB order


def test_colour_of_floating_point_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.tif"), np.full((4, 5, 3), 0.5, np.float32))

    with pytest.raises(SourceError, match="its colours are float32, expected 8 or 16 bits"):
        open_source(tmp_path / "a.tif")


def test_cmyk_becomes_bgr(tmp_path):
    flat = np.full((32, 48, 3), (40, 90, 200), np.uint8)
    Image.fromarray(flat[:, :, ::-1]).convert("CMYK").save(tmp_path / "a.jpg", quality=95)

    frames, _ = read_all(tmp_path / "a.jpg")

    np.testing.assert_allclose(frames[0].image.astype(int), flat, atol=4)


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".webp", ".png"])
def test_rotation_of_exif_is_applied_and_can_be_passed_over(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is on the right: a camera held upright
    flat = np.zeros((24, 32, 3), np.uint8)
    flat[:12, :16] = 255
    Image.fromarray(flat).save(tmp_path / f"a{suffix}", exif=exif)

    frames, _ = read_all(tmp_path / f"a{suffix}")

    turned = np.rot90(flat, -1)
    assert frames[0].image.shape == turned.shape
    assert np.abs(frames[0].image.astype(int) - turned).mean() < 8  # lossy at the edges
    if suffix == ".tif":  # OpenCV turns it always
        with pytest.raises(FrameError, match="a TIFF with an orientation"):
            read_image(tmp_path / "a.tif", as_stored=True)
    else:
        assert read_image(tmp_path / f"a{suffix}", as_stored=True).shape == flat.shape


def animation(count=7, size=(20, 30)):
    return [Image.fromarray(np.full((*size, 3), 30 * i, np.uint8)) for i in range(count)]


def save_animation(path, pictures, durations):
    options = {"lossless": True} if path.suffix == ".webp" else {}
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, **options
    )


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_animation_gives_all_its_frames_at_their_times(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(pages, "_CHUNK_BYTES", 3 * 20 * 30 * 4)  # three frames at a time
    save_animation(tmp_path / f"a{suffix}", animation(), [100, 40, 40, 60, 200, 80, 80])

    frames, source = read_all(tmp_path / f"a{suffix}")

    assert [int(frame.image[0, 0, 0]) for frame in frames] == [30 * i for i in range(7)]
    stamps = [0, 0.1, 0.14, 0.18, 0.24, 0.44, 0.52]
    assert [frame.stamp_s for frame in frames] == pytest.approx(stamps)
    assert (source.length, source.fps, source.counts.failed) == (7, 10, 0)
    stamps = [frame.stamp_s for frame in read_all(f"{tmp_path}/a{suffix}?fps=5")[0]]
    assert stamps == pytest.approx([i / 5 for i in range(7)])


def test_frames_of_a_gif_are_video(tmp_path):
    save_animation(tmp_path / "a.gif", animation(5), [100, 40, 40, 60, 200])

    frames, _ = read_all(tmp_path / "a.gif")

    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 30, 60, 90, 120]
    assert [frame.stamp_s for frame in frames] == pytest.approx([0, 0.1, 0.14, 0.18, 0.24])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_of_several_pages_gives_them_all(tmp_path, dtype):
    arrays = [np.full((4 + i, 5), 30 * i, dtype) for i in range(6)]
    sheets = [Image.fromarray(array) for array in arrays]
    sheets[0].save(tmp_path / "a.tif", save_all=True, append_images=sheets[1:])

    frames, source = read_all(f"{tmp_path}/a.tif?range=0..255")

    assert [int(frame.image[0, 0, 0]) for frame in frames] == [30 * i for i in range(6)]
    assert [frame.image.shape[0] for frame in frames] == [4, 5, 6, 7, 8, 9]
    assert [frame.stamp_s for frame in frames] == pytest.approx([i / 30 for i in range(6)])
    assert source.length == 6


def test_small_copies_in_a_tiff_are_no_pages(tmp_path):
    sheets = [
        Image.fromarray(np.full((40 // 2**i, 50 // 2**i, 3), 9 + i, np.uint8)) for i in (2, 0, 1)
    ]
    sheets[0].save(tmp_path / "a.tif", save_all=True, append_images=sheets[1:], tiffinfo={254: 1})
    data = bytearray((tmp_path / "a.tif").read_bytes())
    entry = b"\xfe\x00\x04\x00\x01\x00\x00\x00"  # NewSubfileType, 1: a reduced copy
    copies = [found.end() for found in re.finditer(re.escape(entry), data)]
    assert len(copies) == 3
    data[copies[1]] = 0  # the second is the picture itself
    (tmp_path / "a.tif").write_bytes(data)

    frames, _ = read_all(tmp_path / "a.tif")

    assert [frame.image.shape[:2] for frame in frames] == [(40, 50)]
    assert frames[0].image[0, 0, 0] == 9


def test_pictures_of_all_files_of_a_folder_are_numbered_on(tmp_path):
    numbered(tmp_path, ["a.png", "c.png"])
    save_animation(tmp_path / "b.webp", animation(3, (4, 5)), 100)

    frames, source = read_all(tmp_path)

    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 0, 30, 60, 1]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.stamp_s for frame in frames] == pytest.approx([i / 30 for i in range(5)])
    assert source.length == 5


def test_animation_that_is_cut_off_counts_all_its_frames_as_failed(tmp_path):
    numbered(tmp_path, ["a.png", "c.png"])
    save_animation(tmp_path / "b.png", animation(7, (4, 5)), 100)
    data = (tmp_path / "b.png").read_bytes()
    at = [found.start() for found in re.finditer(b"fcTL", data)][3] - 4
    (tmp_path / "b.png").write_bytes(data[:at] + data[-12:])  # three frames and the end mark

    frames, source = read_all(tmp_path)

    assert [frame.index for frame in frames][-1] == 8
    assert source.counts.read + source.counts.failed == 9
    assert source.counts.failed >= 4


def test_data_sets_take_one_picture_a_file(tmp_path):
    save_animation(tmp_path / "a.webp", animation(3), 100)
    cv2.imwrite(str(tmp_path / "b.png"), np.full((4, 5), 30000, np.uint16))

    with pytest.raises(FrameError, match=r"a\.webp': it holds 3 pictures, expected one"):
        read_image(tmp_path / "a.webp")
    with pytest.raises(FrameError, match=r"b\.png' is grey of more than 8 bits.*convert it"):
        read_image(tmp_path / "b.png")


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
    assert "1.png': it is damaged or not an image" in source.counts.reasons[0]
    assert r"3.png': it is empty (0 bytes)" in source.counts.reasons[1]
    assert "1.png': it is damaged" in caplog.text


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_cut_off_image_is_skipped(tmp_path, suffix):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = cv2.imencode(suffix, image)[1].tobytes()
    (tmp_path / f"0{suffix}").write_bytes(data)
    (tmp_path / f"1{suffix}").write_bytes(data[: len(data) * 3 // 4])
    (tmp_path / f"2{suffix}").write_bytes(data + b"trailing bytes of some camera")

    frames, source = read_all(tmp_path)

    assert [frame.index for frame in frames] == [0, 2]
    why = {".png": "it is cut off: its end is missing", ".jpg": "ends before the picture"}
    assert why[suffix] in source.counts.reasons[0]


def test_cut_off_jpeg_with_a_whole_thumbnail_is_skipped(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    thumbnail = cv2.imencode(".jpg", image[:8, :8])[1].tobytes()
    segment = b"\xff\xe5" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    (tmp_path / "0.jpg").write_bytes(data[:2] + segment + data[2:])
    (tmp_path / "1.jpg").write_bytes(data[:2] + segment + data[2:-500])

    frames, source = read_all(tmp_path)

    assert [frame.index for frame in frames] == [0]
    assert "its data ends before the picture is complete" in source.counts.reasons[0]


def test_image_that_vanished_is_a_counted_skip(tmp_path):
    numbered(tmp_path, ["0.png", "1.png", "2.png"])
    with open_source(tmp_path) as source:
        (tmp_path / "1.png").unlink()
        os.mkfifo(tmp_path / "1.png")  # nor must a pipe block
        frames = list(source)

    assert [frame.index for frame in frames] == [0, 2]
    assert "missing or not a regular file" in source.counts.reasons[0]


def test_a_file_too_large_for_pictures_is_a_counted_skip(tmp_path):
    numbered(tmp_path, ["0.png", "1.png", "2.png"])
    os.truncate(tmp_path / "1.png", (4 << 30) + 1)  # takes no room on the disk

    frames, source = read_all(tmp_path)

    assert [frame.index for frame in frames] == [0, 2]
    assert "it has 4,294,967,297 bytes, expected 4,294,967,296 at most" in source.counts.reasons[0]


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
