"""A recording whose disk is full: it must end with an error that says so, and keep what it has."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from syndarix_rt.verification.history import fingerprint
from syndarix_rt.verification.stack import environment_of
from syndarix_rt.verification.workload import PROJECT

__all__ = ["Recorded", "record_until_full"]

ROOM_BLOCKS = 16
"""Of 512 or 1,024 bytes each, as the shell has it: room for a dozen events or more."""

FULL_S = 30.0
"""For the recorder to start, to get so much, and to end: a second or two, or more on a busy machine."""


class Recorded(NamedTuple):
    """How a recording ended."""

    code: int | None
    """Of its exit; None: it went on."""
    said: str
    """Its last line of stderr."""
    fingerprints: list[int]
    """Of the events that are whole in the file."""


async def record_until_full(port: int, directory: Path) -> Recorded:
    """Run ``syndarix-rt record`` at the server on this port; no file that it writes may grow beyond `ROOM_BLOCKS`."""
    target = directory / "recording.jsonl"
    command = [sys.executable, "-m", "syndarix_rt", "record", PROJECT, "--url", f"http://127.0.0.1:{port}", "-o"]
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", 'ulimit -f "$0" && exec "$@"', str(ROOM_BLOCKS), *command, str(target)),
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
        env=environment_of(directory) | {"PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,  # Ctrl-C is for this process, which ends it
    )
    code, said = None, b""
    try:
        async with asyncio.timeout(FULL_S):
            _, said = await process.communicate()
            code = process.returncode
    except TimeoutError:
        pass
    finally:
        with suppress(ProcessLookupError):
            process.kill()
            await process.wait()
    partial = target.with_name(target.name + ".partial")
    *whole, _ = (partial.read_bytes() if partial.exists() else b"").split(b"\n")
    last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return Recorded(code, last, [fingerprint(line) for line in whole])
