"""The Trace Event Format: processes, threads, slices, arrows and counters, written while they happen.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. Slices on a thread nest and never
overlap in part, as the format demands; what is written of a thread is in the order of time. Times are in microseconds.
"""

from __future__ import annotations

from itertools import count
from typing import IO, Any, NamedTuple

import msgspec

__all__ = ["Arrow", "Slice", "TraceProcess", "TraceWriter"]

_RANKS, _THREADS = 10, 100_000
"""How many ranks there may be, and how many threads in a process."""


class Arrow(NamedTuple):
    """An arrow and the time at which it starts."""

    id: int
    start_us: int

    def event(self, phase: str) -> dict[str, Any]:
        """Its start (``s``) or end (``f``), at the slice that encloses it."""
        return {"ph": phase, "cat": "cause", "name": "causes", "id": self.id} | ({"bp": "e"} if phase == "f" else {})


class TraceWriter:
    """A trace in a file, as a JSON object.

    Attributes:
        processes: ids of processes.
        arrows: ids of arrows.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._separator = b"\n"
        self.processes = count(1)
        self.arrows = count(1)
        file.write(b'{"displayTimeUnit":"ms","traceEvents":[')

    def write(self, *items: dict[str, Any]) -> None:
        """Add trace events."""
        for item in items:
            self._file.write(self._separator + msgspec.json.encode(item))
            self._separator = b",\n"

    def close(self, **about: Any) -> None:
        """End the document; ``about`` says what the trace is of."""
        self._file.write(b'],\n"otherData":' + msgspec.json.encode(about) + b"}\n")


class _Thread:
    """Slices on it follow each other.

    Attributes:
        where: process and thread as trace events name them.
        taken: whether a slice is open on it.
        free_us: when the next slice may begin.
    """

    def __init__(self, pid: int, tid: int) -> None:
        self.where = {"pid": pid, "tid": tid}
        self.taken = False
        self.free_us = 0


class Slice:
    """A slice that is open, with what is inside of it.

    Viewers sort by time: what begins where something else stands would be taken into it, and arrows with it. So the
    first call begins a microsecond after the slice, and a call a microsecond after an instant.

    Attributes:
        arrow: the one that starts at it.
        args: what is known of it.
    """

    def __init__(self, thread: _Thread, start_us: int, cause: Arrow | None, arrow_id: int | None, **head: Any) -> None:
        self._thread = thread
        self._start_us = max(start_us, thread.free_us)
        self._latest_us = self._start_us
        self._free_us = self._start_us + 1
        self._head = {"ph": "X", **head, **thread.where, "ts": self._start_us}
        self._inside: list[dict[str, Any]] = []
        self._cause = cause
        self.arrow = None if arrow_id is None else Arrow(arrow_id, self._start_us)
        self.args: dict[str, Any] = {}
        thread.taken = True

    def rename(self, name: str) -> None:
        """Another name, when more is known."""
        self._head["name"] = name

    def call(self, now_us: int, duration_us: int, **head: Any) -> None:
        """A slice within it has ended now; it is drawn from where the one before it ended, if it began earlier."""
        start_us = max(now_us - duration_us, self._free_us)
        self._latest_us = self._free_us = max(now_us, start_us)
        duration_us = self._latest_us - start_us
        self._inside.append({"ph": "X", **head, **self._thread.where, "ts": start_us, "dur": duration_us})

    def instant(self, now_us: int, item: dict[str, Any], arrow_id: int | None) -> Arrow | None:
        """Something happens within it now; an arrow may start there."""
        self._latest_us = max(now_us, self._latest_us)
        self._free_us = self._latest_us + 1
        at = {**self._thread.where, "ts": self._latest_us}
        self._inside.append(item | at)
        if arrow_id is None:
            return None
        arrow = Arrow(arrow_id, self._latest_us)
        self._inside.append(arrow.event("s") | at)
        return arrow

    def end(self, writer: TraceWriter, now_us: int) -> None:
        """Write it and what is inside, the outer one first."""
        end_us = max(now_us, self._latest_us)
        at = {**self._thread.where, "ts": self._start_us}
        writer.write(self._head | {"dur": end_us - self._start_us, "args": self.args})
        if self._cause is not None:
            writer.write(self._cause.event("f") | at)
        if self.arrow is not None:
            writer.write(self.arrow.event("s") | at)
        writer.write(*self._inside)
        self._thread.taken = False
        self._thread.free_us = end_us + 1


class TraceProcess:
    """A process of the trace.

    Attributes:
        now_us: the present.
    """

    def __init__(self, writer: TraceWriter, name: str, label: str | None) -> None:
        self.now_us = 0
        self._writer = writer
        self._pid = next(writer.processes)
        self._threads: dict[tuple[int, str], list[_Thread]] = {}
        self._ordinals = count(1)
        self._slices: dict[tuple[str, str], Slice] = {}
        self._async: dict[tuple[str, str], dict[str, Any]] = {}
        self._metadata("process_name", name=name)
        if label is not None:
            self._metadata("process_labels", labels=label)

    def begin(
        self,
        category: str,
        key: str,
        thread: tuple[int, str],
        name: str,
        *,
        back_us: int = 0,
        cause: Arrow | None = None,
        arrows: bool = False,
    ) -> Slice:
        """Open a slice.

        Args:
            category: what kind of thing goes on; also what ``key`` is unique for.
            key: by which `find` and `end` know it.
            thread: the rank of its thread among the others and its name. If a slice is open there, it is another
                thread beside it.
            name: what is written on it.
            back_us: how long ago it began; no earlier than what was there before it ended.
            cause: an arrow that leads to it; it begins no earlier than that.
            arrows: whether an arrow starts at it.
        """
        self.end(category, key, {})  # if it begins once more, without an end in between
        arrow_id = next(self._writer.arrows) if arrows else None
        start_us = max(self.now_us - back_us, cause.start_us if cause else 0)
        opened = Slice(self._thread(*thread), start_us, cause, arrow_id, cat=category, name=name)
        self._slices[category, key] = opened
        return opened

    def find(self, category: str, key: str | None) -> Slice | None:
        """An open slice."""
        return None if key is None else self._slices.get((category, key))

    def end(self, category: str, key: str, args: dict[str, Any]) -> None:
        """End a slice, if it is open."""
        if found := self._slices.pop((category, key), None):
            found.args |= args
            found.end(self._writer, self.now_us)

    def instant(
        self, within: Slice | None, name: str, category: str, args: dict[str, Any], *, arrow: bool
    ) -> Arrow | None:
        """Something happens now.

        Args:
            within: the open slice in which it does; None: it concerns the whole process.
            name: what is written on it.
            category: what kind of thing happens.
            args: what else is known.
            arrow: whether an arrow starts at it; only within a slice.

        Returns:
            The arrow.
        """
        item = {"ph": "i", "cat": category, "name": name, "pid": self._pid, "ts": self.now_us, "args": args}
        if within is None:
            self._writer.write(item | {"tid": self._pid, "s": "p"})
            return None
        return within.instant(self.now_us, item | {"s": "t"}, next(self._writer.arrows) if arrow else None)

    def begin_async(self, category: str, key: str, name: str, args: dict[str, Any], *, back_us: int = 0) -> None:
        """Open a slice that may overlap others."""
        if (category, key) in self._async:
            return
        head = {"cat": category, "name": name, "id2": {"local": key}, "pid": self._pid, "tid": self._pid}
        self._async[category, key] = head
        self._writer.write({"ph": "b", **head, "ts": max(self.now_us - back_us, 0), "args": args})

    def end_async(self, category: str, key: str, args: dict[str, Any]) -> None:
        """End one, if it is open."""
        if head := self._async.pop((category, key), None):
            self._writer.write({"ph": "e", **head, "ts": self.now_us, "args": args})

    def counter(self, name: str, at_us: int | None = None, **values: float) -> None:
        """From now on, or from another time, a counter has these values."""
        ts = self.now_us if at_us is None else at_us
        self._writer.write({"ph": "C", "name": name, "pid": self._pid, "tid": self._pid, "ts": ts, "args": values})

    def close(self) -> None:
        """End what is open."""
        for category, key in list(self._slices):
            self.end(category, key, {"truncated": True})
        for category, key in list(self._async):
            self.end_async(category, key, {"truncated": True})

    def _thread(self, rank: int, name: str) -> _Thread:
        threads = self._threads.setdefault((rank, name), [])
        for thread in threads:
            if not thread.taken:
                return thread
        # Some viewers go by the rank, others by the number, which has to be unique in the whole trace.
        number = (self._pid * _RANKS + rank) * _THREADS + next(self._ordinals)
        thread = _Thread(self._pid, number)
        threads.append(thread)
        self._metadata("thread_name", thread, name=name if len(threads) == 1 else f"{name} ({len(threads)})")
        self._metadata("thread_sort_index", thread, sort_index=rank)
        return thread

    def _metadata(self, kind: str, thread: _Thread | None = None, **args: Any) -> None:
        where = {"pid": self._pid, "tid": self._pid} if thread is None else thread.where
        self._writer.write({"ph": "M", "name": kind, **where, "args": args})
