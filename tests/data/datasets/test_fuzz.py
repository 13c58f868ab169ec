"""Every parser of data on damaged and hostile input: it gives a sound answer, or a SourceError.

Seconds here; ``DFF_FUZZ_EXAMPLES=20000`` looks for longer.
"""

import json
import math
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dff_edge.data.datasets import coco_video, imagenet
from dff_edge.data.datasets.flying_chairs import list_chairs, read_flo
from dff_edge.data.datasets.imagenet import read_boxes
from dff_edge.data.datasets.label_png import read_label_png
from dff_edge.data.datasets.truth import true_boxes
from dff_edge.errors import SourceError
from dff_edge.runtime.sources.decoding.picture_size import MAX_PICTURE_PX
from tests.data.datasets.layouts import coco_video as write_coco
from tests.data.datasets.layouts import flo, flying_chairs, imagenet_image, png

fuzzed = settings(
    max_examples=int(os.environ.get("DFF_FUZZ_EXAMPLES", "60")),
    derandomize="DFF_FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    # The folder is shared by all examples; each writes its file anew.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

FLOATS = st.floats(allow_subnormal=False)  # libraries that are loaded may have turned them off
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.sampled_from([0, -1, 1, 255, 10**400, math.inf, -math.inf, math.nan, 1e308, "", "0", "\0"]),
    FLOATS,
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def damaged(draw, data):
    """Bytes with parts cut out, repeated, overwritten and put in."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 40))
        part = draw(st.one_of(st.binary(max_size=12), st.just(data[at : at + length] * 3)))
        kept = draw(st.sampled_from([at, at + length, len(data)]))
        data = data[:at] + part + data[kept:]
    return data


def places(value, path=()):
    """Every place in nested lists and dictionaries."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def put(content, path, value, action):
    for key in path[:-1]:
        content = content[key]
    if action == "remove":
        del content[path[-1]]
    elif action == "repeat" and isinstance(content, list):
        content.append(content[path[-1]])
    else:
        content[path[-1]] = value


# ---- COCO


def sound_coco(path):
    """List the clips and take every box, as training does."""
    names = coco_video.class_names(path, {})
    clips = coco_video.list_clips(path, {"images": "frames"}).clips
    for clip in clips:
        for index in range(len(clip)):
            try:
                fitted = true_boxes(clip, index, (24, 32), len(names))
            except SourceError:
                continue
            boxes = fitted.boxes.boxes
            assert np.isfinite(boxes).all()
            assert (boxes >= 0).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()
            assert (boxes <= [32, 24, 32, 24]).all()
            assert (fitted.boxes.labels < len(names)).all()


@fuzzed
@given(data=st.data())
def test_coco_with_other_values(tmp_path, data):
    path, content = write_coco(tmp_path)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from([p for p in places(content) if p]))
        action = data.draw(st.sampled_from(["set", "set", "set", "remove", "repeat"]))
        put(content, place, data.draw(VALUES), action)
    path.write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")
    try:
        sound_coco(path)
    except SourceError:
        pass


@fuzzed
@given(data=st.data())
def test_coco_with_other_bytes(tmp_path, data):
    path, content = write_coco(tmp_path)
    path.write_bytes(data.draw(damaged(json.dumps(content).encode())))
    try:
        sound_coco(path)
    except SourceError:
        pass


# ---- ImageNet

DOG, CAT = "n02084071", "n02121808"


@fuzzed
@given(data=st.data())
def test_annotations_with_other_bytes(tmp_path, data):
    imagenet_image(tmp_path, "x", [(DOG, 1, 2, 8, 9), (CAT, 0, 0, 31, 23)])
    path = tmp_path / "Annotations" / "x.xml"
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    try:
        boxes = read_boxes(path)
    except SourceError:
        return
    assert np.isfinite(boxes.boxes).all()
    assert len(boxes.boxes) == len(boxes.labels) == len(boxes.ignored)
    assert boxes.size is None or min(boxes.size) > 0


@fuzzed
@given(number=st.one_of(st.text(max_size=8), FLOATS.map(repr), st.just("9" * 5000)))
def test_annotations_with_other_numbers(tmp_path, number):
    imagenet_image(tmp_path, "x", [(DOG, 1, 2, 8, 9)])
    path = tmp_path / "Annotations" / "x.xml"
    for before in ("<xmax>8<", "<width>32<"):
        text = path.read_text().replace(before, f"{before.partition('>')[0]}>{number}<")
        path.write_text(text, encoding="utf-8", errors="ignore")
    try:
        assert np.isfinite(read_boxes(path).boxes).all()
    except SourceError:
        pass


@fuzzed
@given(data=st.data())
def test_lists_of_images(tmp_path, data):
    stem = f"train/ILSVRC2013_train/{DOG}/x"
    imagenet_image(tmp_path, f"DET/{stem}", [(DOG, 1, 1, 30, 22)])
    path = tmp_path / "list.txt"
    path.write_bytes(data.draw(damaged(f"{stem} 1\n{stem} 2\n".encode())))
    try:
        clips = imagenet.list_det(tmp_path, {"split": "train", "list": str(path)}).clips
    except SourceError:
        return
    assert {str(clip.image_path(0)) for clip in clips} == {f"{tmp_path}/Data/DET/{stem}.JPEG"}


# ---- Flying Chairs


@fuzzed
@given(data=st.data())
def test_flow_files(tmp_path, data):
    path = tmp_path / "x.flo"
    flo(path, np.arange(24, dtype=np.float32).reshape(3, 4, 2))
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    try:
        flow = read_flo(path)
    except SourceError:
        return
    assert flow.dtype == np.float32
    assert 0 < flow.size <= 2 * MAX_PICTURE_PX
    assert not np.isinf(flow).any()


@fuzzed
@given(data=st.data())
def test_lists_of_splits(tmp_path, data):
    root = tmp_path / "chairs"
    if not root.exists():
        flying_chairs(root, [1, 2])
    (root / "FlyingChairs_train_val.txt").write_bytes(data.draw(damaged(b"1\n2\n")))
    try:
        splits = list_chairs(root)
    except SourceError:
        return
    assert sorted(n for _, numbers in splits.values() for n in numbers) == [1, 2]


# ---- label PNGs


@fuzzed
@given(data=st.data())
@pytest.mark.parametrize("depth", [1, 8, 16])
def test_label_pngs_with_other_bytes(tmp_path, depth, data):
    values = np.random.default_rng(depth).integers(0, 2, (9, 13))
    path = tmp_path / "x.png"
    path.write_bytes(data.draw(damaged(png(values, depth))))
    try:
        labels = read_label_png(path)
    except SourceError:
        return
    assert labels.dtype == np.uint8
    assert labels.ndim == 2


@fuzzed
@given(
    header=st.tuples(
        st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1)),
        st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1)),
        st.sampled_from([0, 1, 2, 3, 4, 8, 16, 255]),
        st.sampled_from([0, 0, 3, 3, 2, 4, 6, 1, 255]),
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from([0, 1, 1, 2]),
    ),
    rows=st.binary(max_size=400),
    level=st.integers(0, 9),
)
def test_label_pngs_that_contradict_themselves(tmp_path, header, rows, level):
    """With the right checksums, so that all of it reaches the decoder."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *header)), (b"PLTE", bytes(768))]
    chunks += [(b"IDAT", zlib.compress(rows, level)), (b"IEND", b"")]
    path = tmp_path / "x.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c))
            for k, c in chunks
        )
    )
    try:
        labels = read_label_png(path)
    except SourceError:
        return
    width, height, depth, kind = header[:4]
    assert labels.shape == (height, width)
    assert kind in (0, 3)
    assert labels.max() < 2 ** min(depth, 8)
