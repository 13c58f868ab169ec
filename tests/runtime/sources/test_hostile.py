"""Cameras that send without end, too slowly, or what asks for gigabytes: a client stays bounded.

Servers and client have a process of their own each; the client's peak of memory is measured.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
SERVERS = Path(__file__).with_name("servers.py")

CLIENT = """
import json, resource, sys, threading, time
from dff_edge.errors import SourceError
from dff_edge.runtime.sources.network import limits
from dff_edge.runtime.sources import open_source

limits.OPEN_TIMEOUT_S, limits.READ_TIMEOUT_S, limits.PICTURE_S = 1.0, 1.0, 2.0
outcomes = {}

def attempt(kind, uri):
    start_s, frames, message = time.monotonic(), 0, ""
    try:
        with open_source(uri + "?retry=0") as source:
            while time.monotonic() < start_s + 10:
                frames += source.read(0.1) is not None
    except SourceError as error:
        message = str(error)
    outcomes[kind] = [frames, time.monotonic() - start_s, message]

def attempt_all(uris):
    threads = [threading.Thread(target=attempt, args=each) for each in uris.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

attempt_all({"http": "http://127.0.0.1:9/", "rtsp": "rtsp://127.0.0.1:9/"})
before_mb, outcomes = peak_mb(), {}  # what is loaded once is loaded
attempt_all(json.loads(sys.argv[1]))
print(json.dumps([peak_mb() - before_mb, outcomes]))
"""


@pytest.fixture(scope="module")
def addresses():
    with subprocess.Popen(
        [sys.executable, str(SERVERS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as server:
        yield json.loads(server.stdout.readline())
        server.kill()


def meet(addresses):
    """A client's growth in MB, and what became of it at each address: frames, seconds, message."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, json.dumps(addresses)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_web_cameras(addresses):
    growth_mb, outcomes = meet(addresses[0])

    assert growth_mb < 250  # of fifteen at once
    assert len(outcomes) == len(addresses[0])
    for kind, (frames, seconds, message) in outcomes.items():
        assert (frames, bool(message)) == (0, True), kind
        assert seconds < 10, kind


def test_rtsp_cameras(addresses):
    growth_mb, outcomes = meet(addresses[1])

    assert growth_mb < 700  # two of the largest allocations that FFmpeg may make
    assert len(outcomes) == len(addresses[1])
    for kind, (frames, seconds, message) in outcomes.items():
        assert (frames, bool(message)) == (0, True), kind
        assert seconds < 20, kind
