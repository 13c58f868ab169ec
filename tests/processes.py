"""Other processes for tests: one that holds a file, one that may write only so much."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

START_S = 60  # for what must happen; far more than it takes


@contextmanager
def process_that(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run Python code until it prints a line, and end it with the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "it ended before it was ready"
        yield process
    finally:
        process.kill()
        process.communicate()


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code to its end."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
