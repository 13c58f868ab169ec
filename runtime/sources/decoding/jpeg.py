"""Detection of damaged JPEG pictures, as a file or as a packet of MJPEG.

Decoders conceal damage: missing parts are shown as grey, or as in the picture before. So the
entropy-coded data is checked separately (`plugins/jpeg`), in a third of the time of
decoding. `python benchmarks/damaged_jpeg.py` measures what it finds, and its time.
"""

from __future__ import annotations

import numpy as np

from dff_edge import _native

_IN_WORDS = {
    "no_start": "it does not begin with JPEG's start mark",
    "bad_header": "its header is damaged",
    "no_table": "its header lacks a table",
    "cut_off": "its data ends before the picture is complete",
    "bad_code": "its data is damaged: a code that does not exist",
    "bad_coefficient": "its data is damaged: impossible values",
    "left_over": "its data is damaged: there is more than the picture needs",
    "bad_restart": "its data is damaged: restart marks out of order",
    "too_many_scans": "it has more scans than any picture",
}


def damage_in_jpeg(data: bytes | bytearray | memoryview) -> str | None:
    """Return what is wrong with a JPEG picture; None where it is intact.

    A picture is intact if a decoder reads it to the end without concealing anything: all its
    blocks are there and nothing else. Flipped bits that leave valid codes are not detected. Of
    pictures with an uncommon coding (arithmetic, lossless) only the header is checked.

    Args:
        data: from the start mark; data after the end mark is skipped, but for a second field of
            the same size, as interlaced MJPEG has it. Check the size that it states first
            (`stated_size`): progressive pictures need an eighth of a byte per pixel.

    Raises:
        MemoryError: there is too little memory.

    Example:
        >>> damage_in_jpeg(b"GIF89a")
        "it does not begin with JPEG's start mark"
    """
    fault = _native.check_jpeg(np.frombuffer(data, np.uint8))
    return None if fault is None else _IN_WORDS[fault]
