"""Curves of a run: read from the logs of all its starts, drawn as a picture."""

import cv2
import numpy as np
import pytest

from dff_edge.trainer.curves import StageCurves, curves_of, draw_curves, read_curves, steps_before


def log(folder, version, text):
    folder = folder / "logs" / f"version_{version}"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(text)


def test_stages_follow_each_other_and_resumed_steps_count_once(tmp_path):
    """Steps are counted from 0 in the logs; the second start went back to step 2."""
    first = tmp_path / "0-recognition"
    log(first, 0, "epoch,loss,step,val_miou_frame\n0,3.0,1,\n0,,1,0.1\n1,2.0,3,\n")
    log(first, 1, "epoch,loss,step,val_miou_frame\n1,2.5,3,0.2\n2,1.5,5,\n")
    log(tmp_path / "1-pairs", 0, "loss,lr-AdamW,step,val_miou_l5\n1.0,0.1,3,0.4\n")

    one, two = read_curves(tmp_path)

    assert (one.name, one.first_step) == ("0-recognition", 0)
    assert one.loss == [(2, 3.0), (4, 2.5), (6, 1.5)]
    assert one.validation == {"val_miou_frame": [(2, 0.1), (4, 0.2)]}
    assert (two.name, two.first_step, two.loss) == ("1-pairs", 6, [(10, 1.0)])
    assert two.validation == {"val_miou_l5": [(10, 0.4)]}
    assert [steps_before(tmp_path, number) for number in (0, 1, 2)] == [0, 6, 10]


def test_ten_stages_are_in_order(tmp_path):
    for number in range(11):
        log(tmp_path / f"{number}-pairs", 0, "loss,step\n1.0,0\n")

    names = [(stage.name, stage.first_step) for stage in read_curves(tmp_path)]
    assert names == [(f"{number}-pairs", number) for number in range(11)]


def test_picture_shows_the_points():
    """Other numbers give another picture of the same size; gaps and no validation are drawn too."""
    pictures = []
    for middle in (0.2, 0.7):
        validation = {"val_miou_frame": [(2, 0.1), (3, middle), (4, 0.9)]}
        stages = [StageCurves("0-recognition", 0, [(2, 1.0), (4, float("nan"))], validation)]
        stages.append(StageCurves("1-pairs", 4, [(6, 0.5)]))
        png = draw_curves(stages)
        pictures.append(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR))

    assert pictures[0].shape == pictures[1].shape
    height = pictures[0].shape[0]
    differ = (pictures[0] != pictures[1]).any(axis=(1, 2))
    assert differ[height // 2 :].any()
    assert not differ[: height // 3].any()  # the loss is the same


def test_nothing_to_draw_is_drawn():
    assert draw_curves([StageCurves("0-flow", 0)]).startswith(b"\x89PNG")


@pytest.mark.parametrize("is_there", [True, False])
def test_without_matplotlib_a_run_goes_on_and_says_so(tmp_path, caplog, without, is_there):
    if not is_there:
        without("matplotlib")

    callbacks = curves_of(tmp_path)

    assert len(callbacks) == is_there
    assert ("curves.png" in caplog.text) != is_there
