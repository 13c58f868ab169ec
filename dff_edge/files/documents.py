"""Untrusted JSON and YAML as plain values, with bounds on all that a small text can expand to.

A text of a kilobyte can nest so deeply that parsing it ends the process, contain aliases that
expand to fill the memory ("billion laughs"), or hold a number of a million digits. No
configuration, card or data set needs that, and all of it is refused with a message.

YAML follows its core schema of 1.2, as most people expect: ``on`` and ``no`` are words,
``010`` is ten, ``1e-3`` is a number, dates are words.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, TypeVar

from dff_edge.errors import ConfigError, DffEdgeError, require
from dff_edge.files.regular import read_regular

MAX_DEPTH = 64
MAX_DIGITS = 400  # of a number as it is written: float64 ends at 309 digits
MAX_JSON_BYTES = 1 << 30  # labels of a large data set
MAX_YAML_BYTES = 1 << 18  # configurations; PyYAML reads some 100 kB a second
MAX_YAML_VALUES = 20_000  # after aliases are expanded

E = TypeVar("E", bound=DffEdgeError)


def read_json(
    path: Path, *, max_bytes: int = MAX_JSON_BYTES, error: type[DffEdgeError] = ConfigError
) -> Any:
    """Read a JSON file as ``parse_json`` does."""
    return parse_json(read_regular(path, max_bytes=max_bytes, error=error), str(path), error=error)


def parse_json(text: str | bytes, origin: str, *, error: type[DffEdgeError] = ConfigError) -> Any:
    """Read JSON: finite numbers of bounded length, no key twice in an object.

    Args:
        text: bytes are UTF-8, with a byte order mark or without.
        origin: its name in messages.
        error: class of the exception.

    Returns:
        Dicts, lists, strings, numbers, bools, None.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8-sig")
        value = json.loads(
            decoded,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_no_constant,
        )
        _check_depth(value)
    except RecursionError:
        raise error(f"{origin} nests too deeply, expected {MAX_DEPTH} levels at most.") from None
    except ValueError as problem:  # UnicodeDecodeError, JSONDecodeError too
        raise error(f"{origin} is not readable as JSON: {problem}.") from problem
    return value


def read_yaml(path: Path, *, error: type[DffEdgeError] = ConfigError) -> Any:
    """Read a YAML file as ``parse_yaml`` does."""
    content = read_regular(path, max_bytes=MAX_YAML_BYTES, error=error)
    return parse_yaml(content, str(path), error=error)


def parse_yaml(text: str | bytes, origin: str, *, error: type[DffEdgeError] = ConfigError) -> Any:
    """Read YAML: finite in size when aliases are expanded, no key twice in a mapping.

    Args:
        text: bytes are UTF-8, with a byte order mark or without.
        origin: its name in messages.
        error: class of the exception.

    Returns:
        Dicts, lists, strings, numbers, bools, None. Aliases are expanded to separate copies, so
        that changing one changes no other.
    """
    yaml = require("yaml", extra="train", purpose="Reading a configuration")
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8-sig")
        loader = _loader_class(yaml)(decoded)
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
        return _plain(value)
    except RecursionError:
        raise error(f"{origin} nests too deeply, expected {MAX_DEPTH} levels at most.") from None
    except (yaml.YAMLError, ValueError) as problem:
        raise error(f"{origin} is not readable as YAML: {problem}.") from problem


def dump_yaml(value: Any, *, flow: bool | None = False) -> str:
    """Write plain values as YAML that both ``parse_yaml`` and YAML 1.1 read back unchanged.

    Args:
        value: dicts, lists, strings, numbers, bools, None.
        flow: in the flow style, ``{a: 1}``; None for the innermost lists and mappings alone.
    """
    yaml: Any = require("yaml", extra="train", purpose="Writing a configuration")

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        """Quotes a text that either schema would read as another type."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    _add_core_schema(Dumper)
    text: str = yaml.dump(
        value, Dumper=Dumper, sort_keys=False, default_flow_style=flow, allow_unicode=True
    )
    return text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {_short(key)} is given twice")
            seen.add(key)
    return fields


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has {len(text):,} digits, expected {MAX_DIGITS} at most")
    return int(text)


def _number(text: str) -> float:
    value = float(text) if len(text) <= MAX_DIGITS else math.inf
    if not math.isfinite(value):
        raise ValueError(f"the number {_short(text)} is too large, or has too many digits")
    return value


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number in JSON")


def _check_depth(value: Any) -> None:
    """Check the depth level by level, without the recursion that later readers would need."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise RecursionError


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _plain(value: Any) -> Any:
    """Return a copy without shared values; raise for a value that is not plain."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"a value is {type(value).__name__}, expected plain ones")


def _loader_class(yaml: Any) -> Any:
    """Return PyYAML's safe loader with the core schema alone, and bounds before construction."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, Any] = {}  # none of YAML 1.1
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise RecursionError
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def compose_mapping_node(self, anchor: Any) -> Any:
            """Raise for a key that is given twice, of which the last would be used."""
            node = super().compose_mapping_node(anchor)
            seen = set()
            for key, _ in node.value:
                given = (key.tag, str(key.value))
                if given in seen and key.tag != f"{_TAG}merge":
                    told = f"the key {_short(str(key.value))} is given twice"
                    raise yaml.composer.ComposerError(None, None, told, key.start_mark)
                seen.add(given)
            return node

        def get_single_node(self) -> Any:
            node = super().get_single_node()
            if node is not None:
                _check_size(node, yaml)
            return node

    def scalar(convert: Any) -> Any:
        return lambda loader, node: convert(loader.construct_scalar(node))

    known = {name: Loader.yaml_constructors[f"{_TAG}{name}"] for name in ("str", "seq", "map")}
    known |= {
        "null": scalar(lambda text: None),
        "bool": scalar(_bool),
        "int": scalar(_integer),
        "float": scalar(_yaml_float),
    }
    Loader.yaml_constructors = {
        **{f"{_TAG}{name}": constructor for name, constructor in known.items()},
        None: yaml.SafeLoader.construct_undefined,
    }
    _add_core_schema(Loader)
    return Loader


def _add_core_schema(loader_or_dumper: Any) -> None:
    for name, pattern, first in _CORE_SCHEMA:
        loader_or_dumper.add_implicit_resolver(f"{_TAG}{name}", re.compile(pattern), first)


def _check_size(root: Any, yaml: Any) -> None:
    """Count the nodes with aliases expanded, before anything is constructed from them."""
    counts: dict[int, int] = {}
    above: set[int] = set()

    def count(node: Any) -> int:
        if id(node) in above:
            raise ValueError("an alias stands for something that it is part of itself")
        if id(node) not in counts:
            above.add(id(node))
            children = () if isinstance(node, yaml.ScalarNode) else node.value
            if isinstance(node, yaml.MappingNode):
                children = [part for pair in children for part in pair]
            counts[id(node)] = 1 + sum(count(child) for child in children)
            above.discard(id(node))
        return counts[id(node)]

    total = count(root)
    if total > MAX_YAML_VALUES:
        told = f"{total:,}" if total < 10**15 else "more than 10^15"
        raise ValueError(
            f"it stands for {told} values when aliases are written out, expected "
            f"{MAX_YAML_VALUES:,} at most"
        )


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{_short(text)} is neither true nor false")
    return text.lower() == "true"


def _yaml_float(text: str) -> float:
    name = text.lower().lstrip("+-").removeprefix(".")
    if name in ("inf", "nan"):  # refused with the name of its key
        return float(text.replace(".", ""))
    return _number(text)


_TAG = "tag:yaml.org,2002:"
# YAML 1.2.2, section 10.3.2; merge keys are of 1.1, and in use everywhere.
_CORE_SCHEMA = (
    ("null", r"^(?:null|Null|NULL|~|)$", ["n", "N", "~", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
    ("merge", r"^<<$", ["<"]),
)
