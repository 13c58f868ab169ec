"""A recording on a web server: played once, every frame, like a local file."""

from __future__ import annotations

import io
import math
import threading
import time
from typing import Any

import av
import av.error

from dff_edge.errors import SourceError
from dff_edge.frames import Frame
from dff_edge.runtime.sources.decoding.pictures import in_words
from dff_edge.runtime.sources.files import FORMATS, VideoFileSource
from dff_edge.runtime.sources.network.web import WebBody, open_web
from dff_edge.uri import SourceUri

RESUME_S = 20.0  # how long a broken connection is retried, without ?retry=

_READ_ON_BYTES = 1 << 18  # a seek up to so far ahead reads on; farther, it makes a new request
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0


class WebVideoSource(VideoFileSource):
    """The video of a file on a web server.

    Args:
        uri: the address.
        body: of the response, from the file's beginning; owned by the source from now on.

    Raises:
        SourceError: it is no video.
    """

    def __init__(self, uri: SourceUri, body: WebBody) -> None:
        retry_s = uri.seconds("retry")
        self._file = WebFile(uri, body, RESUME_S if retry_s is None else retry_s)
        try:
            super().__init__(uri, _open_container(self._file, uri.text))
        except BaseException:
            self._file.close()
            if self._file.failure is not None:
                raise self._file.failure from None
            raise

    def __next__(self) -> Frame:
        try:
            return super().__next__()
        except (SourceError, StopIteration):
            if self._file.is_aborted:
                raise StopIteration from None  # closed meanwhile
            if self._file.failure is not None:
                raise self._file.failure from None
            raise

    def close(self) -> None:
        self._file.abort()  # first: a read holds the lock that closing waits for
        super().close()

    def _release(self) -> None:
        super()._release()
        self._file.close()


class WebFile:
    """The file that FFmpeg reads, with seeking.

    A broken connection is resumed where it broke. If the server cannot begin there and sends the
    file from the beginning, that part is skipped.

    Args:
        uri: the address.
        body: from the beginning of the file.
        resume_s: how long a broken connection is tried again.
    """

    def __init__(self, uri: SourceUri, body: WebBody, resume_s: float) -> None:
        self._uri = uri
        self._body: WebBody | None = body
        self._length = body.length
        self._tag = body.tag
        self._resume_s = resume_s
        self._place = 0  # of the next byte that FFmpeg reads
        self._body_place = body.start  # of the next byte of the connection
        self._is_aborted = threading.Event()
        self.failure: BaseException | None = None
        body.allow(math.inf)

    def read(self, size: int) -> bytes:
        """Read at most so many bytes; nothing at the end, and once a read has failed.

        Raises:
            SourceError: the connection broke and did not come back, or the file has changed. Raised
                once, and kept as ``failure``: FFmpeg reads on, and of a second error PyAV would
                print the traceback.
        """
        if self.failure is not None:
            return b""
        if self._length is not None:
            size = min(size, self._length - self._place)
        if size <= 0:
            return b""
        give_up_s = time.monotonic() + self._resume_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return self._read_once(size)
            except KeyboardInterrupt as error:  # kept: PyAV would print it and read on
                self.failure = error
                return b""
            except _ChangedError:
                problem, is_over = "it has changed while it was played", True
            except SourceError as error:
                problem = str(error)
                is_over = self._is_aborted.is_set() or time.monotonic() + pause_s > give_up_s
            self._drop()
            if is_over:
                of = "" if self._length is None else f" of {self._length}"
                failure = self.failure = SourceError(
                    f"'{self._uri.text}' broke off after {self._place}{of} bytes: {problem}."
                )
                raise failure
            self._is_aborted.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; the request is made by the next read.

        Raises:
            OSError: the position is before the beginning, or relative to an unknown end.
        """
        if whence == io.SEEK_CUR:
            offset += self._place
        elif whence == io.SEEK_END:
            if self._length is None:
                raise OSError("the file's length is not known")
            offset += self._length
        if offset < 0:
            raise OSError(f"there is no place {offset}")
        self._place = offset
        return offset

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._place

    def seekable(self) -> bool:
        """Return whether FFmpeg may go back in it."""
        return self._length is not None

    @property
    def is_aborted(self) -> bool:
        """Whether all further reads fail."""
        return self._is_aborted.is_set()

    def abort(self) -> None:
        """End a read in another thread; all further ones fail."""
        self._is_aborted.set()
        if (body := self._body) is not None:
            body.abort()

    def close(self) -> None:
        """End the connection."""
        self._is_aborted.set()
        self._drop()

    def _read_once(self, size: int) -> bytes:
        if self._is_aborted.is_set():
            raise SourceError("it was closed")
        if not 0 <= self._place - self._body_place <= _READ_ON_BYTES:
            self._drop()
        if self._body is None:
            self._body = self._ask()
            if self._is_aborted.is_set():  # meanwhile
                raise SourceError("it was closed")
        while self._body_place < self._place:
            self._body_place += len(self._take(min(65536, self._place - self._body_place)))
        data = self._take(size)
        self._place += len(data)
        self._body_place += len(data)
        return data

    def _take(self, size: int) -> bytes:
        assert self._body is not None
        data = self._body.read_some(size)
        if not data and self._length is not None:
            raise SourceError("the connection was cut in the middle")
        return data

    def _ask(self) -> WebBody:
        body = open_web(self._uri.target, start=self._place, same_as=self._tag)
        if body.length != self._length or body.tag != self._tag or body.start > self._place:
            body.close()
            raise _ChangedError
        body.allow(math.inf)
        self._body_place = body.start
        return body

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()


class _ChangedError(Exception):
    """The file has changed since the first request."""


def _open_container(file: WebFile, name: str) -> Any:
    try:
        return av.open(file, options={"protocol_whitelist": "none", "format_whitelist": FORMATS})
    except av.error.ArgumentError as error:  # FFmpeg's error for a format that is not listed
        raise SourceError(
            f"'{name}' is not of a video format that dff-edge reads, such as mp4, mov, mkv, avi, "
            "ts or webm; playlists and text are not read."
        ) from error
    except (av.error.FFmpegError, ValueError) as error:
        raise SourceError(
            f"'{name}' cannot be opened as a video: {in_words(error)}. It is damaged, incomplete, "
            "or not a video file."
        ) from error
