"""Configurations: what is refused, and that messages name key, value and what was expected."""

import pytest
import yaml

from dff_edge.errors import ConfigError
from dff_edge.trainer.config import load_config
from tests.trainer.tiny import tiny_dict, write_config


@pytest.fixture
def path(tmp_path):
    return write_config(tmp_path / "tiny.yaml")


def written(path, raw):
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def test_defaults_are_filled_in(path):
    config = load_config(path)

    assert (config.name, config.seed, config.storage) == ("tiny", 3, "float32")
    assert [stage.kind for stage in config.stages] == ["recognition", "flow", "pairs"]
    assert config.stages[0].optimizer == "adamw"
    assert config.init.feature is None
    assert config.data.train == "synthetic://street?split=train"


def test_changes_reach_nested_keys_and_list_items(path):
    config = load_config(
        path,
        [
            "seed=7",
            "stages.1.lr=1e-3",
            "stages.0.milestones=[0.5, 0.75]",
            "stages.0.schedule=step",
            "model.feature.width=0.25",
            "model.task.colours.0=[1, 2, 3]",
            "init.feature=a/b.pth",  # a section that the file does not have
            "data.validate_on=null",
        ],
    )

    assert config.seed == 7
    assert config.stages[1].lr == 0.001
    assert config.stages[0].milestones == (0.5, 0.75)
    assert config.model.feature.width == 0.25
    assert config.model.task.colours[0] == (1, 2, 3)
    assert str(config.init.feature) == "a/b.pth"
    assert config.data.validate_on is None


def test_later_changes_win(path):
    assert load_config(path, ["seed=7", "seed=8"]).seed == 8


def test_section_that_is_written_empty_can_be_filled(path):
    written(path, tiny_dict(init=None))

    assert str(load_config(path, ["init.flow=x.pth"]).init.flow) == "x.pth"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sead=1", "'sead' is not a known key (received 1), expected name, seed, model, init"),
        (
            "stages.1.learning_rate=0.1",
            "'stages.1.learning_rate' is not a known key (received 0.1), expected kind, steps",
        ),
        ("model.feature.name=resnet19", "model.feature.name is 'resnet19', expected: 'resnet18'"),
        ("stages.0.lr=fast", "stages.0.lr is 'fast', expected: a valid number"),
        ("stages.2.lr=0", "stages.2.lr is 0, expected: greater than 0"),
        ("stages.0.fixed=[flow]", "stages.0: fixed is ['flow'] in a 'recognition' stage, expected"),
        ("stages.2.fixed=[flow, flow]", "stages.2: fixed is ['flow', 'flow'], expected each"),
        ("stages.2.fixed=[flow, feature, task]", "stages.2.fixed names all networks, expected"),
        ("stages.2.fixed=[scale]", "stages.2.fixed.0 is 'scale', expected: 'feature', 'task', "),
        ("stages.2.fixed=[correction]", "stages.2.fixed has 'correction', and the model has none"),
        ("stages.0.kind=correction", "stages.0.kind is 'correction', and the model has no corr"),
        ("init.correction=x.pth", "init.correction is given, and the model has no correction"),
        ("stages.0.distil=1", "stages.0: distil is 1.0 in a 'recognition' stage, expected it in"),
        ("stages.0.steps=1.5", "stages.0.steps is 1.5, expected: a valid integer"),
        ("device.devices=some", "device.devices is 'some', expected: a valid integer"),
        ("device.devices=some", "or: 'auto'"),
        ("device.precision=8", "device.precision is 8, expected: '32-true', '16-mixed'"),
        ("data.max_distance=-1", "data.max_distance is -1, expected: greater than or equal to 0"),
        ("stages=[]", "stages is [], expected"),
        ("stages.0=5", "stages.0 is 5, expected: a valid dictionary"),
        ("name=a/b", "name is 'a/b', expected"),
        ("model.frame_size=[100, 64]", "model.frame_size.0 is 100, expected: a multiple of 16"),
        ("model.task.classes=[a, b]", "model.task: colours has 8 entries, expected 2"),
        ("model.task.colours.0=[0, 0, 256]", "model.task.colours.0.2 is 256, expected: less than"),
        ("model.task.colors=[]", "'model.task.colors' is not a known key (received [])"),
        ("model.task=5", "model.task is 5, expected: a mapping whose name is segm"),
        ("model.task.name=tracking", "expected: a mapping whose name is segmentation or detection"),
        ("stages.0.crop=[64, 4096]", "stages.0.crop is [64, 4096], expected a part of the frames"),
        ("stages.0.crop=[48, 64]", "stages.0.crop.0 is 48, expected: a multiple of 32"),
        ("data.group=3", "stages.0.batch_size is 2, expected a multiple of data.group (3)"),
        ("stages.2.class_weights=[1, 2]", "stages.2.class_weights has 2 numbers, expected one for"),
        ("stages.0.milestones=[0.5]", "milestones is [0.5] with schedule 'cosine', expected"),
        ("stages.0.schedule=step", "schedule is 'step' without milestones, expected one or more"),
        ("seed=4294967296", "seed is 4294967296, expected: less than or equal to 4294967295"),
        ("stages.0.batch_norm=frozen", "stages.1.batch_norm is 'train' after a stage with 'froz"),
    ],
)
def test_wrong_settings_are_named(path, change, message):
    with pytest.raises(ConfigError) as raised:
        load_config(path, [change])

    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "'seed' is no change of a setting, expected key=value"),
        ("=3", "'=3' is no change of a setting"),
        ("seed=[1", "'seed=[1': the value is not readable as YAML"),
        ("seed.x=1", "'seed.x=1': seed has no keys below it"),
        ("name.x.y=1", "'name.x.y=1': name has no keys below it"),
        ("stages.3.lr=1", "'stages.3.lr': '3' is no item of a list of 3, expected 0 to 2"),
        ("stages.x=1", "'stages.x': 'x' is no item of a list of 3"),
        ("stages.-1.lr=1", "'-1' is no item of a list of 3"),
    ],
)
def test_changes_that_reach_nothing_are_refused(path, change, message):
    with pytest.raises(ConfigError) as raised:
        load_config(path, [change])

    assert message in str(raised.value)


def test_index_into_an_empty_list_is_refused(path):
    with pytest.raises(ConfigError, match="no item of a list of 0, expected no item"):
        load_config(path, ["stages=[]", "stages.0.lr=1"])


def test_missing_keys_are_named_all_at_once(path):
    raw = tiny_dict()
    del raw["name"], raw["stages"][1]["lr"], raw["model"]["task"]

    with pytest.raises(ConfigError, match=r"'name' is missing; 'model\.task' is missing; 'stages"):
        load_config(written(path, raw))


def test_wrong_item_is_not_also_a_list_that_is_too_short(path):
    written(path, tiny_dict(stages=[{"kind": "pairs", "steps": 0, "lr": 1}]))

    with pytest.raises(ConfigError) as raised:
        load_config(path)

    assert str(raised.value).endswith(
        "tiny.yaml: stages.0.steps is 0, expected: greater than or equal to 1."
    )


def test_long_values_are_shortened(path):
    with pytest.raises(ConfigError) as raised:
        load_config(path, [f"seed={'x' * 5000}"])

    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "not readable as YAML"),
        (b"\xff\xfe\x00", "not readable as YAML"),
        (b"- 1\n- 2\n", "holds list, expected a mapping of keys to values"),
        (b"", "tiny.yaml is empty"),
    ],
)
def test_files_of_another_kind_are_refused(path, content, message):
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_yaml_tags_do_not_run_code(path, tmp_path):
    path.write_text(f"name: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n")

    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_config(path)
    assert not (tmp_path / "made").exists()


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read: No such file"):
        load_config(tmp_path / "none.yaml")


def test_a_key_that_is_given_twice_is_refused(path):
    path.write_text(path.read_text(encoding="utf-8") + "seed: 5\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="not readable as YAML: the key 'seed' is given twice"):
        load_config(path)


def test_keys_of_a_merged_mapping_may_be_given_again(tmp_path):
    """YAML's merge keys, also in a chain; what stands beside them goes before."""
    path = tmp_path / "merged.yaml"
    stages = (
        "[{<<: &b {<<: &a {kind: flow, steps: 4, lr: 0.1}, lr: 0.2}, steps: 5}, {<<: [*a, *b]}]"
    )
    text = yaml.safe_dump({k: v for k, v in tiny_dict().items() if k not in ("stages", "data")})
    path.write_text(f"{text}stages: {stages}\n", encoding="utf-8")

    first, second = load_config(path, ["data.group=4"]).stages

    assert (first.steps, first.lr) == (5, 0.2)
    assert (second.steps, second.lr) == (4, 0.1)


def test_a_key_that_is_given_twice_in_a_change_is_refused(path):
    with pytest.raises(ConfigError, match="the key 'train' is given twice"):
        load_config(path, ["data={train: a, group: 2, train: b}"])


def test_label_maps_have_room_for_255_classes(path):
    """255 is what does not count."""
    names, colours = [str(n) for n in range(256)], [[0, 0, 0]] * 256

    with pytest.raises(ConfigError, match=r"model\.task\.classes is .*at most 255 items"):
        load_config(path, [f"model.task.classes={names}", f"model.task.colours={colours}"])
