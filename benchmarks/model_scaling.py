"""What many subscribers need: a fan-out computed from measured constants, and which limit is met first.

python benchmarks/model_scaling.py [--write]

Nothing is served here. `MEASURED` are figures of this directory's benchmarks, on one machine; `HOST` is what a machine
is taken to be, and is assumed. ``--write`` puts the tables into docs/scaling.md.
"""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path

DOC = Path(__file__).parents[1] / "docs" / "scaling.md"


@dataclass(frozen=True)
class Measured:
    """Of one core, with events of 300 bytes; CPU times in microseconds."""

    write_us: float = 12.8
    """A write of one event to one stream over plain HTTP/1.1 (bench_delivery, `single_sends`)."""
    delivery_us: float = 0.19
    """Each delivery where many go out in one write (bench_delivery, `highest_rate`)."""
    flushes_per_s: float = 44.0
    """Writes to a stream at the most: what comes meanwhile goes along (`PAUSE_S` of server/channel.py)."""
    event_us: float = 30.0
    """What a worker spends on an event of a channel once, for all its streams (bench_delivery, `curves`)."""
    connection_kib: float = 15.7
    """Memory of an idle connection (bench_delivery, `idle_10000`)."""
    resumes_per_s: float = 1_000.0
    """Streams that come back, each 1,000 events behind (bench_delivery, `resume`: 200 within 0.2 s)."""
    wire_bytes: float = 370.0
    """Of an event on its way to a subscriber: its own 300, id, name and framing."""
    store_us: float = 5.4
    """Redis, an event that is published in a batch of 100 (bench_broker, as the three below)."""
    copy_us: float = 0.10
    """Redis, such an event's copy for one worker."""
    store_alone_us: float = 48.0
    """Redis, an event that is published by itself."""
    copy_alone_us: float = 3.6
    """Redis, its copy for one worker."""


@dataclass(frozen=True)
class Host:
    """A machine of a data centre; assumed."""

    cores: int = 32
    busy_share: float = 0.6
    """Of a core: what is planned for, so that a lost host and a busy minute have room."""
    memory_gib: float = 128.0
    network_gbit_per_s: float = 25.0
    network_share: float = 0.6
    late_ms: float = 250.0
    """An event is at the last of a worker's streams so long after the first, at the most: it still feels live."""


MEASURED, HOST = Measured(), Host()


@dataclass(frozen=True)
class Case:
    """Who listens to what."""

    name: str
    projects: int
    subscribers: int
    """In all."""
    rate: float
    """Events a second, of each project."""
    batched: bool = False
    """Whether publishers send many events at once."""


CASES = [
    Case("200 people watch a demo", 1, 200, 10),
    Case("1,000 dashboards, busy simulation", 1, 1_000, 4_000, batched=True),
    Case("10,000 projects of five people", 10_000, 50_000, 1),
    Case("a million on one project, 1/s", 1, 1_000_000, 1),
    Case("a million on one project, 100/s", 1, 1_000_000, 100, batched=True),
    Case("10 million on one project, 1/s", 1, 10_000_000, 1),
    Case("10 million on one project, 10/s", 1, 10_000_000, 10),
    Case("10 million on one project, 100/s", 1, 10_000_000, 100, batched=True),
    Case("10 million on 2 million projects, 1/s", 2_000_000, 10_000_000, 1),
]


@dataclass(frozen=True)
class Need:
    """What a case takes."""

    workers: int
    hosts: int
    hosts_by: str
    """Which of a host's parts is full first."""
    deliveries_per_s: float
    gbit_per_s: float
    shard_load: float
    """Of the busiest Redis shard, cores: more than one cannot be."""
    shards: int
    """How many the projects must be spread over; one project has one."""
    late_ms: float
    """From the first to the last of a worker's streams of one project."""
    comeback_s: float
    """Until all streams of a lost host have resumed, by what the other hosts' spare time allows."""


def need(case: Case, measured: Measured = MEASURED, host: Host = HOST) -> Need:
    """Compute it."""
    m = measured
    streams = case.subscribers / case.projects
    writes_per_s = min(case.rate, m.flushes_per_s)
    stream_us = writes_per_s * m.write_us + max(0.0, case.rate - writes_per_s) * m.delivery_us
    # Without affinity every worker soon has a stream of every project that has more streams than there are workers.
    workers = math.ceil(case.subscribers * stream_us / 1e6 / host.busy_share)
    workers = max(workers, math.ceil(streams * m.write_us / 1e3 / host.late_ms))
    for _ in range(20):
        followed = case.projects * min(1.0, streams / workers) if workers > 1 else case.projects
        load = case.subscribers / workers * stream_us + followed * case.rate * m.event_us
        if load <= host.busy_share * 1e6:
            break
        workers = math.ceil(workers * load / (host.busy_share * 1e6))
    deliveries = case.subscribers * case.rate
    gbit = deliveries * m.wire_bytes * 8 / 1e9
    by = {
        "CPU": workers / host.cores,
        "memory": case.subscribers * m.connection_kib / 1024**2 / host.memory_gib,
        "network": gbit / (host.network_gbit_per_s * host.network_share),
    }
    hosts_by = max(by, key=by.__getitem__)
    hosts = max(1, math.ceil(by[hosts_by]))
    copies = min(workers, streams)
    store_us, copy_us = (m.store_us, m.copy_us) if case.batched else (m.store_alone_us, m.copy_alone_us)
    project_load = case.rate * (store_us + copies * copy_us) / 1e6
    fit = max(1, math.floor(host.busy_share / project_load))  # a project is in one place, however busy
    shards = math.ceil(case.projects / fit)
    spare = (1 - host.busy_share) * max(1, hosts - 1) * host.cores * m.resumes_per_s
    return Need(
        workers, hosts, hosts_by, deliveries, gbit, project_load * math.ceil(case.projects / shards), shards,
        math.ceil(streams / workers) * m.write_us / 1e3, case.subscribers / hosts / spare,
    )  # fmt: skip


def needs() -> str:
    """The table of all cases."""
    columns = (
        "Deliveries/s",
        "Workers",
        "Hosts (full first)",
        "Network",
        "Redis shards",
        "Busiest shard",
        "Last after",
    )
    lines = [f"| Case | {' | '.join(columns)} | Comeback |", "|---" + "|--:" * (len(columns) + 1) + "|"]
    for case in CASES:
        n = need(case)
        load = f"{n.shard_load:.2f} cores" if n.shard_load <= 1 else f"**{n.shard_load:,.0f} cores**"
        lines.append(
            f"| {case.name} | {n.deliveries_per_s:,.0f} | {n.workers:,} | {n.hosts:,} ({n.hosts_by}) | "
            f"{n.gbit_per_s:,.2f} Gbit/s | {n.shards:,} | {load} | {n.late_ms:,.0f} ms | {n.comeback_s:,.1f} s |"
        )
    return "\n".join(lines)


def limits() -> str:
    """What one worker, one shard and one project bear, in the order in which a growing project meets it."""
    m, host = MEASURED, HOST
    budget_us = host.busy_share * 1e6
    rows = []
    for rate in (1, 10, 100, 1_000):
        writes = min(rate, m.flushes_per_s)
        stream_us = writes * m.write_us + max(0.0, rate - writes) * m.delivery_us
        streams = min((budget_us - rate * m.event_us) / stream_us, host.late_ms * 1e3 / m.write_us)
        store_us, copy_us = (m.store_us, m.copy_us) if rate >= 100 else (m.store_alone_us, m.copy_alone_us)
        workers = (budget_us / rate - store_us) / copy_us
        memory_gib = streams * m.connection_kib / 1024**2
        rows.append(
            f"| {rate:,}/s | {streams:,.0f} | {memory_gib:,.2f} GiB | {workers:,.0f} | {streams * workers:,.0f} |"
        )
    head = "| Events of one project | Subscribers of one worker | Their memory | Workers of one shard | Subscribers |"
    return "\n".join([head, "|--:|--:|--:|--:|--:|", *rows])


def tables() -> dict[str, str]:
    """By the name that marks their place in the document."""
    return {"limits": limits(), "needs": needs()}


def written(text: str) -> str:
    """The document with the tables of now."""
    for name, table in tables().items():
        text, count = re.subn(rf"(?s)(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>{table}\n\g<2>", text)
        assert count == 1, f"docs/scaling.md has {count} places for {name}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    print("\n\n".join(tables().values()))
    if options.write:
        DOC.write_text(written(DOC.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
