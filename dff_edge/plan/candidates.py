"""Ways to run a bundle: a bounded list of setups, each measured once, and the policies for each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dff_edge.names import Precision
from dff_edge.packages import is_found
from dff_edge.runtime.engines.backends import BACKENDS, DEFAULT_BACKEND, backend_of
from dff_edge.runtime.keys import BACKGROUND, IN_ORDER, KeyMode
from dff_edge.runtime.policy import FixedInterval, parse_policy

INTERVALS = (1, 2, 3, 5, 10, 20, 30)
_SLOWER = 1.1  # times as long in everything is no noise


class Setup(NamedTuple):
    """An opened pipeline: what its times depend on.

    Attributes:
        precision, engine, keys: as of ``Pipeline.open``; the depth is 1, as of every live run.
        threads: of the feature network on the CPU; None on a GPU.
    """

    precision: Precision
    engine: str
    threads: int | None
    keys: KeyMode

    def __str__(self) -> str:
        threads = "" if self.threads is None else f", {self.threads} threads"
        return f"{self.precision} in {self.engine}{threads}, keys {self.keys}"


class Candidate(NamedTuple):
    """A way to run a bundle.

    Attributes:
        setup: its pipeline.
        policy: its key-frame policy, ``fixed:l`` or ``idle``.
    """

    setup: Setup
    policy: str

    @property
    def interval(self) -> int | None:
        """The key interval l; None for ``idle``."""
        policy = parse_policy(self.policy)
        return policy.interval

    @property
    def is_per_frame(self) -> bool:
        """Whether the full network answers every frame, without feature flow."""
        return self.setup.keys.is_in_order and self.interval == 1

    def options(self) -> list[str]:
        """Return the options of ``dff-edge run`` for it, without defaults that need no word."""
        setup = self.setup
        options = ["--precision", setup.precision]
        if setup.engine != DEFAULT_BACKEND:
            options += ["--engine", setup.engine]
        if not setup.keys.is_in_order:
            options += ["--keys", str(setup.keys)]
        options += ["--policy", self.policy]
        return options if setup.threads is None else [*options, "--threads", str(setup.threads)]


class Screened(NamedTuple):
    """Median times of a precision in an engine on all threads, in order, without pauses.

    Attributes:
        key_s, other_s: of a key frame, and of another.
    """

    key_s: float
    other_s: float


Graphs = tuple[Precision, str]  # of a bundle: a precision, in an engine


def engines_here() -> tuple[str, ...]:
    """Return the engines whose packages are installed."""
    return tuple(name for name in BACKENDS if _is_here(name))


def _is_here(engine: str) -> bool:
    library, *drivers = backend_of(engine).requirements
    has_driver = not drivers or any(is_found(driver.module) for driver in drivers)
    return is_found(library.module) and has_driver


def outdone(screened: Mapping[Graphs, Screened]) -> dict[Graphs, Graphs]:
    """Return the graphs that nobody would choose, each with those that are better.

    Of two engines for one precision, one that takes longer for both kinds of frames; and a
    precision that is not faster than fp32, which the others only approximate.
    """
    found: dict[Graphs, Graphs] = {}
    for own, times in screened.items():
        for other, faster in screened.items():
            if other == own or other in found:
                continue
            is_same = other[0] == own[0]
            factor = _SLOWER if is_same else 1.0
            is_slower = all(t > factor * f for t, f in zip(times, faster, strict=True))
            if is_slower and (is_same or other[0] == "fp32"):
                found[own] = other
                break
    return found


def setups(graphs: Sequence[Graphs], cores: int) -> list[Setup]:
    """Return the setups to be measured: in order and in the background, on some numbers of threads.

    Args:
        graphs: precisions in engines.
        cores: that this process may use.
    """
    counts = sorted({1, max(1, cores // 2), cores}, reverse=True)
    return [
        Setup(precision, engine, threads, keys)
        for precision, engine in graphs
        for keys in (IN_ORDER, BACKGROUND)
        for threads in (counts if backend_of(engine).device == "cpu" else [None])
    ]


def policies(setup: Setup, feature_frames: float) -> Iterator[str]:
    """Yield the policies for a setup.

    Args:
        setup: the pipeline.
        feature_frames: median time of a feature network in the background, in frames of the
            camera: the features of a key frame are used that many frames later, rounded up, and a
            key interval that is not longer is that of ``idle``.
    """
    if not setup.keys.is_in_order:
        yield "idle"
    for interval in INTERVALS:
        if setup.keys.is_in_order or interval > math.ceil(max(feature_frames, 1)):
            yield str(FixedInterval(interval))
