"""Commands: their outputs, claimed before the work, their errors as one message, their numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from dff_edge.cli.console import console_of, note_failure
from dff_edge.errors import ConfigError, DffEdgeError, SinkError, is_out_of_memory, words_of
from dff_edge.files.atomic import AtomicFile, check_writable
from dff_edge.printable import printable

if TYPE_CHECKING:
    pass

F = TypeVar("F", bound=Callable[..., Any])
_CLAIMS = "dff_edge.claims"  # keys of click's Context.meta
_LOG_FILE = "dff_edge.log_file"


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
