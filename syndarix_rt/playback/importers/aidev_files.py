"""Events written as files in the format of the trace AIDev-pop, for trials of its importer without the trace."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from syndarix_rt.events import Event
from syndarix_rt.playback.importers.aidev import LIFECYCLE, LIFECYCLE_COLUMNS, TIMELINE, TIMELINE_COLUMNS

__all__ = ["write_aidev"]

_AGENT = "Simulated"

_OF_PULLS = ("approval_required", "approval_resolved", "pr_merged", "pr_closed")

_RUN_ROWS = {
    "agent_started": "copilot_work_started",
    "agent_completed": "copilot_work_finished",
    "agent_error": "copilot_work_finished_failure",
}


class _Pull:
    """A pull request while its events come in."""

    def __init__(self, number: int, repo: int, created_at: datetime) -> None:
        self.created_at = created_at
        self.lifecycle: dict[str, Any] = {
            "agent": _AGENT,
            "pr": f"si-{number:05}",
            "repo": f"si{repo:03}",
            "created_at": f"{created_at:%Y-%m-%dT%H:%M:%SZ}",
            "changes_requested": 0,
        }
        self.timeline: list[dict[str, Any]] = []

    def seconds(self, event: Event) -> int:
        """Whole seconds after creation, by times cut to whole seconds as GitHub's are."""
        return int((event.time.replace(microsecond=0) - self.created_at).total_seconds())

    def saw(self, event: Event, *columns: str) -> None:
        """Put the event's time into those of the lifecycle's columns that are empty."""
        for column in columns:
            self.lifecycle.setdefault(column, round(self.seconds(event) / 3600, 4))

    def add_row(self, event: Event, name: str) -> None:
        self.timeline.append({"agent": _AGENT, "pr": self.lifecycle["pr"], "event": name, "t_s": self.seconds(event)})


def write_aidev(events: Iterable[Event], directory: str | os.PathLike[str]) -> int:
    """Write the pull requests among the events, with their approvals and the runs that began while they were open.

    Names are replaced by numbers as in the trace: pull requests ``si-00000`` … in the order of their creation, a
    repository ``si000`` … for each project.

    Args:
        events: ordered by time, as a simulation gives them.
        directory: gets the two files; made if need be.

    Returns:
        The number of pull requests.
    """
    pulls: dict[tuple[str, str], _Pull] = {}  # by project and id, as the other keys
    by_branch: dict[tuple[str, str], _Pull] = {}
    by_run: dict[tuple[str, str], _Pull] = {}
    commits: Counter[tuple[str, str]] = Counter()
    repos: dict[str, int] = {}
    for event in events:
        project, data = event.project, event.data
        pull = pulls.get((project, data.get("pr_id", ""))) if event.type in _OF_PULLS else None
        match event.type:
            case "commit_pushed":
                commits[project, data["branch"]] += 1
            case "pr_created":
                repo = repos.setdefault(project, len(repos))
                pull = _Pull(len(pulls), repo, event.time.replace(microsecond=0))
                pulls[project, data["pr_id"]] = pull
                if "branch" in data:
                    by_branch[project, data["branch"]] = pull
            case "approval_required" if pull:
                pull.add_row(event, "review_requested")
            case "approval_resolved" if pull:
                pull.saw(event, "first_review_h")
                if data["decision"] == "approved":
                    pull.saw(event, "first_approval_h")
                else:
                    pull.lifecycle["changes_requested"] += 1
            case "pr_merged" if pull:
                pull.saw(event, "merged_h", "closed_h")
                pull.add_row(event, "merged")
                pull.add_row(event, "closed")
            case "pr_closed" if pull:
                pull.saw(event, "closed_h")
                pull.add_row(event, "closed")
            case "agent_started" if (project, data.get("branch", "")) in by_branch:
                by_run[project, data["run_id"]] = pull = by_branch[project, data["branch"]]
                pull.add_row(event, _RUN_ROWS[event.type])
            case "agent_completed" | "agent_error" if (project, data["run_id"]) in by_run:
                by_run.pop((project, data["run_id"])).add_row(event, _RUN_ROWS[event.type])
    for (project, branch), pull in by_branch.items():
        pull.lifecycle["n_commits"] = commits[project, branch]

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / LIFECYCLE, LIFECYCLE_COLUMNS, (pull.lifecycle for pull in pulls.values()))
    _write(directory / TIMELINE, TIMELINE_COLUMNS, (row for pull in pulls.values() for row in pull.timeline))
    return len(pulls)


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
