"""A long simulation keeps its memory: what is over is forgotten.

python benchmarks/soak_simulation.py [--scenario firehose] [--events 10000000]

Resident memory after each tenth. Exit code 1 if the second half needed more than 5 MiB more than the first.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from itertools import islice

import psutil

from syndarix_rt import Scenario, Simulation

PARTS = 10
GROWTH_MIB = 5


def soak(scenario, events):
    simulation = Simulation(Scenario.load(scenario), seed=7)
    memory_mib = []
    for part in range(1, PARTS + 1):
        deque((event.encode() for event in islice(simulation, events // PARTS)), maxlen=0)
        memory_mib.append(psutil.Process().memory_info().rss / 2**20)
        print(f"{part * events // PARTS:>14,} events{memory_mib[-1]:>10.1f} MiB", flush=True)
    return max(memory_mib[PARTS // 2 :]) - max(memory_mib[: PARTS // 2])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="firehose")
    parser.add_argument("--events", type=int, default=10_000_000)
    options = parser.parse_args()
    grown_mib = soak(options.scenario, options.events)
    print(f"second half beyond the first: {grown_mib:+.1f} MiB")
    sys.exit(grown_mib > GROWTH_MIB)


if __name__ == "__main__":
    main()
