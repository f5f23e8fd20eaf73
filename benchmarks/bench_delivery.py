"""Delivery, side by side with peers: highest sustained rate, latency, CPU, memory, resume.

python benchmarks/bench_delivery.py [--repeats 3] [--only LIST] [--load-client FILE.c] [--json FILE] [--write]

Each measure takes all candidates in turn, so that what else happens on the machine happens to all; a row without its
peer in the same run is not shown. The server has one core, the rest another. The load client is the C program of
``../shared/bench`` where that and a compiler are there, else one in Python. ``--json`` adds to the file that is there,
measure by measure; ``--write`` makes docs/benchmarks.md and its plots of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import peers
import report

from syndarix_rt.benchmark import candidate, machine, measures
from syndarix_rt.errors import SyndarixError

ROOT = Path(__file__).parents[1]
LOAD_CLIENT = ROOT.parent / "shared" / "bench" / "sse_load.c"

# What each is tried at, events a second to 1,000 subscribers; it stops at the first rate that it does not sustain.
LADDERS = {
    "syndarix-rt": [1_000, 2_000, 2_500, 3_000, 3_500, 4_000, 5_000, 5_500, 6_000, 7_000, 8_000, 9_000],
    "sse-starlette": [5, 10, 15, 20, 30, 40, 50],
    "sse-starlette, own hub": [10, 20, 30, 40, 50, 75],
    "Nchan": [50, 75, 100, 125, 150, 200, 300],
}
OURS = "syndarix-rt"


def highest_rate(server, load):
    return measures.highest_rate(server, load, LADDERS[server.name])


def steady(server, load, *, subscribers, rate, seconds, **more):
    return measures.fan_out(server, load, subscribers=subscribers, rate=rate, seconds=seconds, **more)


def idle(server, load, *, connections):
    return measures.idle(server, load, connections)


def resume(server, _):
    return measures.resume(server, clients=200, missed=1_000)


def stalled(server, load):
    """Half of the subscribers read nothing, after all did, or are not there; 6 MB for each, so no buffer hides it."""
    how = {"rate": 125, "seconds": 6.0, "size_bytes": 8_000}
    before = steady(server, load, subscribers=1_000, **how)
    alone = steady(server, load, subscribers=500, **how)
    beside = steady(server, load, subscribers=1_000, stall=500, **how)
    told = {"before_p99_ms": before["p99_ms"], "alone_p99_ms": alone["p99_ms"]}
    return told | {"p99_over_before": beside["p99_ms"] / before["p99_ms"]} | beside


# Measure by name: how, and who takes part.
ALL = tuple(LADDERS)
MEASURES = {
    "highest_rate": (highest_rate, ALL),
    # Long enough that it is no matter how a connection begins: its first sixteen segments are acknowledged at once, at
    # the sender's cost; and that of 200 events one that the machine has delayed is not yet the p99.
    "latency": (partial(steady, subscribers=200, rate=10, seconds=20.0), ALL),
    "single_sends": (partial(steady, subscribers=200, rate=100, seconds=3.0), ALL),
    "busy": (partial(steady, subscribers=1_000, rate=100, seconds=10.0), (OURS, "Nchan")),
    "idle_5000": (partial(idle, connections=5_000), ALL),
    "idle_10000": (partial(idle, connections=10_000), (OURS, "Nchan")),
    "projects": (partial(steady, subscribers=5_000, rate=1_000, seconds=6.0, projects=1_000), (OURS, "Nchan")),
    "stalled": (stalled, (OURS, "Nchan")),
    "resume": (resume, (OURS,)),
}
CURVES = [(rate, subscribers) for subscribers in (10, 100, 1_000) for rate in (10, 100, 1_000, 5_000)]


def opened(name, redis_url):
    if name == OURS:
        return candidate.our_server(redis_url)
    if name == "Nchan":
        return peers.nchan()
    return peers.sse_starlette(redis_url, "hub_app" if "hub" in name else "app")


def measure(found, names, load, redis_url, repeats, keep):
    absent = peers.missing()
    for peer, reason in absent.items():
        print(f"{peer} is left out: {reason}", file=sys.stderr)
    for name in names:
        how, who = MEASURES[name]
        taking_part = [each for each in who if not any(each.startswith(peer) for peer in absent)]
        found["measures"][name] = {each: [] for each in taking_part}
        for _ in range(repeats):
            for each in taking_part:
                try:
                    with opened(each, redis_url) as server:
                        figures = how(server, load)
                except SyndarixError as error:
                    figures = {"failed": str(error)}
                found["measures"][name][each].append(figures)
                print(name, each, report.one_line(figures), flush=True)
        keep()


def curves(found, load, redis_url):
    """Ours over subscribers and event rates, once each: the shape matters, not the last digit."""
    found["curves"] = []
    for rate, subscribers in CURVES:
        with candidate.our_server(redis_url) as server:
            figures = measures.fan_out(server, load, subscribers=subscribers, rate=rate, seconds=2.5)
        found["curves"].append({"rate": rate, "subscribers": subscribers} | figures)
        print("curve", rate, subscribers, report.one_line(figures), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, choices=range(1, 11), metavar="1-10")
    parser.add_argument(
        "--only", default="", metavar="LIST", help=f"of {', '.join([*MEASURES, 'publishing', 'curves'])}"
    )
    parser.add_argument("--load-client", type=Path, default=LOAD_CLIENT if LOAD_CLIENT.exists() else None)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [*MEASURES, "publishing", "curves"]
    if unknown := set(wanted) - {*MEASURES, "publishing", "curves"}:
        parser.error(f"--only: no measure is called {', '.join(sorted(unknown))}")
    source = options.load_client if shutil.which("cc") else None
    found = {"measures": {}}
    if options.json and options.json.exists():
        found = json.loads(options.json.read_text())
    found["machine"] = machine.describe() | {"load client": "C" if source else "Python"}

    def keep():
        """After every measure: a long run may be interrupted."""
        if options.json:
            options.json.write_text(json.dumps(found, indent=1))

    with tempfile.TemporaryDirectory(prefix="syndarix-rt-") as directory, contextlib.ExitStack() as stack:
        redis_url = stack.enter_context(candidate.private_redis())
        load = measures.Loader(candidate.load_client(source, Path(directory)))
        measure(found, [name for name in wanted if name in MEASURES], load, redis_url, options.repeats, keep)
        if "publishing" in wanted:
            tries = [measures.publishing(redis_url, events=300_000, batch=100) for _ in range(options.repeats)]
            found["publishing"] = statistics.median(each["events_per_s"] for each in tries)
        if "curves" in wanted:
            curves(found, load, redis_url)
    keep()
    if options.write:
        report.write(found, ROOT / "docs")
    for line in report.lines(found):
        print(line)


if __name__ == "__main__":
    main()
