from __future__ import annotations

import contextlib
from collections import Counter
from datetime import UTC, datetime
from itertools import islice

import pytest

from syndarix_rt.errors import RecordingError
from syndarix_rt.playback.importers import IMPORTERS, import_aidev
from syndarix_rt.playback.importers.aidev_files import write_aidev
from syndarix_rt.simulation import Scenario, Simulation, validate

LIFECYCLE_HEADER = (
    "agent,pr,repo,created_at,closed_h,merged_h,first_review_h,first_approval_h,n_commits,changes_requested"
)
END = datetime(9999, 1, 1, tzinfo=UTC)
CREATED = datetime(2025, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def write(tmp_path):
    """Write a trace: lines of the two files without their headers; its directory."""

    def write(lifecycle, timeline=(), lifecycle_header=LIFECYCLE_HEADER, timeline_header="agent,pr,event,t_s"):
        (tmp_path / "pr_lifecycle.csv").write_text("\n".join([lifecycle_header, *lifecycle]) + "\n")
        (tmp_path / "timeline_events.csv").write_text("\n".join([timeline_header, *timeline]) + "\n")
        return tmp_path

    return write


def pull(pr="co-1", *, closed="", merged="", review="", approval="", commits="3.0", created="2025-05-01T12:00:00Z"):
    return f"Copilot,{pr},r1,{created},{closed},{merged},{review},{approval},{commits},1"


def rows(*pairs, pr="co-1"):
    return [f"Copilot,{pr},{event},{t_s}" for event, t_s in pairs]


def story(imported):
    """Type and seconds after creation of each event, an implied one with a question mark."""
    return [
        (event.type + ("?" if event.data.get("implied") else ""), (event.time - CREATED).total_seconds())
        for event in imported.events
    ]


OPENED = [("branch_created?", 0), ("commit_pushed?", 0), ("pr_created", 0)]


def account(imported):
    """Mapped and ignored rows of the timeline; both files' sums are checked."""
    for file in imported.files:
        assert file.rows == file.mapped + file.ignored.total()
    return imported.files[1].mapped, dict(imported.files[1].ignored)


def test_a_pull_request_implies_a_branch_and_a_commit(write):
    imported = import_aidev(write([pull()]))
    assert story(imported) == OPENED
    branch, commit, opened = imported.events
    assert branch.data["branch"] == commit.data["branch"] == opened.data["branch"] == "r1/co-1"
    assert commit.data["commit"] == opened.data["commit"]
    assert (branch.cause, commit.cause, opened.cause) == (None, branch.id, commit.id)
    assert opened.data["snapshot"] == {"commits": 3, "changes_requested": 1}
    assert {event.project for event in imported.events} == {"aidev"}
    assert account(imported) == (0, {})


def test_a_merge_said_by_both_files_is_one_event_at_the_lifecycles_time(write):
    lifecycle = [pull(closed="0.5003", merged="0.5", review="0.25", approval="0.25")]
    timeline = rows(("merged", 1800), ("closed", 1801), ("head_ref_deleted", 1801))
    imported = import_aidev(write(lifecycle, timeline), "apollo")
    assert story(imported) == [
        *OPENED,
        ("approval_required?", 0),
        ("approval_resolved", 900),
        ("pr_merged", 1800),
        ("pr_head_ref_deleted", 1801),
    ]
    by_type = {event.type: event for event in imported.events}
    assert by_type["approval_resolved"].data["waited_s"] == 900
    assert by_type["approval_resolved"].data["decision"] == "approved"
    assert by_type["approval_resolved"].cause == by_type["approval_required"].id
    assert by_type["pr_merged"].cause == by_type["approval_resolved"].id
    assert by_type["pr_head_ref_deleted"].cause == by_type["pr_merged"].id
    assert account(imported) == (2, {"closed by its merge: pr_merged says both": 1})


def test_an_end_is_taken_from_the_timeline_if_the_lifecycle_has_none(write):
    imported = import_aidev(write([pull(), ""], rows(("merged", 60), ("closed", 60))))
    assert story(imported) == [*OPENED, ("pr_merged", 60)]
    imported = import_aidev(write([pull()], rows(("closed", 60))))
    assert story(imported) == [*OPENED, ("pr_closed", 60)]
    assert account(imported) == (1, {})


def test_only_the_last_close_becomes_an_event(write):
    timeline = rows(("closed", 60), ("reopened", 90), ("closed", 3600))
    imported = import_aidev(write([pull(closed="1.0")], timeline))
    assert story(imported) == [*OPENED, ("pr_closed", 3600)]
    assert account(imported) == (
        1,
        {
            "closed, but it was not the end: only the last close becomes an event": 1,
            "reopened, but it was not the end: only the last close becomes an event": 1,
        },
    )
    imported = import_aidev(write([pull()], timeline[:2]))
    assert story(imported) == OPENED


def test_within_one_second_an_approval_precedes_the_merge_and_that_the_branchs_end(write):
    timeline = rows(("head_ref_deleted", 3600), ("merged", 3600), ("labeled", 3600))
    imported = import_aidev(write([pull(closed="1.0", merged="1.0", review="1.0", approval="1.0")], timeline))
    assert [kind for kind, at_s in story(imported) if at_s] == [
        "approval_resolved",
        "pr_labeled",
        "pr_merged",
        "pr_head_ref_deleted",
    ]


def test_a_close_before_the_merge_and_a_close_said_twice_are_counted(write):
    timeline = rows(("closed", 60), ("merged", 3600), ("closed", 3600))
    imported = import_aidev(write([pull(closed="1.0", merged="1.0")], timeline))
    only_last = "closed, but it was not the end: only the last close becomes an event"
    assert account(imported) == (1, {only_last: 1, "closed by its merge: pr_merged says both": 1})
    imported = import_aidev(write([pull(closed="1.0")], rows(("closed", 3600), ("closed", 3600))))
    assert account(imported) == (1, {only_last: 1})
    assert story(imported) == [*OPENED, ("pr_closed", 3600)]


def test_an_approval_answers_the_last_request_before_it(write):
    timeline = rows(("review_requested", 10), ("review_requested", 100), ("review_requested", 5000))
    imported = import_aidev(write([pull(review="0.1", approval="1.0")], timeline))
    assert story(imported) == [
        *OPENED,
        ("pr_review_requested", 10),
        ("approval_required", 100),
        ("pr_reviewed", 360),
        ("approval_resolved", 3600),
        ("pr_review_requested", 5000),
    ]
    assert imported.events[-2].data["waited_s"] == 3500
    assert account(imported) == (3, {})


def test_an_approval_after_the_end_is_only_a_review(write):
    imported = import_aidev(write([pull(closed="1.0", review="2.0", approval="2.0")]))
    assert story(imported) == [*OPENED, ("pr_closed", 3600), ("pr_reviewed", 7200)]


def test_copilots_work_becomes_runs_with_their_durations(write):
    timeline = rows(
        ("copilot_work_started", 3),
        ("copilot_work_finished", 603),
        ("copilot_work_started", 603),
        ("copilot_work_finished_failure", 700),
    )
    imported = import_aidev(write([pull()], timeline))
    assert story(imported) == [
        *OPENED,
        ("agent_started", 3),
        ("agent_completed", 603),
        ("agent_started", 603),
        ("agent_error", 700),
    ]
    first, completed, second, failed = imported.events[3:]
    assert (completed.data["run_id"], failed.data["run_id"]) == (first.data["run_id"], second.data["run_id"])
    assert first.data["run_id"] != second.data["run_id"]
    assert (completed.cause, failed.cause) == (first.id, second.id)
    assert (completed.data["duration_s"], failed.data["duration_s"]) == (600, 97)
    assert (completed.data["end_reason"], failed.data["end_reason"]) == ("completed", "failed")
    assert account(imported) == (4, {})


def test_runs_without_a_start_or_an_end_are_counted_and_break_no_rule(write):
    timeline = rows(
        ("copilot_work_finished", 2),
        ("copilot_work_started", 3),
        ("copilot_work_started", 50),
        ("copilot_work_finished", 60),
        ("copilot_work_finished", 70),
        ("copilot_work_started", 80),
    )
    imported = import_aidev(write([pull()], timeline))
    assert story(imported)[3:] == [
        ("agent_started", 3),
        ("agent_error?", 50),
        ("agent_started", 50),
        ("agent_completed", 60),
        ("agent_started", 80),
    ]
    assert account(imported) == (4, {"end of a run without a start": 2})
    assert imported.notes["runs without an end in the trace"] == 1
    assert imported.notes["runs without an end in the trace before the next start, which ends them"] == 1


def test_rows_that_say_nothing_usable_are_counted_by_reason(write):
    timeline = [
        *rows(("labeled", 5), ("milestoned", 6), ("labeled", -1)),
        *rows(("labeled", 5), pr="co-9"),
    ]
    imported = import_aidev(write([pull()], timeline))
    assert story(imported) == [*OPENED, ("pr_labeled", 5)]
    assert account(imported) == (
        1,
        {
            "unknown event 'milestoned'": 1,
            "before its pull request was opened": 1,
            "its pull request is not in pr_lifecycle.csv": 1,
        },
    )
    assert imported.summary().splitlines() == [
        "pr_lifecycle.csv: 1 rows = 1 mapped + 0 ignored",
        "timeline_events.csv: 4 rows = 1 mapped + 3 ignored",
        "  1 ignored: before its pull request was opened",
        "  1 ignored: its pull request is not in pr_lifecycle.csv",
        "  1 ignored: unknown event 'milestoned'",
        "4 events from 2025-05-01 12:00 to 2025-05-01 12:00 UTC",
        "  events implied by the trace, not in it (data.implied): 2",
    ]


def test_events_of_all_pull_requests_are_ordered_by_time_and_causal(write):
    lifecycle = [
        pull("co-2", created="2025-05-02T12:00:00Z"),
        pull("co-1", closed="48.0"),
        pull("co-3", created="2025-05-01T15:00:00+03:00"),
    ]
    timeline = [*rows(("labeled", 90_000), ("assigned", 3)), *rows(("labeled", 0), pr="co-2")]
    imported = import_aidev(write(lifecycle, timeline))
    assert str(validate(imported.events)) == f"{len(imported.events)} events, 0 violations"
    assert imported.events == import_aidev(write(lifecycle, timeline)).events
    assert imported.events[4].subject == "co-3"  # at the same second as co-1, in the order of the file


def test_an_empty_trace_gives_no_events(write):
    imported = import_aidev(write([]))
    assert imported.events == []
    assert "0 events" in imported.summary()


@pytest.mark.parametrize(
    ("lifecycle", "timeline", "text"),
    [
        ([pull(), pull()], [], "pr_lifecycle.csv, line 3: column 'pr' names a pull request that stands in an earlier"),
        ([pull("")], [], "pr_lifecycle.csv, line 2: column 'pr' must be 1 to 31 of letters"),
        ([pull("a b")], [], "column 'pr' must be 1 to 31 of letters, digits, '_' and '-': 'a b'"),
        ([pull(closed="soon")], [], "pr_lifecycle.csv, line 2: column 'closed_h' is not a number: 'soon'"),
        ([pull(closed="nan")], [], "column 'closed_h' is not a number: 'nan'"),
        ([pull(closed="-1")], [], "column 'closed_h' is negative: '-1'"),
        ([pull(closed="1e30")], [], "column 'closed_h' is more than 100 years: '1e30'"),
        ([pull(created="yesterday")], [], "column 'created_at' is not a time such as 2025-06-17T14:36:56Z: 'yest"),
        ([pull(created="2025-05-01T12:00:00")], [], "column 'created_at' has no time zone"),
        ([pull()[:-2]], [], "pr_lifecycle.csv, line 2: 9 cells, but the header names 10"),
        (
            [pull()],
            [*rows(("labeled", 5)), "Copilot,co-1"],
            "timeline_events.csv, line 3: 2 cells, but the header names 4",
        ),
        ([pull()], rows(("labeled", "x")), "timeline_events.csv, line 2: column 't_s' is not a number: 'x'"),
        ([pull()], rows(("labeled", "")), "timeline_events.csv, line 2: column 't_s' is empty"),
        ([pull()], rows(("labeled", "1e300")), "column 't_s' is more than 100 years"),
        ([pull()], ['Copilot,"co-1'], "timeline_events.csv, line 2: not CSV: unexpected end of data"),
        ([pull(commits="2.5")], [], "column 'n_commits' is not a count: '2.5'"),
        ([pull(commits="-1")], [], "column 'n_commits' is not a count: '-1'"),
        ([pull(commits="1e300")], [], "column 'n_commits' is not a count: '1e300'"),
        ([pull(created="9999-12-31T23:59:59-10:00")], [], "column 'created_at' is not between 1970 and 2200"),
    ],
)
def test_damage_is_an_error_that_names_file_line_and_column(write, lifecycle, timeline, text):
    with pytest.raises(RecordingError) as caught:
        import_aidev(write(lifecycle, timeline))
    assert text in str(caught.value)


def test_a_missing_column_or_file_is_named(write, tmp_path):
    with pytest.raises(RecordingError, match=r"pr_lifecycle.csv, line 1: there is no column created_at, merged_h; exp"):
        import_aidev(write([], lifecycle_header=LIFECYCLE_HEADER.replace("created_at,", "").replace("merged_h,", "")))
    with pytest.raises(RecordingError, match=r"timeline_events.csv, line 1: there is no column agent, pr, event, t_s"):
        import_aidev(write([], timeline_header=""))
    write([])
    (tmp_path / "timeline_events.csv").unlink()
    with pytest.raises(RecordingError, match=r"timeline_events.csv: cannot read: No such file or directory"):
        import_aidev(tmp_path)
    with pytest.raises(RecordingError, match=r"nowhere/pr_lifecycle.csv: cannot read: No such file or directory"):
        import_aidev(tmp_path / "nowhere")


@pytest.mark.parametrize("garbage", [b"\xff\xfe", bytes(range(256)), b"\0" * 9000, b'"' * 999, b"a,b\n" * 100_000])
def test_garbage_is_an_error_and_never_anything_else(write, garbage):
    directory = write([pull()], rows(("labeled", 5)))
    for path in directory.glob("*.csv"):
        whole = path.read_bytes()
        for content in (garbage, whole + garbage, whole.replace(b"co-1", garbage), whole[:-3] + garbage):
            path.write_bytes(content)
            with contextlib.suppress(RecordingError):
                import_aidev(directory)
        path.write_bytes(whole)


def test_further_columns_and_a_byte_order_mark_are_passed_over(write, tmp_path):
    directory = write([pull() + ",x"], lifecycle_header=LIFECYCLE_HEADER + ",more")
    path = directory / "pr_lifecycle.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert story(import_aidev(directory)) == OPENED


def test_a_wrong_project_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a project name: 'a b'"):
        import_aidev(tmp_path, "a b")


@pytest.mark.parametrize("seed", [1, 7, 8])
def test_what_the_simulator_writes_in_the_traces_format_is_imported_again(tmp_path, seed):
    simulated = list(islice(Simulation(Scenario.load("demo_small"), seed), 4_000))
    opened = [event for event in simulated if event.type == "pr_created"]
    assert write_aidev(simulated, tmp_path) == len(opened) >= 10

    imported = import_aidev(tmp_path)
    account(imported)
    assert validate(imported.events).ok
    names = {event.data["pr_id"]: f"si-{number:05}" for number, event in enumerate(opened)}

    def lives(events):
        """When each pull request was opened, merged, closed and approved, in whole seconds."""
        return {
            (event.type, names.get(pr_id, pr_id), event.time.replace(microsecond=0))
            for event in events
            if (pr_id := event.data.get("pr_id"))
            and (event.type in {"pr_created", "pr_merged", "pr_closed"} or event.data.get("decision") == "approved")
        }

    assert lives(imported.events) == lives(simulated)
    assert len({kind for kind, _, _ in lives(imported.events)}) == 4

    # The runs that began on an open pull request's branch keep their number and their ends.
    opened_at = {event.data["branch"]: event.time for event in reversed(opened)}
    later = [
        event.data["run_id"]
        for event in simulated
        if event.type == "agent_started" and opened_at.get(event.data.get("branch"), END) < event.time
    ]
    ends = Counter(
        event.type for event in simulated if event.data.get("run_id") in later and "end_reason" in event.data
    )
    types = Counter(event.type for event in imported.events)
    assert types["agent_started"] == len(later) > 10
    assert (types["agent_completed"], types["agent_error"]) == (ends["agent_completed"], ends["agent_error"])


@pytest.mark.traces
def test_the_real_trace_is_mapped_or_ignored_row_by_row(traces_dir):
    imported = IMPORTERS["aidev"](traces_dir / "aidev_pop", "aidev")
    lifecycle, timeline = imported.files
    assert (lifecycle.rows, lifecycle.mapped, lifecycle.ignored) == (4_988, 4_988, {})
    assert timeline.rows == 19_289
    mapped, ignored = account(imported)
    assert mapped == 17_748
    assert sum(ignored.values()) == 1_541
    assert not any(reason.startswith("unknown") for reason in ignored)
    assert str(validate(imported.events)) == f"{len(imported.events)} events, 0 violations"
    types = Counter(event.type for event in imported.events)
    assert types["pr_created"] == 4_988
    # 2,590 merges in the lifecycle, 5 more in the timeline, which was collected later.
    assert types["pr_merged"] == 2_595
    # 2,117 ends of runs: 4 without a start are ignored; 8 restarts imply an error.
    assert (types["agent_started"], types["agent_completed"], types["agent_error"]) == (2_271, 1_994, 119 + 8)
    assert types["approval_resolved"] == 1_098
