"""The interface of a connection to a camera."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Shot(NamedTuple):
    """A picture from a camera.

    Attributes:
        image: anything that ``check_image`` accepts; never written to again.
        stamp_s: ``time.monotonic()`` of the capture as far as known: the time of arrival, before
            decoding.
        follows: whether it follows the shot before, False where the camera's own clock jumped.
        skipped: pictures between this shot and the one before that were not decoded, or not
            converted, because newer ones came.
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
        """Wait for the next picture, or return why one could not be read.

        None means that data came, but no picture yet: call again. A connection on which no picture
        ever comes ends by itself.

        Raises:
            SourceError: the connection will yield no more pictures.
        """

    def release(self) -> None:
        """Release the camera."""
