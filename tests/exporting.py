"""What is exported, and what an export takes."""

from __future__ import annotations

import tracemalloc
from itertools import islice

from syndarix_rt.simulation import Scenario, Simulation


def simulated(count, preset="demo_small", seed=7):
    """The first events of a simulation."""
    return list(islice(Simulation(Scenario.preset(preset), seed), count))


def peak_mib(write, argument):
    """How much memory of Python's a function takes at most."""
    tracemalloc.start()
    write(argument)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20
