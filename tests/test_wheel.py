"""The models in a wheel, which is refused where their bundles are missing or stale."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pathspec
import pytest

from dff_edge import __version__
from dff_edge.bundle import shipped
from dff_edge.bundle.excerpt import write_excerpt
from dff_edge.bundle.writer import BundleWriter
from dff_edge.zoo.card import read_card
from dff_edge.zoo.ready import carried_models
from tests.bundle.bundles import calibration_fields, make_bundle, manifest_fields

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "plugins/python"


@pytest.fixture
def checkout(tmp_path):
    """A checkout of what the check looks at: street with its ready bundle, and camvid."""
    root = tmp_path / "checkout"
    shutil.copytree(SCRIPTS, root / "plugins/python")
    shutil.copy(ROOT / "pyproject.toml", root)
    for name in ("street", "camvid"):
        folder = root / "dff_edge/models" / name
        folder.mkdir(parents=True)
        for file in ("card.json", "weights.safetensors"):
            shutil.copy(shipped.MODELS / name / file, folder)
    make_ready(root / "dff_edge/models/street", tmp_path)
    return root


def make_ready(model, scratch, *, version=__version__, clips=None, precisions=("fp32", "int8")):
    card = json.loads((model / "card.json").read_text())
    fields = manifest_fields((32, 64), 8, 3)
    whole = make_bundle(scratch / f"whole-{version}-{clips}", precisions=("fp32", "int8"))
    with BundleWriter.extend(whole) as writer:
        digest = hashlib.sha256((model / "weights.safetensors").read_bytes()).hexdigest()
        versions = {**fields["provenance"]["versions"], "dff_edge": version}
        writer.update(
            provenance={
                **fields["provenance"],
                "versions": versions,
                "checkpoint_sha256": digest,
            },
            calibration={
                "ort": {
                    "int8": {
                        **calibration_fields(),
                        "source": clips or card["bundle"]["calibration"],
                    }
                }
            },
        )
        whole = writer.commit()
    write_excerpt(whole, model / "bundle", precisions)


def check(root):
    """Run the check as the build does: with the standard library alone."""
    command = [sys.executable, "-I", "-S", "-B", root / "plugins/python/check_bundles.py"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_bundles_of_the_weights_that_are_there_pass(checkout):
    done = check(checkout)
    assert (done.returncode, done.stderr) == (0, "")


def _remove(street, scratch):
    shutil.rmtree(street / "bundle")


def _train_again(street, scratch):
    with (street / "weights.safetensors").open("ab") as file:
        file.write(b"more")


def _older(street, scratch):
    make_ready(street, scratch, version="0.0.9")


def _other_clips(street, scratch):
    make_ready(street, scratch, clips="mine/")


def _too_few(street, scratch):
    make_ready(street, scratch, clips=None, version=__version__ + ".", precisions=("int8",))
    path = street / "bundle/manifest.json"
    path.write_text(path.read_text().replace(f'"{__version__}."', f'"{__version__}"'))


def _damage(street, scratch):
    with (street / "bundle/int8/flow.onnx").open("ab") as file:
        file.write(b"\0")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_remove, "that of 'street' is missing"),
        (_train_again, "that of 'street' was made from other weights than those that are there"),
        (_older, f"that of 'street' was made by dff-edge 0.0.9, not {__version__}"),
        (_other_clips, "that of 'street' was calibrated in int8 on mine/, not on the card's clips"),
        (_too_few, "that of 'street' does not hold fp32 and int8 for ONNX Runtime alone"),
        (_damage, "that of 'street' is damaged: int8/flow.onnx is not the file of its manifest"),
    ],
)
def test_missing_and_stale_bundles_are_refused_with_the_command(
    checkout, tmp_path, change, problem
):
    change(checkout / "dff_edge/models/street", tmp_path)
    done = check(checkout)
    assert done.returncode == 1
    assert f"and {problem}" in done.stderr
    assert "make install bundles" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def ask_backend(root, code):
    """Run code where the build backend of a checkout is imported as ``backend``."""
    start = f"import sys; sys.path.insert(0, {str(root / 'plugins/python')!r}); "
    return subprocess.run(
        [sys.executable, "-B", "-c", f"{start}import build_backend as backend; {code}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env=os.environ | {"CMAKE_CXX_COMPILER": "chosen"},  # the compiler is not looked for
    )


ALL = "{'bundles': 'all'}"


@pytest.mark.parametrize(
    "hook", [f"get_requires_for_build_wheel({ALL})", f"build_wheel('w', {ALL})"]
)
def test_build_that_wants_bundles_ends_without_them_before_it_begins(checkout, tmp_path, hook):
    _remove(checkout / "dff_edge/models/street", tmp_path)
    done = ask_backend(checkout, f"backend.{hook}")
    assert done.returncode == 1
    assert done.stderr.startswith("dff-edge's wheel carries models ready to run, and that of")
    without = "backend.get_requires_for_build_wheel({'bundles': 'none'})"
    assert ask_backend(checkout, without).returncode == 0
    wrong = ask_backend(checkout, without.replace("none", "some"))
    assert wrong.stderr == "-C bundles=some: expected all or none.\n"


def test_checkout_without_bundles_builds_a_wheel_without(checkout, tmp_path):
    asked = "backend.get_requires_for_build_wheel({})"
    assert ask_backend(checkout, asked).returncode == 0  # with its bundle
    _damage(checkout / "dff_edge/models/street", tmp_path)
    assert "is damaged" in ask_backend(checkout, asked).stderr
    _remove(checkout / "dff_edge/models/street", tmp_path)
    assert ask_backend(checkout, asked).returncode == 0
    assert left_out(checkout, {})("models/street/bundle/feature.onnx")


def left_out(root, settings):
    """Return the rule by which scikit-build-core leaves files out, without our own setting."""
    done = ask_backend(root, f"import json; print(json.dumps(backend._settings({settings!r})))")
    told = json.loads(done.stdout)
    assert "bundles" not in told
    return pathspec.GitIgnoreSpec.from_lines(told["wheel.exclude"].split(";")).match_file


@pytest.mark.parametrize("place", ["models", "dff_edge/models"])  # in the package, and in the wheel
def test_wheel_has_what_its_cards_allow_and_no_more(checkout, place):
    is_left_out = left_out(checkout, {"wheel.exclude": "*.cpp"})
    assert is_left_out(f"{place}/camvid/card.json")
    assert is_left_out(f"{place}/camvid/weights.safetensors")
    assert is_left_out(f"{place}/street/calibration/clip.mp4")
    assert is_left_out("plugins/warp.cpp")  # the user's own
    for file in ("card.json", "weights.safetensors", "bundle/feature.onnx", "bundle/manifest.json"):
        assert not is_left_out(f"{place}/street/{file}")
    assert not is_left_out("dff_edge/calibration/calibrate.py")
    without = left_out(checkout, {"bundles": "none"})
    assert without(f"{place}/street/bundle/feature.onnx")
    assert not without(f"{place}/street/weights.safetensors")


def test_sdist_has_what_its_cards_allow_and_no_more(checkout):
    for file in ("README.md", "LICENSE", "NOTICE"):
        (checkout / file).touch()
    stray = checkout / "dff_edge/models/camvid/bundle/flow.onnx"
    stray.parent.mkdir()
    stray.touch()

    done = ask_backend(checkout, "print(backend.build_sdist('sdist'))")

    assert done.returncode == 0, done.stderr
    with tarfile.open(checkout / "sdist" / done.stdout.split()[-1]) as archive:
        paths = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
    models = [path.relative_to("dff_edge/models") for path in paths if "models" in path.parts]
    assert {path.parts[0] for path in models} == {"street"}
    assert {Path("street/weights.safetensors"), Path("street/bundle/int8/flow.onnx")} <= {*models}


def test_sdist_leaves_out_each_model_that_a_wheel_leaves_out():
    text = (ROOT / "pyproject.toml").read_text()
    for name in {*shipped.shipped_models()} - {*carried_models()}:
        assert name.startswith("camvid"), f"{name} is to be added to sdist.include and .exclude"
    assert text.count("dff_edge/models/camvid*/") == 2


def test_carried_models_are_those_for_any_use():
    for name in shipped.shipped_models():
        card = read_card(name)
        assert (name in carried_models()) == (card.data.use == "any")
        if card.bundle is not None:
            assert "int8" in card.bundle.precisions
    assert any("fp32" in read_card(name).bundle.precisions for name in carried_models())
    assert not {"camvid", "camvid-accurate"} & set(carried_models())


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a git checkout"
)
def test_bundles_are_not_committed():
    tracked = subprocess.run(
        ["git", "ls-files", "dff_edge/models/*/bundle"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert tracked.stdout == ""
