"""A small bundle, a small checkpoint, and the command in this process."""

import pytest
from click.testing import CliRunner

from dff_edge.cli import main
from tests.bundle.bundles import make_bundle


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory):
    return make_bundle(
        tmp_path_factory.mktemp("cli") / "bundle", (32, 64), precisions=("fp32", "int8")
    ).path


@pytest.fixture(scope="session")
def street_bundle_path(tmp_path_factory):
    """A bundle with as many classes as the synthetic street, so that it can be scored on it."""
    return make_bundle(
        tmp_path_factory.mktemp("cli") / "street", (32, 64), classes=8, precisions=("fp32", "int8")
    ).path


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory):
    from dff_edge.synthetic import CLASSES, COLOURS
    from dff_edge.trainer.checkpoint import save_checkpoint
    from dff_edge.trainer.models import (
        FeatureConfig,
        FlowConfig,
        ModelConfig,
        SegmentationConfig,
        build_model,
    )

    config = ModelConfig(
        feature=FeatureConfig(name="resnet18", width=0.125, channels=16),
        flow=FlowConfig(name="inception", width=0.25),
        task=SegmentationConfig(classes=CLASSES, colours=COLOURS),
        frame_size=(64, 128),
    )
    folder = tmp_path_factory.mktemp("cli") / "checkpoint"
    save_checkpoint(folder, build_model(config), config, name="tiny", training={"torch": "x"})
    return folder


@pytest.fixture
def dff_edge():
    """Run ``dff-edge`` with arguments; gives exit_code, stdout, stderr."""

    def run(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return run
