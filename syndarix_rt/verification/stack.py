"""The stack that is verified: a Redis and server processes of its own, to be killed, paused and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from syndarix_rt.broker.binary import find_binary
from syndarix_rt.errors import SyndarixError
from syndarix_rt.ports import port_of
from syndarix_rt.verification.link import Link

if TYPE_CHECKING:
    from syndarix_rt.verification.cluster import Cluster

__all__ = ["Redis", "Stack", "Worker", "environment_of", "find_faketime", "open_stack"]

START_S = 30.0
"""For a process to answer: it takes one or two seconds, or many on a busy machine."""

STOP_S = 20.0
"""For a server to end by itself: its drain takes 10 s at most, and a second of grace."""

SPARE_DESCRIPTORS = 24
"""More than at its start a server may hold when all have left: the 16 connections of its pool to Redis, and a few."""

SPARE_TASKS = 24
"""The same for tasks of its event loop: readers of the log and connections of the pool that stay."""

_SETTINGS = """\
port {port}
bind 127.0.0.1
dir {directory}
save ""
appendonly yes
appendfsync always
auto-aof-rewrite-percentage 0
aof-use-rdb-preamble no
maxmemory-policy noeviction
logfile {directory}/redis.log
"""
"""As those of the embedded server, but for ``always``: so a kill loses nothing, and what is lost was to be lost."""


class _Child:
    """A process that is started anew at its port."""

    def __init__(self, what: str, log: Path) -> None:
        self.what = what
        self.port = port_of(self)
        self._log = log
        self._process: Process | None = None

    async def _start(
        self,
        *command: str,
        answers: Callable[[], Awaitable[bool]],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                env=environment_of(self._log.parent) | dict(environment or {}),
                start_new_session=True,  # Ctrl-C is for this process, which ends them
            )
        try:
            async with asyncio.timeout(START_S):
                while not await answers():
                    if self._process.returncode is not None:
                        raise SyndarixError(f"{self.what} ended with {self._process.returncode}: {self._said()}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise SyndarixError(f"{self.what} does not answer after {START_S:g} s: {self._said()}") from None

    def _said(self) -> str:
        return self._log.read_text("utf-8", "replace")[-2000:]

    @property
    def runs(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process
        return self._process.pid

    def pause(self) -> None:
        """Stop it in its tracks: its connections stay open and silent."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        if self.runs:
            assert self._process
            self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End it as the kernel does, without a word."""
        if self.runs:
            assert self._process
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> int | None:
        """Ask it to end; its exit code, None if it had to be killed."""
        if not self.runs:
            return None if self._process is None else self._process.returncode
        assert self._process
        self.resume()
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            return None


class Redis(_Child):
    """The Redis that holds the log; what was acknowledged survives its kill."""

    def __init__(self, directory: Path, settings: str = "") -> None:
        directory.mkdir()
        super().__init__("Redis", directory / "out.log")
        self._directory = directory
        self._settings = settings

    async def owner(self) -> Redis:
        """The server that has the log: this one."""
        return self

    @property
    def url(self) -> str:
        """For whoever is not meant to meet faults on the way."""
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it on its data."""
        config = self._directory / "redis.conf"
        config.write_text(_SETTINGS.format(port=self.port, directory=self._directory) + self._settings)
        await self._start(str(find_binary()), str(config), answers=self._pongs)

    async def command(self, *words: str) -> str:
        """Send one command; its reply, which is one line with its sign, or a text.

        Raises:
            SyndarixError: it is an error.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            parts = [f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]
            writer.write("".join(parts).encode())
            async with asyncio.timeout(START_S):
                reply = (await reader.readline()).decode().strip()
                if reply.startswith("$"):
                    return (await reader.readexactly(int(reply[1:]))).decode()
        finally:
            writer.transport.abort()
        if not reply or reply.startswith("-"):
            raise SyndarixError(f"Redis: {' '.join(words)}: {reply or 'no answer'}")
        return reply

    async def _pongs(self) -> bool:
        with contextlib.suppress(OSError, SyndarixError):
            return await self.command("PING") == "+PONG"
        return False

    def save_data(self) -> None:
        """Copy the data as they are on disk, while nobody writes."""
        copy = self._directory / "saved"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._directory / "appendonlydir", copy)

    async def lose_data(self) -> None:
        """Kill it and start it on the copy, as after a failover to a replica that was behind."""
        await self.kill()
        data = self._directory / "appendonlydir"
        shutil.rmtree(data)
        (self._directory / "saved").rename(data)
        await self.start()


class Worker(_Child):
    """One server process.

    Args:
        number: from 1.
        directory: for its log.
        redis_url: of its Redis.
        keepalive_s: as of ``serve``.
        to_redis: the link that the URL leads to; None: it leads straight to Redis.
    """

    def __init__(
        self, number: int, directory: Path, redis_url: str, keepalive_s: float, to_redis: Link | None = None
    ) -> None:
        super().__init__(f"worker {number}", directory / f"worker-{number}.log")
        self.to_redis = to_redis
        self._redis_url = redis_url
        self._keepalive_s = keepalive_s
        self._clock = directory / f"clock-{number}"
        self._descriptors_at_start = 0
        self._tasks_at_start = 0

    async def start(self, faketime: Path | None = None) -> None:
        """Start it, and wait until it serves.

        Args:
            faketime: the library by which its clock can be set.
        """
        environment = {}
        if faketime:
            self.set_clock(0)
            environment = {
                "LD_PRELOAD": str(faketime),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_NO_CACHE": "1",  # else it looks into that file once a second
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        command = [sys.executable, "-m", "syndarix_rt", "serve", "--token", "", "--port", str(self.port)]
        command += ["--redis-url", self._redis_url, "--keepalive", f"{self._keepalive_s:g}"]
        await self._start(*command, answers=self._answers, environment=environment)
        self._descriptors_at_start = self._descriptors()
        self._tasks_at_start = _sum_of("tasks", await self._get("/metrics"))

    def set_clock(self, hours: float) -> None:
        """Let its clock be wrong, if it was started with ``faketime``."""
        self._clock.write_text(f"{3_600 * hours:+.0f}\n")

    async def clock_error_s(self) -> float:
        """How wrong its clock is, as its responses tell; 0 if it does not answer."""
        found = re.search(rb"\r\ndate: ([^\r]+)", await self._get("/healthz"))
        told = parsedate_to_datetime(found[1].decode()) if found else datetime.now(UTC)
        return (told - datetime.now(UTC)).total_seconds()

    async def leftovers(self) -> str:
        """What it still holds although everybody has left; empty if nothing.

        On systems without ``/proc`` descriptors are not counted.
        """
        figures = await self._get("/metrics")
        streams = _sum_of("streams", figures)
        tasks = _sum_of("tasks", figures) - self._tasks_at_start
        descriptors = self._descriptors() - self._descriptors_at_start
        left = [f"{streams} streams"] * (streams > 0)
        left += [f"{tasks} tasks"] * (tasks > SPARE_TASKS)
        left += [f"{descriptors} descriptors"] * (descriptors > SPARE_DESCRIPTORS)
        return " and ".join(left)

    def _descriptors(self) -> int:
        with contextlib.suppress(OSError):
            return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())
        return 0

    async def _answers(self) -> bool:
        return (await self._get("/readyz")).startswith(b"HTTP/1.1 200 ")

    async def _get(self, path: str) -> bytes:
        """A whole response; empty if there is none."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
                return await reader.read()
            finally:
                writer.transport.abort()
        return b""


def _sum_of(figure: str, metrics: bytes) -> int:
    """Of a gauge with whatever labels."""
    found = re.findall(rf"^syndarix_rt_{figure}(?:{{.*}})? (\d+)".encode(), metrics, re.MULTILINE)
    return sum(map(int, found))


class Stack(NamedTuple):
    """What runs."""

    redis: Redis | Cluster
    workers: list[Worker]

    def ports(self) -> list[int]:
        """Where a subscriber may connect; a worker that is down refuses."""
        return [worker.port for worker in self.workers]


@asynccontextmanager
async def open_stack(
    redis: Redis | Cluster, directory: Path, workers: int, keepalive_s: float, rng: random.Random
) -> AsyncIterator[Stack]:
    """Start all; at the end all are ended, by force if need be.

    Raises:
        SyndarixError: something did not start.
        EmbeddedServerError: there is no Redis for this machine.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(redis.kill)
        await redis.start()
        running = []
        for number in range(1, workers + 1):
            url, link = redis.url, None
            if isinstance(redis, Redis):  # the nodes of a cluster tell where the others are: links of their own
                port = redis.port
                link = await stack.enter_async_context(Link(lambda port=port: [port], rng))  # type: ignore[misc]  # a default is no parameter to mypy
                url = f"redis://127.0.0.1:{link.port}"
            worker = Worker(number, directory, url, keepalive_s, link)
            stack.push_async_callback(worker.kill)
            running.append(worker)
        await asyncio.gather(*(worker.start() for worker in running))
        yield Stack(redis, running)


def environment_of(directory: Path) -> dict[str, str]:
    """That of this process, without what it says about servers of its user: those here have all in this directory."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SYNDARIX_RT_")}
    return own | {"SYNDARIX_RT_STATE_DIR": str(directory)}


def find_faketime() -> Path | None:
    """The library that gives a process a clock of its own, if this machine has it (package ``faketime``)."""
    usual = ("lib/*/faketime", "lib/faketime", "lib64/faketime")  # Debian, Alpine, Fedora
    found = (path for place in usual for path in Path("/usr").glob(f"{place}/libfaketime.so.1"))
    return next(found, None)
