"""Places of the outputs of a run, checked before anything is opened."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from dff_edge.errors import ConfigError, SinkError
from dff_edge.files.atomic import check_folder, check_writable
from dff_edge.runtime.sinks.names import NAME, SinkUri, source_name
from dff_edge.runtime.sinks.output_file import files_of
from dff_edge.uri import parse_source


def check_outputs(
    sources: Sequence[str],
    outputs: Sequence[SinkUri],
    others: Sequence[tuple[str, Path]] = (),
    *,
    names: Sequence[str] | None = None,
) -> None:
    """Raise when an output cannot be written, or would overwrite a source or another output.

    To be called before any is opened.

    Args:
        sources: URIs.
        outputs: sinks of each.
        others: further files, by the user's names for them; ``{name}`` is that of the source.
        names: of the sources in the names of files; None for ``source_name`` of each.

    Raises:
        ConfigError: two outputs are the same place, one is a source, or the folder of one is
            missing.
    """
    made = {_place(uri.path) for uri in outputs if uri.kind == "folder" and uri.path is not None}
    read = {_place(path): path for source in sources for path in files_of(source) if path.exists()}
    seen: dict[object, str] = {}
    sinks: list[SinkUri] = []
    if names is None:
        names = [source_name(source) for source in sources]
    for source, name in zip(sources, names, strict=True):
        own = [uri.of_source(name, picture_suffix=picture_suffix(source)) for uri in outputs]
        named = [(uri.text, path) for uri in own for path in _places_of(uri)]
        named += [
            (text.replace(NAME, name), Path(str(path).replace(NAME, name)))
            for text, path in others
            if source == sources[0] or NAME in str(path)
        ]
        for text, path in named:
            place = _place(path)
            if place in read:
                raise ConfigError(
                    f"'{text}' is the source itself and would be overwritten; choose another name."
                )
            if place in seen:
                raise ConfigError(
                    f"'{seen[place]}' and '{text}' are the same place, and one would overwrite "
                    "the other; choose another name."
                )
            seen[place] = text
        sinks += own
    for uri in sinks:
        _check_folder(uri, made)


def _places_of(uri: SinkUri) -> list[Path]:
    """Return the files that a sink writes, and the folder that it needs for itself."""
    if uri.path is None:
        return []
    return [uri.path, uri.path.parent] if uri.kind == "pictures" else [uri.path]


def _check_folder(uri: SinkUri, made: Collection[object]) -> None:
    if uri.path is None:
        return
    folder = uri.path if uri.kind == "labels" else uri.path.parent
    try:
        if uri.kind in ("labels", "pictures"):
            if not folder.exists() and _place(folder.parent) not in made:
                check_folder(folder.parent, uri.text)
        elif _place(folder) not in made:
            check_writable(uri.path, uri.text)
    except SinkError as error:
        raise ConfigError(str(error)) from error


def _place(path: Path) -> object:
    """Return a value that is equal for two names of one file or folder."""
    if not path.exists():
        return path.resolve()
    about = path.stat()
    return about.st_dev, about.st_ino


def picture_suffix(source: str) -> str | None:
    """Return the suffix of a source that is one image file, else None."""
    parsed = parse_source(source)
    is_file = parsed.kind == "images" and os.path.isfile(parsed.target)
    return Path(parsed.target).suffix if is_file else None
