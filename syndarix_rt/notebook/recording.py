"""`Recording`: what a notebook receives, in a file."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from syndarix_rt.errors import RecordingError
from syndarix_rt.events import Event
from syndarix_rt.notebook.background import Background
from syndarix_rt.notebook.feed import Feed
from syndarix_rt.notebook.words import plural
from syndarix_rt.playback import RecordingWriter

__all__ = ["Recording"]

SETTLE_S = 5.0
"""What is on its way when it is stopped gets so long to come; on one machine that is milliseconds."""


class Recording:
    """Writes what a feed receives into a file, the very bytes, until it is stopped; a context manager.

    Until then the file is called ``<name>.partial``. ``Workbench.record`` makes one.

    Args:
        feed: what is received.
        path: of the file.
        background: the thread that the feed lives on.
        since: how much of what was received is left out.

    Raises:
        RecordingError: the file cannot be written.

    Attributes:
        path: of the finished file.
    """

    def __init__(self, feed: Feed, path: str | os.PathLike[str], background: Background, since: int) -> None:
        self._writer = RecordingWriter(path)
        self.path = self._writer.path
        self._feed = feed
        self._background = background
        self._lost_before = len(feed.losses)
        self._error: RecordingError | None = None
        self._writes = True
        background.run(self._begin(since))

    @property
    def events(self) -> int:
        """How many are written."""
        return self._writer.events

    @property
    def gaps(self) -> int:
        """Declared losses since it began: what is missing in the file."""
        return len(self._feed.losses) - self._lost_before

    def stop(self) -> Path:
        """Write what is on its way, and complete the file; where it is.

        Raises:
            RecordingError: not everything could be written; the text says how much.
        """
        if self._writes:
            self._writes = False
            self._background.run(self._end())
        if self._error is not None:
            raise self._error
        return self.path

    async def _begin(self, since: int) -> None:
        self._feed.listen(self._write, since)

    async def _end(self) -> None:
        await self._feed.settle(SETTLE_S)
        self._feed.leave(self._write)
        try:
            if self._error is None:
                self._writer.close()
            else:
                self._writer.abandon()
        except RecordingError as error:
            self._error = error

    def _write(self, event: Event) -> None:
        try:
            self._writer.write(event)
        except RecordingError as error:  # told when it is stopped: the stream goes on
            self._error = error
            self._feed.leave(self._write)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"failed: {self._error}" if self._error else "writes" if self._writes else "complete"
        return f"<Recording {self.path.name!r}: {plural(self.events, 'event')}, {plural(self.gaps, 'gap')}, {state}>"
