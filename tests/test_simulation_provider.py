"""The provider: never more than its limits, no later than it says, and worse in a brownout."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt.simulation.provider import Provider, TokenBucket
from syndarix_rt.simulation.settings import Provider as Settings

calls = st.lists(st.tuples(st.integers(0, 90_000_000), st.integers(0, 3_000)), min_size=1, max_size=40)
"""Microseconds since the call before, and tokens."""


def provider(tokens=None, requests=None, burst=1.0, error_share=0.0):
    return Provider(Settings(tokens_per_min=tokens, requests_per_min=requests, burst=burst, error_share=error_share))


def let_in(provider, calls):
    """Time in microseconds and tokens of each call let in."""
    now_us, taken = 0, []
    for gap_us, tokens in calls:
        now_us += gap_us
        if provider.admit(now_us / 1e6, tokens) == 0:
            taken.append((now_us, tokens))
    return taken


# ---- limits -------------------------------------------------------------------------------------------------------


@given(calls=calls, tokens=st.integers(1, 5_000), requests=st.integers(1, 20), burst=st.floats(0.01, 5))
def test_in_any_window_no_more_than_the_limits_is_let_in(calls, tokens, requests, burst):
    taken = let_in(provider(tokens, requests, burst), calls)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            window = taken[first : last + 1]
            minutes = (window[-1][0] - window[0][0]) / 60e6
            amounts = [amount for _, amount in window]
            # 1e-6: the capacity is rounded to the microsecond in which it flows in.
            assert sum(amounts) <= tokens * minutes + max(tokens * burst, *amounts) + 1e-6
            assert len(amounts) <= requests * minutes + max(requests * burst, 1) + 1e-6


@given(calls=calls, tokens=st.integers(1, 5_000), requests=st.integers(1, 20), burst=st.floats(0.01, 5))
def test_a_refused_call_is_let_in_when_it_was_told_and_not_before(calls, tokens, requests, burst):
    limited = provider(tokens, requests, burst)
    now_us = 0
    for gap_us, amount in calls:
        now_us += gap_us
        retry_after_s = limited.admit(now_us / 1e6, amount)
        if retry_after_s:
            again_us = now_us + round(retry_after_s * 1e6)
            assert again_us - now_us == pytest.approx(retry_after_s * 1e6)
            assert limited.admit((again_us - 1) / 1e6, amount) == 1e-6
            assert limited.admit(again_us / 1e6, amount) == 0
            now_us = again_us


@given(tokens=st.integers(1, 10**6), amount=st.integers(1, 10**6), burst=st.floats(0.001, 10))
def test_calls_that_keep_asking_get_exactly_the_limit(tokens, amount, burst):
    limited = provider(tokens, burst=burst)
    now_us, count = 0, 200
    for _ in range(count):
        wait_us = round(limited.admit(now_us / 1e6, amount) * 1e6)
        if wait_us:
            now_us += wait_us
            assert limited.admit(now_us / 1e6, amount) == 0
    minutes, capacity = now_us / 60e6, tokens * burst
    # All but what was in the bucket has flowed in meanwhile; the last call may have left a debt.
    assert count * amount <= tokens * minutes + max(capacity, amount) + 1e-6
    if now_us:
        # A full bucket that waits for the whole microsecond loses what would flow in.
        assert count * amount >= tokens * (minutes - count / 60e6) + min(capacity, amount) - 1e-6


def test_a_call_larger_than_the_bucket_waits_for_a_full_one_and_leaves_a_debt():
    limited = provider(tokens=1_000)
    assert limited.admit(0, 3_000) == 0
    assert limited.admit(0, 1) == pytest.approx(120.06)
    assert limited.admit(60, 3_000) == pytest.approx(120)
    assert limited.admit(180, 3_000) == 0


def test_a_refused_call_takes_nothing_from_either_limit():
    limited = provider(tokens=1_000, requests=2)
    assert limited.admit(0, 900) == 0
    assert limited.admit(0, 200) == pytest.approx(6)
    assert limited.admit(0, 100) == 0
    assert limited.admit(0, 0) == pytest.approx(30)


def test_idle_time_fills_the_bucket_and_no_more():
    limited = provider(requests=60, burst=0.05)
    assert [limited.admit(3600, 1) for _ in range(4)] == [0, 0, 0, 1]


def test_no_limit_lets_everything_in():
    free = provider()
    assert {free.admit(0, 10**9) for _ in range(100)} == {0}


def test_a_bucket_says_nothing_is_missing_before_anything_was_taken():
    assert TokenBucket(7, 7).wait_us(0, 7) == 0


# ---- brownouts ----------------------------------------------------------------------------------------------------


def test_a_brownout_makes_the_provider_slow_and_wrong_until_it_recovers():
    usual = provider(error_share=0.01)
    assert (usual.latency_factor, usual.error_share, usual.calm) == (1, 0.01, False)
    usual.brownout(4, 0.1)
    assert (usual.latency_factor, usual.error_share, usual.calm) == (4, 0.1, False)
    usual.recover()
    assert (usual.latency_factor, usual.error_share, usual.calm) == (1, 0.01, False)


def test_the_latest_brownout_counts_until_all_are_over():
    calm = provider()
    assert calm.calm
    calm.brownout(4, 0.1)
    calm.brownout(2, 0.0)
    calm.recover()
    assert (calm.latency_factor, calm.error_share, calm.calm) == (2, 0, False)
    calm.recover()
    assert calm.calm


@pytest.mark.parametrize("limit", [{"tokens": 10}, {"requests": 10}])
def test_calls_to_a_limited_provider_have_to_ask(limit):
    assert not provider(**limit).calm
