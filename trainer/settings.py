"""Settings in YAML files, changed by ``--set key=value``, and readable validation errors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from dff_edge.errors import ConfigError, DffEdgeError
from dff_edge.files.documents import MAX_DEPTH, parse_yaml, read_yaml

M = TypeVar("M", bound=BaseModel)
_LONGEST_VALUE = 60  # characters of a received value in a message
_MOST_PROBLEMS = 20  # in one message


class ChangeError(ConfigError):
    """A change of settings is wrong, while the file that it changes is not."""


class Settings(BaseModel):
    """Base of all settings: unknown keys, NaN and truth values for numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        """Raise for true and false, which pydantic accepts as numbers."""
        assert info.field_name is not None
        kinds = set(_kinds(cls.model_fields[info.field_name].annotation))
        if bool not in kinds and kinds & {int, float}:
            refuse_truth_values(value)
        return value


def refuse_truth_values(value: Any, key: str = "") -> None:
    """Raise ValueError where a number, or a list of them, is true or false.

    Args:
        value: as read from a file.
        key: its key below the place that a message names.
    """
    for each in _leaves(value):
        if isinstance(each, bool):
            told = f"{key} is {str(each).lower()}" if key else f"received {str(each).lower()}"
            raise ValueError(f"{told}, expected a number")


def _kinds(annotation: Any) -> Iterator[Any]:
    """Return the types that an annotation consists of."""
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for each in inner:
        yield from _kinds(each)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def load_settings(
    path: Path,
    model: type[M],
    changes: Iterable[str] = (),
    *,
    complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda raw: raw,
) -> M:
    """Read settings.

    Args:
        path: YAML file.
        model: class of the settings.
        changes: ``key=value`` each, the key with dots for levels and numbers for list items
            (``stages.0.lr=0.01``), the value as YAML.
        complete: called with the changed settings before they are checked; returns them with what
            follows from them.

    Raises:
        ConfigError: names the key, the value received and what was expected.
        ChangeError: the same, where the file without the changes is right.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path} holds {type(raw).__name__}, expected a mapping of keys to values."
        )
    changed = copy.deepcopy(raw)
    for change in changes:
        _apply(changed, change)
    try:
        return model.model_validate(complete(changed))
    except ValidationError as error:
        kind = ConfigError
        if changed != raw and _is_valid(raw, model, complete):
            kind = ChangeError
        raise kind(f"{path}: {describe(error, model)}") from error


def _is_valid(
    raw: dict[str, Any],
    model: type[BaseModel],
    complete: Callable[[dict[str, Any]], dict[str, Any]],
) -> bool:
    try:
        model.model_validate(complete(raw))
    except (ValidationError, DffEdgeError):
        return False
    return True


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """Describe a validation error: key, value received and what was expected.

    Args:
        error: from validating ``model``.
        model: the class of the keys.
    """
    problems: dict[str, str] = {}
    for problem in error.errors():
        location, known = _resolve(model, problem["loc"])
        key = ".".join(location) or "the file"
        received = _short(problem["input"])
        if problem["type"] == "extra_forbidden":
            text = f"'{key}' is not a known key (received {received}), expected {', '.join(known)}"
        elif problem["type"] == "missing":
            text = f"'{key}' is missing"
        elif problem["type"] == "value_error":  # from a validator of ours: complete as it is
            message = str(problem["ctx"]["error"]).rstrip(".")
            text = f"{key}: {message}" if location else message
        elif key in problems:  # another member of a union
            text = f"{problems[key]}, or: {_expected(problem['msg'])}"
        else:
            text = f"{key} is {received}, expected: {_expected(problem['msg'])}"
        problems[key] = text
    # Pydantic also calls a list too short whose only item is wrong.
    outer = {key[:end] for key in problems for end, sign in enumerate(key) if sign == "."}
    told = [text for key, text in problems.items() if key not in outer]
    more = f"; and {len(told) - _MOST_PROBLEMS} more" if len(told) > _MOST_PROBLEMS else ""
    return "; ".join(told[:_MOST_PROBLEMS]) + more + "."


def _resolve(
    model: type[BaseModel], location: Sequence[int | str]
) -> tuple[list[str], Sequence[str]]:
    """Return the part of a location that is written in the file, and the keys known there.

    Pydantic adds the names of union members to a location, and "[key]" for the key of a mapping,
    which are not in the file.
    """
    place: Any = model
    written: list[str] = []
    known: Sequence[str] = ()
    for part in location:
        if isinstance(part, int):
            place = next(iter(get_args(place)), None)
        elif isinstance(place, type) and issubclass(place, BaseModel):
            known = tuple(place.model_fields)
            place = place.model_fields[part].annotation if part in known else None
        elif get_origin(place) is dict and part != "[key]":
            place = get_args(place)[1]
        elif (member := _tagged(place, part)) is not None:
            place = member
            continue
        else:
            break
        written.append(str(part))
    return written, known


def _tagged(union: Any, tag: str) -> Any:
    """Return the member of a tagged union for a tag, None where there is none."""
    for member in get_args(union):
        inner, *notes = get_args(member) or (member,)
        if any(isinstance(note, Tag) and note.tag == tag for note in notes):
            return inner
    return None


def _expected(message: str) -> str:
    return message.removeprefix("Input should be ")


def _short(value: Any) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _apply(raw: dict[str, Any], change: str) -> None:
    key, separator, text = change.partition("=")
    *parents, last = key.split(".")
    if not separator or not all((*parents, last)):
        raise ChangeError(f"'{_cut(change)}' is no change of a setting, expected key=value.")
    is_utf8 = not any("\ud800" <= sign <= "\udfff" for sign in text)
    # Names of files may hold any bytes, YAML may not.
    value = parse_yaml(text, f"'{_cut(change)}': the value", error=ChangeError) if is_utf8 else text
    if len(parents) >= MAX_DEPTH:
        told = f"{len(parents) + 1} levels, expected {MAX_DEPTH} at most"
        raise ChangeError(f"'{_cut(change)}': the key has {told}.")
    place: Any = raw
    for depth, part in enumerate(parents):
        if isinstance(place, list):
            place = place[_list_index(place, part, key)]
        elif isinstance(place, dict):
            if place.get(part) is None:  # absent, or without a value
                place[part] = {}
            place = place[part]
        else:
            raise ChangeError(f"'{change}': {'.'.join(parents[:depth])} has no keys below it.")
    if isinstance(place, list):
        place[_list_index(place, last, key)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise ChangeError(f"'{change}': {'.'.join(parents)} has no keys below it.")


def _list_index(items: list[Any], part: str, key: str) -> int:
    if not (part.isascii() and part.isdecimal()) or int(part) >= len(items):
        expected = f"0 to {len(items) - 1}" if items else "no item, since the list is empty"
        raise ChangeError(
            f"'{key}': '{part}' is no item of a list of {len(items)}, expected {expected}."
        )
    return int(part)
