"""A line of text that grows while something long is computed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

__all__ = ["Progress", "progress_of"]

Progress = Callable[[int, int], object]
"""Called with what is done and the total: once at the beginning and after each step."""

_WIDTH = 30


def progress_of(wanted: bool | Progress, what: str) -> Progress:  # noqa: FBT001 - a value of the caller's own parameter
    """Who is told of progress: the callable, a bar where a person can see it, or nobody.

    Args:
        wanted: True for a bar on the terminal or below the notebook's cell; nothing is written into files and pipes.
        what: is counted, such as ``replications``.
    """
    if callable(wanted):
        return wanted
    stream = _seen_by_a_person() if wanted else None
    return _Bar(stream, what) if stream else lambda *_: None


class _Bar:
    def __init__(self, stream: TextIO, what: str) -> None:
        self._stream = stream
        self._what = what
        self._shown = ""

    def __call__(self, done: int, total: int) -> None:
        filled = _WIDTH * done // total
        line = f"{'█' * filled}{'░' * (_WIDTH - filled)} {done:,} of {total:,} {self._what}"
        if line != self._shown:
            self._shown = line
            self._stream.write(f"\r{line}" + "\n" * (done == total))
            self._stream.flush()


def _seen_by_a_person() -> TextIO | None:
    if type(sys.stdout).__module__.startswith("ipykernel."):
        return sys.stdout  # JupyterLab shows stderr in red
    return sys.stderr if sys.stderr is not None and sys.stderr.isatty() else None
