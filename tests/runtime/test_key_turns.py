"""Turns at a feature network, against a simulation of cameras whose key frames take a while."""

import gc

import pytest

from dff_edge.runtime.key_turns import KEPT_S, KeyTurns


class World:
    """A clock, and cameras that want a key frame at every frame unless their own is computed."""

    def __init__(self, takes_s):
        self.now_s = 0.0
        self.takes_s = takes_s
        self.free_at_s = 0.0  # the network computes one after another
        self.turns = KeyTurns(lambda: self.now_s)
        self.keys = []  # name, begin of the wish that was granted, end

    def run(self, seconds, *cameras):
        events = sorted(
            (camera.phase_s + number / camera.rate, order, camera)
            for order, camera in enumerate(cameras)
            for number in range(int((seconds - camera.phase_s) * camera.rate))
        )
        for self.now_s, _, camera in events:
            camera.frame()
        return {camera.name: sum(key[0] == camera.name for key in self.keys) for camera in cameras}

    def waits(self):
        """How long granted key frames stood in line at the network."""
        return [end - self.takes_s - begin for _, begin, end in self.keys]


class Camera:
    def __init__(self, world, name, rate, phase_s=0.0, wants=lambda now_s: True):
        self.world, self.name, self.rate, self.phase_s = world, name, rate, phase_s
        self.wants = wants
        self.done_at_s = 0.0
        self.turn = world.turns.join(lambda: world.now_s < self.done_at_s)

    def frame(self):
        world = self.world
        if world.now_s < self.done_at_s or not self.wants(world.now_s):
            return
        if self.turn.ask():
            self.done_at_s = max(world.now_s, world.free_at_s) + world.takes_s
            world.free_at_s = self.done_at_s
            world.keys.append((self.name, world.now_s, self.done_at_s))
            self.turn.enqueued()


def test_two_cameras_get_equally_many_key_frames_and_none_waits_in_line():
    world = World(0.35)
    counts = world.run(60, Camera(world, "a", 30), Camera(world, "b", 30, 0.002))
    assert abs(counts["a"] - counts["b"]) <= 1
    assert sum(counts.values()) >= 0.9 * 60 / 0.35  # the network hardly rests
    assert max(world.waits()) < 1e-9


def test_of_three_the_one_that_waited_longest_goes_first():
    world = World(0.2)
    counts = world.run(30, *(Camera(world, name, 25, 0.01 * n) for n, name in enumerate("abc")))
    assert max(counts.values()) - min(counts.values()) <= 1
    order = [name for name, _, _ in world.keys]
    assert all({*order[n : n + 3]} == {*"abc"} for n in range(len(order) - 3))


@pytest.mark.parametrize("slow_hz", [1, 3, 5, 10])
def test_a_slow_camera_gets_its_key_frames_beside_a_fast_one(slow_hz):
    """At every third of its frames at least, or as many as the fast one has."""
    world = World(0.35)
    counts = world.run(60, Camera(world, "fast", 30), Camera(world, "slow", slow_hz, 0.1))
    assert counts["slow"] >= 0.9 * min(60 * slow_hz / 3, counts["fast"])
    assert counts["fast"] >= 0.85 * (60 / 0.35) / 2  # the network rests while a turn is kept


def test_a_camera_that_was_lost_holds_the_others_up_once():
    world = World(0.1)
    lost = Camera(world, "lost", 30, 0.002, wants=lambda now_s: now_s < 1)
    counts = world.run(20, Camera(world, "other", 30), lost)
    alone = World(0.1)
    alone_counts = alone.run(20, Camera(alone, "other", 30))
    assert counts["lost"] >= 4
    late = sum(name == "other" and begin > 1 + KEPT_S for name, begin, _ in world.keys)
    assert late >= (alone_counts["other"] * (19 - 2 * KEPT_S) / 20) - 1


def test_a_stream_that_left_or_was_dropped_is_not_waited_for():
    world = World(1.0)
    one, two, three = (Camera(world, name, 30) for name in "abc")
    one.frame()
    two.frame()
    three.frame()
    assert [name for name, _, _ in world.keys] == ["a"]
    one.turn.leave()  # in the middle of its key frame
    two.frame()
    assert [name for name, _, _ in world.keys] == ["a", "b"]
    del two
    gc.collect()
    three.frame()
    assert [name for name, _, _ in world.keys] == ["a", "b", "c"]


def test_work_that_is_about_to_be_enqueued_counts():
    world = World(1.0)
    one, two = Camera(world, "a", 30), Camera(world, "b", 30)
    assert one.turn.ask()
    assert not two.turn.ask()
    one.turn.enqueued()  # given up: it is not busy
    assert two.turn.ask()


def test_a_key_frame_that_cannot_wait_counts_as_a_turn():
    world = World(0.1)
    one, two = Camera(world, "a", 30), Camera(world, "b", 30)
    two.turn.insist()
    assert not one.turn.ask()
    two.turn.enqueued()
    assert not two.turn.ask()  # it had one, and the other waits
    assert one.turn.ask()
