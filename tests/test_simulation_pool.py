"""`Pool`: nobody is given twice, the urgent and the early go first, and members come, leave and pause."""

import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt.simulation.pool import Pool


def new(size=2, name="agent"):
    env = simpy.Environment()
    return env, Pool(env, name, size)


def given_to(*events):
    return [event.value if event.triggered else None for event in events]


# ---- against a model ----------------------------------------------------------------------------------------------


class Model:
    """The same by lists, looked through from the front each time."""

    def __init__(self, size):
        self.size, self.downs, self.ids = size, 0, 0
        self.idle, self.busy, self.waiting = list(range(1, size + 1)), {}, []

    def serve(self):
        while self.waiting and len(self.busy) < self.size and not self.downs:
            asker = min(self.waiting)
            self.waiting.remove(asker)
            self.busy[self.idle.pop(0)] = asker[1]

    def request(self, priority):
        self.ids += 1
        self.waiting.append((priority, self.ids))
        self.serve()
        return self.ids

    def release(self, number):
        del self.busy[number]
        if number <= self.size:
            self.idle.append(number)
        self.serve()

    def cancel(self, asker):
        self.waiting = [entry for entry in self.waiting if entry[1] != asker]
        for number in [number for number, owner in self.busy.items() if owner == asker]:
            self.release(number)

    def resize(self, size):
        self.size = size
        there = set(self.idle) | set(self.busy)
        self.idle = [number for number in self.idle if number <= size]
        self.idle += [number for number in range(1, size + 1) if number not in there]
        self.serve()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("request"), st.integers(0, 2)),
        st.tuples(st.just("release"), st.integers(0, 100)),
        st.tuples(st.just("cancel"), st.integers(0, 100)),
        st.tuples(st.just("resize"), st.integers(0, 6)),
        st.tuples(st.sampled_from(["down", "up"]), st.just(0)),
    ),
    max_size=60,
)


@given(size=st.integers(0, 5), script=steps)
def test_a_pool_does_what_its_model_does(size, script):
    _, pool = new(size)
    model = Model(size)
    requests = {}
    for what, number in script:
        given_before, busy_before = set(pool._busy), pool.busy
        match what:
            case "request":
                requests[model.request(number)] = pool.request(number)
            case "release" if model.busy:
                member = sorted(model.busy)[number % len(model.busy)]
                model.release(member)
                pool.release(f"agent-{member}")
            case "cancel" if requests:  # one that waits, one that was served, or one that is long over
                asker = sorted(requests)[number % len(requests)]
                model.cancel(asker)
                pool.cancel(requests[asker])
            case "resize":
                model.resize(number)
                pool.resize(number)
            case "down":
                model.downs += 1
                pool.down()
            case "up" if model.downs:
                model.downs -= 1
                model.serve()
                pool.up()
        assert {member: requests[asker] for member, asker in model.busy.items()} == {
            int(member.removeprefix("agent-")): event for member, event in pool._busy.items()
        }
        assert (pool.size, pool.busy, pool.waiting) == (model.size, len(model.busy), len(model.waiting))
        # What the model itself must not get wrong.
        if set(pool._busy) - given_before:
            assert pool.busy <= pool.size
            assert not model.downs
        assert pool.busy <= max(pool.size, busy_before)
        assert model.downs or not model.waiting or pool.busy >= pool.size


# ---- in simulated time --------------------------------------------------------------------------------------------


def test_members_take_turns_in_order():
    env, pool = new(2)
    log = []

    def worker(name, priority=0):
        member = yield pool.request(priority)
        log.append((env.now, name, member))
        yield env.timeout(10)
        pool.release(member)

    for name, priority in (("a", 0), ("b", 0), ("c", 1), ("d", 0), ("e", 1)):
        env.process(worker(name, priority))
    env.run()
    assert log == [
        (0, "a", "agent-1"),
        (0, "b", "agent-2"),
        (10, "d", "agent-1"),
        (10, "c", "agent-2"),
        (20, "e", "agent-1"),
    ]


def test_a_request_that_was_given_up_takes_no_member():
    env, pool = new(1)
    log = []

    def impatient():
        request = pool.request()
        try:
            yield request
        except simpy.Interrupt:
            pool.cancel(request)
            log.append("gave up")

    def patient():
        log.append((yield pool.request()))

    first = pool.request()
    waiting = env.process(impatient())
    env.process(patient())
    env.run()
    waiting.interrupt()
    pool.release(first.value)  # at the same moment, before the interrupt arrives: the member is on its way already
    env.run()
    assert log == ["gave up", "agent-1"]
    assert pool.busy == 1


def test_cancelling_twice_does_not_take_the_member_from_the_next():
    _, pool = new(1)
    first, second = pool.request(), pool.request()
    pool.cancel(first)
    pool.cancel(first)
    assert given_to(second) == ["agent-1"]
    assert pool.busy == 1


def test_surplus_members_leave_the_highest_first_and_busy_ones_at_their_release():
    _, pool = new(4)
    requests = [pool.request() for _ in range(4)]
    pool.release("agent-1")
    pool.resize(2)
    assert (pool.size, pool.busy) == (2, 3)
    late = [pool.request(), pool.request()]
    assert given_to(*late) == [None, None]
    pool.release("agent-4")
    assert given_to(*late) == [None, None]
    pool.release("agent-3")
    assert given_to(*late) == ["agent-1", None]
    pool.release("agent-2")
    assert given_to(*late) == ["agent-1", "agent-2"]
    assert given_to(*requests) == ["agent-1", "agent-2", "agent-3", "agent-4"]


def test_new_members_serve_whoever_waits_and_old_names_come_back():
    _, pool = new(1)
    requests = [pool.request() for _ in range(3)]
    pool.resize(3)
    assert given_to(*requests) == ["agent-1", "agent-2", "agent-3"]
    pool.resize(1)
    pool.release("agent-2")
    pool.resize(3)  # agent-3 was to leave, and stays; agent-2 comes back
    assert given_to(pool.request(), pool.request()) == ["agent-2", None]


def test_nobody_is_given_while_the_pool_is_down():
    _, pool = new(2)
    busy = pool.request()
    pool.down()
    pool.down()
    request = pool.request()
    pool.release(busy.value)
    pool.resize(4)
    pool.up()
    assert given_to(request) == [None]
    pool.up()
    assert given_to(request) == ["agent-2"]


@pytest.mark.parametrize("member", ["agent-1", "agent-9", "runner-1"])
def test_only_a_member_that_somebody_has_can_be_released(member):
    _, pool = new(2)
    with pytest.raises(ValueError, match=f"nobody has '{member}' of the pool of 'agent'"):
        pool.release(member)


def test_a_pool_that_is_not_down_cannot_come_up():
    with pytest.raises(ValueError, match="the pool of 'agent' is not down"):
        new()[1].up()
