"""Flying Chairs on disk, and .flo files."""

import numpy as np
import pytest

from dff_edge.data.datasets.flying_chairs import SPLIT_FILE, list_chairs, read_flo
from dff_edge.errors import SourceError
from tests.data.datasets.layouts import flo, flying_chairs


def test_splits(tmp_path):
    flying_chairs(tmp_path / "chairs", [1, 2, 1, 1])

    splits = list_chairs(tmp_path / "chairs")

    assert splits["train"] == (tmp_path / "chairs/data", [1, 3, 4])
    assert splits["val"] == (tmp_path / "chairs/data", [2])


def test_missing_files_are_counted(tmp_path):
    flying_chairs(tmp_path / "chairs", [1, 2])
    (tmp_path / "chairs/data/00002_flow.flo").unlink()

    with pytest.raises(SourceError, match="lacks 1 files of the 6 .* 00002_flow.flo first"):
        list_chairs(tmp_path / "chairs")
    with pytest.raises(SourceError, match=r"holds no FlyingChairs_train_val.txt.*freiburg"):
        list_chairs(tmp_path)


def test_flo_by_hand(tmp_path):
    """1 row, 2 columns, little-endian; what is larger than 1e9 is unknown."""
    path = tmp_path / "x.flo"
    numbers = np.array([1.5, -2, 3, 2e9], "<f4").tobytes()
    path.write_bytes(b"PIEH\x02\x00\x00\x00\x01\x00\x00\x00" + numbers)

    flow = read_flo(path)

    np.testing.assert_array_equal(flow, np.float32([[[1.5, -2], [np.nan, np.nan]]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"JUNK" + data[4:], "is no .flo file"),
        (lambda data: data[:8], "is no .flo file"),
        (lambda data: data[:-4], r"has 56 bytes, expected 60 for 3 x 2"),
        (lambda data: data + b"1234", r"has 64 bytes, expected 60"),
        (lambda data: data[:4] + b"\xff" * 8 + data[12:], "states a size of -1 x -1 pixels"),
    ],
)
def test_damaged_flo_files_are_refused(tmp_path, change, message):
    path = tmp_path / "x.flo"
    flo(path, np.zeros((2, 3, 2), np.float32))
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(SourceError, match=message):
        read_flo(path)


def test_a_list_with_windows_line_ends_and_a_byte_order_mark(tmp_path):
    flying_chairs(tmp_path / "chairs", [1, 2])
    (tmp_path / "chairs" / SPLIT_FILE).write_bytes(b"\xef\xbb\xbf1\r\n2\r\n")

    splits = list_chairs(tmp_path / "chairs")

    assert [numbers for _, numbers in splits.values()] == [[1], [2]]
