"""Pictures are judged in the order of decoding and given out in the order of presentation."""

from dff_edge.runtime.sources.decoding.decoding_order import (
    AFTER_DAMAGE,
    MAX_REORDERED,
    NOT_SHOWN,
    Coded,
    DecodingOrder,
)


def named(names, **properties):
    """Coded pictures by their names: I is a key frame, P a reference, b none."""
    return {
        name: Coded(is_key=name[0] == "I", is_reference=name[0] != "b", time=name, **properties)
        for name in names.split()
    }


def run(decoded, shown, damaged=(), failed=()):
    """Send pictures as listed; each is shown as early as its order of presentation allows."""
    order = DecodingOrder(keeps_order=True)
    pictures = named(decoded)
    waiting, given, sent = shown.split(), [], set()
    for name, coded in pictures.items():
        order.send(coded)
        sent.add(name)
        if name in damaged or name in failed:
            coded.problem = "damage"
        while waiting and waiting[0] in sent:
            order.show(pictures[waiting.pop(0)])
        given += order.take()
    given += order.take(is_over=True)
    return [coded.time for coded in given], {c.time: c.problem for c in given if c.problem}


GOP = ("I0 P3 b1 b2 P6 b4 b5 I9 b7 b8 P12 b10 b11", "I0 b1 b2 P3 b4 b5 P6 b7 b8 I9 b10 b11 P12")


def test_good_pictures_come_in_the_order_of_presentation():
    names, problems = run(*GOP)

    assert names == GOP[1].split()
    assert problems == {}


def test_damage_spreads_from_a_reference_up_to_the_next_key_frame():
    _, problems = run(*GOP, damaged=["P3"])

    # b1 and b2 are shown before P3 and predicted from it; b7 and b8 stand before I9, and are
    # predicted from P6, which is predicted from P3.
    after = dict.fromkeys("b1 b2 P6 b4 b5 b7 b8".split(), AFTER_DAMAGE)
    assert problems == {"P3": "damage", **after}


def test_damage_of_a_picture_that_nobody_refers_to_is_its_own():
    _, problems = run(*GOP, damaged=["b4"])

    assert problems == {"b4": "damage"}


def test_damaged_key_frame_spreads_to_what_is_shown_before_it_too():
    _, problems = run(*GOP, damaged=["I9"])

    assert problems == {
        "I9": "damage",
        **dict.fromkeys("b7 b8 P12 b10 b11".split(), AFTER_DAMAGE),
    }


def test_damage_behind_a_key_frame_that_is_shown_before_it_stays_there():
    decoded = "I0 P3 I9 P7 b6 P12"
    _, problems = run(decoded, "I0 P3 b6 P7 I9 P12", damaged=["P7"])

    assert problems == {"P7": "damage", "b6": AFTER_DAMAGE}


def test_gradual_refresh_counts_when_all_of_it_was_whole():
    order = DecodingOrder(keeps_order=True)
    coded = [Coded(time=i) for i in range(12)]
    coded[0].is_key = True
    coded[2].problem = "damage"
    coded[4].is_key, coded[4].refresh = True, 3  # began with 1, before the damage
    coded[8].is_key, coded[8].refresh = True, 3  # with 5
    given = []
    for picture in coded:
        order.send(picture)
        order.show(picture)
        given += order.take()

    assert [c.time for c in given if c.problem is None] == [0, 1, 8, 9, 10, 11]


def test_picture_that_is_never_shown_holds_nothing_up():
    order = DecodingOrder(keeps_order=True)
    order.send(Coded(time="hidden"))
    later = [Coded(time=i) for i in range(MAX_REORDERED + 3)]
    given = []
    for picture in later:
        order.send(picture)
        order.show(picture)
        given += order.take()

    assert [c.time for c in given] == list(range(MAX_REORDERED + 3))
    assert all(c.problem is None for c in given)


def test_picture_that_has_to_be_shown_and_is_not_fails():
    order = DecodingOrder(keeps_order=True)
    first, lost, last = Coded(is_key=True), Coded(must_show=True), Coded()
    for picture in (first, lost, last):
        order.send(picture)
    order.show(first)
    order.show(last)

    problems = [coded.problem for coded in order.take(is_over=True)]
    assert problems == [None, AFTER_DAMAGE, NOT_SHOWN]


def test_pictures_that_come_in_order_are_judged_as_they_are_shown():
    order = DecodingOrder(keeps_order=False)
    problems = []
    for is_key, problem in [(True, None), (False, "damage"), (False, None), (True, None)]:
        coded = Coded(is_key=is_key, problem=problem)
        order.send(coded)
        assert not list(order.take())
        order.show(coded)
        problems += [c.problem for c in order.take()]

    assert problems == [None, "damage", AFTER_DAMAGE, None]
