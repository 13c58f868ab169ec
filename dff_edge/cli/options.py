"""What the commands share: options of the same name everywhere, and how errors leave."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from dff_edge.runtime.errors import DffEdgeError

if TYPE_CHECKING:
    from dff_edge.runtime.open_subnets import CudaOptions

F = TypeVar("F", bound=Callable[..., Any])
# As in dff_edge.runtime, importing which costs time.
PRECISIONS = ("fp32", "fp16", "int8")
ENGINES = ("onnxruntime", "openvino", "cuda", "tensorrt")
FLOWS = (
    "network",
    "dis-ultrafast",
    "dis-fast",
    "dis-medium",
    "farneback",
    "siftflow-fast",
    "siftflow-slow",
)
SWITCH: dict[str, bool | None] = {"auto": None, "on": True, "off": False}
WARPS = ("plugin", "gridsample")


class Command(click.Command):
    """A command whose failures are one message on stderr and exit code 1, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of stdout went away; click ends quietly
        except (DffEdgeError, OSError) as error:
            raise click.ClickException(str(error)) from error


class Numbers(click.ParamType):
    """A comma-separated list of whole numbers.

    Args:
        minimum: the least that there may be.
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


class BundleName(click.ParamType):
    """A bundle's folder, or the name of a model that comes with dff-edge; see ``bundle_folder``."""

    name = "bundle"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not Path(value).is_dir():
            from dff_edge.zoo import shipped_models

            if value not in shipped_models():
                self.fail(
                    f"Directory '{value}' does not exist, and no model of that name comes with "
                    f"dff-edge ({', '.join(shipped_models())}).",
                    param,
                    ctx,
                )
        return str(value)


def bundle_folder(name: str) -> Path:
    """The folder of a ``BundleName``; the first time that of a model is exported, with a word."""
    from dff_edge.zoo import find_bundle

    return find_bundle(name, lambda line: click.echo(line, err=True))


def precision_option(command: F) -> F:
    """``--precision``: which graphs of the bundle."""
    return click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="fp32",
        show_default=True,
        help="Which graphs of the bundle to run.",
    )(command)


def interval_option(command: F) -> F:
    """``--interval``: the key interval l."""
    return click.option(
        "--interval",
        type=click.IntRange(min=1),
        metavar="FRAMES",
        help="Key interval l: a key frame in every l captured frames.  [default: the bundle's]",
    )(command)


def threads_option(command: F) -> F:
    """``--threads``: cores for the networks."""
    return click.option(
        "--threads",
        type=click.IntRange(1, 256),
        help="Threads of the feature and flow networks.  [default: all cores]",
    )(command)


def engine_option(command: F) -> F:
    """``--engine``: what computes the graphs."""
    return click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default=ENGINES[0],
        show_default=True,
        help="What computes the graphs. OpenVINO is often faster on Intel's CPUs; cuda is ONNX "
        "Runtime on an NVIDIA GPU; tensorrt takes the engines that `dff-edge deploy` made.",
    )(command)


def flow_option(command: F) -> F:
    """``--flow``: what gives the flow of a checkpoint."""
    return click.option(
        "--flow",
        type=click.Choice(FLOWS),
        default=FLOWS[0],
        show_default=True,
        help="What gives the flow: the checkpoint's flow network, or a hand-made function with a "
        "scale of one (shallow feature flow), which runs on the CPU.",
    )(command)


def overlap_option(command: F) -> F:
    """``--overlap``: whether networks of several frames run side by side."""
    return click.option(
        "--overlap",
        type=click.Choice(tuple(SWITCH)),
        default="auto",
        show_default=True,
        help="Whether the networks of several frames run side by side. On a GPU, auto measures "
        "both before the first frame.",
    )(command)


def warp_option(command: F) -> F:
    """``--warp``: which form of it TensorRT runs."""
    return click.option(
        "--warp",
        type=click.Choice(WARPS),
        default=WARPS[0],
        show_default=True,
        help="tensorrt: the warp as the plugin, or as TensorRT's own layer.",
    )(command)


def cuda_options(command: F) -> F:
    """``--driver``, ``--graphs``, ``--warp``: how an NVIDIA GPU is used."""
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
            type=click.Choice(("cuda-python", "pycuda")),
            help="What speaks to the GPU.  [default: cuda-python where it is installed]",
        ),
    ):
        command = option(command)
    return command


def cuda_of(driver: str | None, graphs: str, warp: str) -> CudaOptions:
    """What ``cuda_options`` gave, as the runtime takes it."""
    from dff_edge.runtime.open_subnets import CudaOptions

    return CudaOptions(driver, graphs=SWITCH[graphs], plugin=warp == "plugin")  # type: ignore[arg-type]


def check_folder(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file that cannot be made now, not when the work is done."""
    if path is not None and str(path) != "-":
        if not path.parent.is_dir():
            raise click.BadParameter(f"there is no folder '{path.parent}' to write '{path}' into.")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise click.BadParameter(f"'{path}' is not writable.")
    return path


def json_option(command: F) -> F:
    """``--json``: the numbers as a file."""
    return click.option(
        "--json",
        "json_path",
        type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
        metavar="FILE",
        callback=check_folder,
        help="Write all numbers as JSON to FILE; - for stdout instead of the table.",
    )(command)


def write_json(path: Path | None, content: Any) -> bool:
    """Write JSON where asked.

    Returns:
        Whether stdout was taken, so that no table is printed.
    """
    if path is None:
        return False
    text = json.dumps(content, indent=2, allow_nan=False)
    if str(path) == "-":
        click.echo(text)
        return True
    path.write_text(text + "\n", encoding="utf-8")
    return False


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on stderr; call what it gives with (done, total).

    Only a terminal gets the moving bar; a log file gets nothing of it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)

        def update(done: int, of: int | None = None) -> None:
            bar.update(task, completed=done, total=of if of is not None else total)

        yield update


def table(headers: list[str], rows: list[list[str]], file: IO[str] | None = None) -> None:
    """Print a plain aligned table, first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [headers, *rows]) for i in range(len(headers))]
    for row in [headers, ["-" * width for width in widths], *rows]:
        cells = [
            row[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
        ]
        click.echo("  ".join(cells).rstrip(), file=file)
