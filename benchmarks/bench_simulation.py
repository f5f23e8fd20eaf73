"""The simulation's speed: schema-checked events written as JSON Lines, on one core.

python benchmarks/bench_simulation.py [--scenario firehose] [--events 300000] [--json FILE]

CPU time of this process, not wall time; the best of ten stretches, since what else runs on the machine can only slow it
down. ``generate`` makes the events and checks them, ``write`` encodes them and writes the file. The ``whole`` is done
as the product does it, a few dozen events at a time. Below the stretches, where the time goes, by module (cProfile,
which slows calls down: shares only).
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import tempfile
import time
from collections import Counter, deque
from itertools import islice
from pathlib import Path

from syndarix_rt import Scenario, Simulation
from syndarix_rt.playback import RecordingWriter, write_recording

STRETCHES = 10


def cpu_us(work, count):
    """CPU time of some work, in microseconds an event."""
    began_s = time.process_time()
    work()
    return (time.process_time() - began_s) / count * 1e6


def measure(scenario, events):
    simulation = Simulation(Scenario.load(scenario), seed=7)
    stretch = events // STRETCHES // 2
    whole, generate = [], []
    with tempfile.TemporaryDirectory() as directory, RecordingWriter(Path(directory) / "events.jsonl") as writer:
        for _ in range(STRETCHES):
            whole.append(cpu_us(lambda: writer.write_all(islice(simulation, stretch)), stretch))
            generate.append(cpu_us(lambda: deque(islice(simulation, stretch), maxlen=0), stretch))
    return {
        "generate_us": round(min(generate), 2),
        "write_us": round(min(whole) - min(generate), 2),
        "whole_us": round(min(whole), 2),
        "events_per_s": round(1e6 / min(whole)),
    }


def shares(scenario, events):
    """Share of the time by module, the largest first."""
    simulation = Simulation(Scenario.load(scenario), seed=7)
    with cProfile.Profile() as profile:
        write_recording(os.devnull, islice(simulation, events))
    seconds = Counter()
    for (path, _, name), (_, _, own_s, _, _) in pstats.Stats(profile).stats.items():
        where = Path(path)
        seconds["/".join(where.with_suffix("").parts[-2:]) if where.suffix == ".py" else name] += own_s
    return {name: spent_s / seconds.total() for name, spent_s in seconds.most_common(12)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="firehose")
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    figures = measure(options.scenario, options.events)
    print("".join(f"{name:>14}" for name in figures))
    print("".join(f"{value:>14,}" for value in figures.values()))
    print()
    for name, share in shares(options.scenario, options.events // STRETCHES).items():
        print(f"{share:6.1%}  {name}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
