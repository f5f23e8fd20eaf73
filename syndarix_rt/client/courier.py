"""`Courier`: two threads that take events to a server, through a spool on the disk.

Whoever reports puts an event into a list and goes on. Every tenth of a second one thread takes the list and appends it
to segments (see `spool`); the other sends these in order, each under its own ``Idempotency-Key`` until there is an
answer. It does so with plain blocking sockets: an event loop could not do its last work while an interpreter ends.

Nothing here raises into the agent. What cannot be kept is counted, and told in the stream (``events_lost``).
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from syndarix_rt.client.post import ANSWER_S, Answer, Post
from syndarix_rt.client.spool import SEGMENT_BYTES, OpenRun, Segment, Spool
from syndarix_rt.delivery import MAX_BATCH_EVENTS, backoff
from syndarix_rt.errors import EventError, SyndarixError

__all__ = ["Courier", "Delivery"]

LINGER_S = 0.1
"""Events of so long go together: a person sees them at once, and a busy agent's do not cost a request each."""

END_S = 0.5
"""What the threads get to end while the server is away: to write the last events, and to give up a connection."""

DISK_AGAIN_S = 5.0
"""After a write that failed; until then there is memory."""

FIRST_DELAY_S = 0.5
CAP_S = 5.0
"""The longest delay between two tries: when the server is back, a person who watches should not wait long."""

_log = logging.getLogger(__name__)


class Delivery(NamedTuple):
    """How the reporting goes."""

    sent: int
    """Events that the server has stored."""
    waiting: int
    """Events in memory or on the disk."""
    lost: int
    """Events that had no room, or that the server refused."""
    trouble: str
    """Why the last try failed; empty after a success."""


class Courier:
    """Takes events to one server.

    Args:
        base_url: scheme, host, port and a proxy's prefix.
        token: the secret, if the server wants one.
        producer: a name of this process that no other has.
        memory_bytes: what may wait in memory.
        disk_bytes: what may wait on the disk; 0: nothing is ever written.
        ended: makes the last event of a run whose process was killed, from its note; project and encoding. It raises
            `EventError` if that cannot be.
        lost: makes the event that tells of a loss, from the project and the number; its encoding.

    Attributes:
        open_runs: what is noted of the runs that are open, by their id; the reporter keeps it.
        lock: held while it is changed, and by `put`.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None,
        producer: str,
        *,
        memory_bytes: int,
        disk_bytes: int,
        ended: Callable[[OpenRun], tuple[str, bytes]],
        lost: Callable[[str, int], bytes],
    ) -> None:
        self.open_runs: dict[str, OpenRun] = {}
        self.lock = threading.Lock()
        self._keeping = threading.Lock()
        self._post = Post(base_url, token)
        self._base_url = base_url
        self._producer = producer
        self._memory_bytes = memory_bytes
        self._disk_bytes = disk_bytes
        self._make_end = ended
        self._make_loss = lost
        self._buffer: list[tuple[str, bytes]] = []
        self._taken: list[tuple[str, bytes]] = []
        """On their way from the list to segments."""
        self._held_bytes = 0
        self._spooled_bytes = 0
        self._untold: Counter[str] = Counter()
        self._sent = self._lost = 0
        self._trouble = ""
        self._segments: deque[Segment] = deque()
        self._tails: dict[str, Segment] = {}
        self._number = 0
        self._spool: Spool | None = None
        self._left: list[Spool] = []
        self._rng = random.Random()  # noqa: S311 - jitter, no secret
        self._delays = self._fresh_delays()
        self._again_s = self._disk_again_s = 0.0
        self._stirred, self._kept, self._closing = threading.Event(), threading.Event(), threading.Event()
        self._has_kept_all = False
        self._flushing = False
        self._arrived = threading.Condition(self.lock)
        self._thread: threading.Thread | None = None

    # --- for the agent: nothing here takes long, and nothing raises ---

    def put(self, project: str, raw: bytes) -> None:
        """Take an event; with ``lock`` held."""
        if self._closing.is_set() or self._held_bytes + len(raw) > self._memory_bytes:
            self._lost += 1
            self._untold[project] += 1
            return
        self._held_bytes += len(raw)
        self._buffer.append((project, raw))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="syndarix-rt reporter", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread is to be had, such as while the interpreter ends
                self._thread.start()
        if not self._stirred.is_set():
            self._stirred.set()

    def delivery(self) -> Delivery:
        """How it goes."""
        with self.lock:
            waiting = len(self._buffer) + len(self._taken) + sum(segment.events for segment in self._segments)
            return Delivery(self._sent, waiting, self._lost, self._trouble)

    def flush(self, timeout_s: float) -> bool:
        """Send everything now; false if some of it still waits when the time is over."""
        deadline_s = time.monotonic() + timeout_s
        self._flushing = True
        self._again_s = 0.0
        self._stirred.set()
        with self._arrived:
            while self._buffer or self._taken or self._segments:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or self._thread is None or not self._thread.is_alive():
                    return False
                self._arrived.wait(left_s)
        return True

    def close(self, timeout_s: float) -> bool:
        """Flush, then end the thread; what still waits is on the disk for the next process."""
        done = self.flush(timeout_s)
        self._closing.set()
        self._stirred.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(ANSWER_S if done else END_S)
        return done

    # --- the threads: one keeps what the agent said, however long the other one waits for a server ---

    def _run(self) -> None:
        sender = threading.Thread(target=self._run_sender, name="syndarix-rt reporter: sender", daemon=True)
        try:
            self._begin()
            sender.start()
            while not self._has_kept_all:
                self._stirred.wait()
                if not self._flushing:
                    self._closing.wait(LINGER_S)
                self._stirred.clear()
                self._flushing = False
                closing = self._closing.is_set()
                self._keep()
                self._has_kept_all = closing
                self._kept.set()
            sender.join()
        except Exception:  # noqa: BLE001 - the agent must live on; what goes wrong here is told once
            _log.exception("reporting has ended; events are lost from now on")
        finally:
            for spool in (self._spool, *self._left):
                if spool is not None:
                    spool.close()

    def _run_sender(self) -> None:
        try:
            while True:
                self._kept.wait(max(self._again_s - time.monotonic(), 0) if self._segments else None)
                self._kept.clear()
                is_last = self._has_kept_all
                self._send()
                with self._arrived:
                    self._arrived.notify_all()
                if is_last:
                    return
        except Exception:  # noqa: BLE001 - as of the other thread
            _log.exception("nothing is sent any more; events wait on the disk for the next start")
        finally:
            self._post.close()

    def _begin(self) -> None:
        """Open the spool, and take over those of killed processes."""
        if not self._disk_bytes:
            return
        try:
            self._spool = Spool.of(self._base_url, self._producer)
            self._left += Spool.left_behind(self._base_url)
        except (OSError, SyndarixError) as error:
            _log.warning("nothing can be kept on the disk while the server is away: %s", error)
        for spool in self._left:
            try:
                self._take_over(spool)
            except OSError as error:
                _log.warning("what a killed process has left in %s cannot be sent: %s", spool, error)

    def _take_over(self, spool: Spool) -> None:
        """Send what waits there, and end the runs that were open.

        Raises:
            OSError: it cannot be read.
        """
        segments = spool.segments()
        ends = list(filter(None, map(self._end, spool.open_runs(segments))))
        with self.lock:
            self._segments += segments
            self._spooled_bytes += sum(segment.bytes for segment in segments)
            self._buffer[:0] = ends
            self._held_bytes += sum(len(raw) for _, raw in ends)
        self._keep()  # before they are forgotten there
        spool.forget_open_runs()

    def _end(self, run: OpenRun) -> tuple[str, bytes] | None:
        try:
            return self._make_end(run)
        except EventError as error:
            _log.warning("the run %r of a killed process cannot be ended: %s", run.run_id, error)
            return None

    def _keep(self) -> None:
        """Take the list, and append it to segments."""
        with self._keeping:
            with self.lock:
                taken, self._buffer = self._buffer, []
                self._taken = taken
                open_runs = dict(self.open_runs)
                if self._held_bytes < self._memory_bytes // 2:  # else it is not over
                    for project, count in self._untold.items():
                        taken.append((project, self._make_loss(project, count)))
                        self._held_bytes += len(taken[-1][1])
                    self._untold.clear()
            by_project: dict[str, list[bytes]] = {}
            for project, raw in taken:
                by_project.setdefault(project, []).append(raw)
            for project, lines in by_project.items():
                for part in _parts(lines):
                    self._append(project, part)
            with self.lock:
                self._taken = []
            if self._spool is not None:
                with contextlib.suppress(OSError):
                    self._spool.note_open_runs(open_runs)

    def _append(self, project: str, lines: list[bytes]) -> None:
        size = sum(map(len, lines)) + len(lines)
        freed = size - len(lines)
        has_room = self._spooled_bytes + size <= self._disk_bytes and time.monotonic() >= self._disk_again_s
        if self._spool is not None and has_room:
            try:
                self._tail(project, lines, size, on_disk=True).append(lines, size)
            except OSError as error:
                if not self._disk_again_s:
                    _log.warning("the spool %s cannot be written: %s; events wait in memory", self._spool, error)
                self._disk_again_s = time.monotonic() + DISK_AGAIN_S
            else:
                with self.lock:
                    self._spooled_bytes += size
                    self._held_bytes -= freed
                return
        self._tail(project, lines, size, on_disk=False).append(lines, size)

    def _tail(self, project: str, lines: list[bytes], size: int, *, on_disk: bool) -> Segment:
        """The segment that grows."""
        tail = self._tails.get(project)
        if tail is None or (tail.path is not None) != on_disk or not tail.takes(lines, size):
            self._number += 1
            path = self._spool.path(self._number, project) if on_disk and self._spool is not None else None
            tail = self._tails[project] = Segment(f"{self._producer}-{self._number}", project, path)
            with self.lock:
                self._segments.append(tail)
        return tail

    def _send(self) -> None:
        """Send segments in order until one has to wait."""
        while self._segments and time.monotonic() >= self._again_s:
            segment = self._segments[0]
            with self._keeping:
                segment.sealed = True
            answer = self._ask(segment)
            if not (answer.stored or answer.final):
                self._again_s = time.monotonic() + answer.wait_s + next(self._delays)
                if answer.text != self._trouble:
                    _log.warning("events wait: %s", answer.text)
                    self._trouble = answer.text
                return
            segment.remove()
            with self._arrived:
                self._segments.popleft()
                if segment.path is None:
                    self._held_bytes -= segment.bytes - segment.events
                else:
                    self._spooled_bytes -= segment.bytes
                if answer.stored:
                    self._sent += segment.events
                else:
                    self._lost += segment.events
            if answer.final:
                _log.error("%d events are refused: %s", segment.events, answer.text)
            elif self._trouble:
                _log.warning("events are sent again")
            self._trouble = answer.text
            self._delays = self._fresh_delays()

    def _ask(self, segment: Segment) -> Answer:
        try:
            body = segment.body()
        except OSError as error:
            return Answer(final=True, text=f"the spool cannot be read: {error}")
        return self._post(segment, body) if segment.events else Answer(stored=True)

    def _fresh_delays(self) -> Iterator[float]:
        return backoff(self._rng, first_s=FIRST_DELAY_S, cap_s=CAP_S)


def _parts(lines: list[bytes]) -> Iterator[list[bytes]]:
    """Cut what is more than a segment may hold; there is at least one line."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        if part and (len(part) == MAX_BATCH_EVENTS or size + len(line) + 1 > SEGMENT_BYTES):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line) + 1
    yield part
