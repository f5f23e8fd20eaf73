"""Resume, filters, backoff and the ledger."""

import itertools
import math
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt.delivery import Gap, Ledger, Position, RunState, TypeFilter, backoff, batches, judge
from syndarix_rt.delivery.ledger import Hole
from syndarix_rt.delivery.steering import Stop, described
from syndarix_rt.errors import FilterError
from syndarix_rt.events import CATALOGUE, EventId

NOW, OLD, OLDER = "epoch-now", "epoch-old", "epoch-older"
POSITION = Position(NOW, first=11, last=20, survived=(EventId(OLDER, 5), EventId(OLD, 15)))


@pytest.mark.parametrize(
    ("cursor", "after", "gap"),
    [
        (EventId(NOW, 20), 20, None),
        (EventId(NOW, 15), 15, None),
        (EventId(NOW, 10), 10, None),
        (EventId(NOW, 9), 10, ("trimmed", 1)),
        (EventId(NOW, 0), 10, ("trimmed", 10)),
        (EventId(NOW, 21), 10, ("epoch", 0)),
        (EventId(OLD, 15), 15, None),
        (EventId(OLD, 10), 10, None),
        (EventId(OLD, 3), 10, ("trimmed", 7)),
        (EventId(OLD, 16), 15, ("epoch", 0)),
        (EventId(OLDER, 5), 10, ("trimmed", 5)),
        (EventId(OLDER, 6), 10, ("epoch", 5)),
        (EventId("epoch-unknown", 12), 10, ("epoch", None)),
    ],
)
def test_a_cursor_is_judged_by_the_contract(cursor, after, gap):
    verdict = judge(cursor, POSITION)
    assert verdict.after == after
    expected = gap and Gap(gap[0], str(cursor), 11, 20, gap[1])
    assert verdict.gap == expected


def test_a_live_stream_that_retention_overtook_was_slow():
    assert judge(EventId(NOW, 3), POSITION, live=True).gap.reason == "slow"
    assert judge(EventId(NOW, 3), POSITION, requested="epoch-now.003").gap.requested == "epoch-now.003"


def test_an_empty_log_continues_at_its_top():
    empty = Position(NOW, first=21, last=20)
    assert judge(EventId(NOW, 20), empty) == (20, None)
    assert judge(EventId(NOW, 19), empty).gap.missed == 1
    assert Position(NOW, 1, 0).top == EventId(NOW, 0)


@given(
    first=st.integers(1, 50),
    length=st.integers(0, 50),
    survived=st.lists(st.integers(0, 60), max_size=3).map(sorted),
    epoch=st.integers(0, 4),
    offset=st.integers(0, 120),
)
def test_a_verdict_never_skips_silently_and_never_goes_back_without_saying_so(first, length, survived, epoch, offset):
    last = first + length - 1
    places = tuple(EventId(f"epoch-{n}", min(o, last)) for n, o in enumerate(survived))
    position = Position(NOW, first, last, places)
    cursor = EventId(NOW if epoch == 4 else f"epoch-{epoch}", offset)
    after, gap = judge(cursor, position)
    assert position.first - 1 <= after <= max(position.last, position.first - 1) or gap is not None
    if gap is None:
        assert after == offset
        assert after + 1 >= position.first  # nothing between the cursor and what follows is gone
    else:
        assert (gap.first, gap.last, gap.requested) == (position.first, position.last, str(cursor))
        if gap.reason == "trimmed":
            assert gap.missed == after - offset > 0


@pytest.mark.parametrize(
    ("text", "passes", "stopped"),
    [
        ("agent_*", ["agent_started", "agent_error", "agent_made_up"], ["issue_created"]),
        ("workflow", ["approval_required", "approval_resolved", "sprint_started"], ["pipeline_failed", "my_workflow"]),
        ("pipeline_failed,git", ["pipeline_failed", "pr_closed", "pr_merged"], ["pipeline_started"]),
        ("my_custom", ["my_custom"], ["my_custom_2"]),
        ("*", [*CATALOGUE, "my_custom"], []),
        ("*_started", ["agent_started", "pipeline_started", "sprint_started"], ["agent_error"]),
        ("project", ["issue_created", "issue_updated", "issue_closed"], ["project_started"]),
        (" agent , git ", ["agent_started", "branch_created"], ["issue_closed"]),
    ],
)
def test_a_filter_takes_categories_globs_and_names(text, passes, stopped):
    types = TypeFilter.parse(text)
    assert [name for name in passes if not types.matches(name)] == []
    assert [name for name in stopped if types.matches(name)] == []
    assert types == TypeFilter.parse(",".join(reversed(text.split(","))))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "agent_*,",
        "agents",
        "Agent_started",
        "agent_[ab]",
        "agent_?",
        "a b",
        "ä_b",
        "_a",
        "agent_*\n",
        "a" * 70 + "_b,.",
        ",".join(["agent"] * 65),
    ],
)
def test_a_word_that_means_nothing_is_refused(text):
    with pytest.raises(FilterError):
        TypeFilter.parse(text)


def test_a_filter_remembers_a_bounded_number_of_types():
    types = TypeFilter.parse("a_*")
    for number in range(5_000):
        assert types.matches(f"a_{number}")
    assert len(types._memo) <= 1024


def test_delays_double_up_to_the_cap_and_are_never_in_step():
    delays = list(itertools.islice(backoff(random.Random(1), first_s=1, cap_s=30), 10))
    for delay, most in zip(delays, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30], strict=True):
        assert most / 2 <= delay <= most
    assert delays != list(itertools.islice(backoff(random.Random(2), first_s=1, cap_s=30), 10))
    assert next(backoff(random.Random(3), first_s=60, cap_s=30)) <= 30


def test_a_ledger_of_a_whole_stream_is_clean():
    ledger = Ledger()
    ledger.open(resumed=False)
    ledger.checkpoint(EventId(NOW, 3))
    for offset in (4, 5, 6):
        assert ledger.event(EventId(NOW, offset), latency_s=0.004)
    assert ledger.clean
    assert (ledger.events, ledger.first, ledger.last) == (3, EventId(NOW, 4), EventId(NOW, 6))
    assert ledger.latency_ms(0.5) == ledger.latency_ms(1) == 5


def test_a_ledger_names_undeclared_holes_and_duplicates():
    ledger = Ledger()
    for offset in (4, 5, 9):
        ledger.event(EventId(NOW, offset))
    assert not ledger.event(EventId(NOW, 5))
    ledger.checkpoint(EventId(NOW, 11))
    assert ledger.holes == [Hole(NOW, 6, 8), Hole(NOW, 10, 11)]
    assert (ledger.events, ledger.duplicates, ledger.clean) == (3, 1, False)


def test_a_declared_gap_is_no_hole():
    ledger = Ledger()
    ledger.event(EventId(NOW, 4))
    ledger.gap(Gap("slow", f"{NOW}.4", 11, 20, 6))
    ledger.checkpoint(EventId(NOW, 10))
    ledger.event(EventId(NOW, 11))
    assert ledger.clean
    assert len(ledger.gaps) == 1


def test_a_new_epoch_without_a_gap_must_continue_the_offsets():
    ledger = Ledger()
    ledger.event(EventId(OLD, 4))
    ledger.event(EventId(NOW, 5))
    assert ledger.clean
    ledger.event(EventId("epoch-next", 8))
    assert ledger.holes == [Hole("epoch-next", 6, 7)]


def test_a_filtered_stream_may_jump():
    ledger = Ledger(filtered=True)
    ledger.event(EventId(NOW, 4))
    ledger.event(EventId(NOW, 400))
    ledger.checkpoint(EventId(NOW, 1400))
    assert ledger.clean
    assert not ledger.event(EventId(NOW, 400))


def test_a_checkpoint_behind_what_is_known_changes_nothing():
    ledger = Ledger()
    ledger.event(EventId(NOW, 4))
    ledger.checkpoint(EventId(NOW, 3))
    ledger.checkpoint(EventId(NOW, 4))
    assert (ledger.last, ledger.clean) == (EventId(NOW, 4), True)
    ledger.checkpoint(EventId(NOW, 6))
    assert (ledger.last, ledger.holes) == (EventId(NOW, 6), [Hole(NOW, 5, 6)])


def test_a_ledger_is_data():
    ledger = Ledger()
    ledger.event(EventId(NOW, 4), latency_s=1e6)
    data = ledger.to_dict()
    assert data["first"] == f"{NOW}.4"
    assert data["clean"] is True
    assert data["latency_counts"][-1] == 1
    assert ledger.latency_ms(0.99) == math.inf
    assert Ledger().latency_ms(0.5) is None
    assert "1 events" in str(ledger)


def test_the_losses_of_a_ledger_are_a_frame():
    ledger = Ledger()
    assert ledger.to_frame().empty
    ledger.event(EventId("epoch-aa", 1))
    ledger.event(EventId("epoch-aa", 4))
    ledger.gap(Gap("epoch", "epoch-aa.4", 1, 9, None))
    ledger.gap(Gap("slow", "epoch-bb.2", 5, 9, 2))
    frame = ledger.to_frame()
    assert frame["declared"].tolist() == [True, True, False]
    assert frame["reason"].tolist() == ["epoch", "slow", ""]
    assert frame["after"].tolist() == ["epoch-aa.4", "epoch-bb.2", "epoch-aa.1"]
    assert frame["missed"].isna().tolist() == [True, False, False]
    assert frame["missed"][1:].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (RunState(run="r", project="p", state="playing", published=1_000), "plays, 1,000 events published"),
        (RunState(run="r", project="p", state="ended"), "ended, 0 events published"),
        (
            RunState(
                run="r", project="p", state="paused", published=7, time=datetime(2026, 1, 5, 9, tzinfo=UTC),
                stopped=Stop("breakpoint", {"type": "pipeline_failed"}),
            ),
            "stands at a breakpoint (pipeline_failed) at 2026-01-05 09:00:00 of simulated time, 7 events published",
        ),
    ],
)  # fmt: skip
def test_how_a_run_stands_is_told_in_a_line(state, told):
    assert described(state) == told


def test_nothing_is_no_batch():
    assert list(batches([])) == []
