"""Which packet a decoded picture is of, where several streams are decoded in one process."""

from dff_edge.runtime.sources import open_source
from tests.runtime.sources.videos import shades, write_video


def test_streams_of_one_process_do_not_take_each_others_packets_for_theirs(tmp_path):
    path = write_video(tmp_path / "a.ts", shades(9), container="mpegts")
    counts = []
    for _ in range(20):
        with open_source(path) as source:  # the one before is freed meanwhile, with its packets
            counts.append((len(list(source)), source.counts.failed))

    assert counts == [(9, 0)] * 20
