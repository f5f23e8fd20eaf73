"""`Calibration`: a simulation beside the figures of real agents."""

from __future__ import annotations

import math
from itertools import islice

import pytest

from syndarix_rt.playback.importers import import_aidev
from syndarix_rt.playback.importers.aidev_files import write_aidev
from syndarix_rt.simulation import Profile, Scenario, Simulation
from syndarix_rt.simulation.analysis.calibration import KS_MOST, Calibration


def report_of(events, real=None):
    calibration = Calibration()
    for event in events:
        calibration.feed(event)
    return calibration.report(real)


def figures(report):
    return {each.key.rpartition(".")[2]: each for each in report.compared}


def test_what_is_simulated_stands_beside_the_constants_of_the_default_profile():
    report = report_of(islice(Simulation(Scenario.preset("calibrated"), 3), 60_000))
    default = Profile.load("default")
    for each in report.compared:
        constant = default[each.key]
        assert (each.real, each.unit, each.source) == (constant.value, constant.unit, constant.source)
        assert each.n > 100
    by_name = figures(report)
    assert by_name["run_success_p50_min"].simulated == pytest.approx(9.73, rel=0.1)
    assert by_name["fail_after_failure_share"].simulated > 3 * by_name["fail_after_success_share"].simulated
    assert str(report).splitlines()[1].split()[:4] == [
        f"{report.compared[0].simulated:.4g}", "3.8", "min", f"{report.compared[0].n:,}",
    ]  # fmt: skip
    assert "No KS of run durations" in str(report)


def test_a_simulation_that_is_slower_is_far_from_the_real_runs_and_one_that_is_not_is_near(tmp_path):
    scenario = Scenario.preset("steady_sprint")
    simulated = islice(Simulation(scenario, 1), 60_000)
    write_aidev([event for event in simulated if event.data.get("role", "developer") == "developer"], tmp_path)
    real = import_aidev(tmp_path).events
    same = report_of(islice(Simulation(scenario, 2), 60_000), real)
    slow = report_of(islice(Simulation(scenario.replace({"runs.llm_s.median": 20}), 2), 60_000), real)
    assert same.real_runs == slow.real_runs > 100
    assert same.ks < 0.1
    assert slow.ks > 0.3
    assert f": {slow.ks:.3f}, which is not at most {KS_MOST}" in str(slow)
    assert "which is at most" in str(same._replace(ks=0.03))


def test_nothing_to_be_compared_is_no_error():
    report = report_of([], [])
    assert all(math.isnan(each.simulated) and each.n == 0 for each in report.compared)
    assert report.ks is None
    assert "nan" in str(report)


@pytest.mark.traces
@pytest.mark.timeout(180)
def test_the_runs_of_the_calibrated_preset_are_as_long_as_copilots(traces_dir):
    # 6,000 runs: with 2,000, chance alone takes one of 25 seeds beyond the gate.
    calibrated = Simulation(Scenario.preset("calibrated"), 7)
    report = report_of(islice(calibrated, 800_000), import_aidev(traces_dir / "aidev_pop").events)
    assert report.ks <= KS_MOST
    by_name = figures(report)
    assert by_name["run_success_p10_min"].n > 6_000
    for name, relative in {
        "run_success_p10_min": 0.08,
        "run_success_p50_min": 0.05,
        "run_success_p90_min": 0.05,
        "run_success_p99_min": 0.2,  # the tail is short: the cap of tool calls
        "run_success_mean_min": 0.04,
        "run_error_share": 0.25,  # 0.056 in the first part of the trace, 0.070 in all of it
        "fail_after_failure_share": 0.1,
        "fail_after_success_share": 0.1,
        "closed_unmerged_share": 0.06,
        "commits_per_pr": 0.1,
        "runs_per_pr": 0.1,
    }.items():
        assert by_name[name].simulated == pytest.approx(by_name[name].real, rel=relative), name
