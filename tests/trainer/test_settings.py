"""Settings at their edges: every number bounded, truth values no numbers, odd changes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from dff_edge.errors import ConfigError, DffEdgeError
from dff_edge.experiment.config import ExperimentConfig
from dff_edge.trainer.config import TrainConfig, load_config
from dff_edge.trainer.models import build_model
from dff_edge.trainer.settings import load_settings
from tests.fuzzing import examples
from tests.trainer.tiny import DETECTION_MODEL, TINY, tiny_config, write_config

UPPER, LOWER = {"maximum", "exclusiveMaximum"}, {"minimum", "exclusiveMinimum"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_config(tmp_path / "tiny.yaml")


def numbers(schema: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number in a JSON schema, with the place that it stands at."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield place, schema
        for key, inner in schema.items():
            yield from numbers(inner, f"{place}.{key}")
    elif isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from numbers(inner, f"{place}.{index}")


@pytest.mark.parametrize("model", [TrainConfig, ExperimentConfig])
def test_every_number_has_a_least_and_a_largest_value(model: Any) -> None:
    found = dict(numbers(model.model_json_schema()))

    assert len(found) > 30
    for place, schema in found.items():
        assert schema.keys() & {*UPPER, "enum"}, place
        assert schema.keys() & {*LOWER, "enum"}, place


def test_a_model_that_fits_no_machine_is_refused_with_its_size() -> None:
    model = TINY["model"] | {"feature": {"name": "resnet101", "width": 16, "channels": 65_536}}
    config = tiny_config(model=model).model

    # By hand: the largest layer alone, layer4's 3x3 convolutions and feat_conv over 2048 * 16
    # channels, is 3 * 9 * (512 * 16)^2 + 9 * 2048 * 16 * 65536 numbers of 4 bytes.
    at_least = 4 * (3 * 9 * (512 * 16) ** 2 + 9 * 2048 * 16 * 65_536) / 1e9
    with pytest.raises(ConfigError, match=r"the model would have ([\d.]+) GB of weights") as told:
        build_model(config)
    assert float(str(told.value).split()[4]) > at_least > 80


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.feature.width=1e9", "model.feature.width is 1000000000.0, expected: less than or"),
        ("model.feature.width=.nan", "model.feature.width is nan, expected: a finite number"),
        ("model.flow.width=.inf", "model.flow.width is inf"),
        ("model.feature.channels=99999999", "model.feature.channels is 99999999, expected: less"),
        ("model.frame_size=[16000,16000]", "model.frame_size.0 is 16000, expected: less"),
        ("model.std=[.inf,1,1]", "model.std.0 is inf"),
        ("data.workers=100000", "data.workers is 100000, expected: less"),
        ("device.devices=0", "device.devices is 0"),
        ("seed=" + "9" * 5000, "a number has 5,000 digits, expected 400 at most"),
        ("seed=" + "9" * 399, "seed is 99999"),
        ("stages.0.epoch_steps=true", "stages.0.epoch_steps: received true, expected a number"),
        ("stages.0.lr=true", "stages.0.lr: received true, expected a number"),
        ("stages.0.clip_norm=false", "stages.0.clip_norm: received false, expected a number"),
        ("stages.0.class_weights=[true,1,1,1,1,1,1,1]", "class_weights: received true, expected"),
        ("model.mean=[1,true,1]", "model.mean: received true, expected a number"),
        ("model.task.colours.0=[true,0,0]", "model.task.colours: received true"),
        ("device.devices=true", "device.devices: received true, expected a number"),
    ],
)
def test_numbers_out_of_all_measure_are_refused(path: Path, change: str, message: str) -> None:
    with pytest.raises(ConfigError, match="tiny.yaml|is not readable|the value") as told:
        load_config(path, [change])

    assert message in str(told.value)
    assert len(str(told.value)) < 500


def test_truth_values_are_no_numbers_of_a_detector_either(tmp_path: Path) -> None:
    path = write_config(tmp_path / "detection.yaml", model=DETECTION_MODEL)
    with pytest.raises(ConfigError, match=r"rfcn: bins is true, expected a number"):
        load_config(path, ["model.task.rfcn.bins=true"])


def test_settings_that_are_true_or_false_are_taken(path: Path) -> None:
    assert load_config(path, ["model.flow.scale=false"]).model.flow.scale is False


def test_a_stage_that_was_written_by_an_alias_is_changed_alone(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    content = copy.deepcopy(TINY)
    content["stages"] = [content["stages"][0]] * 2  # PyYAML writes an anchor and an alias
    path.write_text(yaml.safe_dump(content))
    assert "*id001" in path.read_text()

    first, second = load_config(path, ["stages.0.lr=0.5"]).stages

    assert (first.lr, second.lr) == (0.5, 0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (".".join("x" * 70) + "=1", "the key has 70 levels, expected 64 at most"),
        ("a..b=1", "'a..b=1' is no change of a setting"),
        (".=1", "'.=1' is no change of a setting"),
        ("stages.=1", "'stages.=1' is no change of a setting"),
        ("stages.99999999999999999999.lr=1", "is no item of a list of 3"),
        ("model.task.classes.0.x=1", "has no keys below it"),
        ("seed=" + "[" * 1000, "nests too deeply"),
        ("stages=[&a {x: *a}]", "an alias stands for something that it is part of itself"),
        ("model={1: 2, null: 3, true: 4}", "Keys should be strings"),
        ("stages=" + "[{}]" * 1, "'stages.0.kind' is missing"),
        ("stages=[" + "{}," * 5000 + "]", "and "),
    ],
)
def test_odd_changes_are_refused_in_few_words(path: Path, change: str, message: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_config(path, [change])

    assert message in str(told.value)
    assert len(str(told.value)) < 3000


# What stands at the leaves of a configuration that somebody has broken.
_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(-2, 2), max_size=3),
    st.dictionaries(
        st.one_of(st.text(max_size=3), st.integers(), st.none()), st.none(), max_size=2
    ),
    st.sampled_from(["..", "/dev/zero", "a\0b", "street", "x" * 5000, 1e308, 2**63]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    pairs: Any = ()
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield from places(inner, (*path, key))


def broken(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    changed = copy.deepcopy(content)
    target = changed
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    return changed


_BASES = {
    "train": TINY,
    "detection": {**TINY, "model": DETECTION_MODEL, "init": {"model": "x", "flow": "y"}},
}


@pytest.mark.parametrize("base", _BASES)
@examples(60)
@given(data=st.data())
def test_any_value_at_any_place_is_taken_or_refused(base: str, data: Any, tmp_path: Path) -> None:
    content = _BASES[base]
    place = data.draw(st.sampled_from(list(places(content))), label="place")
    value = data.draw(_ODD, label="value")
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump(broken(content, place, value)), encoding="utf-8")
    try:
        found = load_config(path)
        with torch.device("meta"):
            build_model(found.model)
    except DffEdgeError as error:
        told = str(error)
    else:
        return
    assert len(told) < 3000


@examples(60)
@given(key=st.text("stages.0l1rmodefwth_=[]", max_size=20), value=st.text(max_size=20))
@example(key="stages.0", value="{<<: {kind: flow}, steps: 1, lr: 1}")
@example(key="model.feature", value="!!python/name:os.system")
def test_any_change_is_taken_or_refused(key: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    if not path.exists():
        write_config(path)
    try:
        load_settings(path, TrainConfig, [f"{key}={value}"])
    except ConfigError as error:
        told = str(error)
    else:
        return
    assert len(told) < 3000
