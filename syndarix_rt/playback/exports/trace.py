"""The Trace Event Format: processes, threads, slices, arrows and counters, written while they happen.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. Slices on a thread nest and never
overlap in part, as the format demands; what is written of a thread is in the order of time. Times are in microseconds.
"""

from __future__ import annotations

from itertools import count
from typing import IO, Any

import msgspec

__all__ = ["Slice", "TraceProcess", "TraceWriter"]


class TraceWriter:
    """A trace in a file, as a JSON object.

    Attributes:
        numbers: ids of processes and threads; viewers want those of threads unique in the whole trace.
        flows: ids of arrows.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._separator = b"\n"
        self.numbers = count(1)
        self.flows = count(1)
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
        end_us: when its last slice ended.
    """

    def __init__(self, pid: int, tid: int) -> None:
        self.where = {"pid": pid, "tid": tid}
        self.taken = False
        self.end_us = 0


class Slice:
    """A slice that is open, with what is inside of it.

    Attributes:
        flow: the id of the arrow that starts at it.
    """

    def __init__(self, thread: _Thread, start_us: int, flow: int | None, **head: Any) -> None:
        self._thread = thread
        self._start_us = self._inner_us = max(start_us, thread.end_us)
        self._head = {"ph": "X", **head, **thread.where, "ts": self._start_us}
        self._inside: list[dict[str, Any]] = []
        self._causes: list[int] = []
        self.flow = flow
        self.args: dict[str, Any] = {}
        thread.taken = True

    def caused_by(self, flow: int | None) -> None:
        """An arrow ends at its start."""
        if flow is not None:
            self._causes.append(flow)

    def rename(self, name: str) -> None:
        """Another name, when more is known."""
        self._head["name"] = name

    def call(self, now_us: int, duration_us: int, **head: Any) -> None:
        """A slice within it has ended now; it is drawn from where the one before it ended, if it began earlier."""
        start_us = max(now_us - duration_us, self._inner_us)
        self._inside.append(
            {"ph": "X", **head, **self._thread.where, "ts": start_us, "dur": now_us - start_us},
        )
        self._inner_us = now_us

    def instant(self, *items: dict[str, Any]) -> None:
        """Something happens within it now; an arrow may start there."""
        self._inside += [item | self._thread.where for item in items]

    def end(self, writer: TraceWriter, now_us: int) -> None:
        """Write it and what is inside, the outer one first."""
        at = {**self._thread.where, "ts": self._start_us}
        writer.write(self._head | {"dur": now_us - self._start_us, "args": self.args})
        writer.write(*(_arrow("f", flow) | at for flow in self._causes))
        if self.flow is not None:
            writer.write(_arrow("s", self.flow) | at)
        writer.write(*self._inside)
        self._thread.taken = False
        self._thread.end_us = now_us


class TraceProcess:
    """A process of the trace.

    Attributes:
        now_us: the present.
    """

    def __init__(self, writer: TraceWriter, name: str, label: str | None) -> None:
        self.now_us = 0
        self._writer = writer
        self._pid = next(writer.numbers)
        self._threads: dict[tuple[int, str], list[_Thread]] = {}
        self._slices: dict[tuple[str, str], Slice] = {}
        self._async: dict[tuple[str, str], dict[str, Any]] = {}
        self._metadata("process_name", name=name)
        if label is not None:
            self._metadata("process_labels", labels=label)

    def begin(
        self, category: str, key: str, thread: tuple[int, str], name: str, *, back_us: int = 0, arrows: bool = False
    ) -> Slice:
        """Open a slice.

        Args:
            category: what kind of thing goes on; also what ``key`` is unique for.
            key: by which `find` and `end` know it.
            thread: the rank of its thread among the others and its name. If a slice is open there, it is another
                thread beside it.
            name: what is written on it.
            back_us: how long ago it began; no earlier than what was there before it ended.
            arrows: whether arrows start at it.
        """
        flow = next(self._writer.flows) if arrows else None
        start_us = max(self.now_us - back_us, 0)
        opened = Slice(self._thread(*thread), start_us, flow, cat=category, name=name)
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
    ) -> int | None:
        """Something happens now.

        Args:
            within: the open slice in which it does; None: it concerns the whole process.
            name: what is written on it.
            category: what kind of thing happens.
            args: what else is known.
            arrow: whether an arrow starts at it; only within a slice.

        Returns:
            The arrow's id.
        """
        item = {"ph": "i", "cat": category, "name": name, "pid": self._pid, "ts": self.now_us, "args": args}
        if within is None:
            self._writer.write(item | {"tid": self._pid, "s": "p"})
            return None
        if not arrow:
            within.instant(item | {"s": "t"})
            return None
        flow = next(self._writer.flows)
        within.instant(item | {"s": "t"}, _arrow("s", flow) | {"ts": self.now_us})
        return flow

    def begin_async(self, category: str, key: str, name: str, args: dict[str, Any], *, back_us: int = 0) -> None:
        """Open a slice that may overlap others."""
        if (category, key) in self._async:
            return
        head = {"cat": category, "name": name, "id": f"{self._pid}/{key}", "pid": self._pid, "tid": self._pid}
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
        thread = _Thread(self._pid, next(self._writer.numbers))
        threads.append(thread)
        self._metadata("thread_name", thread, name=name if len(threads) == 1 else f"{name} ({len(threads)})")
        self._metadata("thread_sort_index", thread, sort_index=rank)
        return thread

    def _metadata(self, kind: str, thread: _Thread | None = None, **args: Any) -> None:
        where = {"pid": self._pid, "tid": self._pid} if thread is None else thread.where
        self._writer.write({"ph": "M", "name": kind, **where, "args": args})


def _arrow(phase: str, flow: int) -> dict[str, Any]:
    """Start (``s``) or end (``f``) of an arrow at the slice that encloses it."""
    return {"ph": phase, "cat": "cause", "name": "causes", "id": flow} | ({"bp": "e"} if phase == "f" else {})
