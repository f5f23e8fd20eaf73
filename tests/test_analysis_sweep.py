"""`sweep`: points and replications, intervals, common random numbers; over processes, over Dask, and after a kill."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import timedelta

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy import stats

from syndarix_rt import Scenario
from syndarix_rt.errors import MissingExtra, ScenarioError, SyndarixError
from syndarix_rt.simulation import Profile, Simulation, sweep
from syndarix_rt.simulation.analysis.progress import progress_of
from syndarix_rt.simulation.analysis.store import Store
from syndarix_rt.simulation.analysis.summary import Summary
from syndarix_rt.simulation.simulation import START

DEADLINE_S = 60
BASE = Scenario.preset("demo_small").replace(allow_overload=True)
OVER = {"agents.developers": [2, 4, 8]}


def counts(events):
    """A measure: how many events there are of a few types."""
    types = [event.type for event in events]
    return {"events": len(types), "created": types.count("issue_created"), "started": types.count("agent_started")}


def quick(over=OVER, replications=3, **how):
    """A sweep that takes no time, in this process."""
    how = {"seed": 7, "events": 60, "jobs": 1, "measure": counts} | how
    return sweep(BASE, over, replications, **how)


# ---- points and replications --------------------------------------------------------------------------------------


def test_every_point_and_replication_is_there_in_order_and_can_be_simulated_again():
    rows = quick().replications
    assert rows.columns.tolist() == ["agents.developers", "replication", "seed", "events", "created", "started"]
    assert rows["agents.developers"].tolist() == [2, 2, 2, 4, 4, 4, 8, 8, 8]
    assert rows["replication"].tolist() == [0, 1, 2] * 3
    assert rows["events"].tolist() == [60] * 9
    again = Simulation(BASE.replace({"agents.developers": 4}), rows["seed"].tolist()[4])
    assert counts(next(again) for _ in range(60)) == rows.loc[4, ["events", "created", "started"]].to_dict()


def test_a_replication_has_its_own_seed_which_is_the_same_at_every_point_and_stays_when_more_are_asked_for():
    few, many = quick().replications, quick(replications=5).replications
    assert few["seed"].nunique() == 3
    assert few["seed"].tolist() == few["seed"].tolist()[:3] * 3
    assert few["seed"].tolist()[:3] == many["seed"].tolist()[:3]
    assert set(quick(seed=8).replications["seed"]).isdisjoint(few["seed"])
    assert all(seed < 2**53 for seed in many["seed"])


def test_without_a_measure_the_summary_is_measured():
    result = quick({"agents.developers": [2]}, 1, measure=None, events=None, horizon_h=1, warmup_h=0.25)
    scenario = BASE.replace({"agents.developers": 2, "horizon_h": 1})
    summary = Summary(warmup_h=0.25, scenario=scenario)
    for event in Simulation(scenario, result.replications["seed"].tolist()[0]):
        summary.feed(event)
    expected = summary.metrics()
    assert result.metrics == tuple(expected)
    np.testing.assert_array_equal(result.replications[list(expected)].iloc[0].tolist(), list(expected.values()))


def test_a_scenario_is_taken_as_object_preset_and_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nhorizon_h = 0.2\nagents.developers = 3\n')
    by_path = sweep(str(path), {}, 1, measure=counts, jobs=1)
    by_object = sweep(Scenario.load(path), {}, 1, measure=counts, jobs=1)
    assert by_path.frame.equals(by_object.frame)
    assert by_path.frame["metric"].tolist() == ["events", "created", "started"]


def test_several_keys_make_a_cross_product():
    rows = quick({"agents.developers": range(1, 3), "issues.rate_per_h": np.linspace(6, 12, 3)}, 1).replications
    points = rows[["agents.developers", "issues.rate_per_h"]].to_numpy().tolist()
    assert points == [[1, 6], [1, 9], [1, 12], [2, 6], [2, 9], [2, 12]]


def test_values_may_be_tables_and_have_labels():
    laws = {"short": {"median": 5, "sigma": 0.1}, "long": BASE.projects[0].runs.calls}
    labelled = quick({"runs.calls": laws}).replications
    assert labelled["runs.calls"].tolist() == ["short"] * 3 + ["long"] * 3
    bare = quick({"runs.calls": laws.values()}).replications
    assert json.loads(bare["runs.calls"].tolist()[0]) == {"median": 5, "sigma": 0.1}
    assert bare["started"].tolist() == labelled["started"].tolist()


def test_profiles_are_values_like_others():
    mine = Profile.load("codex")
    rows = quick({"profile": {"measured": "default", "mine": mine}}, 1).replications
    assert rows["profile"].tolist() == ["measured", "mine"]
    again = Simulation(BASE.replace({"profile": mine}), rows["seed"].tolist()[1])
    assert counts(next(again) for _ in range(60)) == rows.loc[1, ["events", "created", "started"]].to_dict()


def test_what_comes_before_the_end_of_the_warm_up_is_not_measured():
    def first_and_last_h(events):
        hours = [(event.time - START) / timedelta(hours=1) for event in events]
        return {"first_h": hours[0], "last_h": hours[-1]}

    how = {"measure": first_and_last_h, "events": None, "horizon_h": 1.0}
    whole = quick({}, 4, **how).replications
    rest = quick({}, 4, **how, warmup_h=0.5).replications
    assert (whole["first_h"] < 0.1).all()
    assert (rest["first_h"] >= 0.5).all()
    assert rest["last_h"].tolist() == whole["last_h"].tolist()
    assert (whole["last_h"] <= 1).all()


# ---- intervals ----------------------------------------------------------------------------------------------------


def test_the_frame_has_means_and_the_half_widths_of_students_intervals():
    result = quick(replications=6)
    assert result.frame.columns.tolist() == ["agents.developers", "metric", "mean", "half_width", "sd", "n"]
    assert result.frame["metric"].tolist() == ["events", "created", "started"] * 3
    row = result.frame.iloc[4]
    values = result.replications["created"].tolist()[6:12]
    assert len(set(values)) > 1
    low, high = stats.t.interval(0.95, 5, np.mean(values), stats.sem(values))
    assert row["mean"] - row["half_width"] == pytest.approx(low)
    assert row["mean"] + row["half_width"] == pytest.approx(high)
    assert row["sd"] == pytest.approx(np.std(values, ddof=1))
    assert result.frame["n"].tolist() == [6] * 9


def test_replications_without_a_value_do_not_count_and_one_alone_has_no_interval():
    seen = []

    def now_and_then(_events):
        seen.append(len(seen))
        number = seen[-1]
        return {"never": math.nan, "once": 3 if number == 1 else math.nan, "endless": math.inf, "always": number}

    frame = quick({}, 3, measure=now_and_then).frame.set_index("metric")
    assert frame["n"].to_dict() == {"never": 0, "once": 1, "endless": 3, "always": 3}
    assert frame.loc["once", "mean"] == 3
    assert frame.loc["endless", "mean"] == math.inf
    assert frame.loc["always", "sd"] == 1
    assert frame["half_width"].isna().to_dict() == {"never": True, "once": True, "endless": True, "always": False}


def test_paired_differences_are_zero_where_nothing_changed_and_narrow_where_little_did():
    over = {"runs.llm_s.median": [5, 6], "speed": [1, 60]}
    metric = "runs.duration_mean_min"
    result = quick(over, 4, events=None, horizon_h=2, measure=None)
    paired = result.against({"runs.llm_s.median": 5, "speed": 1}).frame
    rows = paired[paired["metric"] == metric].set_index([*over])
    assert rows.loc[(5, 1), ["mean", "half_width"]].tolist() == [0, 0]
    assert rows.loc[(5, 60), ["mean", "half_width"]].tolist() == [0, 0]  # the speed of playback changes nothing
    slow, fast = (
        result.replications.query(f"`runs.llm_s.median` == {median} and speed == 1")[metric].to_numpy()
        for median in (6, 5)
    )
    assert rows.loc[(6, 1), "mean"] == pytest.approx((slow - fast).mean())
    assert rows.loc[(6, 1), "sd"] == pytest.approx((slow - fast).std(ddof=1))
    independent = math.hypot(slow.std(ddof=1), fast.std(ddof=1))
    assert rows.loc[(6, 1), "sd"] < independent / 2


def test_differences_are_to_a_point_that_exists():
    result = quick()
    assert result.against(4).frame.equals(result.against({"agents.developers": 4}).frame)
    with pytest.raises(SyndarixError, match=r"no point agents.developers = 3; there are agents.developers = 2; "):
        result.against(3)


# ---- plots --------------------------------------------------------------------------------------------------------


def test_a_plot_shows_mean_and_band_with_units():
    result = quick({"issues.rate_per_h": [12, 6]}, measure=lambda events: {"wait_mean_s": len(list(events)) % 7 + 1})
    ax = result.plot("wait_mean_s", Figure().subplots())
    assert ax.get_xlabel() == "issues.rate_per_h (per hour)"
    assert ax.get_ylabel() == "wait_mean_s (seconds)"
    frame = result.frame.sort_values("issues.rate_per_h")
    (line,) = ax.lines
    assert line.get_xdata().tolist() == [6, 12]
    assert line.get_ydata().tolist() == frame["mean"].tolist()
    (band,) = ax.collections
    heights = {round(float(y), 9) for y in band.get_paths()[0].vertices[:, 1]}
    edges = [*(frame["mean"] - frame["half_width"]), *(frame["mean"] + frame["half_width"])]
    assert heights == {round(y, 9) for y in edges}
    assert to_rgb(line.get_color()) == to_rgb(band.get_facecolor()[0][:3])


def test_a_plot_has_a_line_for_each_value_of_the_second_key_and_bars_where_there_are_no_numbers():
    result = quick({"runs.calls": {"short": {"median": 5}, "long": {"median": 50}}, "agents.developers": [1, 2]})
    ax = result.plot("created", Figure().subplots())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "agents.developers = 1",
        "agents.developers = 2",
    ]
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.get_xticklabels()] == ["short", "long"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("runs.calls", "created (number)")
    rows = result.frame[result.frame["metric"] == "created"].set_index(["agents.developers", "runs.calls"])
    for developers, bars in zip([1, 2], ax.containers, strict=True):
        drawn = [(round(float(x)), float(y)) for x, y in bars.lines[0].get_xydata()]
        assert drawn == [(0, rows.loc[(developers, "short"), "mean"]), (1, rows.loc[(developers, "long"), "mean"])]
    places = [float(x) for bars in ax.containers for x in bars.lines[0].get_xdata()]
    assert len(set(places)) == 4  # no bar hides another


def test_a_plot_of_differences_says_so_and_an_unknown_metric_is_refused():
    result = quick()
    ax = result.against(2).plot("created")
    assert ax.get_ylabel() == "created (number)\nagainst agents.developers = 2"
    plt.close(ax.figure)
    with pytest.raises(SyndarixError, match="no metric 'create'; did you mean 'created'"):
        result.plot("create")
    with pytest.raises(SyndarixError, match="over nothing"):
        quick({}).plot("created")


def test_a_cell_shows_the_frame():
    result = quick()
    assert repr(result) == repr(result.frame)
    assert "half_width" in result._repr_html_()


# ---- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"over": {"agents.develpers": [2]}}, r"agents.develpers: unknown key; did you mean 'developers'"),
        ({"over": {"agents.developers": [2, -1]}}, r"agents.developers: .*not -1"),
        ({"over": [2, 4]}, r"over: must be lists of values by key, as in .*, not \[2, 4\]"),
        ({"over": {"agents.developers": 2}}, "agents.developers: expected a list of values, not 2"),
        ({"over": {"issues.arrivals": "poisson"}}, "issues.arrivals: expected a list of values, not 'poisson'"),
        ({"over": {"agents.developers": []}}, "agents.developers: has no values"),
        ({"over": {"agents.developers": [2, 3, 2]}}, "agents.developers: 2 comes twice"),
        ({"replications": 0}, "replications: must be a whole number from 1, not 0"),
        ({"replications": 2.5}, "replications: must be a whole number from 1, not 2.5"),
        ({"replications": "3"}, "replications: must be a whole number from 1, not '3'"),
        ({"jobs": 0}, "jobs: must be a whole number from 1, not 0"),
        ({"seed": -1}, "seed: must be a whole number from 0, not -1"),
        ({"events": 0}, "events: must be a whole number from 1, not 0"),
        ({"events": 5, "horizon_h": 1}, "horizon_h: give either this or events"),
        ({"horizon_h": -1, "events": None}, "horizon_h: .* not -1"),
        ({"warmup_h": 2, "horizon_h": 2, "events": None}, r"warmup_h: must be from 0 to less than the horizon, 2 h"),
        ({"warmup_h": -1}, r"warmup_h: must be from 0"),
        ({"measure": lambda _events: 5}, "measure: must return numbers by name, not 5"),
        ({"measure": lambda _events: {"a": "b"}}, "measure: must return numbers by name, not {'a': 'b'}"),
        ({"measure": lambda _events: {"seed": 1}}, "measure: 'seed' is the name of another column"),
    ],
)
def test_what_makes_no_sense_gets_one_clear_line(how, message):
    with pytest.raises(SyndarixError, match=message) as caught:
        quick(**how)
    assert "\n" not in str(caught.value)


def test_a_scenario_is_one_or_its_name_or_its_file():
    with pytest.raises(ScenarioError, match="scenario: must be a name or the path of a TOML file, not 3"):
        sweep(3, OVER)


def test_something_must_say_when_a_replication_ends():
    endless = BASE.replace(horizon_h=None)
    with pytest.raises(ScenarioError, match=r"nothing says when .* ends: give horizon_h \(hours\) or events"):
        sweep(endless, OVER)


def test_a_missing_library_is_named_by_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(MissingExtra, match=r"sweep needs: pip install 'syndarix-rt\[analysis\]'"):
        quick()


# ---- progress -----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_callable_hears_of_every_replication():
    heard = []
    quick(progress=lambda done, total: heard.append((done, total)))
    assert heard == [(done, 9) for done in range(10)]


def test_a_bar_grows_on_a_terminal_and_nowhere_else(monkeypatch, capsys):
    quick(progress=True)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    quick(progress=True)
    shown = terminal.getvalue().split("\r")
    assert len(shown) == 11
    assert shown[1] == "░" * 30 + " 0 of 9 replications"
    assert shown[-1] == "█" * 30 + " 9 of 9 replications\n"
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    quick(progress=False)
    assert terminal.getvalue() == ""


def test_a_bar_of_many_draws_only_what_changes_and_fills_by_share(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    show = progress_of(wanted=True, what="things")
    show(1500, 3000)
    show(1500, 3000)
    assert terminal.getvalue() == "\r" + "█" * 15 + "░" * 15 + " 1,500 of 3,000 things"


# ---- the store ----------------------------------------------------------------------------------------------------


class Counted:
    """How many replications were simulated, as progress tells."""

    def __init__(self):
        self.done = []

    def __call__(self, done, total):
        self.done.append(done)
        self.total = total

    @property
    def simulated(self):
        return self.total - self.done[0]


def resumed(store, **how):
    """CSV of the frame, and how many replications were simulated."""
    counted = Counted()
    result = quick(store=store, progress=counted, **how)
    return result.frame.to_csv() + result.replications.to_csv(), counted.simulated


UNDISTURBED = {}


def undisturbed(**how):
    key = repr(how)
    if key not in UNDISTURBED:
        result = quick(**how)
        UNDISTURBED[key] = result.frame.to_csv() + result.replications.to_csv()
    return UNDISTURBED[key]


@pytest.fixture(scope="module")
def whole_store(tmp_path_factory):
    """The bytes of a store that is complete."""
    path = tmp_path_factory.mktemp("store") / "sweep.jsonl"
    assert resumed(path) == (undisturbed(), 9)
    return path.read_bytes()


@settings(max_examples=60)
@given(data=st.data())
def test_wherever_a_store_was_cut_the_rest_is_simulated_and_the_result_is_the_same(tmp_path_factory, whole_store, data):
    length = data.draw(st.integers(0, len(whole_store)))
    path = tmp_path_factory.mktemp("cut") / "sweep.jsonl"
    path.write_bytes(whole_store[:length])
    kept = max(whole_store[:length].count(b"\n") - 1, 0)
    assert resumed(path) == (undisturbed(), 9 - kept)
    assert sorted(path.read_bytes().splitlines()) == sorted(whole_store.splitlines())
    assert resumed(path) == (undisturbed(), 0)


def test_more_points_and_replications_simulate_only_what_is_missing(tmp_path):
    store = tmp_path / "sweep.jsonl"
    resumed(store, over={"agents.developers": [2, 4]}, replications=2)
    more = {"over": {"agents.developers": [1, 2, 4]}, "replications": 4}
    assert resumed(store, **more) == (undisturbed(**more), 8)


def test_values_come_back_from_a_store_as_they_were(tmp_path):
    store = tmp_path / "sweep.jsonl"
    first = quick({}, 1, measure=odd_numbers, store=store)
    second = quick({}, 1, measure=odd_numbers, store=store)
    expected = [0.1 + 0.2, math.nan, math.inf, -math.inf, 5e-324, 1e300]
    for result in (first, second):
        np.testing.assert_array_equal(result.replications[list("abcdef")].iloc[0].tolist(), expected)


def odd_numbers(_events):
    return dict(zip("abcdef", [0.1 + 0.2, math.nan, math.inf, -math.inf, 5e-324, 1e300], strict=True))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 8}, "seed is 7, here 8"),
        ({"events": 61}, "events is 60, here 61"),
        ({"events": None, "horizon_h": 1.0}, "horizon_h is .*, here 1.0"),
        ({"warmup_h": 0.1}, "warmup_h is 0.0, here 0.1"),
        ({"measure": None}, "measure is '.*test_analysis_sweep.counts [0-9a-f]{32}', here 'Summary'"),
    ],
)
def test_a_store_of_another_experiment_is_refused_and_left_alone(tmp_path, whole_store, other, named):
    path = tmp_path / "sweep.jsonl"
    path.write_bytes(whole_store)
    with pytest.raises(SyndarixError, match=f"sweep.jsonl: holds another experiment: there {named}; name another file"):
        quick(store=path, **other)
    assert path.read_bytes() == whole_store


def test_a_store_of_another_scenario_is_refused(tmp_path, whole_store):
    path = tmp_path / "sweep.jsonl"
    path.write_bytes(whole_store)
    changed = BASE.replace({"issues.rate_per_h": 7})
    with pytest.raises(SyndarixError, match=r"there scenario_digest is '[0-9a-f]{32}', here '[0-9a-f]{32}'"):
        sweep(changed, OVER, 3, 7, events=60, measure=counts, jobs=1, store=path)


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b"[1]\n", b'{"a": 1}\n', b"\xff\xfe"])
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(SyndarixError, match=r"notes.txt: is no store of a sweep; name a new file"):
        quick(store=path)
    assert path.read_bytes() == content


def test_a_broken_line_in_a_store_is_named(tmp_path, whole_store):
    path = tmp_path / "sweep.jsonl"
    lines = whole_store.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"{}\n", *lines[3:]]))
    with pytest.raises(SyndarixError, match=r"sweep.jsonl, line 4: is no replication of a sweep: .*key"):
        quick(store=path)


def test_two_sweeps_do_not_write_into_one_store(tmp_path):
    path = tmp_path / "sweep.jsonl"
    with Store(path, {"mine": 1}), pytest.raises(SyndarixError, match="another sweep writes into it"):
        Store(path, {"mine": 1})
    with Store(path, {"mine": 1}):
        pass


def test_a_store_that_cannot_be_written_says_why(tmp_path):
    with pytest.raises(SyndarixError, match="cannot keep replications: No such file or directory"):
        quick(store=tmp_path / "no" / "such" / "directory.jsonl")


def test_a_measure_without_a_name_has_no_store(tmp_path):
    with pytest.raises(SyndarixError, match=r"a store knows it by its name.*define a function"):
        quick(store=tmp_path / "sweep.jsonl", measure=lambda _events: {"a": 1})


# ---- as a program: processes, Dask, signals -----------------------------------------------------------------------

HORIZON_H = 2
PROGRAM = f"""
import sys
from syndarix_rt.simulation import Scenario, sweep
BASE = Scenario.preset("demo_small").replace(allow_overload=True)

def run(**how):
    how = {{"replications": 4, "seed": 7, "horizon_h": {HORIZON_H}, **how}}
    return sweep(BASE, {OVER}, **how)

def show(result):
    sys.stdout.write(result.frame.to_csv() + result.replications.to_csv())

def tell(done, total):
    print(done, flush=True)
"""


@contextmanager
def program(script):
    """A Python program, in a session of its own; when the context ends, nothing of that session is left alive."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        with process:
            yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def alive_in_session(session):
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def assert_session_ends(session, within_s=DEADLINE_S):
    deadline = time.monotonic() + within_s
    while alive := alive_in_session(session):
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


def output_of(script):
    with program(script) as process:
        out, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, err
        assert err == ""
        assert_session_ends(process.pid)
    return out


@pytest.fixture(scope="module")
def inline():
    """What the program's sweep gives in one process."""
    result = sweep(BASE, OVER, 4, 7, horizon_h=HORIZON_H, jobs=1)
    return result.frame.to_csv() + result.replications.to_csv()


def test_two_processes_give_the_same_as_one(inline):
    assert output_of("show(run(jobs=2))") == inline


def test_on_a_dask_cluster_it_gives_the_same_and_leaves_no_thread_of_its_own(inline):
    out = output_of(
        """
import os, threading
import joblib
from distributed import Client, LocalCluster

before = set(threading.enumerate())
with (
    LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit="512MiB"
    ) as cluster,
    Client(cluster) as client,
    joblib.parallel_config(backend="dask"),
):
    result = run()
    ran_at = run(measure=lambda events: {"pid": os.getpid()}).replications["pid"]
    assert set(ran_at) <= set(client.run(os.getpid).values()), "it ran elsewhere"
for thread in set(threading.enumerate()) - before:
    if not thread.name.startswith("Dask-Offload"):  # a pool that Dask keeps for the next cluster
        thread.join(10)
        assert not thread.is_alive(), thread
show(result)
"""
    )
    assert out == inline


UNTIL_KILLED = """
def until_killed(done, total):
    print(done, flush=True)
    if done == 5:
        sys.stdin.read()
"""


def test_killed_in_the_middle_it_goes_on_to_the_same_result(tmp_path, inline):
    store = tmp_path / "sweep.jsonl"
    with program(f"{UNTIL_KILLED}\nrun(jobs=2, store={str(store)!r}, progress=until_killed)") as process:
        while process.stdout.readline() != "5\n":
            assert process.poll() is None
        process.kill()
        assert_session_ends(process.pid)  # nobody is left to tell the workers
    with store.open("ab") as file:
        file.write(b'{"key": "91b0')  # a line that the kill cut
    counted = Counted()
    result = sweep(BASE, OVER, 4, 7, horizon_h=HORIZON_H, jobs=1, store=store, progress=counted)
    assert counted.done[0] == 5
    assert result.frame.to_csv() + result.replications.to_csv() == inline


def test_a_worker_that_was_still_starting_when_the_program_was_killed_ends_too():
    with program(f"{UNTIL_KILLED}\nrun(jobs=2, progress=until_killed)") as process:
        workers = []
        while len(workers) < 2:
            assert process.poll() is None
            children = psutil.Process(process.pid).children()
            workers = [child for child in children if "LokyProcess-" in str(child.cmdline())]
        workers[-1].suspend()
        while process.stdout.readline() != "5\n":
            assert process.poll() is None
        process.kill()
        process.wait()
        workers[-1].resume()
        assert_session_ends(process.pid, within_s=20)  # for work it would wait a minute


def test_an_interrupt_leaves_no_process_and_a_store_to_go_on_from(tmp_path):
    store = tmp_path / "sweep.jsonl"
    with program(f"run(jobs=2, replications=2000, store={str(store)!r}, progress=tell)") as process:
        while process.stdout.readline() != "4\n":
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == -signal.SIGINT
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert "Warning" not in err
        assert_session_ends(process.pid)
    kept = store.read_bytes().count(b"\n") - 1
    assert kept >= 4
    counted = Counted()
    sweep(BASE, OVER, 2, 7, horizon_h=HORIZON_H, jobs=1, store=store, progress=counted)
    assert counted.done[0] >= 4
