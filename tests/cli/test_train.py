"""dff-edge train: what it prints, and what it refuses."""

import os
import subprocess
import sys

import pytest

from dff_edge.files.locks import FolderLock
from dff_edge.trainer.checkpoint import load_checkpoint
from tests.trainer.tiny import STAGE, write_config


@pytest.fixture
def config(tmp_path):
    return write_config(
        tmp_path / "tiny.yaml", stages=[{"kind": "recognition", **STAGE, "steps": 2}]
    )


def test_prints_the_checkpoint_and_nothing_else(dff_edge, config, tmp_path):
    done = dff_edge(
        "train", config, "-o", tmp_path / "run", "--set", "name=other", "--set", "seed=5"
    )

    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'run' / 'checkpoint'}\n"
    loaded = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert (loaded.name, loaded.training["config"]["seed"]) == ("other", 5)


def test_resume_goes_on_with_a_run(dff_edge, config, tmp_path):
    first = dff_edge("train", config, "-o", tmp_path / "run")
    again = dff_edge("train", config, "-o", tmp_path / "run")
    resumed = dff_edge("train", config, "-o", tmp_path / "run", "--resume")

    assert (first.exit_code, again.exit_code, resumed.exit_code) == (0, 1, 0)
    assert again.stderr.startswith("Error: ")
    assert "holds a run already. Give --resume, or a new folder." in again.stderr
    assert resumed.stdout == first.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sead=1", "'sead' is not a known key"),
        ("stages.0.lr=-1", "stages.0.lr is -1, expected: greater than 0."),
        ("data.train=[", "not readable as YAML"),
        ("stages.7.lr=1", "'7' is no item of a list of 1"),
    ],
)
def test_wrong_change_is_a_wrong_command_line(dff_edge, config, tmp_path, change, message):
    done = dff_edge("train", config, "-o", tmp_path / "run", "--set", "seed=5", "--set", change)

    assert done.exit_code == 2
    assert "Usage: " in done.stderr
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "run").exists()


def test_wrong_file_is_no_wrong_command_line(dff_edge, config, tmp_path):
    config.write_text(config.read_text().replace("seed:", "sead:"))

    done = dff_edge("train", config, "-o", tmp_path / "run", "--set", "name=other")

    assert done.exit_code == 1
    assert "'sead' is not a known key" in done.stderr


def test_data_may_have_a_name_that_is_no_utf8(dff_edge, config, tmp_path):
    name = os.fsdecode(b"data.train=/tmp/not-there-d\xe4ta")

    done = dff_edge("train", config, "-o", tmp_path / "run", "--set", name)

    assert done.exit_code == 1
    assert "not-there-d\\udce4ta" in done.stderr
    assert "YAML" not in done.stderr


def test_progress_goes_to_stderr_without_adverts(config, tmp_path):
    """In a process of its own, where logging is set up as users have it."""
    script = "import sys; from dff_edge.cli import main; sys.argv[0] = 'dff-edge'; main()"

    done = subprocess.run(
        [sys.executable, "-c", script, "train", config, "-o", tmp_path / "run"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'run' / 'checkpoint'}\n"
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("INFO: recognition: step 2/2, loss ")


@pytest.mark.parametrize("is_begun", [True, False])
def test_ctrl_c_says_how_to_go_on(dff_edge, config, tmp_path, monkeypatch, is_begun):
    def stopped(_config, folder, **_options):
        if is_begun:
            folder.mkdir(exist_ok=True)
            (folder / "config.yaml").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("dff_edge.trainer.train.train", stopped)

    done = dff_edge("train", config, "-o", tmp_path / "run")

    hint = " The same command with --resume resumes it in "
    assert done.exit_code == 1
    assert "Stopped by the keyboard." in done.stderr
    assert (hint in done.stderr) == is_begun


TERMINATED = """
import os, signal, sys
from dff_edge.cli import main
from dff_edge.trainer.learner import Learner

step = Learner.training_step
def last_step(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    return step(*arguments)
Learner.training_step = last_step
main()
"""


def test_sigterm_is_no_success_and_says_how_to_go_on(config, tmp_path):
    command = [sys.executable, "-c", TERMINATED, "train", config, "-o", tmp_path / "run"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 1
    assert "Stopped by SIGTERM. The same command with --resume resumes it in" in done.stderr
    assert done.stdout == ""


def test_mistakes_are_one_line_without_traceback(dff_edge, config, tmp_path):
    done = dff_edge("train", config, "-o", tmp_path / "run", "--resume")

    assert done.exit_code == 1
    assert done.stdout == ""
    assert "holds no run to resume" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_folder_is_for_one_at_a_time(dff_edge, config, tmp_path, monkeypatch):
    monkeypatch.setattr("dff_edge.trainer.train.train", lambda *_, **__: pytest.fail("it began"))
    (tmp_path / "run").mkdir()
    with FolderLock(tmp_path / "run", "run"):
        done = dff_edge("train", config, "-o", tmp_path / "run")
    assert done.exit_code == 1
    assert f"'{tmp_path / 'run'}' is being written by this process already" in done.stderr
    assert list((tmp_path / "run").iterdir()) == []


def test_command_line_mistakes_exit_2(dff_edge, config, tmp_path):
    assert dff_edge("train", config).exit_code == 2
    assert dff_edge("train", tmp_path / "none.yaml", "-o", tmp_path / "run").exit_code == 2
    assert dff_edge("train", config, "-o", config).exit_code == 2
    for change in ("seed", "=3"):
        done = dff_edge("train", config, "-o", tmp_path / "run", "--set", change)
        assert done.exit_code == 2
        assert f"'{change}' is no change of a setting, expected KEY=VALUE" in done.stderr


def test_help_names_the_options(dff_edge):
    done = dff_edge("train", "--help")

    assert done.exit_code == 0
    for option in ("--output", "--set", "--resume", "KEY=VALUE"):
        assert option in done.stdout


def test_missing_training_packages_name_the_extra(dff_edge, config, tmp_path, without):
    without("lightning", "cv2")

    done = dff_edge("train", config, "-o", tmp_path / "run")

    assert done.exit_code == 1
    assert "pip install 'dff-edge[train]'" in done.stderr
