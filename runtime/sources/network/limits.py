"""Limits on the time to wait for a network camera, and on the data kept of it.

A camera may be broken, or be something else: whatever it sends, memory and time stay bounded.
"""

from __future__ import annotations

OPEN_TIMEOUT_S = 5.0  # to connect, and once more to respond
READ_TIMEOUT_S = 4.0  # without any data
PICTURE_S = 20.0  # for one picture of an MJPEG stream to come in whole
KEY_FRAME_S = 60.0  # up to the first picture, while data comes: cameras may send few key frames

MAX_PICTURE_BYTES = 32 << 20  # of one JPEG; one of 4K at the best quality has 8 MB
MAX_HEADER_BYTES = 8192  # of one part of an MJPEG stream
MAX_REDIRECTS = 5
