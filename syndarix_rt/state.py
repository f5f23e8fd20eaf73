"""The user's state directory: what outlives a process, and how processes of one user find each other.

* ``servers/<pid>-<random>.json``: one running ``serve`` or ``demo``, so that ``watch`` and ``play`` need no URL
* ``redis/``: the embedded Redis with its data, password and endpoint (see `syndarix_rt.broker.embedded`)

Whether a process still lives is told by file locks (``flock``), never by its pid: the kernel frees a lock however the
process ends, and a pid may belong to somebody else by then. The directory should be on a local disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

import msgspec

from syndarix_rt.errors import SyndarixError

if sys.platform != "win32":
    import fcntl

__all__ = [
    "FileLock",
    "ServerEndpoint",
    "announce_server",
    "private_dir",
    "running_servers",
    "state_dir",
    "write_private",
]

_log = logging.getLogger(__name__)

_LOCK_POLL_S = 0.01
"""Between two tries for a lock with a deadline; a blocked ``flock`` could not be given up."""


def state_dir() -> Path:
    """Where state is kept; it need not exist yet.

    ``SYNDARIX_RT_STATE_DIR``, else ``%LOCALAPPDATA%`` (Windows), ``~/Library/Application Support`` (macOS) or
    ``$XDG_STATE_HOME`` (XDG Base Directory Specification 0.8; ``~/.local/state`` if unset), each with ``syndarix-rt``.
    """
    chosen = os.environ.get("SYNDARIX_RT_STATE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    home = Path("~").expanduser()  # stays relative where there is no home
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME", ""))
        if not base.is_absolute():  # "must be absolute … otherwise consider the path invalid and ignore it"
            base = home / ".local" / "state"
    return (base / "syndarix-rt").absolute()


def private_dir(name: str) -> Path:
    """A directory of ours in the state directory, made if need be, that nobody else can look into (0700).

    Raises:
        SyndarixError: it cannot be made, or belongs to another user.
    """
    base = state_dir()
    path = base / name
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)  # its own mode is left alone: it may be a chosen one
        path.mkdir(mode=0o700, exist_ok=True)
        if sys.platform != "win32":
            if path.stat().st_uid != os.geteuid():
                raise PermissionError(f"it belongs to user {path.owner()}")
            path.chmod(0o700)
    except OSError as error:
        raise SyndarixError(
            f"cannot use the state directory {path}: {error.strerror or error}; "
            f"set SYNDARIX_RT_STATE_DIR to a directory of yours on a local disk"
        ) from error
    return path


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read (0600); a reader sees all of it or none."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(content)
    draft.replace(path)


class FileLock:
    """A lock on a file (``flock``), freed by `release`, by collection, and by the kernel at the process's end.

    Only this process holds it: neither programs it starts nor forked children keep it (POSIX only).
    """

    _held: ClassVar[weakref.WeakSet[FileLock]] = weakref.WeakSet()

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._close = weakref.finalize(self, os.close, fd)
        self._fd = fd
        self._held.add(self)

    @classmethod
    def acquire(cls, path: Path, *, shared: bool = False, timeout_s: float = 0.0, mode: int = 0o600) -> FileLock:
        """Take the lock, making the file if need be.

        Args:
            path: the file. Whoever holds its lock may remove it; then the next one locks a new file.
            shared: together with other shared holders.
            timeout_s: how long to wait for it, seconds.
            mode: permissions of a file that is made, less the umask.

        Raises:
            BlockingIOError: another process (or another `FileLock`) has it still.
            OSError: the file cannot be made, or its file system has no locks.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, mode)
            try:
                _lock(fd, shared=shared, deadline=deadline)
                current = _is_at(path, fd)
            except BaseException:
                os.close(fd)
                raise
            if current:
                return cls(path, fd)
            os.close(fd)  # removed by the holder before; nobody else will look for this one

    def fileno(self) -> int:
        """The locked descriptor: a program that gets it (``pass_fds``) holds the lock, too, as long as it lives."""
        return self._fd

    def release(self) -> None:
        """Close the descriptor; other holders of the same one keep the lock."""
        self._close()
        self._held.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @classmethod
    def _forget_in_child(cls) -> None:
        for lock in list(cls._held):
            lock.release()


def _lock(fd: int, *, shared: bool, deadline: float) -> None:
    if sys.platform == "win32":
        raise OSError("no flock on Windows")
    else:  # noqa: RET506 - mypy leaves out what another platform runs only so
        while True:
            try:
                return fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_LOCK_POLL_S)


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


if sys.platform != "win32":
    os.register_at_fork(after_in_child=FileLock._forget_in_child)  # noqa: SLF001 - of this module


class ServerEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A running server of this user, as it announced itself."""

    url: str
    """Where it listens, as printed: with ``?key=`` if it has a key."""
    pid: int
    """Of its (first) process."""
    started: datetime
    """When it was announced, UTC."""
    memory: bool
    """Whether its broker lives in its own memory, so that publishers must go over HTTP."""
    broker_url: str | None = None
    """Of its Redis, credentials included, if it was given one; None for the embedded one."""
    namespace: str = ""
    """What it puts before all names in its Redis."""
    retention: tuple[int, float, int] | None = None
    """Its logs' entries, seconds and bytes, for who publishes past it; None: the defaults."""


@contextlib.contextmanager
def announce_server(
    url: str,
    *,
    memory: bool,
    broker_url: str | None = None,
    namespace: str = "",
    retention: tuple[int, float, int] | None = None,
) -> Iterator[None]:
    """Let `running_servers` find this server for as long as the context, or at most the process, lasts.

    Where nothing can be written (a read-only container) the server just has to be named by its URL.
    """
    endpoint = ServerEndpoint(
        url=url,
        pid=os.getpid(),
        started=datetime.now(UTC),
        memory=memory,
        broker_url=broker_url,
        namespace=namespace,
        retention=retention,
    )
    try:
        path = private_dir("servers") / f"{os.getpid()}-{secrets.token_hex(4)}.json"
        let_go = _write_held(path, msgspec.json.encode(endpoint))
    except (OSError, SyndarixError) as error:
        _log.warning("this server cannot be found without its URL: %s", error)
        yield
        return
    try:
        yield
    finally:
        let_go()  # before the removal: Windows removes no open file
        path.unlink(missing_ok=True)


def running_servers() -> list[ServerEndpoint]:
    """The servers of this user that run now, newest first; what dead ones left behind is removed."""
    try:
        directory = private_dir("servers")
    except SyndarixError:
        return []  # nobody can have announced anything there
    found = []
    for path in directory.glob("*.json"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            if _is_held(path):
                with contextlib.suppress(msgspec.DecodeError):  # of another version of this package
                    found.append(msgspec.json.decode(path.read_bytes(), type=ServerEndpoint))
    return sorted(found, key=lambda endpoint: endpoint.started, reverse=True)


if sys.platform == "win32":
    # An open file cannot be removed there, which tells as much as a lock.

    def _write_held(path: Path, content: bytes) -> Callable[[], None]:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, content)
        return partial(os.close, fd)

    def _is_held(path: Path) -> bool:
        try:
            path.unlink()
        except PermissionError:
            return True
        return False

else:

    def _write_held(path: Path, content: bytes) -> Callable[[], None]:
        """Write the file, locked before anybody can see it; returns what unlocks it."""
        draft = path.with_suffix(".draft")
        lock = FileLock.acquire(draft)
        os.write(lock.fileno(), content)
        draft.replace(path)
        return lock.release

    def _is_held(path: Path) -> bool:
        fd = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(fd)
