"""Where a sweep keeps its finished replications, so that an interrupted one goes on where it was.

A JSON Lines file. The first line says of which experiment it is; each other line is one replication, synced to the disk
before the next one counts, so a killed process loses only what was still being simulated:

.. code-block:: json

    {"experiment": {"scenario": "steady_sprint", "scenario_digest": "5f1c…", "seed": 7, "horizon_h": 80.0, "…": "…"}}
    {"key": "91b0…", "point": {"agents.developers": 2}, "replication": 0, "metrics": {"…": 0.18}}
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from syndarix_rt.errors import SyndarixError
from syndarix_rt.state import FileLock

__all__ = ["Store", "digest"]

Metrics = dict[str, float]


class _Line(msgspec.Struct):
    key: str
    point: dict[str, Any]
    replication: int
    metrics: dict[str, float | str]  # JSON has no infinity and no NaN: they are stored as text


def digest(value: Any) -> str:
    """What identifies a value by its JSON, in every process."""
    return blake2b(msgspec.json.encode(value), digest_size=16).hexdigest()


class Store:
    """The replications of one experiment that are done; a context manager.

    Args:
        path: the file; made if it is not there.
        experiment: what all its replications have in common, as JSON values by name.

    Attributes:
        done: the metrics of each finished replication, by its key.

    Raises:
        SyndarixError: the file belongs to another experiment, is in use, is no store, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], experiment: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.done: dict[str, Metrics] = {}
        self._header = msgspec.json.encode({"experiment": experiment}) + b"\n"
        with ExitStack() as stack:
            self._lock(stack)
            try:
                self._file = stack.enter_context(self.path.open("ab", buffering=0))
                self._load(self.path.read_bytes())
            except OSError as error:
                raise self._failed(error) from error
            self.close = stack.pop_all().close

    def add(self, key: str, point: Mapping[str, Any], replication: int, metrics: Metrics) -> None:
        """Keep a replication; when this returns, it is on the disk."""
        stored = {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}
        line = msgspec.json.encode(_Line(key, dict(point), replication, stored)) + b"\n"
        try:
            self._write(line)
        except OSError as error:
            raise self._failed(error) from error
        self.done[key] = metrics

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self, stack: ExitStack) -> None:
        try:
            stack.enter_context(FileLock.acquire(self.path))
        except BlockingIOError:
            raise SyndarixError(
                f"{self.path}: another sweep writes into it; wait for it, or name another file"
            ) from None
        except OSError:
            pass  # no locks here (Windows, some network file systems), or no such place, which opening the file tells

    def _load(self, content: bytes) -> None:
        whole, line_end, _ = content.rpartition(b"\n")
        lines = (whole + line_end).splitlines(keepends=True)
        if not lines:
            if not self._header.startswith(content):  # not even the half of a header: somebody else's file
                raise SyndarixError(f"{self.path}: is no store of a sweep; name a new file")
            self._file.truncate(0)
            self._write(self._header)
            return
        self._check(lines[0])
        for number, line in enumerate(lines[1:], start=2):
            try:
                read = msgspec.json.decode(line, type=_Line)
                self.done[read.key] = {name: float(value) for name, value in read.metrics.items()}
            except ValueError as error:  # msgspec's errors are ValueErrors, too
                raise SyndarixError(f"{self.path}, line {number}: is no replication of a sweep: {error}") from None
        self._file.truncate(len(whole + line_end))  # a last line that was cut by a kill is simulated again

    def _check(self, header: bytes) -> None:
        try:
            theirs = msgspec.json.decode(header, type=dict[str, dict[str, Any]])["experiment"]
        except (msgspec.DecodeError, KeyError):
            raise SyndarixError(f"{self.path}: is no store of a sweep; name a new file") from None
        ours = msgspec.json.decode(self._header)["experiment"]
        for name in [*ours, *theirs]:
            if theirs.get(name) != ours.get(name):
                raise SyndarixError(
                    f"{self.path}: holds another experiment: there {name} is {theirs.get(name)!r}, "
                    f"here {ours.get(name)!r}; name another file, or remove this one"
                )

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        os.fsync(self._file.fileno())

    def _failed(self, error: OSError) -> SyndarixError:
        return SyndarixError(f"{self.path}: cannot keep replications: {error.strerror or error}")
