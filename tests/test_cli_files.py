from __future__ import annotations

import gzip
import subprocess
from functools import partial
from itertools import islice

import pytest
from command_line import PROGRAM, call, environment, run

from syndarix_rt.events import Event
from syndarix_rt.playback import read_recording
from syndarix_rt.playback.importers import write_azure
from syndarix_rt.playback.importers.aidev_files import write_aidev
from syndarix_rt.simulation import Profile, Scenario, Simulation


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A recording of 2,000 events."""
    path = tmp_path_factory.mktemp("recording") / "good.jsonl"
    done = run("simulate", "steady_sprint", "--seed", 7, "--events", 2_000, "-o", path)
    assert (done.code, done.out, done.err) == (0, "", "")
    return path


@pytest.fixture
def cli(capsys):
    return partial(call, capsys)


def test_the_same_seed_gives_the_same_file_in_two_processes(recording, tmp_path):
    again, other = tmp_path / "again.jsonl", tmp_path / "other.jsonl"
    run("simulate", "steady_sprint", "--seed", 7, "--events", 2_000, "-o", again)
    run("simulate", "steady_sprint", "--seed", 8, "--events", 2_000, "-o", other)
    assert again.read_bytes() == recording.read_bytes()
    assert other.read_bytes() != recording.read_bytes()
    assert recording.read_bytes().count(b"\n") == 2_000


def test_a_simulation_can_go_to_stdout_and_be_checked_from_stdin(recording):
    simulated = run("simulate", "steady_sprint", "--seed", 7, "--events", 2_000, "-o", "-", text=False)
    assert simulated.out == recording.read_bytes()
    checked = run("validate", "-", input=simulated.out, text=False)
    assert (checked.code, checked.out) == (0, b"2000 events, 0 violations\n")


def test_a_simulation_ends_at_the_horizon_of_its_scenario(cli, tmp_path):
    scenario = tmp_path / "short.toml"
    scenario.write_text("horizon_h = 0.5\nallow_overload = true\n[issues]\nrate_per_h = 20\n")
    assert cli("simulate", scenario, "-o", tmp_path / "a.jsonl") == (0, "", "")
    events = list(read_recording(tmp_path / "a.jsonl"))
    assert 10 < len(events) < 5_000
    assert (events[-1].time - events[0].time).total_seconds() <= 1_800


def test_a_good_recording_is_clean_also_when_it_is_packed(cli, recording, tmp_path):
    assert cli("validate", recording) == (0, "2000 events, 0 violations\n", "")
    packed = tmp_path / "good.jsonl.gz"
    packed.write_bytes(gzip.compress(recording.read_bytes()))
    assert cli("validate", packed) == (0, "2000 events, 0 violations\n", "")


@pytest.mark.parametrize(
    ("mutate", "invariant"),
    [
        (lambda lines: [*lines, lines[-1]], "I1"),
        (lambda lines: lines[5:], "S1"),
        (lambda lines: [*lines, b"not an event"], "I3"),
        (lambda lines: [*lines, b'{"type": "agent_started"'], "I3"),
    ],
    ids=["twice", "headless", "garbage", "cut"],
)
def test_a_recording_that_cannot_be_is_named_by_its_invariant(cli, recording, tmp_path, mutate, invariant):
    lines = mutate(recording.read_bytes().splitlines())
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b"\n".join(lines) + b"\n")
    code, out, err = cli("validate", bad)
    assert (code, err) == (1, "")
    *violations, last = out.splitlines()
    assert violations
    assert last == f"{len(lines)} events, {len(violations)} violations"
    assert violations[-1].startswith(f"{invariant} event ")


def test_a_recording_that_begins_midway_is_clean_if_it_is_called_partial(cli, recording, tmp_path):
    midway = tmp_path / "midway.jsonl"
    midway.write_bytes(b"".join(recording.read_bytes().splitlines(keepends=True)[500:]))
    assert cli("validate", midway, "--partial") == (0, "1500 events, 0 violations\n", "")
    assert cli("validate", midway)[0] == 1


def test_an_import_accounts_for_every_row_and_validates_clean(cli, tmp_path):
    write_aidev(islice(Simulation(Scenario.preset("steady_sprint"), 3), 4_000), tmp_path)
    output = tmp_path / "trace.jsonl"
    code, out, err = cli("import", "aidev", tmp_path, "-o", output, "--project", "pulls")
    assert (code, err) == (0, "")
    accounts = [line.partition(": ")[2].replace(",", "").split() for line in out.splitlines() if " rows = " in line]
    assert len(accounts) == 2
    for rows, _, _, mapped, _, _, ignored, _ in accounts:
        assert int(rows) == int(mapped) + int(ignored) > 0
    events = list(read_recording(output))
    assert f"{len(events):,} events" in out
    assert {event.project for event in events} == {"pulls"}
    assert cli("validate", output) == (0, f"{len(events)} events, 0 violations\n", "")


def test_an_import_of_requests_goes_into_a_project_of_the_sources_name(cli, tmp_path):
    trace, output = tmp_path / "calls.csv", tmp_path / "trace.jsonl"
    rows = write_azure(islice(Simulation(Scenario.preset("steady_sprint"), 3), 1_000), trace)
    code, out, err = cli("import", "azure-llm", trace, "-o", output)
    assert (code, err) == (0, "")
    assert out.startswith(f"calls.csv: {rows} rows = {rows} mapped + 0 ignored\n{rows + 1} events from ")
    assert {event.project for event in read_recording(output)} == {"azure-llm"}
    assert cli("validate", output) == (0, f"{rows + 1} events, 0 violations\n", "")


def test_a_report_of_a_simulation_needs_no_file_and_writes_one_if_it_is_named(cli, recording, tmp_path):
    simulation = ("simulate", "steady_sprint", "--seed", 7, "--events", 2_000)
    code, report, err = cli(*simulation, "--report")
    assert (code, err) == (0, "")
    assert report.startswith("SIMULATED")
    assert "trace.copilot.run_success_p50_min" in report
    again = tmp_path / "again.jsonl"
    assert cli(*simulation, "--report", "-o", again) == (0, report, "")
    assert again.read_bytes() == recording.read_bytes()
    both = run(*simulation, "--report", "-o", "-")
    assert (both.out.encode(), both.err) == (recording.read_bytes(), report)
    code, out, err = cli(*simulation)
    assert (code, out) == (2, "")
    assert err.startswith("syndarix-rt simulate: Missing option '-o' / '--output' (or '--report').")


def test_a_report_tells_the_distance_to_real_runs_where_there_are_some(cli, tmp_path):
    write_aidev(islice(Simulation(Scenario.preset("steady_sprint"), 3), 20_000), tmp_path / "aidev_pop")
    simulation = ("simulate", "steady_sprint", "--events", 2_000, "--report", "--traces")
    code, out, err = cli(*simulation, tmp_path)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("KS of developers' completed runs to ")
    code, out, err = cli(*simulation, tmp_path / "nowhere")
    assert (code, out) == (1, "")
    assert err.endswith("cannot read: No such file or directory\n")


def test_a_fit_of_a_recording_is_a_profile_that_a_scenario_takes(cli, recording, tmp_path):
    profile, team = tmp_path / "mine.toml", tmp_path / "team.toml"
    code, out, err = cli("fit", recording, "-o", profile, "--scenario", team)
    assert (code, err) == (0, f"{len(Profile.load(profile).constants)} constants in {profile}\n")
    header, *rows = [line.split() for line in out.splitlines()]
    assert header == ["QUANTITY", "UNIT", "N", "LAW", "KS", "PARAMETERS"]
    (chosen,) = [row for row in rows if row[0] == "runs.llm_s" and "*" in row]
    assert chosen[3] == "lognormal"
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(f'profile = "{profile}"\n')
    assert Scenario.load(scenario).projects[0].runs.llm_s == Profile.load(profile)["runs.llm_s"].value
    (project,) = Scenario.load(team).projects
    assert project.runs.llm_s == Scenario.load(scenario).projects[0].runs.llm_s
    assert project.human_time_scale == 1
    empty = run("fit", "-", "-o", profile, input="")
    assert (empty.code, empty.out) == (1, "")
    assert empty.err.startswith("syndarix-rt: trace: tells nothing that could be fitted")


def test_a_reader_that_leaves_early_is_no_error_message():
    with subprocess.Popen(
        [*PROGRAM, "simulate", "steady_sprint", "-o", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert Event.decode(process.stdout.readline().rstrip()).type == "sprint_started"
        process.stdout.close()
        assert process.stderr.read() == b""
