"""`compare`: equal streams are equal, different ones differ where they do, and what is not told is left out."""

import math
from functools import cache
from itertools import islice

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from syndarix_rt import Scenario, Simulation, SyndarixError
from syndarix_rt.playback.importers.aidev import import_aidev
from syndarix_rt.playback.importers.aidev_files import write_aidev
from syndarix_rt.simulation.analysis.comparison import compare, kolmogorov_smirnov


@cache
def stream(seed=3, count=10_000, **changes):
    scenario = Scenario.preset("demo_small").replace({key.replace("__", "."): value for key, value in changes.items()})
    return tuple(islice(Simulation(scenario, seed=seed), count))


def slow_pipelines():
    return stream(pipelines__success_min__median=60.0, pipelines__runners=40)


def named(comparison):
    return {metric.name: metric for metric in comparison.metrics}, {each.name: each for each in comparison.samples}


# ---- the distance ---------------------------------------------------------------------------------------------------

# two at least: scipy divides by zero for one
samples = st.lists(st.floats(-1e9, 1e9) | st.integers(0, 3).map(float), min_size=2, max_size=40)


@given(samples, samples)
def test_the_distance_is_that_of_scipy(a, b):
    a, b = np.array(a), np.array(b)
    ks, at = kolmogorov_smirnov(a, b)
    assert ks == pytest.approx(stats.ks_2samp(a, b, method="asymp").statistic)
    assert abs((a <= at).mean() - (b <= at).mean()) == pytest.approx(ks)


def test_what_chance_allows_is_exceeded_by_one_pair_in_twenty():
    rng = np.random.default_rng(2)
    comparison = compare(stream(), stream(seed=4))
    each = next(each for each in comparison.samples if each.name == "runs.duration_min")
    pairs = [(rng.random(each.n_a), rng.random(each.n_b)) for _ in range(2_000)]
    above = np.mean([kolmogorov_smirnov(a, b)[0] > each.ks_chance for a, b in pairs])
    assert above == pytest.approx(0.05, abs=0.015)


# ---- streams --------------------------------------------------------------------------------------------------------


def test_a_stream_does_not_differ_from_itself():
    comparison = compare(stream(), stream())
    assert comparison.metrics
    assert len(comparison.samples) >= 10
    assert all(metric.a == metric.b for metric in comparison.metrics)
    assert all(each.ks == 0 for each in comparison.samples)
    assert {metric.ratio for metric in comparison.metrics if metric.a} == {1.0}


def test_another_seed_differs_by_chance_another_scenario_by_what_was_changed():
    by_chance = compare(stream(), stream(seed=4))
    _, distributions = named(by_chance)
    for name in ("runs.duration_min", "pipelines.duration_min", "tools.call_duration_s", "llm.call_output_tokens"):
        assert distributions[name].ks < 1.5 * distributions[name].ks_chance
    changed = compare(stream(), slow_pipelines())
    metrics, distributions = named(changed)
    assert distributions["pipelines.duration_min"].ks > 0.5 > distributions["tools.call_duration_s"].ks
    assert distributions["pipelines.duration_min"].mean_b > 3 * distributions["pipelines.duration_min"].mean_a
    assert metrics["queues.runners.service_mean_s"].ratio > 3


def test_the_table_reads_from_what_differs_most_to_what_is_left_out():
    comparison = compare(stream(), slow_pipelines(), names=("fast", "slow"))
    text = str(comparison)
    assert repr(comparison) == text  # as in a cell
    lines = text.splitlines()
    assert lines[0].startswith(f"fast and slow differ most in {comparison.samples[0].name}: up to ")
    table = lines[2 : lines.index("", 2)]
    assert table[0].split()[:3] == ["DISTRIBUTION", "KS", "CHANCE"]
    distances = [float(line.split()[1]) for line in table[1:]]
    assert distances == sorted(distances, reverse=True)
    assert len({len(line) for line in table}) == 1
    assert any(line.startswith("METRIC") and line.split()[1:] == ["fast", "slow", "RATIO"] for line in lines)
    assert "nan" not in text


def test_the_frame_has_distributions_and_metrics_one_below_the_other():
    comparison = compare(stream(), stream(seed=4))
    frame = comparison.frame
    assert frame["kind"].tolist() == ["distribution"] * len(comparison.samples) + ["metric"] * len(comparison.metrics)
    assert frame["name"].is_unique
    runs = frame.set_index("name").loc["runs.duration_min"]
    expected = next(each for each in comparison.samples if each.name == "runs.duration_min")
    assert (runs["a"], runs["n_b"], runs["ks"]) == (expected.p50_a, expected.n_b, expected.ks)
    assert frame["n_a"].dtype == "Int64"
    assert frame.loc[frame["kind"] == "metric", "ks"].isna().all()
    assert pd.api.types.is_float_dtype(frame["ratio"])


def test_pull_requests_without_anything_else_are_compared_in_what_they_tell(tmp_path):
    simulated = stream(count=20_000)
    write_aidev(iter(simulated), tmp_path)
    comparison = compare(import_aidev(tmp_path).events, simulated, names=("trace", "simulated"))
    metrics, distributions = named(comparison)
    assert {"changes.prs_merged", "runs.error_share", "changes.merged_share"} <= set(metrics)
    assert metrics["changes.prs_created"].ratio == 1
    assert distributions["changes.merge_time_h"].ks < 0.05  # times are whole seconds in the trace
    assert {"issues.*", "llm.*", "tools.*", "pipelines.*", "queues.runners.*"} <= set(comparison.left_out)
    assert "runs.input_tokens" in comparison.left_out
    assert not [name for name in (*metrics, *distributions) if name.startswith(("issues.", "llm.", "pipelines."))]
    assert "issues.*" in str(comparison).splitlines()[-1]


def test_streams_without_anything_in_common_say_so():
    comparison = compare([], stream())
    assert not comparison.samples
    assert "no distribution in common" in str(comparison)
    assert math.isnan(named(comparison)[0]["events"].ratio)
    assert (comparison.frame["kind"] == "metric").all()


def test_lines_of_recordings_will_do_and_the_warm_up_is_left_out():
    lines = [event.encode() for event in stream()]
    metrics, _ = named(compare(lines, stream(), warmup_h=1.0))
    assert metrics["events"].a == metrics["events"].b < len(lines)


def test_a_simulation_that_never_ends_is_refused_before_it_begins():
    endless = Simulation(Scenario.preset("steady_sprint"), seed=1)
    with pytest.raises(SyndarixError, match="never ends; take so many events"):
        compare([], endless)


def test_a_simulation_with_a_horizon_is_taken_whole():
    scenario = Scenario.preset("demo_small").replace(horizon_h=0.5)
    metrics, _ = named(compare(Simulation(scenario, seed=1), list(Simulation(scenario, seed=1))))
    assert metrics["events"].ratio == 1


@pytest.mark.traces
def test_simulated_developers_take_as_long_as_copilot(traces_dir):
    scenario = Scenario.preset("steady_sprint")
    real = import_aidev(traces_dir / "aidev_pop").events
    _, distributions = named(compare(real, islice(Simulation(scenario, 7), 60_000)))
    assert distributions["runs.developer_completed_duration_min"].ks <= 0.06
