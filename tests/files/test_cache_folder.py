"""Where the cache is, by the environment."""

from pathlib import Path

import pytest

from dff_edge.files.cache_folder import default_cache_folder


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"DFF_EDGE_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/dff-edge"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/dff-edge"),
        ({}, "/home/me/.cache/dff-edge"),
    ],
)
def test_the_folder_is_named_by_the_environment(monkeypatch, variables, expected):
    for name in ("DFF_EDGE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert default_cache_folder() == Path(expected)
