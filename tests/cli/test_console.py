"""Notes, log and progress bar: what is printed where, and that none is printed over another."""

import logging
import os
import pty
import re
import subprocess
import sys
import textwrap

import click
import pytest
from click.testing import CliRunner

from dff_edge.cli.command import Command, json_option, write_json
from dff_edge.cli.console import progress, say
from dff_edge.errors import SinkError

SOURCE = "synthetic://street?frames=3&height=32&width=64"


@click.command(cls=Command)
@click.option("--fails", type=click.Choice(["expected", "usage", "bug", "keyboard"]))
@json_option
def command(fails, json_path):
    """A command that says and logs something."""
    say("a note")
    log = logging.getLogger("dff_edge.runtime")
    log.info("a detail")
    log.warning("a warning")
    if fails == "expected":
        raise SinkError("it cannot be written.")
    if fails == "usage":
        raise click.UsageError("that does not fit.")
    if fails == "bug":
        raise ZeroDivisionError("a bug")
    if fails == "keyboard":
        raise KeyboardInterrupt
    if not write_json(json_path, {"answer": 42}):
        click.echo("the result")


def run(*arguments):
    return CliRunner().invoke(command, arguments)


@pytest.mark.parametrize(
    ("options", "stderr"),
    [
        ([], "a note\nWARNING: a warning\n"),
        (["--verbose"], "a note\nINFO: a detail\nWARNING: a warning\n"),
        (["-v"], "a note\nINFO: a detail\nWARNING: a warning\n"),
        (["--quiet"], ""),
        (["-q"], ""),
    ],
)
def test_options_say_how_much_is_printed(options, stderr):
    done = run(*options)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "the result\n", stderr)


def test_nothing_is_left_for_the_next_command():
    handlers = list(logging.getLogger().handlers)
    run("--verbose")
    assert logging.getLogger().handlers == handlers
    assert run().stderr == "a note\nWARNING: a warning\n"


@pytest.mark.parametrize("options", [[], ["--quiet"]])
def test_log_file_has_it_with_times_and_is_appended_to(tmp_path, options):
    path = tmp_path / "run.log"
    path.write_text("of yesterday\n")
    done = run("--log-file", str(path), *options)
    assert done.exit_code == 0
    lines = path.read_text().splitlines()
    assert lines[0] == "of yesterday"
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} "
    assert re.fullmatch(time + "INFO dff_edge.cli: a note", lines[1])
    assert re.fullmatch(time + "WARNING dff_edge.runtime: a warning", lines[2])
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("fails", "code", "text"),
    [
        ("expected", 1, "ERROR dff_edge.cli: it cannot be written."),
        ("usage", 2, "ERROR dff_edge.cli: that does not fit."),
        ("bug", 1, "ZeroDivisionError: a bug"),
        ("keyboard", 1, "ERROR dff_edge.cli: KeyboardInterrupt"),
    ],
)
def test_log_file_says_why_a_command_failed(tmp_path, fails, code, text):
    path = tmp_path / "run.log"
    done = run("--log-file", str(path), "--fails", fails)
    assert done.exit_code == code
    assert text in path.read_text()
    assert ("Traceback" in path.read_text()) == (fails == "bug")


def test_log_file_that_cannot_be_written_is_a_wrong_command_line(tmp_path):
    done = run("--log-file", str(tmp_path / "gone" / "run.log"))
    assert done.exit_code == 2
    assert "there is no folder" in done.stderr


def test_log_file_is_not_the_source_nor_an_output(dff_edge, bundle_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = dff_edge("run", bundle_path, SOURCE, "-o", "a.jsonl", "--log-file", "a.jsonl")
    assert done.exit_code == 2
    assert "are the same place" in " ".join(done.stderr.split())


def test_quiet_run_prints_its_numbers_alone(dff_edge, bundle_path, tmp_path):
    lines = tmp_path / "out.jsonl"
    done = dff_edge("run", bundle_path, SOURCE, "-o", lines, "--quiet")
    assert done.stderr == ""
    assert done.stdout.startswith("3 frames in")


def test_progress_is_for_terminals_alone(capsys):
    with progress("frames", 3) as update:
        update(1, None)
    assert capsys.readouterr() == ("", "")


TERMINAL = """
    import logging
    import click
    from dff_edge.cli.console import progress, say
    from dff_edge.cli.command import Command

    @click.command(cls=Command)
    def command():
        with progress("frames", 3) as update:
            for done in range(3):
                update(done + 1, None)
                say(f"note {done} with [bold] and \\N{WARNING SIGN} and " + "x" * 200)
                logging.getLogger("dff_edge.runtime").warning("warning %d", done)

    command()
"""


def on_a_terminal(*arguments):
    """Run the command on a terminal of 80 columns; give the lines that are left on it."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(TERMINAL), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    ):
        os.close(follower)
        written = b""
        while True:
            try:
                data = os.read(leader, 1 << 16)
            except OSError:  # it has ended
                break
            if not data:
                break
            written += data
    os.close(leader)
    return shown_by(written.decode())


def shown_by(text):
    """Return the final text on a terminal, interpreting only what a progress bar uses."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\n|[^\x1b\r\n]+", text):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.startswith("\x1b["):
            if part.endswith("A"):
                row = max(0, row - int(part[2:-1] or 1))
            elif part.endswith("K"):
                lines[row] = ""
        else:
            lines[row] += part
    return [line for line in lines if line]


def test_bar_and_log_do_not_print_over_each_other():
    long = "x" * 200
    expected = []
    for count in range(3):
        expected.append(f"note {count} with [bold] and \N{WARNING SIGN} and {long}")
        expected.append(f"WARNING: warning {count}")
    assert on_a_terminal() == expected


def test_quiet_shows_no_bar():
    assert on_a_terminal("--quiet") == []
