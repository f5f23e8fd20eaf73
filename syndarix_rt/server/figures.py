"""Figures for Prometheus: those of this process, and those of all workers of a server together.

Each worker writes its own into a file of a shared directory once in a while, so any of them can answer for all: its own
as they are, those of others a second old at most. What a worker counted stays when it has ended, so counters never fall
because of a crash; what is open now, and how far behind, is that of living processes alone.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

import msgspec
from prometheus_client.core import Metric

from syndarix_rt.broker.protocol import project_of
from syndarix_rt.server.hub import Hub
from syndarix_rt.server.limits import DETAILS
from syndarix_rt.server.otlp import Exports
from syndarix_rt.server.stream import Reason
from syndarix_rt.server.tally import EVENTS, Histogram
from syndarix_rt.server.writer import Detour

__all__ = ["Family", "collected", "keep_leaving", "merged", "others", "streams_elsewhere"]

EVERY_S = 1.0
"""Between two writings of a worker's file: a scrape comes every 15 s or so."""

Sample = tuple[str, dict[str, str], float]
"""The end of its name, its labels, its value."""


class Family(msgspec.Struct):
    """One figure with its samples."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: list[Sample]
    merge: Literal["sum", "max"] = "sum"


def collected(hub: Hub, exports: Exports) -> list[Family]:
    """The figures of this process."""
    return list(_collect(hub, exports))


def _collect(hub: Hub, exports: Exports) -> Iterator[Family]:
    tally, counts = hub.tally, Counter(hub.tally.counts)
    streams, paths, lag, behind, most = Counter[str](), Counter[Detour](), Histogram(EVENTS), 0, 0
    for channel in hub.channels:
        streams[project_of(channel.name) or ""] += len(channel.streams)
        for stream in channel.streams:
            paths[stream.detour] += 1
            cursor = stream.cursor
            if cursor is None:
                continue
            counts["events"] += cursor.events
            counts["bytes"] += cursor.size_bytes
            counts["writes"] += cursor.pieces
            missing = max(0, channel.log.last - cursor.offset) if cursor.epoch == channel.log.epoch else 0
            lag.observe(missing)
            behind += not stream.is_live
            most = max(most, missing)
    yield _labelled("streams", "gauge", "Open event streams.", "project", dict(sorted(streams.items())))
    yield Family(
        "stream_paths", "gauge", "Open event streams: straight to the connection, or through ASGI and why.",
        [("", {"path": "asgi" if detour else "direct", "reason": detour}, paths[detour])
         for detour in get_args(Detour)],
    )  # fmt: skip
    yield _plain("sockets", "gauge", "Open WebSockets.", hub.open_sockets)
    yield _plain("connections", "gauge", "Open TCP connections.", hub.limits.connections.held)
    yield Family(
        "refused", "counter", "Requests and connections refused over a limit.",
        [("_total", {"limit": limit, "status": str(status)}, hub.limits.refused[limit, status])
         for limit in DETAILS for status in (429, 503)],
    )  # fmt: skip
    yield _plain("draining", "gauge", "Processes that are about to end.", int(hub.draining))
    yield _plain("streams_behind", "gauge", "Event streams that have not reached the head of their log.", behind)
    yield _plain("stream_lag_max_events", "gauge", "Events that the slowest stream lacks.", most, merge="max")
    yield _histogram("stream_lag_events", "Events that open streams lack, at the moment of asking.", lag, now=True)
    lags = [hub.broker.lag(channel.name) for channel in hub.channels]
    yield _plain("reader_lag_events", "gauge", "Events in the broker's logs that this server has not read.", sum(lags))
    yield _plain(
        "reader_lag_max_events", "gauge", "… of the channel that lacks most.", max(lags, default=0), merge="max"
    )
    yield _plain("tasks", "gauge", "Tasks of the event loops.", len(asyncio.all_tasks()))
    yield _plain("log_bytes", "gauge", "Memory of the logs.", sum(each.log.size_bytes for each in hub.channels))
    yield _labelled(
        "streams_opened", "counter", "Event streams by how they began.", "how",
        {how: hub.opened[how] for how in ("live", "resumed", "gap")},
    )  # fmt: skip
    yield _labelled(
        "streams_ended", "counter", "Event streams that have ended.", "reason",
        {reason: hub.ended[reason] for reason in get_args(Reason)},
    )  # fmt: skip
    yield _labelled(
        "gaps", "counter", "Gaps declared in streams.", "reason",
        {reason: hub.gaps[reason] for reason in ("trimmed", "slow", "epoch")},
    )  # fmt: skip
    yield _plain("events_sent", "counter", "Events sent to streams.", counts["events"])
    yield _plain("bytes_sent", "counter", "Bytes of these.", counts["bytes"])
    yield _plain("writes", "counter", "Writes of these; several events make one.", counts["writes"])
    yield _plain("writes_blocked", "counter", "Writes that a client did not take at once.", hub.counts["blocked"])
    yield _plain("pages_read", "counter", "Pages of the log read for streams behind memory.", hub.counts["pages"])
    yield _histogram("replay_events", "Events that a stream was given before it was live.", tally.replay_events)
    yield _histogram("replay_seconds", "How long that took.", tally.replay_s)
    yield _plain("events_received", "counter", "Events that came from the broker.", counts["received"])
    yield _plain("encode_seconds", "counter", "Time spent on encoding them, once for all streams.", tally.encode_s)
    yield _histogram("delay_seconds", "From an event's publication to this server's memory.", tally.delay_s)
    yield _histogram("flush_seconds", "One round of writes to all streams of a channel.", tally.flush_s)
    yield _plain("broker_lost", "counter", "Times that a channel lost its broker.", counts["broker_lost"])
    yield _labelled(
        "publishes", "counter", "Requests to publish.", "status",
        {str(status): count for status, count in sorted(tally.publishes.items())},
    )  # fmt: skip
    yield _plain("events_published", "counter", "Events published over HTTP.", counts["published"])
    yield _labelled(
        "otlp_spans", "counter", "Spans by what became of them.", "outcome",
        {outcome: exports.counts[outcome] for outcome in ("mapped", "other", "late", "duplicate", "rejected")},
    )  # fmt: skip


_Kind = Literal["counter", "gauge"]


def _plain(name: str, kind: _Kind, about: str, value: float, *, merge: Literal["sum", "max"] = "sum") -> Family:
    return Family(name, kind, about, [(_ending(kind), {}, value)], merge)


def _labelled(name: str, kind: _Kind, about: str, label: str, values: dict[str, int]) -> Family:
    return Family(name, kind, about, [(_ending(kind), {label: key}, value) for key, value in values.items()])


def _ending(kind: _Kind) -> str:
    return "_total" if kind == "counter" else ""


def _histogram(name: str, about: str, histogram: Histogram, *, now: bool = False) -> Family:
    """``now``: it is of what is, rather than of what has been; as gauges, since it goes down, too."""
    samples: list[Sample] = []
    count = 0
    for bound, more in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        count += more
        samples.append(("" if now else "_bucket", {"le": "+Inf" if bound == float("inf") else str(bound)}, count))
    if now:
        return Family(name, "gauge", about, samples)
    return Family(name, "histogram", about, [*samples, ("_sum", {}, histogram.total), ("_count", {}, count)])


# ---- of several processes --------------------------------------------------------------------------------------------


class _Left(msgspec.Struct):
    """A worker's file."""

    pid: int
    families: list[Family]


def _leave(directory: Path, families: list[Family]) -> None:
    """Write this process's figures for the others."""
    target = directory / f"{os.getpid()}.json"
    written = target.with_suffix(".new")
    with suppress(OSError):  # the directory goes with the parent, which may be gone already
        written.write_bytes(msgspec.json.encode(_Left(os.getpid(), families)))
        written.replace(target)


async def keep_leaving(directory: Path, hub: Hub, exports: Exports) -> None:
    """Do so until cancelled, and once more then."""
    try:
        while True:
            _leave(directory, collected(hub, exports))
            await asyncio.sleep(EVERY_S)
    finally:
        _leave(directory, collected(hub, exports))


def others(directory: Path | None) -> Iterator[tuple[bool, list[Family]]]:
    """What other workers have left: whether each still lives, and its figures."""
    for path in sorted(directory.glob("*.json")) if directory is not None else ():
        with suppress(OSError, msgspec.DecodeError):
            left = msgspec.json.decode(path.read_bytes(), type=_Left)
            if left.pid != os.getpid():
                yield _lives(left.pid), left.families


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def merged(own: list[Family], more: Iterable[tuple[bool, list[Family]]]) -> list[Metric]:
    """The figures of all, as Prometheus's library writes them."""
    found: dict[str, Family] = {family.name: family for family in own}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for lives, families in ((True, own), *more):
        for family in families:
            if not lives and family.kind == "gauge":
                continue
            kept = values.setdefault(family.name, {})
            for ending, labels, value in family.samples:
                key = (ending, tuple(labels.items()))
                kept[key] = max(kept.get(key, value), value) if family.merge == "max" else kept.get(key, 0.0) + value
            found.setdefault(family.name, family)
    metrics = []
    for name, family in found.items():
        metric = Metric(f"syndarix_rt_{name}", family.help, family.kind)
        for (ending, pairs), value in values[name].items():
            metric.add_sample(metric.name + ending, dict(pairs), value)
        metrics.append(metric)
    return metrics


def streams_elsewhere(directory: Path | None) -> Counter[str]:
    """Streams open at the other workers, by project."""
    count: Counter[str] = Counter()
    for lives, families in others(directory):
        for family in families if lives else ():
            if family.name == "streams":
                for _, labels, value in family.samples:
                    count[labels["project"]] += int(value)
    return count
