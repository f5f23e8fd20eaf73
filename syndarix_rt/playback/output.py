"""A file that gets its name when it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from syndarix_rt.errors import RecordingError
from syndarix_rt.state import FileLock

__all__ = ["PartialFile", "whole_file"]


class PartialFile:
    """A file that is ``<name>.partial`` until it is complete; meanwhile nobody else writes it.

    A device or pipe (``/dev/stdout``) is written to directly.

    Args:
        path: the name that it gets, replacing a file that has it already.
        buffer_bytes: Python's buffer; -1: the usual one.

    Attributes:
        path: the same.
        partial: the name it has until then.
        file: to write to; whoever opened it closes it.

    Raises:
        RecordingError: another writer has it open.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, buffer_bytes: int = -1) -> None:
        is_special = path.exists() and not path.is_file()
        self.path = path
        self.partial = path if is_special else path.with_name(path.name + ".partial")
        self._lock = None if is_special else _lock(self.partial, path)
        try:
            self.file: IO[bytes] = self.partial.open("wb", buffer_bytes)
        except BaseException:
            self.release()
            raise

    def complete(self) -> None:
        """Give it its name; what is written must have left Python's buffer.

        Raises:
            OSError: it cannot have that name.
        """
        if self.partial != self.path:
            self.partial.replace(self.path)
        self.release()

    def remove(self) -> None:
        """It is of no use."""
        if self.partial != self.path:
            self.partial.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Whoever wants may write it anew."""
        if self._lock is not None:
            self._lock.release()


def _lock(partial: Path, path: Path) -> FileLock | None:
    try:
        return FileLock.acquire(partial, mode=0o666)
    except BlockingIOError:
        raise RecordingError(
            f"{path}: {partial.name} is being written already; wait for its end, or name another file"
        ) from None
    except OSError:
        return None  # no locks here (Windows, some network file systems), or no such place, which opening it tells


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write to that gets its name, replacing another, when the block ends without an error.

    Until then it is a `PartialFile`; an error removes that, for an export can be made again.

    Raises:
        RecordingError: the file cannot be written.
    """
    path = Path(path)
    output = None
    try:
        output = PartialFile(path)
        with output.file:
            yield output.file
        output.complete()
    except BaseException as error:
        if output is not None:
            with suppress(OSError):  # the error before says more
                output.remove()
        if isinstance(error, OSError):
            raise RecordingError(f"{path}: cannot write: {error.strerror or error}") from error
        raise
