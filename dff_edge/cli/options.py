"""Options of the same name in several commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from dff_edge.cli.parameters import KeysName, PolicyName
from dff_edge.names import DRIVERS, FLOWS, PRECISIONS
from dff_edge.runtime.engines.backends import BACKENDS, DEFAULT_BACKEND, Backend

if TYPE_CHECKING:
    from dff_edge.runtime.engines.options import CudaOptions

F = TypeVar("F", bound=Callable[..., Any])
SWITCH: dict[str, bool | None] = {"auto": None, "on": True, "off": False}
WARPS = ("plugin", "gridsample")
_INTERVAL = "dff_edge.interval"  # a key of click's Context.meta


def precision_option(command: F) -> F:
    """Add ``--precision``: the precision of the graphs."""
    return click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="fp32",
        show_default=True,
        help="Precision of the graphs to run.",
    )(command)


def policy_option(
    use: str = "When to take a key frame",
    default: str | None = None,
    *,
    is_run: bool = False,
    usual: str | None = None,
) -> Callable[[F], F]:
    """Add ``--policy``: the key-frame policy; ``--interval N`` is short for fixed:N.

    Args:
        use: the first words of the help text.
        default: the default policy; None for the bundle's.
        is_run: whether frames are answered, with a key mode of ``--keys``.
        usual: what happens without it, in words; None for the usual policies.
    """
    forms = "fixed:l for one in every l captured frames"
    without = usual or default or "the interval of the bundle"
    if is_run:
        forms += (
            ", adaptive:0.05 for one where more than that share of an answer would be stale (2 to "
            "30 frames after the one before, or as adaptive:0.05,a..b says) and at a cut of the "
            "scene, saving:0.3 for the same where it saves so many wholly wrong answers, or idle "
            "for one as soon as the one before is done, with --keys background"
        )
        without += "; idle with --keys background" * (usual is None)

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
            help=f"{use}: {forms}.  [default: {without}]",
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


def fixed_interval_of(policy: str) -> int:
    """Return the key interval of a fixed policy.

    Raises:
        click.BadParameter: it is another one.
    """
    from dff_edge.runtime.policy import FixedInterval, parse_policy

    fixed = parse_policy(policy)
    if not isinstance(fixed, FixedInterval):
        raise click.BadParameter(
            f"{policy} is for runs; a bundle's default is a key interval, such as fixed:10.",
            param_hint="--policy",
        )
    return fixed.interval


def keys_option(command: F) -> F:
    """``--keys``: when the features of a new key frame are used."""
    return click.option(
        "--keys",
        type=KeysName(),
        default="in-order",
        show_default=True,
        metavar="MODE",
        help="When the features of a new key frame are used. in-order: its answer waits for them; "
        "background: frames are answered from the older key frame until they are ready, for live "
        "video; lag:n: exactly n frames after the key frame, the same on every machine.",
    )(command)


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
