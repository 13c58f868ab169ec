"""A folder of labelled frames."""

import cv2
import pytest

from tests.trainer.data.painted import blobs, painted


@pytest.fixture
def folder(tmp_path):
    """Twelve frames; frame i is its labels, painted, plus i; labels on 0, 5 and 11."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for i in range(12):
        labels = blobs(i)
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), painted(labels, i))
        if i in (0, 5, 11):
            cv2.imwrite(str(tmp_path / "labels" / f"{i}.png"), labels)
    return tmp_path
