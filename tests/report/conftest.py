"""A benchmark that the tests of plots and pages share."""

from __future__ import annotations

import pytest

from dff_edge.bundle.reader import Bundle
from dff_edge.report.benchmark import benchmark_bundle
from dff_edge.report.results import Benchmark
from tests.bundle.bundles import make_bundle
from tests.report.clips import NoiseClip

INTERVALS = (1, 3)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    return make_bundle(folder, precisions=("fp32", "int8"))


@pytest.fixture(scope="session")
def clips() -> list[NoiseClip]:
    return [NoiseClip(seed) for seed in (1, 2)]


@pytest.fixture(scope="session")
def benchmark(bundle: Bundle, clips: list[NoiseClip]) -> Benchmark:
    return benchmark_bundle(
        bundle,
        clips,
        source="noise",
        intervals=INTERVALS,
        frames=7,
        repetitions=3,
        threads=1,
        consistency=True,
    )
