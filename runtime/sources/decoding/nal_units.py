"""Headers of H.264 and HEVC: which pictures are missing, and which others need them.

FFmpeg's H.264 decoder fills gaps in the sequence of pictures with earlier ones, and its HEVC
decoder conceals damage, without reporting it. This module reads the headers of NAL units (ITU-T
H.264 and H.265, annex B and 7.3.1), sequence and picture parameter sets, slices, and recovery
points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dff_edge.runtime.sources.decoding.decoding_order import Coded

_HOLE_ZEROS = 16  # in or after a unit, which has no three in a row: a hole in the file
_HEADER_BYTES = 96  # parsed of a slice or parameter set

MISSING = "pictures before it are missing"
_HOLE = "there is a hole in its data"
_BAD_UNITS = "its data does not fit together"


class H264Headers:
    """Headers of H.264 packets, packet by packet in the order of decoding.

    Args:
        extradata: of the codec: an avcC record, or units with start codes, or nothing.
    """

    def __init__(self, extradata: bytes | None) -> None:
        self._length_bytes = _length_bytes(extradata, 4, 1)
        self._sequences: dict[int, _Sequence] = {}
        self._sequence_of: dict[int, int] = {}  # by the number of a picture parameter set
        self._last_number: int | None = None  # frame_num of the reference picture before
        self._recovers_in: int | None = None  # reference pictures
        self._refreshed = 0  # pictures since the recovery point
        self._first_field: tuple[int, int] | None = None  # number and parity, of half a picture
        for unit in _sets_of(extradata, self._length_bytes):
            self._read_set(unit)

    def look(self, packet: bytes, *, is_key: bool) -> Coded:
        """Return the properties of a packet's picture, from its headers."""
        coded = Coded(is_key=is_key, is_reference=False)
        recovers_in: int | None = None
        slices = 0
        for unit in _units(packet, self._length_bytes):
            if isinstance(unit, str):
                coded.problem = unit
                coded.is_reference = True
                break
            kind = unit[0] & 31
            if unit[0] & 0x80:
                coded.problem = _BAD_UNITS
            elif kind in (7, 8):
                self._read_set(unit)
            elif kind == 6:
                recovers_in = _recovery_point(unit, recovers_in)
            elif kind in (1, 2, 5):
                slices += 1
                coded.is_reference |= bool(unit[0] & 0x60)
                coded.is_key |= kind == 5
                if slices == 1:
                    self._follow(coded, unit, recovers_in)
        return coded

    def _follow(self, coded: Coded, unit: bytes, recovers_in: int | None) -> None:
        """Compare a picture's number with the one before; check if decoding can begin there."""
        bits = _Bits(unit[1:_HEADER_BYTES])
        try:
            bits.exp_golomb()  # first macroblock
            bits.exp_golomb()  # type
            sequence = self._sequences[self._sequence_of[bits.exp_golomb()]]
            bits.take(2 * sequence.has_separate_planes)
            number = bits.take(sequence.number_bits)
            field = None  # 0 the upper, 1 the lower one
            if sequence.may_have_fields and bits.take(1):
                field = bits.take(1)
        except (IndexError, KeyError):
            return  # without parameter sets the decoder outputs no picture either
        size = 1 << sequence.number_bits
        last = self._last_number
        # Both fields of a picture come out of the decoder as one.
        is_second = field is not None and self._first_field == (number, 1 - field)
        self._first_field = None if field is None or is_second else (number, field)
        coded.must_show = not is_second
        self._refreshed += 1
        if recovers_in is not None:
            self._recovers_in, self._refreshed = recovers_in, 0
            coded.is_key &= recovers_in == 0 or unit[0] & 31 == 5  # containers call it a key frame
        elif self._recovers_in is not None and last is not None and number != last:
            self._recovers_in -= (number - last) % size
        if self._recovers_in is not None and self._recovers_in <= 0:
            coded.is_key, coded.refresh = True, self._refreshed
            self._recovers_in = None
        is_next = last is None or number in (last, (last + 1) % size)
        if not is_next and not coded.is_key and not sequence.allows_gaps:
            coded.problem = coded.problem or MISSING
            coded.is_reference = True
        if unit[0] & 0x60 or unit[0] & 31 == 5:
            self._last_number = number
        elif not is_next:
            self._last_number = (number - 1) % size

    def _read_set(self, unit: bytes) -> None:
        bits = _Bits(unit[1:])
        try:
            if unit[0] & 31 == 7:
                number, sequence = _read_sequence(bits)
                self._sequences[number] = sequence
            elif unit[0] & 31 == 8:
                picture = bits.exp_golomb()
                self._sequence_of[picture] = bits.exp_golomb()
        except IndexError:
            return  # truncated; the decoder refuses it too


class HevcHeaders:
    """Headers of HEVC packets."""

    def __init__(self, extradata: bytes | None) -> None:
        self._length_bytes = _length_bytes(extradata, 21, 1)
        self.has_checksums = False  # of decoded pictures, in the packets so far

    def look(self, packet: bytes, *, is_key: bool) -> Coded:
        """Return the properties of a packet's picture, from its headers."""
        coded = Coded(is_key=is_key)
        for unit in _units(packet, self._length_bytes):
            if isinstance(unit, str):
                coded.problem = unit
                break
            kind = unit[0] >> 1 & 63
            if unit[0] & 0x80:
                coded.problem = _BAD_UNITS
            elif kind < 32:  # slices
                coded.must_show = True
                coded.is_key |= 16 <= kind <= 23
            elif kind == 40 and unit[2:3] == b"\x84":  # supplemental, decoded picture hash
                self.has_checksums = True
        return coded


@dataclass(frozen=True, slots=True)
class _Sequence:
    """Fields of a sequence parameter set."""

    number_bits: int
    allows_gaps: bool
    has_separate_planes: bool
    may_have_fields: bool


class _Bits:
    """Bits of a unit, without its emulation prevention bytes. IndexError past the end."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise IndexError("the unit ends within its header")
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def exp_golomb(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise IndexError("no such code")
        return (1 << zeros) - 1 + self.take(zeros)


def _read_sequence(bits: _Bits) -> tuple[int, _Sequence]:
    profile = bits.take(8)
    bits.take(16)  # constraints, level
    number = bits.exp_golomb()
    separate = False
    if profile in (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135):
        chroma = bits.exp_golomb()
        separate = chroma == 3 and bool(bits.take(1))
        bits.exp_golomb()  # depth of luma
        bits.exp_golomb()  # and of chroma
        bits.take(1)
        if bits.take(1):
            for i in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    number_bits = bits.exp_golomb() + 4
    if number_bits > 16:
        raise IndexError("no such size")
    order_type = bits.exp_golomb()
    if order_type == 0:
        bits.exp_golomb()
    elif order_type == 1:
        bits.take(1)
        bits.exp_golomb()
        bits.exp_golomb()
        for _ in range(bits.exp_golomb()):
            bits.exp_golomb()
    bits.exp_golomb()  # number of reference frames
    allows_gaps = bool(bits.take(1))
    bits.exp_golomb()  # width
    bits.exp_golomb()  # height
    return number, _Sequence(number_bits, allows_gaps, separate, not bits.take(1))


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.exp_golomb()
            following = (last + ((code + 1) // 2 if code % 2 else -(code // 2))) % 256
        last = following or last


def _recovery_point(unit: bytes, before: int | None) -> int | None:
    """Return the number of reference pictures up to an exact one, from SEI messages."""
    data = unit[1:].replace(b"\0\0\3", b"\0\0")
    at = 0
    while at + 2 <= len(data):
        kind = size = 0
        while at < len(data) and data[at] == 255:
            kind, at = kind + 255, at + 1
        if at + 1 >= len(data):
            break
        kind, at = kind + data[at], at + 1
        while at < len(data) and data[at] == 255:
            size, at = size + 255, at + 1
        if at >= len(data):
            break
        size, at = size + data[at], at + 1
        if kind == 6:
            try:
                return _Bits(data[at : at + size]).exp_golomb()
            except IndexError:
                return before
        at += size
    return before


def _length_bytes(extradata: bytes | None, at: int, version: int) -> int:
    """Return the bytes of a unit's length field; 0 where start codes separate units."""
    if extradata is None or len(extradata) <= at or extradata[0] != version:
        return 0
    return (extradata[at] & 3) + 1


def _sets_of(extradata: bytes | None, length_bytes: int) -> Iterator[bytes]:
    """Yield the parameter sets of H.264's extradata."""
    if not extradata:
        return
    if not length_bytes:
        yield from (unit for unit in _units(extradata, 0) if isinstance(unit, bytes))
        return
    at = 5
    for mask in (31, 255):  # numbers of sequence and of picture parameter sets
        if at >= len(extradata):
            return
        count, at = extradata[at] & mask, at + 1
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            unit = extradata[at + 2 : at + 2 + size]
            at += 2 + size
            if unit:
                yield unit


def _units(packet: bytes, length_bytes: int) -> Iterator[bytes | str]:
    """Yield the units of a packet; a string reports a fault, and is the last."""
    if not length_bytes:
        yield from (unit for unit in _between_start_codes(packet) if unit)
        return
    at = 0
    while at < len(packet):
        size = int.from_bytes(packet[at : at + length_bytes], "big")
        unit = packet[at + length_bytes : at + length_bytes + size]
        if len(unit) < size:
            yield _BAD_UNITS
            return
        at += length_bytes + size
        if not unit:
            continue
        body = unit.rstrip(b"\0")
        if size - len(body) > _HOLE_ZEROS or body.find(bytes(_HOLE_ZEROS)) >= 0:
            yield _HOLE
            return
        yield unit


def _between_start_codes(packet: bytes) -> Iterator[bytes]:
    at = packet.find(b"\0\0\1")
    while at >= 0:
        end = packet.find(b"\0\0\1", at + 3)
        yield packet[at + 3 : end if end >= 0 else len(packet)]
        at = end
