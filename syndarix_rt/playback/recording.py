"""Recordings: JSON Lines files that hold one event a line, exactly the bytes that were published.

A recording is written under ``<name>.partial`` and gets its name when it is complete, so a file with its proper name
is never cut. Reading checks every event and says which line is wrong.
"""

from __future__ import annotations

import gzip
import itertools
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from syndarix_rt.errors import EventError, RecordingError
from syndarix_rt.events import MAX_EVENT_BYTES, Event, encode_lines
from syndarix_rt.playback.output import PartialFile

__all__ = ["RecordingWriter", "decode_lines", "read_lines", "read_recording", "replay", "write_recording"]

_BUFFER_BYTES = 1 << 20
"""Python's buffer before the file: few system calls at 100,000 events/s."""

_BLOCK = 32
"""Events that are encoded and written at once: enough to share the calls, few enough for a processor's cache."""

_LEVEL = 6
"""Of gzip; 9 takes more than twice the time for 8 % less."""


class RecordingWriter:
    """Writes events into a recording; a context manager.

    While events come, what was written is handed to the operating system every ``flush_s``: a killed process loses
    at most the events of the last ``flush_s`` before its last write. ``close()`` (leaving the ``with`` block without
    an error does it) syncs the file to the disk and gives it its name, replacing a file that has it already. Leaving
    the block with an error keeps what there is as ``<name>.partial``, until the next recording of that name.

    A name that ends in ``.gz`` is packed. A device or pipe (``/dev/null``, ``/dev/stdout``) is written to directly.

    Attributes:
        path: the name that the finished recording gets.
        partial: the name it has until then.
        events: how many events were written.

    Raises:
        RecordingError: from the constructor and from every method, if the file cannot be written, such as when the
            disk is full; from the constructor also if somebody else is writing a recording of this name.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        flush_s: float = 1.0,  # what a person who stops a recording by force does not miss
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        self.events = 0
        self._flush_s = flush_s
        self._monotonic = monotonic
        self._flushed_at = monotonic()
        try:
            self._output = PartialFile(self.path, _BUFFER_BYTES)
        except OSError as error:
            raise self._failed(error) from error
        self.partial = self._output.partial
        self._disk = self._output.file
        self._file: IO[bytes] | gzip.GzipFile = self._disk
        if self.path.suffix == ".gz":  # without name and time: the same events give the same bytes, unless flushed
            self._file = gzip.GzipFile("", "wb", _LEVEL, self._disk, mtime=0)

    def write(self, event: Event) -> None:
        """Add one event: the bytes it came as, or its encoding if it was made here."""
        self.write_all((event,))
        now = self._monotonic()
        if now - self._flushed_at >= self._flush_s:
            self._flushed_at = now
            try:
                self._file.flush()
            except OSError as error:
                raise self._failed(error) from error

    def write_all(self, events: Iterable[Event]) -> None:
        """Add events that are there at once; they are handed on when the buffer is full."""
        events = iter(events)
        more = True
        while more:
            block: list[Event] = []
            try:
                block.extend(itertools.islice(events, _BLOCK))
            finally:  # also of events that end with an error
                self._write_block(block)
            more = len(block) == _BLOCK

    def _write_block(self, block: list[Event]) -> None:
        try:
            lines = encode_lines(block)
        except EventError:
            if len(block) == 1:
                raise
            for event in block:  # up to the one that cannot be encoded
                self._write_block([event])
            return
        try:
            self._file.write(lines)
        except OSError as error:
            raise self._failed(error) from error
        self.events += len(block)

    def close(self) -> None:
        """Complete the recording under its own name; nothing if that is done already."""
        if self._disk.closed:
            return
        try:
            with self._disk:
                if self._file is not self._disk:
                    self._file.close()
                self._disk.flush()
                if self.partial != self.path:
                    os.fsync(self._disk.fileno())
            self._output.complete()
        except OSError as error:
            self._output.release()
            raise self._failed(error) from error

    def abandon(self) -> None:
        """Leave the recording as it is, under the name that says so; without any event there is none."""
        with suppress(OSError), self._disk:  # whoever gives it up knows why
            self._file.close()
        if self.events:
            self._output.release()
        else:
            self._output.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def _failed(self, error: OSError) -> RecordingError:
        text = f"{self.path}: cannot write: {error.strerror}"
        if self.events:
            text += f"; about {self.events} events stand in {self.partial.name}, the last of them may be cut"
        return RecordingError(text)


def write_recording(path: str | os.PathLike[str], events: Iterable[Event]) -> int:
    """Write a whole recording; returns the number of events.

    Raises:
        RecordingError: if the file cannot be written.
    """
    with RecordingWriter(path) as writer:
        writer.write_all(events)
    return writer.events


def read_lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The lines of a recording with their line ends, whatever is in them; a name that ends in ``.gz`` is unpacked.

    A line is read only as far as an event may reach, so a file without line ends cannot fill the memory.

    Raises:
        RecordingError: while iterating, if the file cannot be read.
    """
    path = Path(path)
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(MAX_EVENT_BYTES + len(b"\r\n") + 1):
                number += 1
                yield line
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise RecordingError(f"{path}: no such file") from error
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        where = f" after {number} lines" if number else ""
        raise RecordingError(f"{path}: cannot read{where}: {reason}") from error


def read_recording(path: str | os.PathLike[str]) -> Iterator[Event]:
    """The events of a recording in their order, one line at a time, as `read_lines` reads them.

    Each event's ``raw`` is its line. Empty lines are passed over. A complete last line needs no line end.

    Raises:
        RecordingError: while iterating, at the first line that is no event; it names file, line and reason. All
            events before it have been given by then.
    """
    return decode_lines(read_lines(path), os.fspath(path))


def decode_lines(lines: Iterable[bytes], name: str) -> Iterator[Event]:
    """The same of lines from anywhere; ``name`` says in errors where they are from.

    Raises:
        RecordingError: as `read_recording`.
    """
    events = 0
    for number, line in enumerate(lines, start=1):
        raw = line.rstrip(b"\r\n")
        if not raw.strip():
            continue
        try:
            event = Event.decode(raw)
        except EventError as error:
            where = f"{name}, line {number}"
            if _is_cut(line):
                raise RecordingError(
                    f"{where}: the last line is cut off, {events} good events precede it; remove that line to use them"
                ) from error
            raise RecordingError(f"{where}: {error} ({events} good events precede it)") from error
        events += 1
        yield event


def replay(path: str | os.PathLike[str], project: str | None = None) -> Iterator[Event]:
    """The events of a recording as they are published again.

    ``id`` and ``time`` stay, ``recordedtime`` is dropped: the publisher sets it anew.

    Args:
        path: the recording.
        project: publish them into this project; None: each stays in its own.

    Raises:
        RecordingError: as `read_recording`.
    """
    for event in read_recording(path):
        yield msgspec.structs.replace(event, project=project or event.project, recordedtime=None)


def _is_cut(line: bytes) -> bool:
    """Whether a line that is no event is one that was not written to its end."""
    if line.endswith(b"\n") or len(line) > MAX_EVENT_BYTES:
        return False
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    return False
