"""`Child`: a command of ours in a process of its own that never outlives this one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from syndarix_rt.errors import SyndarixError

__all__ = ["Child"]

_SCRIPT = Path(__file__).with_name("child.py")

TAIL_LINES = 50
"""Lines of output kept, to say why it failed."""

STOP_S = 5.0
"""A child gets so long to end by itself; a server ends its streams first."""


class Child:
    """``syndarix-rt ARGUMENTS`` as a child process.

    It gets a session of its own: Jupyter sends an interrupt to the kernel's whole process group, and interrupting a
    cell must not end a server.

    Args:
        arguments: of the command line.
        environment: variables to set, or with None to remove.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str | None] | None = None) -> None:
        variables: dict[str, str | None] = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-P", str(_SCRIPT), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in variables.items() if value is not None},
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, name=f"output of {self.process.pid}", daemon=True)
        self._reader.start()

    @property
    def returncode(self) -> int | None:
        """Its exit code; None while it runs or its output is still being read."""
        return self.process.poll() if self._ended else None

    def wait_for_line(self, start: str, timeout_s: float) -> str:
        """Wait for a line of its output that begins so (spaces do not count); the line.

        Raises:
            SyndarixError: it ended before that, or it took too long.
        """

        def found() -> str | None:
            return next((line for line in self.tail if line.startswith(start)), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._ended, timeout_s)
            line = found()
        if line is None:
            reason = self.last_words() or f"it said nothing within {timeout_s:g} s"
            self.stop()
            raise SyndarixError(f"the server did not start: {reason}")
        return line

    def last_words(self) -> str:
        """The last line of its output, without the program's name; empty if there is none."""
        return self.tail[-1].removeprefix("syndarix-rt: ") if self.tail else ""

    def stop(self) -> None:
        """End it, by force if need be; returns when it is gone."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(STOP_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        with self.process.stdout as output, self.process.stdin:
            for line in filter(None, map(str.strip, output)):
                with self._news:
                    self.tail.append(line)
                    self._news.notify_all()
            self.process.wait()
        with self._news:
            self._ended = True
            self._news.notify_all()
