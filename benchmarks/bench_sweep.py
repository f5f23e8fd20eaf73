"""Sweeps: the same replications in one process, and in two.

python benchmarks/bench_sweep.py [--replications 40] [--json FILE]

Wall times are those of this machine as busy as it is. ``by_cpu`` is what an idle one with two cores would reach: the
CPU time of one process, over that of the busier worker or half of what all three use together, whichever is more.
Both include the start of the workers: each is a fresh Python that loads numpy, joblib and the simulation, half a second
in which nothing is simulated. A sweep of a few seconds shows that start more than the second core; hence 3 x 40.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import psutil

from syndarix_rt.simulation.analysis.sweep import sweep

OVER = {"agents.developers": [2, 4, 8]}
HORIZON_H = 40


def cpu_s(process):
    return sum(process.cpu_times()[:2])


def timed(jobs, replications):
    """The frame, seconds on the wall, CPU seconds of this process and of each worker."""
    me = psutil.Process()
    began_s, before_s = time.perf_counter(), cpu_s(me)
    result = sweep("steady_sprint", OVER, replications, horizon_h=HORIZON_H, jobs=jobs)
    wall_s = time.perf_counter() - began_s
    workers = sorted(cpu_s(child) for child in me.children(recursive=True))[-jobs:] if jobs > 1 else []
    return result, wall_s, cpu_s(me) - before_s, workers


def measure(replications):
    sweep("steady_sprint", OVER, 1, events=1, jobs=1)  # loads what is loaded once
    one, one_wall_s, one_cpu_s, _ = timed(1, replications)
    two, two_wall_s, parent_cpu_s, workers_cpu_s = timed(2, replications)
    assert one.replications.equals(two.replications)
    two_cpu_s = max(*workers_cpu_s, (parent_cpu_s + sum(workers_cpu_s)) / 2)
    return {
        "replications": len(one.replications),
        "events": int(one.replications["events"].sum()),
        "one_s": round(one_wall_s, 2),
        "two_s": round(two_wall_s, 2),
        "by_wall": round(one_wall_s / two_wall_s, 2),
        "by_cpu": round(one_cpu_s / two_cpu_s, 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=40, help="at each of three points")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    figures = measure(options.replications)
    print("".join(f"{name:>14}" for name in figures))
    print("".join(f"{value:>14,}" for value in figures.values()))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
