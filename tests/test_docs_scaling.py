"""docs/scaling.md says what the model computes, and the model obeys what it is about."""

import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from system_tools import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import model_scaling
from model_scaling import HOST, MEASURED, Case, need

CASES = st.builds(
    Case,
    name=st.just("any"),
    projects=st.integers(1, 100_000),
    subscribers=st.integers(1, 10**7),
    rate=st.floats(0.01, 10_000),
    batched=st.booleans(),
).filter(lambda case: case.subscribers >= case.projects)


def test_the_document_has_the_tables_of_the_model():
    text = model_scaling.DOC.read_text("utf-8")
    assert model_scaling.written(text) == text


@given(CASES)
def test_more_of_anything_never_needs_less(case):
    now = need(case)
    more = [
        need(Case("any", case.projects, 2 * case.subscribers, case.rate, case.batched)),
        need(Case("any", case.projects, case.subscribers, 2 * case.rate, case.batched)),
    ]
    for then in more:
        assert then.workers >= now.workers
        assert then.hosts >= now.hosts
        assert then.shards >= now.shards


@given(CASES)
@example(Case("two projects that share two workers", 2, 39_065, 1.0))
def test_no_worker_and_no_shard_of_several_has_more_than_it_may(case):
    found = need(case)
    writes = min(case.rate, MEASURED.flushes_per_s)
    each_us = writes * MEASURED.write_us + (case.rate - writes) * MEASURED.delivery_us
    assert case.subscribers / found.workers * each_us <= HOST.busy_share * 1e6 * 1.000_001
    assert found.late_ms <= HOST.late_ms + MEASURED.write_us / 1e3
    if found.shards > 1:
        assert found.shard_load <= HOST.busy_share or found.shards == case.projects


@pytest.mark.parametrize("name", ["limits", "needs"])
def test_the_tables_are_whole(name):
    head, line, *rows = model_scaling.tables()[name].splitlines()
    assert rows
    assert {row.count("|") for row in (head, line, *rows)} == {head.count("|")}
