"""What reporting costs the agent: how long one call keeps it, with the server there, away, and frozen.

python benchmarks/bench_reporter.py [--events 10000] [--json FILE]

Each case reports from the agent's main thread as fast as it goes, which is the worst that a sending thread in the same
process can meet. Times are of ``run.tool(…)`` alone, by ``time.perf_counter``. The server is a process of its own with
its embedded Redis, so on few cores it competes with the agent.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
from served import served

from syndarix_rt.client import Reporter


def calls_us(url: str, events: int) -> tuple[np.ndarray, float, bool]:
    """How long each call took, how long all of them, and whether all arrived within a minute after."""
    reporter = Reporter(url, project="apollo")
    took = np.empty(events)
    began_s = time.perf_counter()
    with reporter.run("coder") as run:
        for number in range(events):
            before_s = time.perf_counter()
            run.tool("shell", duration_s=0.0, number=number)
            took[number] = time.perf_counter() - before_s
    all_s = time.perf_counter() - began_s
    arrived = reporter.flush(60) if "127.0.0.1" in url else False
    reporter.close(0.5)
    return took * 1e6, all_s, arrived


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000, help="in each case")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as state:
        os.environ["SYNDARIX_RT_STATE_DIR"] = state
        with served() as server:
            calls_us(server.url, 1_000)  # imports, first connection
            rows["server there"] = calls_us(server.url, options.events)
            server.process.send_signal(signal.SIGSTOP)
            try:
                rows["server frozen"] = calls_us(server.url.replace("127.0.0.1", "localhost"), options.events)
            finally:
                server.process.send_signal(signal.SIGCONT)
        rows["server away"] = calls_us("http://localhost:1", options.events)
    print(f"{'case':14} {'p50 µs':>8} {'p99 µs':>8} {'p99.9 µs':>9} {'max µs':>9} {'events/s':>9}  all arrived")
    found = {}
    for case, (took, all_s, arrived) in rows.items():
        p50, p99, p999 = np.quantile(took, (0.5, 0.99, 0.999))
        found[case] = {
            "p50_us": p50, "p99_us": p99, "p999_us": p999, "max_us": took.max(), "events_per_s": len(took) / all_s,
        }  # fmt: skip
        print(
            f"{case:14} {p50:8.1f} {p99:8.1f} {p999:9.1f} {took.max():9.1f} {len(took) / all_s:9,.0f}  "
            f"{'yes' if arrived else '-'}"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
