"""Processes that use the embedded server, and what can be seen of it from outside."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil

from syndarix_rt.state import FileLock

USER = """
import sys
from syndarix_rt.broker.embedded import EmbeddedServer
sys.stdin.readline()
server = EmbeddedServer.acquire()
print(server.url, flush=True)
sys.stdin.readline()
server.release()
"""


@contextlib.contextmanager
def own_state(tmp_path, monkeypatch):
    """A state directory with a space in its name; afterwards nothing works in it any more."""
    directory = tmp_path / "a state"
    monkeypatch.setenv("SYNDARIX_RT_STATE_DIR", str(directory))
    monkeypatch.setenv("SYNDARIX_RT_EMBEDDED_LINGER_S", "0.2")
    try:
        yield directory
        poll(lambda: not processes(directory))
    finally:
        for process in processes(directory):
            process.kill()


class User:
    """A process that uses the server: from `url` on, until `leave` or a signal."""

    def __init__(self, *, start=True, **popen):
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **popen
        )
        if start:
            self.go()

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def url(self):
        return self.process.stdout.readline().strip()

    def leave(self):
        self.process.communicate("\n", timeout=30)

    def kill(self):
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def users(count=1, **popen):
    started = [User(**popen) for _ in range(count)]
    try:
        yield started
    finally:
        for user in started:
            user.kill()


def poll(condition, seconds=60):
    """What ``condition()`` gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return answer


def is_running(pid):
    """Whether there is such a process; one that has ended and only waits for its parent to notice is none."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def endpoint(state):
    return json.loads((state / "redis" / "endpoint.json").read_bytes())


def kill_server(state):
    os.kill(endpoint(state)["pid"], signal.SIGKILL)
    until_free(state, "server.lock")  # all its threads have ended


def kill_watchdog(state):
    (watchdog,) = watchdogs(state)
    watchdog.kill()
    until_free(state, "watchdog.lock")
    return watchdog


def until_free(state, name):
    """Wait until who was killed has let go of a lock: it is not seen among the processes any more a moment before."""
    FileLock.acquire(state / "redis" / name, timeout_s=60).release()


def processes(state, word=""):
    """The processes that work in the embedded server's directory and have ``word`` in their command line."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd().startswith(f"{state}{os.sep}redis") and word in " ".join(process.cmdline()):
                found.append(process)
    return found


def servers(state):
    return processes(state, "-server 127.0.0.1:")


def watchdogs(state):
    return processes(state, "watchdog.py")
