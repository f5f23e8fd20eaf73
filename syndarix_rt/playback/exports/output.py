"""A file that appears when it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from syndarix_rt.errors import RecordingError

__all__ = ["whole_file"]


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write to that gets its name, replacing another, when the block ends without an error.

    Until then it is ``<name>.partial``; an error removes that, for an export can be made again. A device or pipe
    (``/dev/stdout``) is written to directly.

    Raises:
        RecordingError: the file cannot be written.
    """
    path = Path(path)
    partial = path if path.exists() and not path.is_file() else path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        if partial != path:
            partial.replace(path)
    except BaseException as error:
        if partial != path:
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RecordingError(f"{path}: cannot write: {error.strerror or error}") from error
        raise
