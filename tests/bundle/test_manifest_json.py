"""The text of a manifest and its schema, before any field is looked at."""

from __future__ import annotations

import json

import pytest

from dff_edge.bundle.manifest import MAX_MANIFEST_BYTES, Manifest
from dff_edge.errors import BundleError
from tests.bundle.manifests import FP32, parse


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON in UTF-8"),
        (b"[1]", "holds a list, expected an object"),
        (b"[" * 100_000, "is not JSON in UTF-8: (it nests too deeply|.*)"),
        (b'{"schema_version": 1, "schema_version": 1}', "the key 'schema_version' twice"),
        (b'{"schema_version": 3, "files": {"a": 1, "a": 2}}', "the key 'a' twice"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "more than 1048576 bytes"),
    ],
)
def test_what_is_no_plain_json_object_is_refused(data, reason):
    with pytest.raises(BundleError, match=reason):
        Manifest.parse(data)


@pytest.mark.parametrize("version", [4, 1000])
def test_a_newer_schema_asks_for_an_upgrade(version):
    data = json.dumps({"schema_version": version, "something": "new"}).encode()

    with pytest.raises(BundleError, match=rf"schema_version {version}.*Upgrade dff-edge"):
        Manifest.parse(data)


def test_an_older_schema_is_refused_with_what_makes_it_anew():
    data = json.dumps({"schema_version": 1, "subnets": {"fp32": FP32}}).encode()

    with pytest.raises(BundleError, match=r"version 1, .* reads 3\. .*`dff-edge export CHECKP"):
        Manifest.parse(data)


@pytest.mark.parametrize("version", [0, -1, True, "3", 3.0, None])
def test_an_impossible_schema_version_is_refused(version):
    with pytest.raises(BundleError, match=r"schema_version: received .*, expected 3\. Is this"):
        parse(schema_version=version)
