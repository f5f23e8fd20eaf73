"""`Reporter`: tells a server what an agent does, as the same events that a simulation makes.

An agent must never wait for whoever watches it, nor fail because of that. So a call checks and encodes an event, puts
it into a list and returns; a thread does the rest (see `courier`): it sends batches, keeps them on the disk while the
server is away, and sends each until it is stored, once. What an agent says wrongly (a negative number of tokens) is
logged and left out.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import logging
import os
import secrets
import threading
import weakref
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from syndarix_rt.client.courier import Courier, Delivery
from syndarix_rt.client.report import ReportedRun, current_run
from syndarix_rt.client.spool import OpenRun
from syndarix_rt.client.url import checked_project, parse_server_url
from syndarix_rt.errors import EventError
from syndarix_rt.events import Event, as_text

__all__ = ["LogHandler", "Reporter"]

URL_VARIABLE = "SYNDARIX_RT_URL"
PROJECT_VARIABLE = "SYNDARIX_RT_PROJECT"

MEMORY_BYTES = 16 * 1024 * 1024
"""About 30,000 events: what an agent says in the time that a slow disk or a lost connection takes to be noticed."""

DISK_BYTES = 256 * 1024 * 1024
"""About 500,000 events: a busy agent's day, and no danger to a disk."""

CLOSE_S = 2.0
"""How long the end of a program is delayed at most to send what waits; the rest is on the disk."""

_log = logging.getLogger(__name__)
_alive: weakref.WeakSet[Reporter] = weakref.WeakSet()


class Reporter:
    """Reports to one server; use it with ``with`` or ``async with``, ``close()`` it, or leave it to the program's end.

    One for a program is enough; every method may be called from any thread and any task, and returns at once.
    What is told of no project, or wrongly, is left out and logged; nothing raises into the agent.

    Args:
        url: the server's URL as it was printed, key included. Unless given, that of ``SYNDARIX_RT_URL``; without either
            nothing is reported, so that an instrumented agent runs anywhere.
        project: whose runs these are, unless a run says otherwise; unless given, that of ``SYNDARIX_RT_PROJECT``, else
            the one whose page the URL leads to.
        token: the secret, if it is not in the URL.
        memory_bytes: events that wait in memory.
        disk_bytes: events that wait on the disk while the server is away, in the user's state directory; 0 for none.

    Attributes:
        project: whose runs these are, unless a run says otherwise; None: nobody has said.
        runs_lock: held while a run or the numbers of agents change; of this process (a forked child has its own).

    Raises:
        StreamError: the URL or the project's name is wrong.

    Example::

        reporter = Reporter("http://127.0.0.1:8765/?key=…", project="apollo")
        with reporter.run("coder", issue="42") as run:
            run.llm("gpt-5", input_tokens=1200, output_tokens=80, duration_s=2.5, cost_usd=0.004)
            run.tool("pytest", duration_s=12.0)
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        project: str | None = None,
        token: str | None = None,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        url = url or os.environ.get(URL_VARIABLE)
        server = parse_server_url(url) if url else None
        project = project or os.environ.get(PROJECT_VARIABLE) or (server.project if server else None)
        self.project = None if project is None else checked_project(project)
        self._server = server
        self._token = token or (server.token if server else None)
        self._limits = {"memory_bytes": memory_bytes, "disk_bytes": disk_bytes}
        self._complained = False
        self._begin()
        _alive.add(self)
        if server is None:
            _log.info("nothing is reported: no URL is given, and %s is not set", URL_VARIABLE)

    def _begin(self) -> None:
        """What a process has of its own."""
        self._producer = secrets.token_urlsafe(12).replace("-", "_")
        self._source = f"/syndarix-rt/reporter/{self._producer}"
        self._count = 0
        self._slots: dict[str, set[int]] = {}
        self.runs_lock = threading.Lock()
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._courier = None
        if self._server is not None:
            self._courier = Courier(
                self._server.base_url,
                self._token,
                self._producer,
                ended=self._end_of_killed,
                lost=self._loss,
                **self._limits,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def run(
        self,
        role: str,
        *,
        project: str | None = None,
        issue: object = None,
        agent: str | None = None,
        branch: str | None = None,
        model: str | None = None,
    ) -> ReportedRun:
        """A run of an agent, for ``with`` or ``async with``, or to decorate a function with.

        It ends as ``agent_completed``; as ``agent_error`` if an exception leaves it (which goes on its way).

        Args:
            role: the agent's job; ``developer``, ``planner``, ``tester`` and ``reviewer`` are known to simulations.
            project: whose it is.
            issue: what it works on.
            agent: the agent's name. Unless given ``role-1``, or the first number that is not at work in this process;
                agents of several processes need names.
            branch: where it commits to.
            model: the model that it uses.
        """
        return ReportedRun(self, role, project=project, issue=issue, agent=agent, branch=branch, model=model)

    def event(
        self,
        type: str,  # noqa: A002 - as Event.new
        data: dict[str, Any],
        *,
        project: str | None = None,
        cause: str | None = None,
        subject: str | None = None,
    ) -> str | None:
        """Report any event, such as ``commit_pushed`` or one of your own; its id, or None if it was left out."""
        courier, project = self._courier, project or self.project
        if courier is None:
            return None
        with courier.lock:
            return self._put(courier, type, data, project, cause, subject)

    def _put(
        self,
        courier: Courier,
        type: str,  # noqa: A002 - as Event.new
        data: dict[str, Any],
        project: str | None,
        cause: str | None,
        subject: str | None = None,
    ) -> str | None:
        try:
            if project is None:
                raise EventError(f"no project is given, and {PROJECT_VARIABLE} is not set")  # noqa: TRY301 - told below
            raw, event_id = self._made(type, data, project, cause, subject)
        except EventError as error:
            self._complain("an event of type %s is left out: %s", type, error)
            return None
        if type == "agent_started":
            courier.open_runs[data["run_id"]] = OpenRun.begun(project, self._source, data)
        elif type in ("agent_completed", "agent_error"):
            courier.open_runs.pop(data["run_id"], None)
        courier.put(project, raw)
        return event_id

    def take_slot(self, role: str) -> tuple[int, str]:
        """The first number of a role that nobody in this process has, and the agent's name with it."""
        with self.runs_lock:
            taken = self._slots.setdefault(role, set())
            slot = next(number for number in itertools.count(1) if number not in taken)
            taken.add(slot)
        return slot, f"{role}-{slot}"

    def give_slot(self, role: str, slot: int) -> None:
        """Its agent has nothing to do."""
        with self.runs_lock:
            self._slots.get(role, set()).discard(slot)

    def _made(
        self,
        type: str,  # noqa: A002 - as Event.new
        data: dict[str, Any],
        project: str,
        cause: str | None = None,
        subject: str | None = None,
    ) -> tuple[bytes, str]:
        """An encoded event of now and its id; with the courier's lock held."""
        self._latest = max(datetime.now(UTC), self._latest)  # clocks are set back now and then
        self._count += 1
        event_id = f"{self._producer}-{self._count}"
        event = Event.new(
            type, data, project=project, id=event_id, time=self._latest, source=self._source, cause=cause,
            subject=subject,
        )  # fmt: skip
        return event.encode(), event_id

    def _end_of_killed(self, run: OpenRun) -> tuple[str, bytes]:
        """The end of a run whose process was killed before it could tell.

        Raises:
            EventError: no event can be made of the note.
        """
        event = Event.new(
            "agent_error",
            run.who | {"run_id": run.run_id, "end_reason": "killed"},
            project=run.project,
            id=f"{run.source.rpartition('/')[2]}-{run.run_id}"[:128],
            time=datetime.now(UTC),
            source=run.source,  # as if it had told so itself
        )
        return run.project, event.encode()

    def _loss(self, project: str, count: int) -> bytes:
        """What tells of events that had no room; with the courier's lock held."""
        return self._made("events_lost", {"count": count, "reporter": self._producer}, project)[0]

    def _complain(self, text: str, *arguments: object) -> None:
        """Log a mistake of the agent's author; the first one as a warning, since others like it will follow."""
        _log.log(logging.DEBUG if self._complained else logging.WARNING, text, *arguments)
        self._complained = True

    @property
    def delivery(self) -> Delivery:
        """How many events are sent, wait and are lost, and what is wrong at the moment."""
        return self._courier.delivery() if self._courier else Delivery(0, 0, 0, "nothing is reported: there is no URL")

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all events are stored; false if some still wait when the time is over."""
        return self._courier.flush(timeout_s) if self._courier else True

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """Send what waits and end; what could not be sent stays on the disk for the next start, and it is false."""
        return self._courier.close(timeout_s) if self._courier else True


class LogHandler(logging.Handler):
    """Reports log records as events of type ``log_written``; within a run they name it.

    Args:
        reporter: who reports them.
        project: whose they are, outside of runs; the reporter's unless given.
        level: of records that are reported.
    """

    def __init__(self, reporter: Reporter, *, project: str | None = None, level: int | str = logging.INFO) -> None:
        super().__init__(level)
        self._reporter = reporter
        self._project = project

    def emit(self, record: logging.LogRecord) -> None:
        """Report a record; not our own, which may be about reporting."""
        if record.name.partition(".")[0] == "syndarix_rt":
            return
        try:
            data: dict[str, Any] = {
                "level": record.levelname,
                "logger": record.name,
                "message": as_text(self.format(record)),
            }
            run = current_run()
            if run is None:
                self._reporter.event("log_written", data, project=self._project)
            else:
                run.event("log_written", data)
        except Exception:  # noqa: BLE001 - as the handlers of the standard library do
            self.handleError(record)


def _close_all() -> None:
    for reporter in list(_alive):
        reporter.close()


def _begin_in_child() -> None:
    """A forked child is another process: it has neither the thread nor the events of its parent."""
    for reporter in list(_alive):
        reporter._begin()  # noqa: SLF001 - of this module


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
