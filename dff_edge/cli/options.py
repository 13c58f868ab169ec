"""Common parts of the commands: options of the same name everywhere, and errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from dff_edge.cli.console import console_of, note_failure, say
from dff_edge.errors import (
    ConfigError,
    DffEdgeError,
    SinkError,
    is_out_of_memory,
    words_of,
)
from dff_edge.files.atomic import AtomicFile, check_writable
from dff_edge.names import DRIVERS, FLOWS, PRECISIONS
from dff_edge.printable import printable
from dff_edge.runtime.engines.backends import BACKENDS, DEFAULT_BACKEND, Backend

if TYPE_CHECKING:
    from dff_edge.runtime.engines.options import CudaOptions

F = TypeVar("F", bound=Callable[..., Any])
SWITCH: dict[str, bool | None] = {"auto": None, "on": True, "off": False}
WARPS = ("plugin", "gridsample")
_CLAIMS = "dff_edge.claims"  # keys of click's Context.meta
_LOG_FILE = "dff_edge.log_file"
_INTERVAL = "dff_edge.interval"


class OutputOption(click.Option):
    """A file that is written when the work is done.

    It is checked before the work that it can be written, and it is claimed for the duration of the
    command: a second one that writes it is refused. See ``write_output``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("type", click.Path(dir_okay=False, path_type=Path))
        kwargs.setdefault("metavar", "FILE")
        super().__init__(*args, **kwargs)

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        path = super().type_cast_value(ctx, value)
        return check_output(ctx, self, path)


class Command(click.Command):
    """A command whose failures are one message on stderr and an exit code, not a traceback.

    Every command has ``--quiet``, ``--verbose`` and ``--log-file``, and holds the files of its
    ``OutputOption``s while it works.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(["-q", "--quiet"], is_flag=True, help="Print errors and results only."),
            click.Option(["-v", "--verbose"], is_flag=True, help="Print more details."),
            click.Option(
                ["--log-file"],
                type=click.Path(dir_okay=False, path_type=Path),
                metavar="FILE",
                callback=check_output,
                help="Append messages to FILE, with times.",
            ),
        ]

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _told_in_words():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        quiet, verbose = ctx.params.pop("quiet"), ctx.params.pop("verbose")
        log_file = ctx.meta[_LOG_FILE] = ctx.params.pop("log_file")
        if quiet and verbose:
            raise click.UsageError("--quiet and --verbose are opposites; choose one.", ctx)
        with console_of(quiet=quiet, verbose=verbose, log_file=log_file), _told_in_words():
            for param in self.params:
                path = ctx.params.get(param.name or "")
                if isinstance(param, OutputOption) and path is not None and str(path) != "-":
                    claims = ctx.meta.setdefault(_CLAIMS, {})
                    claims[path] = ctx.with_resource(AtomicFile(path))
            return super().invoke(ctx)


@contextmanager
def _told_in_words() -> Iterator[None]:
    """Turn errors that a user can fix into one message; note every failure in the log file."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of stdout has ended; click ends quietly
    except (click.exceptions.Exit, click.Abort):
        raise
    except click.ClickException as error:
        note_failure(error, is_expected=True)
        raise
    except DffEdgeError as error:
        note_failure(error, is_expected=True)
        raise click.ClickException(printable(error, keep="\n")) from error
    except (ImportError, OSError) as error:
        text = _told(error)
        note_failure(error, is_expected=text is not None)
        if text is None:
            raise
        raise click.ClickException(printable(text, keep="\n")) from error
    except BaseException as error:
        is_memory = is_out_of_memory(error)
        note_failure(error, is_expected=is_memory or isinstance(error, KeyboardInterrupt))
        if not is_memory:
            raise
        raise click.ClickException(
            f"{words_of(error)}. Use smaller frames, or end other programs."
        ) from error


@contextmanager
def command_line() -> Iterator[None]:
    """End the command with exit code 2 for names and options that cannot be parsed."""
    try:
        yield
    except ConfigError as error:
        raise click.UsageError(printable(error, keep="\n")) from error


def _told(error: ImportError | OSError) -> str | None:
    """Return a system error as text; None for an import that is a fault of dff-edge."""
    from dff_edge.packages import broken_package_advice

    advice = broken_package_advice(error)
    if advice is not None:
        return f"{error}. {advice}"
    return None if isinstance(error, ImportError) else str(error)


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
    """A height and a width in pixels, as ``352x480``."""

    name = "heightxwidth"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        height, _, width = str(value).partition("x")
        if not (height.isdecimal() and width.isdecimal()):
            self.fail(
                f"'{value}' is no size, expected HEIGHTxWIDTH in pixels, as in 352x480.", param, ctx
            )
        return int(height), int(width)


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


def bundle_folder(name: str) -> Path:
    """Return the folder of a ``BundleName``; export that of a model on first use, with notes."""
    from dff_edge.bundle.shipped import find_bundle

    return find_bundle(name, say)


def precision_option(command: F) -> F:
    """Add ``--precision``: the precision of the graphs."""
    return click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="fp32",
        show_default=True,
        help="Precision of the graphs to run.",
    )(command)


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


def policy_option(
    use: str = "Policy of key frames", default: str | None = None
) -> Callable[[F], F]:
    """Add ``--policy``: the key-frame policy; ``--interval N`` is short for fixed:N.

    Args:
        use: the first words of the help text.
        default: the default policy; None for the bundle's.
    """

    def decorate(command: F) -> F:
        command = click.option(
            "--interval",
            type=click.IntRange(min=1),
            metavar="FRAMES",
            is_eager=True,  # before --policy, whose value it becomes
            expose_value=False,
            callback=_note_interval,
            help="Short for --policy fixed:FRAMES.",
        )(command)
        return click.option(
            "--policy",
            type=PolicyName(),
            metavar="POLICY",
            default=default,
            callback=_policy_or_interval,
            help=f"{use}: fixed:l for one in every l captured frames.  "
            f"[default: {default or 'the interval of the bundle'}]",
        )(command)

    return decorate


def _note_interval(ctx: click.Context, param: click.Parameter, interval: int | None) -> None:
    ctx.meta[_INTERVAL] = interval


def _policy_or_interval(
    ctx: click.Context, param: click.Parameter, policy: str | None
) -> str | None:
    interval = ctx.meta.get(_INTERVAL)
    if interval is None:
        return policy
    if ctx.get_parameter_source("policy") not in (ParameterSource.DEFAULT, None):
        raise click.UsageError(
            f"--interval {interval} is short for --policy fixed:{interval}; give one of the two.",
            ctx,
        )
    return f"fixed:{interval}"


def interval_of(policy: str) -> int:
    """Return the largest number of captured frames between key frames of a policy.

    Raises:
        click.BadParameter: it has no bound.
    """
    from dff_edge.runtime.policy import parse_policy

    interval = parse_policy(policy).interval
    if interval is None:
        raise click.BadParameter(
            f"{policy} has no largest key interval, which is needed here; name one, such as "
            "fixed:10.",
            param_hint="--policy",
        )
    return interval


def threads_option(command: F) -> F:
    """Add ``--threads``: cores for the networks."""
    return click.option(
        "--threads",
        type=click.IntRange(1, 256),
        help="Threads of the feature and flow networks.  [default: all cores]",
    )(command)


def engine_option(command: F) -> F:
    """Add ``--engine``: the backend that computes the graphs."""
    return click.option(
        "--engine",
        type=click.Choice(tuple(BACKENDS)),
        default=DEFAULT_BACKEND,
        show_default=True,
        help="Backend that computes the graphs. " + summaries(BACKENDS),
    )(command)


def summaries(backends: Mapping[str, Backend]) -> str:
    """Return the help of an option that names one of some backends."""
    return "; ".join(f"{name}: {backend.summary}" for name, backend in backends.items()) + "."


def flow_option(command: F) -> F:
    """Add ``--flow``: the source of a checkpoint's flow."""
    return click.option(
        "--flow",
        type=click.Choice(FLOWS),
        default=FLOWS[0],
        show_default=True,
        help="Source of the flow: the checkpoint's flow network, or a hand-crafted function with a "
        "scale of one (shallow feature flow), which runs on the CPU.",
    )(command)


def overlap_option(command: F) -> F:
    """Add ``--overlap``: whether networks of several frames run side by side."""
    return click.option(
        "--overlap",
        type=click.Choice(tuple(SWITCH)),
        default="auto",
        show_default=True,
        help="Whether the networks of several frames run side by side. On a GPU, auto measures "
        "both before the first frame.",
    )(command)


def warp_option(command: F) -> F:
    """Add ``--warp``: the form of the warp in TensorRT."""
    return click.option(
        "--warp",
        type=click.Choice(WARPS),
        default=WARPS[0],
        show_default=True,
        help="tensorrt: the warp as the plugin, or as TensorRT's own layer.",
    )(command)


def cuda_options(command: F) -> F:
    """Add ``--driver``, ``--graphs``, ``--warp``: options of running on an NVIDIA GPU."""
    for option in (
        warp_option,
        click.option(
            "--graphs",
            type=click.Choice(tuple(SWITCH)),
            default="auto",
            show_default=True,
            help="tensorrt: whether engines are replayed as CUDA graphs; auto measures both.",
        ),
        click.option(
            "--driver",
            type=click.Choice(DRIVERS),
            help="Package for the CUDA driver.  [default: cuda-python where it is installed]",
        ),
    ):
        command = option(command)
    return command


def cuda_of(driver: str | None, graphs: str, warp: str) -> CudaOptions:
    """Return the values of ``cuda_options`` as the runtime's options."""
    from dff_edge.runtime.engines.options import CudaOptions

    return CudaOptions(driver, graphs=SWITCH[graphs], plugin=warp == "plugin")  # type: ignore[arg-type]


def check_output(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Raise for a file that cannot be written before the work begins, not when it is done."""
    if path is not None and str(path) != "-":
        try:
            check_writable(path)
        except SinkError as error:
            raise click.BadParameter(str(error), ctx=ctx, param=param) from error
    return path


def log_file_of(ctx: click.Context) -> Path | None:
    """Return the path given by ``--log-file``."""
    path: Path | None = ctx.meta[_LOG_FILE]
    return path


def json_option(command: F) -> F:
    """Add ``--json``: the numbers as a file."""
    return click.option(
        "--json",
        "json_path",
        cls=OutputOption,
        type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
        help="Write all numbers as JSON to FILE; - for stdout instead of the table.",
    )(command)


def claimed(path: Path) -> AtomicFile:
    """Return the file of an ``OutputOption`` of the command that is running, to be written."""
    file: AtomicFile = click.get_current_context().meta[_CLAIMS][path]
    return file


def write_json(path: Path | None, content: Any) -> bool:
    """Write JSON where ``--json`` requests it.

    Returns:
        Whether it was written to stdout, so that no table is printed.

    Raises:
        SinkError: the file cannot be written. The JSON is on stdout then, since the numbers may
            have taken hours to compute.
    """
    if path is None:
        return False
    text = json.dumps(content, indent=2, allow_nan=False)
    if str(path) == "-":
        click.echo(text)
        return True
    file = claimed(path)
    try:
        file.write(text + "\n")
        file.commit()
    except SinkError as error:
        click.echo(text)
        raise SinkError(f"{error} The numbers are on stdout instead.") from error
    return False


def table(headers: list[str], rows: list[list[str]], file: IO[str] | None = None) -> None:
    """Print a plain aligned table, first column to the left, the others to the right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [headers, *rows]) for i in range(len(headers))]
    for row in [headers, ["-" * width for width in widths], *rows]:
        cells = [
            row[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
        ]
        click.echo("  ".join(cells).rstrip(), file=file)
