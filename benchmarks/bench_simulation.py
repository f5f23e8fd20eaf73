"""The simulation's speed: schema-checked events written as JSON Lines, on one core.

python benchmarks/bench_simulation.py [--scenario firehose] [--events 300000] [--json FILE]

CPU time of this process, not wall time; the best of ten stretches, since what else runs on the machine can only slow it
down. ``model`` is everything before an event exists, ``check`` makes the event and checks it, ``encode`` its JSON,
``write`` the file. Below the stretches, where the time goes, by module (cProfile, which slows calls down: shares only).
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path

from syndarix_rt import Event, Scenario, Simulation

STRETCHES = 10
ATTRIBUTES = [name for name in Event.__struct_fields__ if name != "extensions"]


def cpu_us(work, count):
    """CPU time of some work, in microseconds an event."""
    began_s = time.process_time()
    work()
    return (time.process_time() - began_s) / count * 1e6


def measure(scenario, events):
    simulation = Simulation(Scenario.load(scenario), seed=7)
    stretch = events // STRETCHES
    best = {}
    with tempfile.TemporaryFile() as file:
        for _ in range(STRETCHES):
            taken = []
            times = {"generate": cpu_us(lambda: taken.extend(islice(simulation, stretch)), stretch)}  # noqa: B023 - called at once
            raw = []
            times["encode"] = cpu_us(lambda: raw.extend([event.encode() for event in taken]), stretch)  # noqa: B023
            times["write"] = cpu_us(lambda: file.write(b"\n".join(raw)), stretch)  # noqa: B023
            said = [
                {name: value for name in ATTRIBUTES if (value := getattr(event, name)) is not None} for event in taken
            ]
            times["check"] = cpu_us(lambda: [Event(**each) for each in said], stretch)  # noqa: B023
            best = {name: min(value, best.get(name, value)) for name, value in times.items()}
    best["model"] = best["generate"] - best["check"]
    whole_us = best["generate"] + best["encode"] + best["write"]
    return {
        **{f"{name}_us": round(best[name], 2) for name in ("model", "check", "encode", "write")},
        "whole_us": round(whole_us, 2),
        "events_per_s": round(1e6 / whole_us),
    }


def shares(scenario, events):
    """Share of the time by module, the largest first."""
    simulation = Simulation(Scenario.load(scenario), seed=7)
    with cProfile.Profile() as profile:
        for event in islice(simulation, events):
            event.encode()
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
