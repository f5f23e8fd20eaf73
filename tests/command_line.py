"""The command line in processes of its own, as a person or a script runs it."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from typing import NamedTuple

import psutil
import pytest

from syndarix_rt.cli import main

PROGRAM = [sys.executable, "-m", "syndarix_rt"]
TIMEOUT_S = 60
"""For anything that works at all; the machine may be busy."""


class Done(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


def run(*args, **kwargs):
    """Run a command to its end in a process of its own."""
    kwargs = {"text": True, "timeout": TIMEOUT_S, "env": environment()} | kwargs
    done = subprocess.run([*PROGRAM, *map(str, args)], capture_output=True, check=False, **kwargs)
    return Done(done.returncode, done.stdout, done.stderr)


def environment(**variables):
    """Ours, without what would change a command's defaults."""
    kept = {"SYNDARIX_RT_STATE_DIR", "SYNDARIX_RT_EMBEDDED_LINGER_S", "SYNDARIX_RT_EMBEDDED"}
    ours = {name: value for name, value in os.environ.items() if name in kept or not name.startswith("SYNDARIX_RT_")}
    return ours | variables


def call(capsys, *args, **variables):
    """Run a command to its end in this process, which is faster; ``variables`` are added to its environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - environment().keys():
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return Done(caught.value.code, out, err)


class Command:
    """A command that runs until it is interrupted; a context manager that leaves no process."""

    def __init__(self, *args, env=None):
        self.process = subprocess.Popen(
            [*PROGRAM, *map(str, args)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env or environment(),
            start_new_session=True,  # so a signal reaches it alone
        )
        self.out, self.err = _Reader(self.process.stdout), _Reader(self.process.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT_S)
        for reader in (self.out, self.err):
            reader.close()

    @property
    def pid(self):
        return self.process.pid

    def url(self):
        """The URL that it prints when it serves."""
        try:
            return self.out.until(r"https?://\S+")[0]
        except AssertionError as error:
            error.add_note(self.err.rest())
            raise

    def interrupt(self, number=signal.SIGINT):
        """Send a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)


class _Reader:
    """What a process writes, read by a thread so that no pipe fills up."""

    def __init__(self, pipe):
        self._pipe = pipe
        self._lines = queue.SimpleQueue()
        self._ended = False
        self.text = ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self._pipe:
            self._lines.put(line)
        self._lines.put(b"")

    def line(self):
        """The next line as bytes; empty at the end."""
        if self._ended:
            return b""
        line = self._lines.get(timeout=TIMEOUT_S)
        self._ended = not line
        self.text += line.decode()
        return line

    def until(self, pattern):
        """Read on to the first line in which the pattern is found; its match."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            line = self.line()
            if match := re.search(pattern, line.decode()):
                return match
            if not line:
                break
        raise AssertionError(f"no {pattern!r} in {self.text!r}")

    def rest(self):
        """Everything to the end, together with what was read before."""
        while self.line():
            pass
        return self.text

    def close(self):
        self.rest()
        self._thread.join(TIMEOUT_S)
        self._pipe.close()


def children(word, pid=None):
    """The live children of ``pid``, our own without one, that have ``word`` in their command line."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it died since it was listed
            if word in " ".join(child.cmdline()):
                found.append(child)
    return found


def wait_until(found, what, seconds=TIMEOUT_S):
    """Poll until ``found()`` is true; its value."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, f"still not, after {seconds} s: {what}"
        time.sleep(0.02)
    return value
