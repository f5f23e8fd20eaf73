"""Ends the embedded Redis when its last user has left: a program of its own, in its own session.

``python -I -S watchdog.py FD LINGER_S``, in the embedded server's directory; FD is the descriptor through which it
holds ``watchdog.lock``. It imports the standard library only, so that it starts in milliseconds, stays small, and runs
in any environment. `syndarix_rt.broker.embedded` tells what the files are.
"""

import contextlib
import fcntl
import os
import signal
import sys
import time

_TICK_S = 0.25
"""Between two looks while nobody uses the server; while somebody does, the kernel wakes us."""

_PID_S = 5.0
"""For a server whose starter was killed to write down its pid."""

_TERM_S = 10.0
"""For the server to write its log to disk and end by itself; then it is killed."""

_KILL_S = 5.0
_POLL_S = 0.02


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for_lock(fd: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not _try_lock(fd):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _unused_for(users: int, seconds: float) -> bool:
    """Whether nobody takes ``users.lock`` for so long. Held only for moments, so that a newcomer never waits."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(min(_TICK_S, seconds))
        if not _try_lock(users):
            return False
        fcntl.flock(users, fcntl.LOCK_UN)
    return True


def _end_server(server: int) -> bool:
    """Whether the server, which holds ``server.lock`` as long as it lives, has ended."""
    deadline = time.monotonic() + _PID_S
    while not (pid := int(os.pread(server, 20, 0) or _read("server.pid") or 0)):
        if _try_lock(server):
            return True
        if time.monotonic() > deadline:  # the next user will adopt it
            return False
        time.sleep(_POLL_S)
    if _try_lock(server):
        return True  # so the pid may be somebody else's by now
    for signal_number, seconds in ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, _KILL_S)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)
        if _wait_for_lock(server, seconds):
            return True
    return False


def _read(name: str) -> bytes:
    try:
        with open(name, "rb") as file:  # noqa: PTH123 - relative to our directory, also when it has been replaced
            return file.read()
    except FileNotFoundError:
        return b""


def _remove(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name)  # noqa: PTH108 - see _read


def _is_at(name: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(name), os.fstat(fd))  # noqa: PTH116 - see _read
    except FileNotFoundError:
        return False


def main(watchdog: int, linger_s: float) -> None:
    """Wait, end the server, remove what was there for its users.

    Args:
        watchdog: descriptor that holds ``watchdog.lock``.
        linger_s: how long nobody must have used the server, seconds.
    """
    # Opened before our starter goes on: it holds what keeps these files from being removed.
    start, users, server = (os.open(name, os.O_RDWR) for name in ("start.lock", "users.lock", "server.lock"))
    if os.fork():
        os._exit(0)  # so the watchdog is nobody's child, and nobody has to wait for it
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)  # sleeps until the last user has let go of its shared lock
        fcntl.flock(users, fcntl.LOCK_UN)
        if _unused_for(users, linger_s):
            fcntl.flock(start, fcntl.LOCK_EX)  # never while holding users.lock: starters take them in this order
            if _try_lock(users):
                break
            fcntl.flock(start, fcntl.LOCK_UN)
    ours = _is_at("start.lock", start)  # else the directory was emptied and others began anew there
    if ours:
        _remove("endpoint.json")
    if _end_server(server) and ours:
        for name in ("server.pid", "users.lock", "server.lock", "watchdog.lock", "start.lock"):
            _remove(name)  # whoever waits for a lock sees that its file is gone and makes a new one
    os.close(watchdog)  # before start.lock is freed by our end: the next starter must not believe we still watch


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
