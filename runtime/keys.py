"""When the features of a new key frame are taken up: at once, when ready, or after n frames.

In order, as in Algorithm 1, a key frame waits for its own features, and every frame behind it waits
too. In the background it is answered from the older key frame, like the frames after it, until its
features are there.
"""

from __future__ import annotations

from dataclasses import dataclass

from dff_edge.errors import ConfigError

_MAX_LAG = 10_000


@dataclass(frozen=True, slots=True)
class KeyMode:
    """How frames go on while the features of a new key frame are computed.

    Attributes:
        lag: captured frames after which the features of a key frame are used, waited for if need
            be; 0 is in order. None takes them when they are ready, which depends on the machine.
    """

    lag: int | None = 0

    @property
    def is_in_order(self) -> bool:
        """Whether a key frame is answered from its own features."""
        return self.lag == 0

    def __str__(self) -> str:
        if self.lag is None:
            return "background"
        return f"lag:{self.lag}" if self.lag else "in-order"


IN_ORDER = KeyMode()
BACKGROUND = KeyMode(None)


def parse_keys(text: str) -> KeyMode:
    """A key mode by name: ``in-order``, ``background``, or ``lag:n``.

    Raises:
        ConfigError: for another name, or an n that is not a whole number from 1 to 10,000.
    """
    for mode in (IN_ORDER, BACKGROUND):
        if text == str(mode):
            return mode
    kind, _, value = text.partition(":")
    is_number = value.isascii() and value.isdecimal() and len(value) < 10
    if kind != "lag" or not is_number or not 1 <= int(value) <= _MAX_LAG:
        raise ConfigError(
            f"keys is '{text}', expected in-order, background, or lag:n with a whole number n from "
            f"1 to {_MAX_LAG}, as in lag:5."
        )
    return KeyMode(int(value))
