"""One connection to a camera, as the loop around it wants to have it."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Shot(NamedTuple):
    """What a camera gives at a time.

    Attributes:
        image: anything that ``check_image`` takes; never written to again.
        stamp_s: ``time.monotonic()`` when it was taken, as far as that is known: when it arrived,
            before it was decoded.
        follows: whether it follows the shot before, False where the camera's own clock jumped.
        skipped: pictures between it and the shot before that were not decoded, or not made an
            image, as it was newer.
    """

    image: Any
    stamp_s: float
    follows: bool = True
    skipped: int = 0


class Capture(Protocol):
    """An open connection. Read and released by one thread.

    Attributes:
        fps: nominal frames per second, None where it is not known.
        size: ``(H, W)``, None where it is not known.
    """

    fps: float | None
    size: tuple[int, int] | None

    def read(self) -> Shot | str | None:
        """Wait for the next picture, or say why one could not be read.

        None says that something came, but no picture yet: ask again. Whoever gives it ends by
        itself when no picture ever comes.

        Raises:
            SourceError: nothing will come over this connection any more.
        """

    def release(self) -> None:
        """Let go of the camera."""
