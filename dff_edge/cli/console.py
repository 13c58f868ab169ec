"""Output of a command while it works: notes, the log and the progress bar, on one console.

All of it goes to stderr, and to ``--log-file`` with times. The bar moves below the lines that are
printed meanwhile.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dff_edge.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

_NOTES = logging.getLogger("dff_edge.cli")
_FILE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def say(text: str) -> None:
    """Print a note on stderr; with ``--quiet`` only ``--log-file`` gets it."""
    _NOTES.info("%s", text)


@contextmanager
def console_of(*, quiet: bool, verbose: bool, log_file: Path | None) -> Iterator[None]:
    """Print notes and the log, and write them to a file if wanted, within the block.

    Args:
        quiet: print errors only.
        verbose: log messages of dff-edge's parts at level INFO too.
        log_file: the file to append to, in any case.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may not be text: write their bytes
        sys.stdout.reconfigure(errors="surrogateescape")
    handlers: list[logging.Handler] = [_Printer(logging.ERROR if quiet else logging.NOTSET)]
    if log_file is not None:
        file = logging.FileHandler(
            log_file, encoding="utf-8", errors="backslashreplace", delay=True
        )
        file.setFormatter(_FileFormatter(_FILE_FORMAT))
        handlers.append(file)
    with ExitStack() as stack:
        stack.enter_context(_level(logging.getLogger(), logging.WARNING))
        stack.enter_context(_level(_NOTES, logging.INFO))
        if verbose:
            stack.enter_context(_level(logging.getLogger("dff_edge"), logging.INFO))
        for handler in handlers:
            logging.getLogger().addHandler(handler)
            stack.callback(handler.close)
            stack.callback(logging.getLogger().removeHandler, handler)
        yield


def note_failure(error: BaseException, *, is_expected: bool) -> None:
    """Write to ``--log-file`` why a command ends; it is printed elsewhere.

    Args:
        error: the reason.
        is_expected: whether the message is enough; otherwise it is written with its traceback.
    """
    text = error.format_message() if isinstance(error, click.ClickException) else str(error)
    record = _NOTES.makeRecord(
        _NOTES.name,
        logging.ERROR,
        __file__,
        0,
        "%s",
        (text or type(error).__name__,),
        None if is_expected else (type(error), error, error.__traceback__),
    )
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar on stderr; yield a function to call with (done, total).

    Only a terminal gets the moving bar; a log file gets nothing of it.
    """
    printer = next((h for h in logging.getLogger().handlers if isinstance(h, _Printer)), None)
    if printer is None or printer.level >= logging.ERROR or not sys.stderr.isatty():
        yield _show_nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=total)

        def update(done: int, of: int | None = None) -> None:
            bar.update(task, completed=done, total=of if of is not None else total)

        printer.console = console
        try:
            yield update
        finally:
            printer.console = None


def _show_nothing(done: int, of: int | None = None) -> None:
    pass


class _FileFormatter(logging.Formatter):
    """Writes lines that may be shown on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n")


class _Printer(logging.Handler):
    """Prints a line on stderr, above the progress bar while there is one."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.console: Console | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = printable(self.format(record), keep="\n")
            if record.name != _NOTES.name or record.levelno != logging.INFO:
                text = f"{record.levelname}: {text}"
            if self.console is None:
                click.echo(text, err=True)
            else:
                from rich.text import Text

                self.console.print(Text(text), soft_wrap=True)
        except Exception:
            self.handleError(record)


@contextmanager
def _level(logger: logging.Logger, level: int) -> Iterator[None]:
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
