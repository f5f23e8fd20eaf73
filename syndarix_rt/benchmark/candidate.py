"""A running server that is measured, and what runs beside it.

The server has the first core to itself; publisher, subscribers and Redis share the last one. On one core, or where a
process cannot be bound to one, all compete.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from syndarix_rt.errors import SyndarixError
from syndarix_rt.ports import held_port

__all__ = [
    "Candidate",
    "Usage",
    "beside",
    "child",
    "load_client",
    "loop_factory",
    "our_server",
    "pinned_beside",
    "printed",
    "private_redis",
    "wait_until",
]

START_S = 30.0
"""For a server to answer: it takes one or two, or many on a busy machine."""

STOP_S = 15.0
"""For a server to end by itself; then it is killed."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class Usage:
    """What a server and its children have used."""

    cpu_s: float
    memory_kib: float
    """Proportional set size: memory shared by several counts once."""


@dataclass(frozen=True)
class Candidate:
    """A server on 127.0.0.1 that streams events.

    Attributes:
        name: for the table.
        port: where it listens.
        path: of the stream; ``%d`` in it becomes the project's number.
        pid: of its first process; its children belong to it.
        publisher: the command that publishes; rate, events, bytes and projects are put behind it.
        greetings: events that each stream begins with, before any that is published.
    """

    name: str
    port: int
    path: str
    pid: int
    publisher: Sequence[str]
    greetings: int = 0

    def usage(self) -> Usage:
        """CPU time and memory so far, of all its processes.

        Raises:
            SyndarixError: the server has ended, or this is not Linux.
        """
        stats = [_usage(pid) for pid in _family(self.pid)]
        return Usage(sum(each.cpu_s for each in stats), sum(each.memory_kib for each in stats))


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child_pid in (task / "children").read_text().split():
                yield from _family(int(child_pid))


def _usage(pid: int) -> Usage:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError as error:
        raise SyndarixError(
            f"cannot tell what process {pid} uses: {error}; it has ended, or this is not Linux"
        ) from error
    pss = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS_PER_S, float(pss.split()[1]))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop's where it is installed, so that publishers and subscribers cost less than the server."""
    try:
        import uvloop  # noqa: PLC0415 - optional, and not on every platform
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


@contextlib.contextmanager
def child(
    command: Sequence[str], *, first_core: bool = False, environment: dict[str, str] | None = None, **pipes: Any
) -> Iterator[subprocess.Popen[str]]:
    """A process on the first or on the last core until the block ends; it is asked to end, then killed."""
    with subprocess.Popen(  # noqa: S603 - the benchmark's own commands
        command, stdin=subprocess.DEVNULL, text=True, env=os.environ | (environment or {}), **pipes
    ) as process:
        try:
            cores = _cores()
            if len(cores) > 1:
                os.sched_setaffinity(process.pid, {cores[0] if first_core else cores[-1]})
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def pinned_beside() -> Iterator[None]:
    """This process itself on the last core until the block ends, as publishers and subscribers are."""
    cores = _cores()
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[-1]})
    try:
        yield
    finally:
        if len(cores) > 1:
            os.sched_setaffinity(0, cores)


def beside(command: Sequence[str], timeout_s: float) -> dict[str, Any]:
    """Run a publisher or subscribers to their end; the JSON they print.

    Raises:
        SyndarixError: it failed, or took longer.
    """
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        return printed(process, timeout_s)


def printed(process: subprocess.Popen[str], timeout_s: float) -> dict[str, Any]:
    """What a process prints last, as JSON.

    Raises:
        SyndarixError: it failed, or took longer.
    """
    try:
        out, err = process.communicate(timeout=timeout_s)
        found: dict[str, Any] = json.loads(out)
    except (subprocess.TimeoutExpired, ValueError) as error:
        process.kill()
        words = err if isinstance(error, ValueError) else f"no end within {timeout_s:g} s"
        raise SyndarixError(f"{process.args!r} failed: {words[-2000:]}") from error
    return found


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[str], what: str, timeout_s: float = START_S
) -> None:
    """Wait while a process lives.

    Raises:
        SyndarixError: it ended, or it took too long.
    """
    deadline_s = time.monotonic() + timeout_s
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline_s:
            state = f"ended with {process.poll()}" if process.poll() is not None else f"not there after {timeout_s:g} s"
            raise SyndarixError(f"{what}: {state}")
        time.sleep(0.02)


@contextlib.contextmanager
def private_redis() -> Iterator[str]:
    """The URL of a Redis for the measurement alone, without persistence, on the last core."""
    from syndarix_rt.broker.binary import find_binary  # noqa: PLC0415 - loads the broker

    with held_port() as port, tempfile.TemporaryDirectory(prefix="syndarix-rt-") as directory:
        command = [str(find_binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""]
        with child([*command, "--maxmemory", "2gb"], stdout=subprocess.DEVNULL) as process:
            wait_until(lambda: _connects(port), process, "Redis")
            yield f"redis://127.0.0.1:{port}"


def _connects(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def our_server(redis_url: str, *options: str) -> Iterator[Candidate]:
    """``syndarix-rt serve`` on the first core, as a user starts it, without a key.

    Raises:
        SyndarixError: it does not start.
    """
    command = [sys.executable, "-m", "syndarix_rt", "serve", "--token", "", "--redis-url", redis_url, *options]
    publisher = [sys.executable, "-m", "syndarix_rt.benchmark.offer", "--redis-url", redis_url]
    with (
        held_port() as port,
        tempfile.TemporaryDirectory(prefix="syndarix-rt-") as state,
        tempfile.TemporaryFile("w+") as log,
    ):
        environment = {"SYNDARIX_RT_STATE_DIR": state}
        with child(
            [*command, "--port", str(port)], first_core=True, environment=environment, stdout=log, stderr=log
        ) as process:
            try:
                scheme = "https" if "--tls" in options else "http"
                wait_until(lambda: _is_ready(scheme, port), process, "the server did not start")
            except SyndarixError as error:
                log.seek(0)
                error.add_note(log.read()[-2000:])
                raise
            yield Candidate("syndarix-rt", port, "/projects/p%d/events", process.pid, publisher, greetings=1)


def _is_ready(scheme: str, port: int) -> bool:
    url, context = f"{scheme}://127.0.0.1:{port}/readyz", ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a certificate that nobody has signed
    with (
        contextlib.suppress(urllib.error.URLError, OSError),
        urllib.request.urlopen(url, timeout=2, context=context) as reply,  # noqa: S310 - one of two schemes
    ):
        return bool(reply.status == HTTPStatus.OK)
    return False


def load_client(source: Path | None, directory: Path) -> list[str]:
    """The command of the subscribers: the client whose C source is given, compiled, else the one in Python.

    Raises:
        SyndarixError: there is a source, but it does not compile.
    """
    if source is None:
        return [sys.executable, "-m", "syndarix_rt.benchmark.load"]
    compiler = shutil.which("cc")
    if compiler is None:
        raise SyndarixError(f"{source} cannot be compiled: there is no C compiler (cc); leave it out")
    binary = directory / source.stem
    command = [compiler, "-O2", "-o", str(binary), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a compiler
    if done.returncode:
        raise SyndarixError(f"{source} does not compile: {done.stderr[-2000:]}")
    return [str(binary)]
