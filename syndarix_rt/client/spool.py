"""`Spool`: events that wait to be sent, in segments: files that outlive the process, or memory where there are none.

Below a directory for the server each process has one of its own, named after its producer and locked while the
process lives. A segment is one file of NDJSON for one project. It grows until it is full or somebody begins to send it;
from then on it is what it is, and its ``Idempotency-Key`` follows from the names of directory and file. So whoever
sends it, and however often, it is stored once.

What a killed process leaves is found by the next one, which takes over the directory with the lock; a last line that
was not written to its end is left out. The kernel keeps written pages when a process dies, so nothing is synced to the
disk: a power cut may lose the last seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from syndarix_rt.client.http import UNREADABLE
from syndarix_rt.delivery import MAX_BATCH_EVENTS
from syndarix_rt.events import is_project_name
from syndarix_rt.state import FileLock, private_dir, write_private

__all__ = ["SEGMENT_BYTES", "OpenRun", "Segment", "Spool"]

SEGMENT_BYTES = 1024 * 1024
"""A quarter of a batch: a request is over soon, and what the server adds to each event has room."""

_NEW_S = 60.0
_LOCK = "lock"
_OPEN_RUNS = "open-runs.json"
_ENDS = ("agent_completed", "agent_error")

_WHO = ("agent_id", "role", "issue_id", "branch")
"""What the end of a run has in common with its beginning, beside its ``run_id``."""

_log = logging.getLogger(__name__)


class OpenRun(msgspec.Struct, frozen=True):
    """What is noted of a run that is open, so that another process can end it."""

    project: str
    source: str
    """Of its events."""
    run_id: str
    who: dict[str, Any]
    """What its last event has in common with its first."""

    @classmethod
    def begun(cls, project: str, source: str, data: dict[str, Any]) -> OpenRun:
        """Of the data of its first event."""
        return cls(project, source, data["run_id"], {key: data[key] for key in _WHO if key in data})


_open_run = msgspec.json.Decoder(OpenRun).decode


class _Told(msgspec.Struct):
    """What is read of an event that waits."""

    type: str
    data: dict[str, Any]
    source: str = ""


class Segment:
    """Events of one project that are sent together.

    Attributes:
        key: the ``Idempotency-Key``.
        project: whose they are.
        events: how many.
        bytes: how much.
        sealed: it takes no more events.
    """

    def __init__(self, key: str, project: str, path: Path | None = None) -> None:
        self.key = key
        self.project = project
        self.path = path
        self.events = self.bytes = 0
        self.sealed = False
        self._lines: list[bytes] = []

    def takes(self, lines: Sequence[bytes], size: int) -> bool:
        """Whether so many more, of so many bytes, have room."""
        return not self.sealed and self.events + len(lines) <= MAX_BATCH_EVENTS and self.bytes + size <= SEGMENT_BYTES

    def append(self, lines: Sequence[bytes], size: int) -> None:
        """Take them in, or nothing.

        Raises:
            OSError: there is no room on the disk, or no right to.
        """
        if self.path is None:
            self._lines += lines
        else:
            data = b"".join(line + b"\n" for line in lines)
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                written = os.write(fd, data)
                if written != len(data):
                    os.write(fd, data[written:])  # says why it could not
            except OSError:
                os.ftruncate(fd, self.bytes)
                raise
            finally:
                os.close(fd)
        self.events += len(lines)
        self.bytes += size

    def body(self) -> bytes:
        """What is sent; NDJSON.

        Raises:
            OSError: the file cannot be read any more.
        """
        return b"\n".join(self._lines) if self.path is None else self.path.read_bytes()[: self.bytes]

    def remove(self) -> None:
        """It is stored, or never will be."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()


class Spool:
    """The directory of one producer. `of` makes one, `left_behind` takes those of dead processes over."""

    def __init__(self, directory: Path, lock: FileLock, *, is_new: bool) -> None:
        self.directory = directory
        self._lock = lock
        self._noted: list[str] | None = [] if is_new else None  # None: by another process

    @classmethod
    def of(cls, base_url: str, producer: str) -> Spool:
        """A new one, for events to this server.

        Raises:
            SyndarixError: there is no state directory.
            OSError: it cannot be written, or has no locks.
        """
        directory = _of_server(base_url) / producer
        directory.mkdir(mode=0o700)
        return cls(directory, FileLock.acquire(directory / _LOCK), is_new=True)

    @classmethod
    def left_behind(cls, base_url: str) -> Iterator[Spool]:
        """Those of processes that are gone, the oldest first.

        Raises:
            SyndarixError: as of `of`.
            OSError: as of `of`.
        """
        found: list[tuple[float, Path]] = []
        for directory in _of_server(base_url).iterdir():
            with contextlib.suppress(OSError):  # another process has just removed it, or it is no directory
                if _is_settled(directory):
                    found.append((directory.stat().st_mtime, directory))
        for _, directory in sorted(found):
            with contextlib.suppress(OSError):  # its process lives, or another one takes it over just now
                yield cls(directory, FileLock.acquire(directory / _LOCK), is_new=False)

    def __str__(self) -> str:
        return str(self.directory)

    def path(self, number: int, project: str) -> Path:
        """Of a segment."""
        return self.directory / f"{number:012d}.{project}"

    def segments(self) -> list[Segment]:
        """What is in it, in order; all sealed."""
        found = []
        for path in sorted(self.directory.iterdir()):
            number, _, project = path.name.partition(".")
            if number.isdecimal() and is_project_name(project):
                segment = Segment(f"{self.directory.name}-{int(number)}", project, path)
                body = path.read_bytes()
                segment.sealed = True
                segment.events, segment.bytes = body.count(b"\n"), body.rfind(b"\n") + 1
                if segment.events:
                    found.append(segment)
                else:
                    segment.remove()
        return found

    def note_open_runs(self, runs: dict[str, OpenRun]) -> None:
        """Keep which runs are open, so that the next process can end them if this one is killed.

        Raises:
            OSError: it cannot be written.
        """
        if list(runs) != self._noted:
            write_private(self.directory / _OPEN_RUNS, msgspec.json.encode(runs))
            self._noted = list(runs)

    def open_runs(self, segments: Sequence[Segment]) -> list[OpenRun]:
        """The noted runs and those that begin in these segments, less those that end in them.

        What is noted is older than what waits, if the process was killed in between. A note that cannot be read is
        passed over.
        """
        path = self.directory / _OPEN_RUNS
        noted: dict[str, msgspec.Raw] = {}
        runs: dict[str, OpenRun] = {}
        try:
            noted = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
        except FileNotFoundError:  # none was open
            pass
        except (OSError, *UNREADABLE) as error:
            _log.warning("the runs that a killed process left open are not known: %s: %s", path, error)
        for run_id, note in noted.items():
            try:
                runs[run_id] = _open_run(note)
            except UNREADABLE as error:
                _log.warning("an open run of a killed process is passed over: %s: %r: %s", path, run_id, error)
        for segment in segments:
            for line in segment.body().splitlines():
                with contextlib.suppress(*UNREADABLE):  # the server will refuse it
                    event = msgspec.json.decode(line, type=_Told)
                    whose = event.data.get("run_id")
                    if not isinstance(whose, str):
                        continue
                    if event.type == "agent_started":
                        runs[whose] = OpenRun.begun(segment.project, event.source, event.data)
                    elif event.type in _ENDS:
                        runs.pop(whose, None)
        return list(runs.values())

    def forget_open_runs(self) -> None:
        """Somebody has ended them."""
        with contextlib.suppress(OSError):
            (self.directory / _OPEN_RUNS).unlink()

    def close(self) -> None:
        """Leave it: what waits in it and which runs are open stays for the next process; else it is removed."""
        if self._noted == []:
            self.forget_open_runs()
        with contextlib.suppress(OSError):
            if not any(path.name != _LOCK for path in self.directory.iterdir()):
                (self.directory / _LOCK).unlink()
                self.directory.rmdir()
        self._lock.release()


def _is_settled(directory: Path) -> bool:
    """Whether it is not one that another process is just making, and has not locked yet."""
    return any(path.name != _LOCK for path in directory.iterdir()) or time.time() - directory.stat().st_mtime > _NEW_S


def _of_server(base_url: str) -> Path:
    """What was meant for one server must not go to another."""
    server = hashlib.sha256(base_url.encode()).hexdigest()[:16]
    directory = private_dir("reporter") / server
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory
