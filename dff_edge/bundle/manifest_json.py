"""Parsing of manifest.json to plain values: checks before any field is looked at."""

from __future__ import annotations

import json
from typing import Any

from dff_edge.bundle.paths import MANIFEST_NAME
from dff_edge.bundle.problems import short
from dff_edge.errors import BundleError

MAX_ITEMS = 1000
MAX_VALUES = 30_000


def parse_object(data: bytes) -> Any:
    """Read JSON whose objects have no key twice.

    Raises:
        BundleError: not UTF-8, not JSON, nested too deeply, a key twice, or far more values than a
            manifest has.
    """

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, value in pairs:
            if name in fields:
                raise BundleError(f"{MANIFEST_NAME} has the key {short(name)} twice in one object.")
            fields[name] = value
        return fields

    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        if isinstance(error, BundleError):
            raise
        reason = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise BundleError(f"{MANIFEST_NAME} is not JSON in UTF-8: {reason}.") from error
    _check_amount(found)
    return found


def _check_amount(found: Any) -> None:
    """Raise for too many values: pydantic keeps an error for each wrong one."""
    pending, total = [found], 0
    while pending:
        value = pending.pop()
        if not isinstance(value, (dict, list)):
            continue
        total += len(value)
        if len(value) > MAX_ITEMS or total > MAX_VALUES:
            raise BundleError(
                f"{MANIFEST_NAME} holds more than {MAX_ITEMS} values in one list or object, or "
                f"more than {MAX_VALUES} in all."
            )
        pending += value.values() if isinstance(value, dict) else value


def check_version(fields: Any, newest: int) -> None:
    """Raise for another schema before anything else is checked.

    Raises:
        BundleError: any but the newest schema; the message includes what to do.
    """
    check_not_newer(fields, newest)
    version = fields["schema_version"]
    if version < newest:
        raise BundleError(
            f"{MANIFEST_NAME} has schema_version {short(version)}, this dff-edge reads {newest}. "
            "Make the bundle again from its checkpoint, `dff-edge export CHECKPOINT -o FOLDER`, "
            "which may replace the old one, and add INT8 and FP16 with `dff-edge calibrate FOLDER "
            "--source CLIPS`."
        )


def check_not_newer(fields: Any, newest: int) -> None:
    """Raise for a newer schema.

    Raises:
        BundleError: not an object, no number of a schema, or a newer one.
    """
    if not isinstance(fields, dict):
        raise BundleError(f"{MANIFEST_NAME} holds a {type(fields).__name__}, expected an object.")
    version = fields.get("schema_version")
    if type(version) is not int or version < 1:
        raise BundleError(
            f"{MANIFEST_NAME}: schema_version: received {short(version)}, "
            f"expected {newest}. Is this a bundle of dff-edge?"
        )
    if version > newest:
        raise BundleError(
            f"{MANIFEST_NAME} has schema_version {short(version)}, this dff-edge reads up to "
            f"{newest}. Upgrade dff-edge to open this bundle."
        )
