"""Several server processes on one port: started, watched, each restarted alone when it crashes, ended together.

Each worker has a listening socket of its own on the same port (``SO_REUSEPORT``), so the kernel spreads connections
over them, and a worker that crashes takes only its own streams along: their clients resume at the others at once,
because the socket is gone with the process. The parent holds the port without listening, and serves nothing itself.

``python -m syndarix_rt.cli.workers`` is one worker: its task comes as a line of JSON on stdin (no secret in the
arguments), it writes ``ready`` to stdout, and ends by itself when stdin does, that is with its parent.
"""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from syndarix_rt.broker.protocol import Retention
from syndarix_rt.cli.console import run, say
from syndarix_rt.delivery import backoff
from syndarix_rt.errors import SyndarixError

if TYPE_CHECKING:
    from syndarix_rt.server import Settings

__all__ = ["Workers"]

STABLE_S = 10.0
"""A worker that ran for so long did not fail at its start: it is restarted without delay."""

END_S = 5.0
"""Beyond the drain: a worker that has not ended by then is killed."""


class _Task(msgspec.Struct, frozen=True):
    """What a worker is told."""

    fd: int
    settings: dict[str, Any]
    redis_url: str | None
    namespace: str
    retention: Retention


class Workers:
    """The workers of one server.

    Args:
        count: how many.
        port: where they listen; the caller holds it.
        settings: of the server.
        redis_url: None for the embedded one.
        namespace: of the names in Redis.
        retention: of the logs.
    """

    def __init__(
        self, count: int, port: int, settings: Settings, *, redis_url: str | None, namespace: str, retention: Retention
    ) -> None:
        self._count = count
        self._port = port
        self._figures = TemporaryDirectory(prefix="syndarix-rt-", ignore_cleanup_errors=True)
        self._settings = msgspec.structs.replace(settings, figures_dir=Path(self._figures.name))
        self._about: dict[str, Any] = {"redis_url": redis_url, "namespace": namespace, "retention": retention}
        self._processes: dict[int, Process] = {}
        self._ending = asyncio.Event()

    async def serve(self, ready: Callable[[], None]) -> None:
        """Serve until SIGINT or SIGTERM; a second one cuts the drain short.

        Raises:
            SyndarixError: a worker did not start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end)
        working, ending = asyncio.create_task(self._work(ready)), asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            if not self._ending.is_set():
                self._end()
            for task in (working, ending):
                task.cancel()
            await asyncio.gather(working, ending, return_exceptions=True)
            await self._all_ended()
            self._figures.cleanup()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def _work(self, ready: Callable[[], None]) -> None:
        """Start all, and keep them running until cancelled."""
        await asyncio.gather(*(self._start(number) for number in range(self._count)))
        if not self._ending.is_set():
            ready()
        await asyncio.gather(*(self._keep(number) for number in range(self._count)))

    def _end(self) -> None:
        """Tell all to end; once more: at once."""
        self._ending.set()
        for process in self._processes.values():
            if process.returncode is None:
                process.terminate()

    async def _start(self, number: int) -> None:
        """Start a worker, and wait until it serves."""
        from syndarix_rt.server import bind

        settings = self._settings
        with bind(settings.host, self._port, stall_s=settings.stall_s, shared=True) as sock:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "syndarix_rt.cli.workers"),
                stdin=PIPE,
                stdout=PIPE,
                pass_fds=(sock.fileno(),),
                start_new_session=True,  # Ctrl-C at the terminal is for the parent, which tells the workers once
            )
            self._processes[number] = process
            fields = {name: getattr(settings, name) for name in settings.__struct_fields__}
            task = _Task(sock.fileno(), fields, **self._about)
            assert process.stdin
            assert process.stdout
            process.stdin.write(msgspec.json.encode(task, enc_hook=str) + b"\n")
        if self._ending.is_set():  # said while it was being started
            process.terminate()
        with suppress(ConnectionError):
            await process.stdin.drain()
        if await process.stdout.readline() != b"ready\n" and not self._ending.is_set():
            raise SyndarixError(f"worker {number} did not start (exit code {await process.wait()}); see above")

    async def _keep(self, number: int) -> None:
        """Start a worker again whenever it ends before it should."""
        pauses = backoff(random.Random(), cap_s=10.0)  # noqa: S311 - no secret
        while True:
            began_s = time.monotonic()
            code = await self._processes[number].wait()
            if self._ending.is_set():
                return
            say(f"Worker {number} ended with exit code {code}; starting it again.")
            if time.monotonic() - began_s > STABLE_S:
                pauses = backoff(random.Random(), cap_s=10.0)  # noqa: S311 - no secret
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), next(pauses))
                if self._ending.is_set():
                    return
            with suppress(SyndarixError, OSError):  # it is said above, and tried again
                await self._start(number)

    async def _all_ended(self) -> None:
        waits = [asyncio.create_task(process.wait()) for process in self._processes.values()]
        if waits:
            _, late = await asyncio.wait(waits, timeout=self._settings.drain_s + END_S)
            if late:
                for process in self._processes.values():
                    if process.returncode is None:
                        process.kill()
                await asyncio.wait(late)


async def _work(task: _Task) -> None:
    """One worker's life."""
    import structlog

    from syndarix_rt.broker.factory import open_broker
    from syndarix_rt.server import Settings, serve
    from syndarix_rt.server.logs import StandardError

    structlog.configure(logger_factory=lambda *_: StandardError())
    settings = msgspec.convert(task.settings, Settings, dec_hook=lambda kind, value: kind(value))
    loop = asyncio.get_running_loop()

    def on_stdin() -> None:
        if not os.read(0, 1024):  # the parent is gone
            loop.remove_reader(0)
            os.kill(os.getpid(), signal.SIGTERM)

    async def on_ready(_: object) -> None:
        loop.add_reader(0, on_stdin)
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    broker = await open_broker(task.redis_url, namespace=task.namespace, retention=task.retention)
    try:
        await serve(broker, settings, socket.socket(fileno=task.fd), ready=on_ready)
    finally:
        await broker.aclose()


def _main() -> None:
    from syndarix_rt.server import loop_factory

    with open(0, "rb", buffering=0, closefd=False) as stdin:
        task = msgspec.json.decode(stdin.readline(), type=_Task)
    try:
        run(_work(task), loop_factory())
    except SyndarixError as error:
        say(f"Error: {error}")
        sys.exit(1)


if __name__ == "__main__":
    _main()
