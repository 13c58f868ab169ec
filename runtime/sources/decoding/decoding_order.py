"""Detection of bad pictures in a video with damage: those that refer to damaged ones.

A decoder reports that it concealed damage in a picture. Pictures predicted from it are reported
as good, though they show the same damage, carried on by motion, up to the next key frame. So a
picture is judged in the order of decoding, by the pictures decoded before it, and returned in the
order of presentation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_REORDERED = 17  # pictures decoded before one that is shown earlier: H.264 and HEVC keep 16

AFTER_DAMAGE = "it is predicted from a damaged or missing picture"
NOT_SHOWN = "the decoder outputs no picture for it"


@dataclass(slots=True, eq=False)
class Coded:
    """A coded picture on its way through the decoder.

    Attributes:
        problem: why it must not be used, None while no problem is known.
        is_reference: whether others may be predicted from it.
        is_key: whether decoding can begin with it, or with the ``refresh`` pictures before it, over
            which a camera without key frames sends the whole picture in parts.
        must_show: whether the decoder outputs a picture for it, if there is no problem.
        picture: the decoder's output for it.
        time: any value of the caller's, kept with it.
    """

    problem: str | None = None
    is_reference: bool = True
    is_key: bool = False
    refresh: int = 0
    must_show: bool = False
    picture: Any = None
    time: Any = None
    place: int = -1  # in the order of presentation; -1 until it is shown
    is_judged: bool = False


class DecodingOrder:
    """Judges coded pictures, which are passed in the order of decoding.

    Args:
        keeps_order: whether pictures are predicted from each other, and output by the decoder in
            another order than they were passed in; else each is judged as it is shown.
    """

    def __init__(self, *, keeps_order: bool) -> None:
        self._keeps_order = keeps_order
        self._decoding: deque[Coded] = deque()
        self._showing: deque[Coded] = deque()
        self._shown = 0
        self._is_broken = False  # pictures predicted from here on are damaged
        self._was_broken = False  # the same before the last key frame, for pictures shown before it
        self._key_place = -1
        self._whole = 0  # pictures in a row, in the order of decoding, without damage of their own

    def send(self, coded: Coded) -> None:
        """Register a picture that is passed to the decoder."""
        if self._keeps_order:
            self._decoding.append(coded)

    def show(self, coded: Coded) -> None:
        """Register a picture that the decoder has output, or that has failed for good."""
        if coded.place >= 0:
            return
        coded.place = self._shown
        self._shown += 1
        self._showing.append(coded)
        if not self._keeps_order:
            self._decoding.append(coded)

    def take(self, *, is_over: bool = False) -> Iterator[Coded]:
        """Yield the judged pictures, in the order of presentation.

        Args:
            is_over: whether the decoder is empty, so that missing pictures will never be shown.
        """
        while self._decoding:
            coded = self._decoding[0]
            if coded.place < 0:
                if not is_over and len(self._decoding) <= MAX_REORDERED:
                    break
                self._give_up(coded)
            else:
                self._judge(coded)
            self._decoding.popleft()
        while self._showing and self._showing[0].is_judged:
            yield self._showing.popleft()

    def _give_up(self, coded: Coded) -> None:
        """Handle a picture that the decoder does not output."""
        if coded.must_show or coded.problem is not None:
            coded.problem = coded.problem or NOT_SHOWN
            self.show(coded)
            self._judge(coded)

    def _judge(self, coded: Coded) -> None:
        coded.is_judged = True
        is_good = coded.problem is None
        self._whole = self._whole + 1 if is_good else 0
        if is_good and coded.is_key and self._whole > coded.refresh:
            self._was_broken, self._is_broken = self._is_broken, False
            self._key_place = coded.place
            return
        is_before_key = coded.place < self._key_place
        if is_good and (self._was_broken if is_before_key else self._is_broken):
            coded.problem = AFTER_DAMAGE
        if not is_good and coded.is_reference:
            if is_before_key:
                self._was_broken = True
            else:
                self._is_broken = True
