"""The embedded Redis: one server per user, on loopback, started when first needed and gone with its last user.

Everything is in ``redis/`` of the state directory (0700), which should be on a local disk:

* ``redis.conf`` (0600): the settings, with port and password, which outlive a stop
* ``appendonlydir/``: the data, in plain commands, so that Redis 7 reads what Valkey 9 wrote and the other way round
* ``server.log``, ``server.log.old``, ``watchdog.log``
* ``endpoint.json`` (0600): where a server answers; its run token tells this start of the server from every other
* ``start.lock``: held by who starts, restarts or ends the server
* ``users.lock``: shared by every process that uses the server
* ``server.lock``: held by the server itself, which inherits it, so "locked" means "alive"; its text is the server's pid
  once it has answered, and can be read even when the directory is removed; until then the pid is in ``server.pid``
* ``watchdog.lock``: held by the watchdog

All locks are ``flock``: the kernel frees them however a process ends. The run token is Redis's own ``run_id``, random
at each start; unlike a key it survives ``FLUSHALL`` and never comes back with the data.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec

from syndarix_rt.broker.binary import find_binary
from syndarix_rt.errors import EmbeddedServerError, SyndarixError
from syndarix_rt.state import FileLock, private_dir, write_private

__all__ = ["EmbeddedServer"]

_log = logging.getLogger(__name__)

_LINGER_S = 5.0
"""How long the server outlives its last user: a cell or a command run again finds it still there."""

_START_TIMEOUT_S = 60.0
"""For the server to answer. It does in milliseconds, or seconds when it has a full memory to load from a slow disk."""

_ANSWER_TIMEOUT_S = 1.0
"""For one question to a server on this machine."""

_WATCHDOG = str(Path(__file__).with_name("watchdog.py"))
_POLL_S = 0.01

_TRIES = 2
"""A server that was killed while it started is started again; one that cannot read its data ends for good."""

_PORT_TRIES = 5
"""A port that was free a moment ago is rarely taken, hardly ever five times."""

_SETTINGS = """\
# Written by syndarix-rt at each start of its embedded server; changes do not last.
port {port}
requirepass {password}
bind 127.0.0.1
daemonize yes
pidfile server.pid
logfile server.log
save ""
appendonly yes
# A power failure loses about a second; so may a kill, if the disk was slow just then. The new epoch declares it.
appendfsync everysec
# Plain commands, not RDB: any Redis or Valkey from 7.0 on reads them, whichever wrote them.
aof-use-rdb-preamble no
# A runaway publisher must not take the machine. At the limit publishing is refused; reading goes on, all is kept.
maxmemory 1gb
maxmemory-policy noeviction
"""


class EndpointFile(msgspec.Struct, frozen=True):
    """``endpoint.json``: where the server answers."""

    url: str
    """With the password."""
    pid: int
    run_token: str
    """The server's ``run_id``."""


class EmbeddedServer:
    """One use of the user's embedded Redis: it runs as long as any process holds one.

    Environment: ``SYNDARIX_RT_EMBEDDED=off`` forbids it; ``SYNDARIX_RT_EMBEDDED_LINGER_S`` (default 5) is how long it
    outlives its last user, for tests.
    """

    def __init__(self, directory: Path) -> None:
        self._dir = directory
        self._url = ""
        self._users: FileLock | None = None
        self._released = False
        self._mutex = threading.Lock()

    @classmethod
    def acquire(cls) -> EmbeddedServer:
        """Use the server, starting it if it does not run. Blocks until it answers.

        Raises:
            EmbeddedServerError: there is no server for this platform, or it does not start.
        """
        if os.environ.get("SYNDARIX_RT_EMBEDDED") == "off":
            raise EmbeddedServerError("the embedded Redis is switched off (SYNDARIX_RT_EMBEDDED)")
        if sys.platform == "win32":
            raise EmbeddedServerError("there is no Redis for Windows; use WSL2, or name a server: --redis-url URL")
        try:
            server = cls(private_dir("redis"))
        except SyndarixError as error:
            raise EmbeddedServerError(str(error)) from error
        try:
            server._ensure()
        except BaseException:
            server._stop_using()
            raise
        return server

    @property
    def url(self) -> str:
        """Where it answers, password included: not for a log."""
        return self._url

    async def ensure_running(self) -> str:
        """Start the server again if it is dead, on the same data and, unless it was taken, the same port.

        Returns:
            its URL now.

        Raises:
            EmbeddedServerError: it does not start, or does not answer.
        """
        return await asyncio.to_thread(self._ensure)

    def release(self) -> None:
        """Stop using the server; the watchdog ends it when nobody else uses it."""
        if self._users is not None:
            with contextlib.suppress(OSError):  # the directory is gone
                self._ensure_watchdog()  # ours may have been killed; without one the server would stay
        self._stop_using()

    def _stop_using(self) -> None:
        with self._mutex:
            users, self._users, self._released = self._users, None, True
        if users is not None:
            users.release()

    def _ensure(self) -> str:
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # somebody may have removed it meanwhile
            with FileLock.acquire(self._dir / "start.lock", timeout_s=_START_TIMEOUT_S):
                self._use()
                endpoint = self._running_endpoint()
                self._ensure_watchdog()
        except BlockingIOError as error:
            raise EmbeddedServerError(
                f"another process has been starting or ending the embedded Redis for {_START_TIMEOUT_S:.0f} s; "
                f"see {self._dir / 'server.log'}"
            ) from error
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedServerError(
                f"cannot use the embedded Redis in {self._dir}: {error}; "
                "set SYNDARIX_RT_STATE_DIR to a directory on a local disk, or name a server: --redis-url URL"
            ) from error
        self._url = endpoint.url
        return endpoint.url

    def _use(self) -> None:
        """Hold ``users.lock``; taken anew each time, for ours may be of a directory that was removed."""
        users = FileLock.acquire(self._dir / "users.lock", shared=True, timeout_s=_START_TIMEOUT_S)
        with self._mutex:
            if self._released:
                users.release()
                raise EmbeddedServerError("this use of the embedded Redis has been released")
            before, self._users = self._users, users
        if before is not None:
            before.release()

    def _running_endpoint(self) -> EndpointFile:
        """The endpoint of the live server, after starting it if it is dead; under ``start.lock``."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        starts = 0
        while time.monotonic() < deadline:
            lock = _lock_if_free(self._dir / "server.lock")
            if lock is None:  # it lives
                endpoint = self._answering_endpoint()
                if endpoint is not None:
                    return endpoint
                time.sleep(_POLL_S)
            else:
                with lock:
                    self._start(lock, new_port=starts > 0 and self._lost_its_port(starts))
                starts += 1
        raise EmbeddedServerError(
            f"the embedded Redis in {self._dir} runs but has not answered for {_START_TIMEOUT_S:.0f} s; "
            f"see {self._dir / 'server.log'}. If the directory is shared with another machine, "
            "set SYNDARIX_RT_STATE_DIR to one on a local disk"
        )

    def _answering_endpoint(self) -> EndpointFile | None:
        """The endpoint, brought up to date, if the server answers at the port it was started on."""
        place = self._place()
        answer = place and _ask(*place)
        if not place or not answer:
            return None
        port, password = place
        endpoint = EndpointFile(f"redis://:{password}@127.0.0.1:{port}/0", *answer)
        path = self._dir / "endpoint.json"
        if _read(path) != endpoint:
            (self._dir / "server.lock").write_text(f"{endpoint.pid}\n", "ascii")  # in place: the lock is on this file
            write_private(path, msgspec.json.encode(endpoint))
        return endpoint

    def _place(self) -> tuple[int, str] | None:
        """Port and password as last configured."""
        with contextlib.suppress(FileNotFoundError):
            match = re.search(
                r"^port (\d+)\nrequirepass (\w+)$", self._conf.read_text("ascii", "replace"), re.MULTILINE
            )
            if match:
                return int(match[1]), match[2]
        return None

    @property
    def _conf(self) -> Path:
        return self._dir / "redis.conf"

    def _start(self, lock: FileLock, *, new_port: bool) -> None:
        """Start the server and give it ``server.lock``; returns before it answers."""
        place = None if new_port else self._place()
        port, password = place or (_free_port(), secrets.token_hex(24))
        write_private(self._conf, _SETTINGS.format(port=port, password=password).encode())
        os.ftruncate(lock.fileno(), 0)  # the pid in it is another server's, as is the one in the other file
        (self._dir / "server.pid").unlink(missing_ok=True)
        log = self._dir / "server.log"
        with contextlib.suppress(FileNotFoundError):
            log.replace(log.with_suffix(".log.old"))
        write_private(log, b"")
        with log.open("ab") as output:  # a file, not a pipe: nobody reads for as long as the server lives
            subprocess.run(  # noqa: S603 - what find_binary vouches for
                [str(find_binary()), str(self._conf)],
                cwd=self._dir,
                env={**os.environ, "LC_ALL": "C"},  # it refuses to start in a locale that is not installed
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[lock.fileno()],
                start_new_session=True,  # no Ctrl-C, not even before it has made itself a daemon
                umask=0o077,
                timeout=_START_TIMEOUT_S,
                check=False,  # what it says is in the log
            )

    def _lost_its_port(self, starts: int) -> bool:
        """Whether the server that was just started ended because another program has its port.

        Raises:
            EmbeddedServerError: trying once more will not help.
        """
        log = self._dir / "server.log"
        said = log.read_text("utf-8", "replace").strip()
        port_taken = "Address already in use" in said
        if starts < (_PORT_TRIES if port_taken else _TRIES):
            return port_taken
        raise EmbeddedServerError(
            f"the embedded Redis did not start: {said.splitlines()[-1] if said else 'it said nothing'} (see {log}). "
            f"If its data cannot be read, move {self._dir / 'appendonlydir'} away"
        )

    def _ensure_watchdog(self) -> None:
        lock = _lock_if_free(self._dir / "watchdog.lock")
        if lock is None:
            return  # it lives
        linger = os.environ.get("SYNDARIX_RT_EMBEDDED_LINGER_S") or str(_LINGER_S)
        log = self._dir / "watchdog.log"
        write_private(log, b"")
        with lock, log.open("ab") as output:
            try:
                subprocess.run(  # noqa: S603 - this interpreter and our own file
                    [sys.executable, "-I", "-S", _WATCHDOG, str(lock.fileno()), linger],
                    cwd=self._dir,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[lock.fileno()],
                    start_new_session=True,
                    timeout=_START_TIMEOUT_S,
                    check=True,
                )
            except (OSError, subprocess.SubprocessError) as error:
                _log.warning("the embedded Redis may outlive its users, its watchdog did not start: %s", error)


def _ask(port: int, password: str) -> tuple[int, str] | None:
    """The server's pid and run id; None if it starts, loads, ends or hangs, or another program has the port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_TIMEOUT_S) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\nINFO server\r\nQUIT\r\n".encode())
            said = b"".join(iter(lambda: connection.recv(65_536), b""))
    except OSError:
        return None
    facts = dict(re.findall(rb"^(process_id|run_id):(\w+)\r$", said, re.MULTILINE))
    if b"+PONG\r\n" not in said or facts.keys() != {b"process_id", b"run_id"}:
        return None
    return int(facts[b"process_id"]), facts[b"run_id"].decode()


def _lock_if_free(path: Path) -> FileLock | None:
    try:
        return FileLock.acquire(path)
    except BlockingIOError:
        return None


def _read(path: Path) -> EndpointFile | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=EndpointFile)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _free_port() -> int:
    """A port that was free a moment ago; who loses it meanwhile tries another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
