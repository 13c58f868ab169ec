"""Whether a JPEG picture is whole, as a file or as a packet of MJPEG.

Decoders conceal damage: what is missing is shown as grey, or as what the picture before had there.
So the entropy-coded data is checked by itself (`plugins/jpeg`), at a third of the time of
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
    "bad_coefficient": "its data is damaged: values that no picture has",
    "left_over": "its data is damaged: there is more than the picture takes",
    "bad_restart": "its data is damaged: restart marks out of order",
    "too_many_scans": "it has more scans than any picture",
}


def damage_in_jpeg(data: bytes | bytearray | memoryview) -> str | None:
    """Say what is wrong with a JPEG picture; None where it is whole.

    Whole is what a decoder reads to the end without concealing anything: all its blocks are there
    and nothing else. Flipped bits that leave valid codes are not seen. Of pictures that are coded
    in an uncommon way (arithmetic, lossless) only the header is looked at.

    Args:
        data: from the start mark; what follows the end mark is passed over, but for a second field
            of the same size, as interlaced MJPEG has it. Bound the size that it states before
            (`stated_size`): progressive pictures take an eighth of a byte a pixel.

    Raises:
        MemoryError: it takes more memory than there is.

    Example:
        >>> damage_in_jpeg(b"GIF89a")
        "it does not begin with JPEG's start mark"
    """
    fault = _native.check_jpeg(np.frombuffer(data, np.uint8))
    return None if fault is None else _IN_WORDS[fault]
