"""Types of the parameters of commands: names, lists and sizes, checked as they are parsed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dff_edge.cli.console import say
from dff_edge.errors import ConfigError
from dff_edge.names import PRECISIONS
from dff_edge.printable import printable

if TYPE_CHECKING:
    from dff_edge.names import Flavour

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s)", re.ASCII)
_MAX_SECONDS = 3600
_MAX_SIDE_PX = 8192


class Numbers(click.ParamType):
    """A comma-separated list of whole numbers.

    Args:
        minimum: the smallest number allowed.
    """

    name = "n,n,..."

    def __init__(self, minimum: int = 1) -> None:
        self.minimum = minimum

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(
            part.isdecimal() and len(part) < 10 and int(part) >= self.minimum for part in parts
        ):
            self.fail(
                f"'{value}' is not a list of numbers of at least {self.minimum}, as in 1,5,10.",
                param,
                ctx,
            )
        return tuple(int(part) for part in parts)


class FrameSize(click.ParamType):
    """A height and a width in pixels, in this order wherever frames have a size: ``720x1280``."""

    name = "heightxwidth"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        height, _, width = str(value).partition("x")
        sides = [int(side) if side.isdecimal() and len(side) < 6 else 0 for side in (height, width)]
        if not all(1 <= side <= _MAX_SIDE_PX for side in sides):
            self.fail(
                f"'{value}' is no size of frames, expected HEIGHTxWIDTH in pixels, the height "
                f"first, as in 720x1280, at most {_MAX_SIDE_PX} each.",
                param,
                ctx,
            )
        return sides[0], sides[1]


class Seconds(click.ParamType):
    """A duration with its unit, ``50ms`` or ``0.05s``. Its value is in seconds."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        found = _DURATION.fullmatch(str(value))
        seconds = float(found[1]) / (1e3 if found[2] == "ms" else 1) if found else 0.0
        if not 0 < seconds <= _MAX_SECONDS:
            self.fail(
                f"'{value}' is no duration, expected a number with its unit, as in 50ms or 0.05s, "
                f"up to {_MAX_SECONDS}s.",
                param,
                ctx,
            )
        return seconds


class Precisions(click.ParamType):
    """A comma-separated list of precisions."""

    name = "name,name,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        unknown = [name for name in names if name not in PRECISIONS]
        if unknown:
            known = ", ".join(PRECISIONS)
            self.fail(f"'{unknown[0]}' is not a precision, expected some of {known}.", param, ctx)
        return names


class SourceName(click.ParamType):
    """A source; see `dff_edge.uri`."""

    name = "source"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from dff_edge.errors import ConfigError
        from dff_edge.uri import parse_source

        try:
            parse_source(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class KeysName(click.ParamType):
    """When the features of a new key frame are used; see `dff_edge.runtime.keys`."""

    name = "keys"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from dff_edge.errors import ConfigError
        from dff_edge.runtime.keys import parse_keys

        try:
            return str(parse_keys(str(value)))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class BundleName(click.ParamType):
    """A bundle's folder, or the name of a model that comes with dff-edge; see ``bundle_folder``."""

    name = "bundle"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not Path(value).is_dir():
            from dff_edge.bundle.shipped import shipped_models

            if value not in shipped_models():
                self.fail(
                    f"Directory '{value}' does not exist, and no model of that name comes with "
                    f"dff-edge ({', '.join(shipped_models())}).",
                    param,
                    ctx,
                )
        return str(value)


class ModelName(click.ParamType):
    """A checkpoint's or a bundle's path, or the name of a model that comes with dff-edge."""

    name = "model"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not Path(value).exists():
            from dff_edge.bundle.shipped import shipped_models

            if value not in shipped_models():
                self.fail(
                    f"'{value}' does not exist, and no model of that name comes with dff-edge "
                    f"({', '.join(shipped_models())}).",
                    param,
                    ctx,
                )
        return str(value)


class Change(click.ParamType):
    """A change of a setting, ``KEY=VALUE``; the key is checked by the reader of the file."""

    name = "change"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        key, separator, _ = str(value).partition("=")
        if not separator or not key:
            self.fail(f"'{value}' is no change of a setting, expected KEY=VALUE.", param, ctx)
        return str(value)


@contextmanager
def changed_settings() -> Iterator[None]:
    """End the command with exit code 2 for a wrong ``Change`` of a valid file."""
    from dff_edge.trainer.settings import ChangeError

    try:
        yield
    except ChangeError as error:
        raise click.UsageError(printable(error, keep="\n")) from error


def bundle_folder(
    name: str,
    holding: Collection[str] = (),
    *,
    flavour: Flavour = "ort",
    to_change: bool = False,
) -> Path:
    """Return the folder of a ``BundleName``, as ``find_bundle``; an export is told in notes."""
    from dff_edge.bundle.shipped import find_bundle

    return find_bundle(
        name,
        say,
        holding=holding,  # type: ignore[arg-type]
        flavour=flavour,
        to_change=to_change,
    )


class PolicyName(click.ParamType):
    """A key-frame policy by its name, such as fixed:10."""

    name = "policy"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from dff_edge.runtime.policy import parse_policy

        try:
            parse_policy(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)
        return value
