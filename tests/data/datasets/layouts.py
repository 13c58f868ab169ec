"""Data sets as they lie on a disk, tiny: each function writes one, by the data set's own rules."""

import json
import struct
import zlib

import cv2
import numpy as np

SIZE = (24, 32)


def picture(number=0, size=SIZE):
    """A picture whose mean says which one it is."""
    return np.full((*size, 3), 10 * number % 250, np.uint8)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, image)
    assert done
    path.write_bytes(data.tobytes())  # OpenCV crashes on a path that is no UTF-8


def cityscapes(root, split="val", city="lindau", sequence=3, labelled=19, ids=None):
    """One snippet; frame n (of the sequence) is ``picture(n)``."""
    for n in range(labelled - 19, labelled + 11):
        name = f"{city}_{sequence:06}_{n:06}_leftImg8bit.png"
        write(root / "leftImg8bit_sequence" / split / city / name, picture(n % 25))
    truth = np.full(SIZE, 7, np.uint8) if ids is None else ids
    stem = f"{city}_{sequence:06}_{labelled:06}_gtFine"
    write(root / "gtFine" / split / city / f"{stem}_labelIds.png", truth)
    write(root / "gtFine" / split / city / f"{stem}_color.png", np.zeros((*SIZE, 3), np.uint8))


def turn_by_exif(path, orientation=6):
    """Write into a JPEG that it is to be shown turned; 6 is by a quarter, 3 by half."""
    orientation = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00" + bytes([orientation, 0, 0])
    exif = b"Exif\0\0MM\0*\x00\x00\x00\x08\x00\x01" + orientation + b"\0\0\0\0"
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])


def imagenet_image(root, path, objects, number=0):
    """``path`` below Data and Annotations; objects as (WordNet id, xmin, ymin, xmax, ymax)."""
    write(root / "Data" / f"{path}.JPEG", picture(number))
    xml = root / "Annotations" / f"{path}.xml"
    xml.parent.mkdir(parents=True, exist_ok=True)
    body = "".join(
        f"<object><trackid>0</trackid><name>{name}</name><bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin>"
        f"<ymax>{y2}</ymax><ymin>{y1}</ymin></bndbox><occluded>1</occluded>"
        "<generated>1</generated></object>"
        for name, x1, y1, x2, y2 in objects
    )
    xml.write_text(
        f"<annotation><folder>x</folder><filename>{path}</filename><source><database>ILSVRC_2015"
        f"</database></source><size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>{body}"
        "</annotation>"
    )


def vid_snippet(root, split, name, frames):
    part = f"VID/{split}/" + ("ILSVRC2015_VID_train_0000/" if split == "train" else "")
    for n in range(frames):
        objects = [("n02084071", n, 2, n + 9, 11)]
        imagenet_image(root, f"{part}{name}/{n:06}", objects, n)


def camvid_original(root, stems, colours):
    for n, stem in enumerate(stems):
        write(root / "701_StillsRaw_full" / f"{stem}.png", picture(n))
        labels = np.zeros((*SIZE, 3), np.uint8)
        for column, (red, green, blue) in enumerate(colours):
            labels[:, column] = (blue, green, red)
        write(root / "LabeledApproved_full" / f"{stem}_L.png", labels)


def coco_video(root):
    """Two videos; the ids and the order of images are not those of the frames."""
    for n in range(3):
        write(root / "frames" / "a" / f"{n}.jpg", picture(n))
    write(root / "frames" / "b" / "0.jpg", picture(9))
    content = {
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "videos": [{"id": 1, "name": "a"}, {"id": 5, "name": "b"}],
        "images": [
            {"id": 30, "file_name": "a/2.jpg", "video_id": 1, "frame_id": 2},
            {"id": 10, "file_name": "a/0.jpg", "video_id": 1, "frame_id": 0},
            {"id": 20, "file_name": "a/1.jpg", "video_id": 1, "frame_id": 1},
            {"id": 40, "file_name": "b/0.jpg", "video_id": 5, "frame_id": 0},
        ],
        "annotations": [
            {"id": 1, "image_id": 20, "category_id": 7, "bbox": [2, 3, 10, 4], "iscrowd": 0},
            {"id": 2, "image_id": 20, "category_id": 3, "bbox": [0, 0, 32, 24], "iscrowd": 1},
        ],
    }
    path = root / "video.json"
    path.write_text(json.dumps(content))
    return path, content


def flo(path, flow):
    height, width = flow.shape[:2]
    header = np.float32(202021.25).tobytes() + np.int32([width, height]).tobytes()
    path.write_bytes(header + flow.astype("<f4").tobytes())


def flying_chairs(root, marks, flow=(6.0, -2.0)):
    """Pairs of 1 + len(marks); img1 is black and img2 white."""
    (root / "data").mkdir(parents=True)
    for n in range(1, len(marks) + 1):
        write(root / "data" / f"{n:05}_img1.ppm", np.zeros((48, 64, 3), np.uint8))
        write(root / "data" / f"{n:05}_img2.ppm", np.full((48, 64, 3), 255, np.uint8))
        flo(root / "data" / f"{n:05}_flow.flo", np.full((48, 64, 2), flow, np.float32))
    (root / "FlyingChairs_train_val.txt").write_text("\n".join(map(str, marks)) + "\n")


def png(values, depth, colour=0, palette=None, extra=(), interlaced=False):
    """Encode a PNG by its specification, samples of ``depth`` bits, each row unfiltered.

    Args:
        values: whole numbers ``(H, W)``.
        depth: 1, 2, 4, 8 or 16.
        colour: 0 for grey, 3 for a palette.
        palette: bytes of PLTE.
        extra: more chunks before the pixels, as (kind, content).
        interlaced: Adam7.
    """
    values = np.asarray(values)
    height, width = values.shape
    passes = [values]
    if interlaced:
        starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2))
        starts += ((0, 1, 2, 2), (1, 0, 2, 1))
        passes = [values[y::step_y, x::step_x] for y, x, step_y, step_x in starts]
    rows = b"".join(
        b"\0" + _packed(row, depth) for part in passes for row in part if part.shape[1] > 0
    )
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header)]
    chunks += [] if palette is None else [(b"PLTE", palette)]
    chunks += [*extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _packed(row, depth):
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :]
    return np.packbits(bits.ravel()).tobytes()
