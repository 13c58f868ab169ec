"""Colours of videos, by the numbers of the standards: matrix, range, HDR."""

import logging
from fractions import Fraction

import av
import numpy as np
import pytest

from dff_edge.errors import FrameError
from dff_edge.runtime.sources.decoding.pictures import ImageMaker
from tests.runtime.sources.videos import read_all

ATOL = 3  # 8-bit chroma at half resolution, fixed-point conversion

# Weights of red and blue in luma (ITU-T H.273, matrix coefficients).
MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
COLOURS = [(30, 220, 40), (200, 60, 90), (0, 0, 0), (255, 255, 255), (128, 128, 128)]  # BGR


def ycbcr(bgr, matrix, *, is_full, bits=8):
    """The definition: luma and colour differences, scaled to their codes."""
    blue, green, red = np.asarray(bgr, float) / 255 if max(bgr) > 1 else np.asarray(bgr, float)
    kr, kb = MATRICES[matrix]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    unit = 1 << (bits - 8)
    if is_full:
        return [255 * unit * luma, *(unit * 128 + 255 * unit * c for c in (cb, cr))]
    return [unit * (16 + 219 * luma), *(unit * (128 + 224 * c) for c in (cb, cr))]


def flat_picture(codes, name="yuv420p", size=(32, 48)):
    """A picture of one colour, by its codes."""
    height, width = size
    dtype = np.dtype(np.uint16 if name == "yuv420p10le" else np.uint8)
    picture = av.VideoFrame(width, height, name)
    for plane, code in zip(picture.planes, codes, strict=True):
        row = plane.line_size // dtype.itemsize
        plane.update(np.full(plane.height * row, round(float(code)), dtype).tobytes())
    return picture


@pytest.mark.parametrize("is_full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", MATRICES)
def test_matrix_and_range_are_those_of_the_picture(matrix, is_full):
    for bgr in COLOURS:
        picture = flat_picture(ycbcr(bgr, matrix, is_full=is_full))
        picture.colorspace, picture.color_range = matrix, 2 if is_full else 1

        image = ImageMaker().image_of(picture)

        np.testing.assert_allclose(image[16, 24].astype(int), bgr, atol=ATOL)


def test_without_a_matrix_it_is_that_of_bt601():
    picture = flat_picture(ycbcr(COLOURS[0], 5, is_full=False))

    np.testing.assert_allclose(ImageMaker().image_of(picture)[16, 24], COLOURS[0], atol=ATOL)


def test_jpeg_formats_have_the_full_range():
    picture = flat_picture(ycbcr(COLOURS[1], 5, is_full=True), "yuvj420p")

    np.testing.assert_allclose(ImageMaker().image_of(picture)[16, 24], COLOURS[1], atol=ATOL)


def test_10_bits_become_8():
    for bgr in COLOURS:
        picture = flat_picture(ycbcr(bgr, 1, is_full=False, bits=10), "yuv420p10le")
        picture.colorspace, picture.color_range = 1, 1

        np.testing.assert_allclose(ImageMaker().image_of(picture)[16, 24], bgr, atol=ATOL)


def pq(nits):
    """The signal of a luminance (SMPTE ST 2084)."""
    y = (np.asarray(nits, float) / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg(light):
    """The signal of scene light from 0 to 1 (ARIB STD-B67)."""
    light = np.asarray(light, float)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(
        light <= 1 / 12, np.sqrt(3 * light), a * np.log(12 * light.clip(1 / 12) - b) + c
    )


def hdr_picture(signal_bgr, transfer):
    picture = flat_picture(ycbcr(signal_bgr, 9, is_full=False, bits=10), "yuv420p10le")
    picture.colorspace, picture.color_range = 9, 1
    picture.color_trc, picture.color_primaries = transfer, 9
    return picture


PQ, HLG = 16, 18


@pytest.mark.parametrize(("transfer", "white"), [(PQ, pq(203)), (HLG, 0.75)], ids=["PQ", "HLG"])
def test_reference_white_of_hdr_is_white_and_more_is_clipped(transfer, white, caplog):
    maker = ImageMaker("film.mkv")
    with caplog.at_level(logging.WARNING, "dff_edge.runtime"):
        levels = [
            maker.image_of(hdr_picture((signal,) * 3, transfer))[16, 24].tolist()
            for signal in (0.0, 0.5 * white, white, 0.9 * white + 0.1, 1.0)
        ]

    assert levels[0] == [0, 0, 0]
    assert 20 < levels[1][1] < 180
    for level in levels[2:]:
        np.testing.assert_allclose(level, 255, atol=4)
    assert caplog.text.count("film.mkv: is HDR or of wide colours") == 1


def test_grey_steps_of_pq_are_those_of_bt1886():
    maker = ImageMaker()
    for nits in (1, 10, 50, 100, 150):
        picture = hdr_picture((float(pq(nits)),) * 3, PQ)
        image = maker.image_of(picture)

        # On a display of 203 cd/m2 with BT.1886's exponent of 2.4.
        np.testing.assert_allclose(image[16, 24], 255 * (nits / 203) ** (1 / 2.4), atol=2)


def test_wide_primaries_become_those_of_bt709():
    maker = ImageMaker()
    # BT.2020 to BT.709, ITU-R BT.2407; colours that BT.709 has too.
    to_709 = np.array(
        [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    )
    for rgb in ([100, 70, 50], [60, 80, 50], [60, 65, 90]):
        picture = hdr_picture([float(pq(value)) for value in rgb[::-1]], PQ)
        expected = 255 * (to_709 @ np.array(rgb) / 203) ** (1 / 2.4)

        image = maker.image_of(picture)

        np.testing.assert_allclose(image[16, 24, ::-1], expected, atol=3)


def test_contrast_of_hlg_is_that_of_a_display_of_1000_nits():
    maker = ImageMaker()
    for light in (0.01, 0.05, 0.1, 0.2):
        picture = hdr_picture((float(hlg(light)),) * 3, HLG)
        expected = 255 * (1000 * light**1.2 / 203) ** (1 / 2.4)  # BT.2100: gamma 1.2

        np.testing.assert_allclose(maker.image_of(picture)[16, 24], expected, atol=3)


def test_wide_colours_without_hdr_are_converted_too():
    picture = flat_picture(ycbcr((0.3, 0.5, 0.4), 9, is_full=False, bits=10), "yuv420p10le")
    picture.colorspace, picture.color_range = 9, 1
    picture.color_trc, picture.color_primaries = 14, 9
    rgb = np.array([0.4, 0.5, 0.3]) ** 2.4
    to_709 = np.array(
        [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    )

    image = ImageMaker().image_of(picture)

    np.testing.assert_allclose(image[16, 24, ::-1], 255 * (to_709 @ rgb) ** (1 / 2.4), atol=3)


def test_hdr_is_scaled_to_square_pixels_too():
    image = ImageMaker().image_of(hdr_picture((0.5,) * 3, HLG), Fraction(4, 3))

    assert image.shape == (32, 64, 3)


def test_hdr_video_is_read_from_files(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=30)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p10le"
        stream.codec_context.color_trc, stream.codec_context.color_primaries = PQ, 9
        stream.codec_context.colorspace, stream.codec_context.color_range = 9, 1
        for i, nits in enumerate((10, 203)):
            picture = hdr_picture((float(pq(nits)),) * 3, PQ)
            picture.pts, picture.time_base = i, Fraction(1, 30)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))

    frames, _ = read_all(path)

    means = [float(frame.image.mean()) for frame in frames]
    assert means == pytest.approx([255 * (10 / 203) ** (1 / 2.4), 255], abs=6)


def test_absurd_sizes_are_refused_before_they_are_converted():
    class Picture:
        height, width = 16000, 16000

    with pytest.raises(FrameError, match="16000 x 16000 pixels; at most"):
        ImageMaker().image_of(Picture())
