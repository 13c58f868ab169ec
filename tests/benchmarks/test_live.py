"""The answer that each frame of a live run is left with, by hand."""

from benchmarks._live import Answer, Played

RATE = 10.0  # frame i is captured at i / 10 s


def played(*answered):
    """Give a run of six frames; of each answered one its number, and when it was ready, in ms."""
    answers = [Answer(0, 0.0, 0.0, 0, "to 0")]
    answers += [
        Answer(index, ready_ms / 1e3, ready_ms / 1e3 - index / RATE, 0, f"to {index}")
        for index, ready_ms in answered
    ]
    return Played(frames=6, rate=RATE, answers=answers)


def contents(run, *, in_time):
    return [answer.content for answer in run.left_with(in_time=in_time)]


def test_a_frame_has_its_own_answer_where_it_is_ready_before_the_next_frame():
    run = played((1, 150), (2, 299), (3, 301), (4, 460), (5, 599))

    found = contents(run, in_time=True)
    assert found == ["to 1", "to 2", "to 3", "to 4", "to 5"]


def test_a_late_answer_counts_from_when_it_is_ready():
    # 1 is a key frame of 250 ms: ready when frame 3 is there, which is answered at 390 ms.
    run = played((1, 350), (3, 390), (4, 501), (5, 599))

    found = contents(run, in_time=True)
    assert found == ["to 0", "to 0", "to 3", "to 3", "to 5"]
    assert contents(run, in_time=False) == ["to 1", "to 1", "to 3", "to 4", "to 5"]


def test_an_answer_is_kept_until_the_next_one():
    run = played((2, 250))

    assert contents(run, in_time=True) == ["to 0", "to 2", "to 2", "to 2", "to 2"]


def test_no_frame_has_the_answer_to_a_later_one():
    run = played((1, 110), (5, 510))

    assert contents(run, in_time=False) == ["to 1"] * 4 + ["to 5"]
