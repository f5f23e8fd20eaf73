"""The agenda: what waits on its short way comes in SimPy's order, among itself and beside SimPy's own events."""

import math

import simpy
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt.simulation.agenda import Agenda

delays = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=6)


def waiter(env, name, delays_us, said, *, starts=False):
    """Yields each delay, and says when it is over; with ``starts`` a process of SimPy says so beside it."""
    for step, delay_us in enumerate(delays_us):
        yield delay_us
        said.append((env.now, name, step))
        if starts:
            env.process(echo(env, name, step, said))


def echo(env, name, step, said):
    said.append((env.now, name, step, "echo"))
    yield env.timeout(1)
    said.append((env.now, name, step, "later"))


def as_process(env, steps):
    for delay_us in steps:
        yield env.timeout(delay_us)


@given(delays, st.booleans())
def test_the_short_way_keeps_the_order_of_simpy(all_delays, starts):
    short, long = [], []
    env = Agenda()
    for name, delays_us in enumerate(all_delays):
        env.begin(waiter(env, name, delays_us, short, starts=starts))
    while env.advance() < math.inf:
        pass
    reference = simpy.Environment()
    for name, delays_us in enumerate(all_delays):
        reference.process(as_process(reference, waiter(reference, name, delays_us, long, starts=starts)))
    reference.run()
    assert short == long
    assert len(short) == sum(map(len, all_delays)) * (3 if starts else 1)


def test_advance_tells_when_the_next_is_due():
    env = Agenda()
    env.begin(waiter(env, "a", [5, 7], said := []))
    env.begin(waiter(env, "b", [6], said))
    assert [env.advance(), env.advance(), env.advance()] == [6, 12, math.inf]
    assert said == [(5, "a", 0), (6, "b", 0), (12, "a", 1)]


def test_what_is_closed_passes_unnoticed():
    env = Agenda()
    steps = waiter(env, "a", [5, 7], said := [])
    env.begin(steps)
    env.advance()
    steps.close()
    assert env.advance() == math.inf
    assert said == [(5, "a", 0)]
