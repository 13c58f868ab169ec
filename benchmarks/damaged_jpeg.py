"""Detection of damage in JPEGs, and the cost of the check beside decoding.

jpeg_false_alarms     of a thousand good pictures of three encoders that are called damaged
jpeg_seen_KIND_%      damaged ones that are seen, a hundred of each encoder
jpeg_check_share      time of the check / FFmpeg's time to decode, 4K at quality 85, one thread

Beside them stands what FFmpeg's decoder says of the same pictures: by itself, and with all of its
error detection asked for. Pillow's pictures are left out where it is not installed.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction

import av
import av.error
import cv2
import numpy as np
from _common import interleaved_ms, parser, report, street_images

from dff_edge.runtime.sources.decoding.jpeg import damage_in_jpeg

GOOD, DAMAGED = 1000, 100
SIZES = [(240, 320), (480, 640), (250, 333), (97, 131)]
SAMPLING = [0x411111, 0x221111, 0x211111, 0x111111, 0x121111]
STRICT = {"err_detect": "explode+crccheck+bitstream+buffer+careful+compliant+aggressive"}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repetitions", type=int, default=41)
    options = arguments.parse_args()
    av.logging.set_level(av.logging.PANIC)
    rng = np.random.default_rng(0)
    images = pictures(rng)
    encoders = {"opencv": opencv_jpeg, "ffmpeg": ffmpeg_jpeg, **pillow_encoder()}
    good = [
        encode(images[i % len(images)], i)
        for encode in encoders.values()
        for i in range(-(-GOOD // len(encoders)))
    ]
    looks: dict[str, Callable[[bytes], bool]] = {
        "check": lambda data: damage_in_jpeg(data) is not None,
        "ffmpeg": lambda data: ffmpeg_objects(data, {}),
        "ffmpeg strict": lambda data: ffmpeg_objects(data, STRICT),
    }
    background: dict[str, object] = {
        "good pictures": len(good),
        **{f"{who}, false alarms": sum(map(looks[who], good)) for who in looks},
    }
    figures: dict[str, float] = {"jpeg_false_alarms": float(sum(map(looks["check"], good)))}
    chosen = [good[int(i)] for i in rng.integers(0, len(good), DAMAGED * len(encoders))]
    for kind, damage in DAMAGE.items():
        damaged = [damage(data, *scan_of(data), rng) for data in chosen]
        seen = {
            who: 100 * float(np.mean([look(data) for data in damaged]))
            for who, look in looks.items()
        }
        figures[f"jpeg_seen_{kind}_%"] = seen["check"]
        background[f"seen of {kind.replace('_', ' ')}, %"] = {
            who: round(share, 1) for who, share in seen.items()
        }
    large = cv2.resize(images[1], (3840, 2160), interpolation=cv2.INTER_CUBIC)
    large += rng.integers(0, 12, large.shape, np.uint8)
    data = cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    packet, codec = av.Packet(data), decoder({})
    times = interleaved_ms(
        {"check": lambda: damage_in_jpeg(data), "decode": lambda: codec.decode(packet)},
        repetitions=options.repetitions,
    )
    figures["jpeg_check_share"] = times["check"] / times["decode"]
    background |= {f"4K {name}, ms": round(value, 1) for name, value in times.items()}
    background["4K picture, MB"] = round(len(data) / 1e6, 2)
    report(figures, background, options.json)


def pictures(rng: np.random.Generator) -> list[np.ndarray]:
    """Drawn streets with a camera's noise, of four sizes."""
    images = []
    for size in SIZES:
        for image in street_images(size, 6):
            noisy = image + rng.normal(0, 3, image.shape)
            images.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return images


def opencv_jpeg(image: np.ndarray, number: int) -> bytes:
    """Encode with libjpeg-turbo: qualities, samplings, restarts, progressive, optimised, grey."""
    options = [cv2.IMWRITE_JPEG_QUALITY, (50, 75, 90, 95)[number % 4]]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLING[number % 5]]
    if number % 3 == 1:
        options += [cv2.IMWRITE_JPEG_RST_INTERVAL, (1, 4, 20)[number // 3 % 3]]
    options += [cv2.IMWRITE_JPEG_PROGRESSIVE, number % 7 == 2]
    options += [cv2.IMWRITE_JPEG_OPTIMIZE, number % 5 == 3]
    if number % 11 == 4:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return cv2.imencode(".jpg", image, [int(option) for option in options])[1].tobytes()


def ffmpeg_jpeg(image: np.ndarray, number: int) -> bytes:
    """Encode with FFmpeg: samplings, qualities, tables of its own, slices with restarts."""
    codec = av.CodecContext.create("mjpeg", "w")
    codec.height, codec.width = image.shape[:2]
    codec.pix_fmt = ("yuvj420p", "yuvj422p", "yuvj444p")[number % 3]
    codec.time_base = Fraction(1, 25)
    codec.options = {"huffman": ("default", "optimal")[number % 2]}
    codec.bit_rate = (2, 10, 40)[number % 3] * 1_000_000
    if number % 4 == 3:
        codec.thread_count, codec.thread_type = 2, "SLICE"
    frame = av.VideoFrame.from_ndarray(image, format="bgr24")
    frame.pts, frame.time_base = 0, codec.time_base
    packets = codec.encode(frame.reformat(format=codec.pix_fmt)) + codec.encode(None)
    return b"".join(bytes(packet) for packet in packets)


def pillow_encoder() -> dict[str, Callable[[np.ndarray, int], bytes]]:
    """Pillow's encoder: progressive and optimised pictures, grey and CMYK; none without it."""
    try:
        from PIL import Image
    except ImportError:
        return {}

    def pillow_jpeg(image: np.ndarray, number: int) -> bytes:
        out = io.BytesIO()
        mode = {5: "L", 4: "CMYK"}.get(number % 6, "RGB")
        Image.fromarray(image[:, :, ::-1]).convert(mode).save(
            out,
            "JPEG",
            quality=(60, 80, 95)[number % 3],
            progressive=number % 2 == 0,
            optimize=number % 3 == 0,
            subsampling=number % 3 if mode == "RGB" else -1,
        )
        return out.getvalue()

    return {"pillow": pillow_jpeg}


def decoder(options: dict[str, str]) -> av.CodecContext:
    """FFmpeg's MJPEG decoder, on one thread."""
    codec = av.CodecContext.create("mjpeg", "r")
    codec.options = options
    codec.thread_count = 1
    return codec


def ffmpeg_objects(data: bytes, options: dict[str, str]) -> bool:
    """Return whether FFmpeg's decoder reports damage."""
    codec = decoder(options)
    try:
        frames = codec.decode(av.Packet(data)) + codec.decode(None)
    except av.error.FFmpegError:
        return True
    return not frames or any(frame.is_corrupt for frame in frames)


def scan_of(data: bytes) -> tuple[int, int]:
    """First byte of the first scan's data, and the end mark."""
    at = 2
    while True:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        at += 2 + length
        if marker == 0xDA:
            return at, data.rindex(b"\xff\xd9")


def flipped(data: bytes, start: int, end: int, rng: np.random.Generator, count: int) -> bytes:
    """Give some bytes of the scan other values."""
    damaged = bytearray(data)
    for at in rng.integers(start, end, count):
        damaged[at] ^= int(rng.integers(1, 256))
    return bytes(damaged)


def lost(data: bytes, start: int, end: int, rng: np.random.Generator, count: int) -> bytes:
    """Leave some bytes of the scan out."""
    count = min(count, (end - start) // 2)
    at = int(rng.integers(start, end - count))
    return data[:at] + data[at + count :]


def zeroed(data: bytes, first: int, last: int) -> bytes:
    """Put zeros in place of bytes."""
    return data[:first] + bytes(last - first) + data[last:]


DAMAGE: dict[str, Callable[[bytes, int, int, np.random.Generator], bytes]] = {
    "cut": lambda d, s, e, rng: d[: int(rng.integers(s + 1, e))],
    "cut_with_end_mark": lambda d, s, e, rng: d[: int(rng.integers(s + 1, e))] + b"\xff\xd9",
    "zeroed_first_half": lambda d, s, e, rng: zeroed(d, s, (s + e) // 2),
    "zeroed_second_half": lambda d, s, e, rng: zeroed(d, (s + e) // 2, e),
    "lost_1460_bytes": lambda d, s, e, rng: lost(d, s, e, rng, 1460),
    "lost_16_bytes": lambda d, s, e, rng: lost(d, s, e, rng, 16),
    "lost_byte": lambda d, s, e, rng: lost(d, s, e, rng, 1),
    "flipped_8_bytes": lambda d, s, e, rng: flipped(d, s, e, rng, 8),
    "flipped_byte": lambda d, s, e, rng: flipped(d, s, e, rng, 1),
}


if __name__ == "__main__":
    main()
