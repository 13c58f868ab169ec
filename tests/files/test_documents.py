"""JSON and YAML: what is read, and all that a small text can do to whoever reads it."""

from __future__ import annotations

import json
import math
import os
import signal
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dff_edge.errors import CheckpointError, ConfigError
from dff_edge.files.documents import (
    MAX_DEPTH,
    dump_yaml,
    parse_json,
    parse_yaml,
    read_json,
    read_yaml,
)
from dff_edge.files.regular import open_regular, read_regular
from tests.fuzzing import examples

BILLION_LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(9)
)
MERGES = "m0: &m0 {x: 1}\n" + "".join(
    f"m{n + 1}: &m{n + 1} {{<<: [*m{n}, *m{n}]}}\n" for n in range(60)
)


@pytest.fixture
def seconds():
    """Fail what takes longer than some seconds, instead of waiting for it."""

    def stop(*_: object) -> None:
        raise TimeoutError("took too long")

    before = signal.signal(signal.SIGALRM, stop)
    yield signal.alarm
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on", "on"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("true", True),
        ("FALSE", False),
        ("010", 10),
        ("-7", -7),
        ("1:30", "1:30"),
        ("1e-3", 0.001),
        ("+.5", 0.5),
        (".inf", math.inf),
        ("2024-01-01", "2024-01-01"),
        ("0x10", "0x10"),
        ("~", None),
        ("", None),
        ("'3'", "3"),
        ("\ufeffa: 1", {"a": 1}),
        ("{a: [1, {b: null}]}", {"a": [1, {"b": None}]}),
    ],
)
def test_yaml_is_that_of_the_core_schema(text: str, expected: object) -> None:
    found = parse_yaml(text.encode(), "here")

    assert found == expected
    assert type(found) is type(expected)


def test_merged_keys_are_overridden_by_the_mappings_own() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b, z: 3}\n"

    assert parse_yaml(text, "here")["c"] == {"x": 1, "y": 2, "z": 3}


def test_what_an_alias_stands_for_is_there_once_for_each_place() -> None:
    found = parse_yaml("stages: [&s {lr: 1}, *s]", "here")
    found["stages"][0]["lr"] = 2

    assert found["stages"][1] == {"lr": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BILLION_LAUGHS, r"stands for [\d,]+ values when aliases are written out, expected 20,000"),
        (MERGES, "more than 10\\^15 values when aliases are written out"),
        ("a: &a [*a]", "an alias stands for something that it is part of itself"),
        ("[" * 100_000, f"nests too deeply, expected {MAX_DEPTH} levels"),
        ("- " * 5000 + "x", "nests too deeply"),
        ("? " * 5000, "nests too deeply"),
        ("{a: " * 3000 + "1", "nests too deeply"),
        ("x: " + "9" * 5000, "a number has 5,000 digits, expected 400"),
        ("x: 1." + "9" * 5000, "too large, or has too many digits"),
        ("x: 1e999", "too large"),
        ("a: 1\na: 2", "the key 'a' is given twice"),
        ("a: 1\nb: 2\n'a': 2", "the key 'a' is given twice"),
        ("{[1]: 2}", "unhashable key"),
        ("!!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("!!binary aGk=", "could not determine a constructor"),
        ("!!bool maybe", "neither true nor false"),
        ("a\n---\nb", "single document"),
        ("a: \x00", "special characters are not allowed"),
        (b"\xff\xfe\xff", "not readable as YAML"),
    ],
)
def test_hostile_yaml_is_refused_at_once(text: Any, message: str, seconds: Any) -> None:
    seconds(20)
    with pytest.raises(ConfigError, match=message) as told:
        parse_yaml(text, "here.yaml")

    assert str(told.value).startswith("here.yaml ")
    assert len(str(told.value)) < 700


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nests too deeply"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"expected {MAX_DEPTH} levels at most"),
        ('{"a":' * 50_000, "nests too deeply"),
        ("9" * 5000, "a number has 5,000 digits"),
        ("-1e999", "too large"),
        ("NaN", "NaN is no number in JSON"),
        ("[-Infinity]", "-Infinity is no number"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' is given twice"),
        ("{", "not readable as JSON"),
        (b"\xff", "not readable as JSON"),
    ],
)
def test_hostile_json_is_refused_at_once(text: Any, message: str, seconds: Any) -> None:
    seconds(20)
    with pytest.raises(CheckpointError, match=message) as told:
        parse_json(text, "here.json", error=CheckpointError)

    assert str(told.value).startswith("here.json ")


def test_a_last_key_that_is_there_twice_takes_no_quadratic_time(seconds: Any) -> None:
    fields = "".join(f'"k{n}":0,' for n in range(200_000))
    seconds(20)
    with pytest.raises(ConfigError, match="the key 'k199999' is given twice"):
        parse_json("{" + fields + '"k199999":1}', "here.json")


def test_deepest_that_is_allowed_is_read() -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH

    assert parse_json(text, "here") == json.loads(text)


_PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12)
    | st.sampled_from(
        ["on", "1e-3", "010", "08", "1:30", "~", "null", "=", "<<", ".5", "2020-1-1"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(string.ascii_letters + "0123456789.-", max_size=6), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@examples(100)
@given(_PLAIN)
@example({"name": "1e-3", "seed": "08"})  # plain words in YAML 1.1, numbers in 1.2
def test_what_is_dumped_is_read_again_as_it_was(value: Any) -> None:
    for flow in (False, True, None):
        assert parse_yaml(dump_yaml(value, flow=flow), "here") == value
    assert parse_json(json.dumps(value), "here") == value


@examples(100)
@given(st.text(max_size=60) | st.text("[]{}:,&*!?|>-'\"# \nab01.<~", max_size=60))
@example("<<: 3")
@example("!!float '': y")
@example("? {a: b}\n: c")
@example("&a : *a")
@example("!!int [1]")
def test_any_text_is_plain_values_or_a_message(text: str) -> None:
    for parse in (parse_yaml, parse_json):
        try:
            json.dumps(parse(text, "here"))  # plain: str, numbers, lists, dicts
        except ConfigError as error:
            told = str(error)
        else:
            continue
        assert told.startswith("here ")


def test_pipes_devices_and_folders_are_refused_without_waiting(
    tmp_path: Path, seconds: Any
) -> None:
    seconds(10)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for kind in ("pipe", "device", "folder"):
        for read in (read_yaml, read_json, lambda path: read_regular(path, max_bytes=9)):
            with pytest.raises(ConfigError, match=f"{kind} is a {kind}, expected an ordinary file"):
                read(tmp_path / kind)


def test_files_that_are_too_large_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: a terabyte that takes no room

    with pytest.raises(ConfigError, match=r"has 1,099,511,627,776 bytes, expected 262,144 at most"):
        read_yaml(path)
    with pytest.raises(CheckpointError, match="expected 1,073,741,824 at most"):
        read_json(path, error=CheckpointError)


def test_a_file_whose_size_is_not_told_is_bounded_too() -> None:
    """Those of /proc have a size of zero."""
    assert Path("/proc/self/maps").stat().st_size == 0
    with pytest.raises(ConfigError, match="has more than 100 bytes"):
        read_regular(Path("/proc/self/maps"), max_bytes=100)


@pytest.mark.parametrize("name", ["absent", "a\0b", "x" * 300, "file/below"])
def test_names_that_no_file_has_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match="cannot be read: "),
        open_regular(tmp_path / name, max_bytes=1),
    ):
        pass
