"""Detection of damage in video files, and how many false pictures get through.

video_noticed_STREAM_%   damaged packets that are noticed: half overwritten, or half zeroed
video_false_STREAM       pictures a damaged packet that are given out and are not those of the file

Drawn streets with a camera's noise, 480x640. FFmpeg's decoders of HEVC, VP9, AV1 and FFV1 say
nothing of most damage; holes in MP4 and checksums (x265's --hash) are noticed.
"""

from __future__ import annotations

import logging
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from _common import parser, report, street_images

from dff_edge.errors import SourceError
from dff_edge.runtime.sources import open_source

SIZE, FRAMES = (480, 640), 36
X265 = "keyint=12:bframes=2:log-level=none"
STREAMS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "mp4", {"g": "12", "bf": "2"}),
    "h264_cavlc": ("libx264", "mp4", {"g": "12", "bf": "2", "coder": "vlc"}),
    "hevc": ("libx265", "mp4", {"x265-params": X265}),
    "hevc_checksums": ("libx265", "mp4", {"x265-params": X265 + ":hash=1"}),
    "mpeg4": ("mpeg4", "avi", {"g": "12", "bf": "2"}),
    "mpeg2": ("mpeg2video", "mpegts", {"g": "12", "bf": "2"}),
    "mjpeg": ("mjpeg", "avi", {}),
    "vp9": ("libvpx-vp9", "webm", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--repetitions", type=int, default=8, help="damaged packets of each kind"
    )
    options = arguments.parse_args()
    logging.getLogger("dff_edge.runtime").setLevel(logging.CRITICAL)
    av.logging.set_level(av.logging.PANIC)
    rng = np.random.default_rng(0)
    images = [
        np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        for image in street_images(SIZE, FRAMES)
    ]
    figures: dict[str, float] = {}
    background: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.bin"
        for name, (codec, container, codec_options) in STREAMS.items():
            write(path, images, codec, container, codec_options)
            whole, _ = read(path)
            data, packets = path.read_bytes(), packets_of(path)
            noticed = {"overwritten": 0, "zeroed": 0}
            false = 0
            for kind in noticed:
                for number in rng.integers(2, len(packets) - 3, options.repetitions):
                    at, size = packets[number]
                    half = size - size // 2
                    filler = rng.bytes(half) if kind == "overwritten" else bytes(half)
                    path.write_bytes(data[: at + size // 2] + filler + data[at + size :])
                    shown, failed = read(path)
                    noticed[kind] += failed > 0
                    false += sum(differs(image, whole[time]) for time, image in shown.items())
            tried = options.repetitions * len(noticed)
            figures[f"video_noticed_{name}_%"] = 100 * sum(noticed.values()) / tried
            figures[f"video_false_{name}"] = false / tried
            background[f"{name}, noticed of {options.repetitions}"] = noticed
    report(figures, background, options.json)


def write(
    path: Path, images: list[np.ndarray], codec: str, container: str, options: dict[str, str]
) -> None:
    """Write a video of 30 frames a second."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=30, options=options)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def read(path: Path) -> tuple[dict[int, np.ndarray], int]:
    """Read frames by their numbers, as their stamps give them, and how many failed."""
    try:
        with open_source(path) as source:
            frames = {round(30 * frame.stamp_s): frame.image for frame in source}
            return frames, source.counts.failed
    except SourceError:
        return {}, 1


def packets_of(path: Path) -> list[tuple[int, int]]:
    """Places and sizes of packets, in the order of decoding."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None]


def differs(image: np.ndarray, whole: np.ndarray) -> bool:
    """Return whether more than a hundredth of the pixels differ plainly."""
    return bool((np.abs(image.astype(int) - whole) > 16).mean() > 0.01)


if __name__ == "__main__":
    main()
