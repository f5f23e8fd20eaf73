"""A server of ours in a process of its own, as a user starts it, for the scripts in this directory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple

import psutil

from syndarix_rt.ports import held_port

START_S = 30
STOP_S = 30


class Served(NamedTuple):
    """A running server."""

    url: str
    process: psutil.Process


@contextlib.contextmanager
def served(*options: str) -> Iterator[Served]:
    """Run ``syndarix-rt serve`` on a free loopback port, with a state directory of its own, until the block ends."""
    command = [sys.executable, "-m", "syndarix_rt", "serve", "--token", "", *options]
    with (
        held_port() as port,
        tempfile.TemporaryDirectory(prefix="syndarix-rt-") as state,
        tempfile.TemporaryFile() as log,
    ):
        url = f"http://127.0.0.1:{port}"
        command += ["--port", str(port)]
        environment = os.environ | {"SYNDARIX_RT_STATE_DIR": state}
        child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_S
            while not _ready(url):
                if child.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"the server did not start:\n{log.read().decode(errors='replace')[-4000:]}")
                time.sleep(0.05)
            yield Served(url, psutil.Process(child.pid))
        finally:
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _ready(url: str) -> bool:
    with (
        contextlib.suppress(urllib.error.URLError, OSError),
        urllib.request.urlopen(f"{url}/readyz", timeout=2) as reply,
    ):
        return reply.status == 200
    return False
