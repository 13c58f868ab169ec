"""Headers of H.264 and HEVC, of x264's and x265's streams and written by hand."""

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dff_edge.runtime.sources.decoding.nal_units import MISSING, H264Headers, HevcHeaders


def encode(codec_name, options, count=40, *, extradata=True):
    """Packets ``(data, is_key)`` in the order of decoding, and the extradata."""
    codec = av.CodecContext.create(codec_name, "w")
    codec.width, codec.height, codec.pix_fmt = 64, 48, "yuv420p"
    codec.time_base = Fraction(1, 25)
    codec.options = {"sc_threshold": "0", **options}
    if extradata:
        codec.flags |= av.codec.context.Flags.global_header
    coarse = np.random.default_rng(0).integers(0, 256, (14, 26, 3), np.uint8)
    scene = np.kron(coarse, np.ones((4, 4, 1), np.uint8))
    packets = []
    for i in range(count):
        image = np.ascontiguousarray(scene[i // 6 : i // 6 + 48, i : i + 64])
        frame = av.VideoFrame.from_ndarray(image, "bgr24")
        frame.pts, frame.time_base = i, codec.time_base
        packets += codec.encode(frame.reformat(format="yuv420p"))
    packets += codec.encode(None)
    return [(bytes(packet), packet.is_keyframe) for packet in packets], codec.extradata


X264 = [
    {"g": "12", "bf": "0"},
    {"g": "12", "bf": "3"},
    {"g": "250", "bf": "2", "x264-params": "ref=4:b-pyramid=normal"},
    {"g": "12", "bf": "2", "x264-params": "open-gop=1"},
    {"g": "12", "bf": "0", "x264-params": "slices=3"},
    {"g": "12", "bf": "2", "profile": "baseline"},
    {"g": "250", "bf": "0", "x264-params": "intra-refresh=1:keyint=12"},
    {"g": "12", "bf": "2", "x264-params": "cqm=jvt:8x8dct=1"},
]


@pytest.mark.parametrize("options", X264, ids=str)
def test_whole_streams_have_no_gaps(options):
    packets, extradata = encode("libx264", options)
    headers = H264Headers(extradata)

    assert [headers.look(data, is_key=key).problem for data, key in packets] == [None] * 40


@pytest.mark.parametrize("options", X264, ids=str)
def test_reference_pictures_that_are_missing_are_noticed(options):
    packets, extradata = encode("libx264", options)
    whole = [H264Headers(extradata).look(data, is_key=key) for data, key in packets]

    for lost in range(3, 36):
        headers = H264Headers(extradata)
        rest = packets[:lost] + packets[lost + 1 :]
        found = [headers.look(data, is_key=key) for data, key in rest]
        following = found[lost]
        is_noticed = following.problem == MISSING
        assert [c.problem for c in found].count(MISSING) == is_noticed
        if whole[lost].is_reference and not following.is_key:
            assert is_noticed, lost
        elif not whole[lost].is_reference:
            assert not is_noticed, lost


def test_sets_in_the_stream_are_read():
    packets, extradata = encode("libx264", X264[0], extradata=False)
    headers = H264Headers(None)

    problems = [headers.look(data, is_key=key).problem for data, key in packets[:4] + packets[5:8]]

    assert problems == [None] * 4 + [MISSING] + [None] * 2


def test_gradual_refresh_ends_where_the_stream_says():
    packets, extradata = encode("libx264", X264[6])
    headers = H264Headers(extradata)

    looks = [headers.look(data, is_key=key) for data, key in packets]

    assert looks[0].is_key
    keys = [i for i, look in enumerate(looks) if look.is_key]
    # x264 begins a refresh every 12 pictures, and it takes some; every one of them is a key then.
    assert len(keys) >= 3
    assert all(0 < looks[i].refresh < 13 for i in keys[1:])


def test_without_extradata_or_sets_nothing_is_said_of_numbers():
    packets, _ = encode("libx264", X264[0])
    headers = H264Headers(None)

    assert [headers.look(d, is_key=k).problem for d, k in packets[:3] + packets[9:]] == [None] * 34


def length_prefixed(packet):
    """Units with start codes as MP4 has them."""
    units = [unit for unit in packet.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


HVCC = bytes([1]) + bytes(20) + bytes([0xFF]) + b"\0"  # four bytes of length


@pytest.fixture(scope="module")
def hevc():
    options = {"x265-params": "keyint=12:bframes=2:log-level=none"}
    packets, _ = encode("libx265", options, 20)
    return [(length_prefixed(data), key) for data, key in packets]


def test_whole_hevc_is_taken(hevc):
    headers = HevcHeaders(HVCC)

    looks = [headers.look(data, is_key=False) for data, _ in hevc]

    assert [look.problem for look in looks] == [None] * 20
    assert [look.is_key for look in looks] == [key for _, key in hevc]
    assert all(look.must_show for look in looks)


def test_checksums_of_hevc_are_noticed(hevc):
    options = {"x265-params": "keyint=12:log-level=none:hash=1"}
    for packets, has_checksums in ((hevc, False), (encode("libx265", options, 3)[0], True)):
        headers = HevcHeaders(None if has_checksums else HVCC)
        headers.look(packets[0][0], is_key=True)
        assert headers.has_checksums == has_checksums


def test_holes_and_wrong_lengths_in_hevc_are_seen(hevc):
    headers = HevcHeaders(HVCC)
    data = hevc[1][0]
    middle = len(data) // 2

    hole = headers.look(data[:middle] + bytes(32) + data[middle + 32 :], is_key=False)
    end = headers.look(data[:middle] + bytes(len(data) - middle), is_key=False)
    cut = headers.look(data[:middle], is_key=False)
    lost = headers.look(data[:4] + data[20:], is_key=False)

    assert (hole.problem, end.problem) == ("there is a hole in its data",) * 2
    assert (cut.problem, lost.problem) == ("its data does not fit together",) * 2
    assert headers.look(data + bytes(4 + 8), is_key=False).problem is None  # padding


@given(st.binary(max_size=200), st.sampled_from([None, b"\1" + b"\xff" * 30, HVCC]))
def test_any_bytes_are_taken(data, extradata):
    for headers in (H264Headers(extradata), HevcHeaders(extradata)):
        for start in (b"", b"\0\0\1\x67", b"\0\0\1\x65", b"\0\0\1\6"):
            headers.look(start + data, is_key=False)


def bits(text):
    """Bits as text, with the stop bit behind them."""
    text = text.replace(" ", "")
    text += "1" + "0" * (-(len(text) + 1) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


# ue(v): 0 is "1", 1 is "010", 2 is "011".
PICTURE_SET = b"\0\0\1\x68" + bits("1 1 0")


def sequence(*, gaps="0", frames_only="1"):
    """Baseline, set 0: frame_num of 4 + 1 bits, order type 2, one reference frame, 16 x 16."""
    head = f"{66:08b} {0:08b} {30:08b} 1 010 011 010 {gaps} 1 1 {frames_only}"
    return b"\0\0\1\x67" + bits(head)


def picture(number, field="", *, kind=0x21):
    """A slice: of a reference picture (0x21), of none (0x01), or of a key frame (0x65)."""
    return b"\0\0\1" + bytes([kind]) + bits(f"1 1 1 {number:05b} {field} 0101")


@pytest.mark.parametrize(
    ("gaps", "problems"), [("0", [None, None, MISSING, None]), ("1", [None] * 4)]
)
def test_numbers_written_by_hand(gaps, problems):
    headers = H264Headers(None)
    key = sequence(gaps=gaps) + PICTURE_SET + picture(0, kind=0x65)

    assert headers.look(key, is_key=True).problem is None
    looks = [headers.look(picture(n), is_key=False) for n in (1, 2, 4, 5)]

    assert [look.problem for look in looks] == problems
    assert all(look.must_show for look in looks)


def test_numbers_begin_anew_at_their_end():
    headers = H264Headers(None)
    headers.look(sequence() + PICTURE_SET + picture(0, kind=0x65), is_key=True)

    for number in range(1, 70):  # of 5 bits
        assert headers.look(picture(number % 32), is_key=False).problem is None
        for _ in range(2):  # pictures that nobody refers to share the number that comes next
            look = headers.look(picture((number + 1) % 32, kind=0x01), is_key=False)
            assert (look.problem, look.is_reference) == (None, False)


def test_second_field_of_a_picture_is_not_shown_by_itself():
    headers = H264Headers(None)
    start = sequence(frames_only="0") + PICTURE_SET
    # "0" is a frame, "10" an upper field, "11" a lower one.
    packets = [start + picture(0, "10", kind=0x65), picture(0, "11")]
    packets += [picture(1, "11"), picture(1, "10"), picture(2, "0"), picture(3, "10")]

    looks = [headers.look(packet, is_key=i == 0) for i, packet in enumerate(packets)]

    assert [look.must_show for look in looks] == [True, False, True, False, True, True]
    assert [look.problem for look in looks] == [None] * 6
