"""What becomes of the code: branches, commits, pull requests, and the pipelines that check them."""

from __future__ import annotations

from typing import Any, Final

from syndarix_rt.notebook.metrics import Levels
from syndarix_rt.notebook.panels.census import Census
from syndarix_rt.notebook.panels.sighting import Sighting
from syndarix_rt.notebook.panels.work import DOUBTFUL

__all__ = ["CHANGE_SERIES", "PIPELINE_SERIES", "Changes", "Pipelines"]

CHANGE_SERIES: list[dict[str, Any]] = [
    {"name": "commits", "color": "#7F8792"},
    {"name": "branches", "color": "#56B4E9"},
    {"name": "pull requests open", "color": "#E69F00"},
    {"name": "merged", "color": "#009E73"},
    {"name": "closed unmerged", "color": "#D55E00"},
    {"name": f"pull requests {DOUBTFUL['name']}", "color": "#CC79A7", "rare": True},
]

_COMMITS, _BRANCHES, _OPEN, _MERGED, _CLOSED, _DOUBTFUL = range(6)

PIPELINE_SERIES: list[dict[str, Any]] = [
    {"name": "running", "color": "#0072B2"},
    {"name": "waiting for a runner", "color": "#E69F00"},
    DOUBTFUL,
    {"name": "just failed", "color": "#D55E00"},
]

_RUNNING, _WAITING, _PIPELINE_DOUBTFUL, _FAILED = range(4)


class Changes(Levels):
    """Commits and branches so far, and pull requests by state, of those that were seen."""

    types: Final = ("branch_created", "commit_pushed", "pr_created", "pr_merged", "pr_closed")

    def __init__(self, *, bin_s: float = 1.0, bins: int = 602) -> None:
        super().__init__(len(CHANGE_SERIES), bin_s=bin_s, bins=bins)
        self._requests = Census(len(CHANGE_SERIES), final=(_MERGED, _CLOSED), doubtful=_DOUBTFUL)

    def see(self, event: Sighting, time_s: float) -> None:
        """Something changes."""
        requests = self._requests
        match event.type:
            case "commit_pushed":
                requests.counts[_COMMITS] += 1
            case "branch_created":
                requests.counts[_BRANCHES] += 1
            case "pr_created":
                requests.move(event.data["pr_id"], _OPEN)
            case "pr_merged":
                requests.move(event.data["pr_id"], _MERGED)
            case "pr_closed":
                requests.move(event.data["pr_id"], _CLOSED)
        self.set(time_s, requests.counts)

    def gap(self, now_s: float, label: str) -> None:
        """Requests may have been decided unseen; see `Census`."""
        super().gap(now_s, label)
        self._requests.doubt()
        self._levels = list(self._requests.counts)

    def begin(self) -> None:
        """There is nothing yet."""
        self._requests.clear()
        self._levels = list(self._requests.counts)


class Pipelines(Levels):
    """How many pipelines run and how many wait for a runner; those that failed, in the bin in which they did.

    No event says that a pipeline waits. It does from when a request that must be green is put up for review, or loses
    its pipeline to the infrastructure, to the pipeline's start.
    """

    types: Final = (
        "pipeline_started", "pipeline_completed", "pipeline_failed",
        "pr_created", "pr_merged", "pr_closed", "issue_updated",
    )  # fmt: skip

    def __init__(self, *, bin_s: float = 1.0, bins: int = 602) -> None:
        super().__init__(len(PIPELINE_SERIES), spikes=1, bin_s=bin_s, bins=bins)
        self._pipelines = Census(_FAILED, doubtful=_PIPELINE_DOUBTFUL)
        self._required: dict[str, None] = {}
        """Open requests that must be green; the oldest first."""

    def see(self, event: Sighting, time_s: float) -> None:
        """A pipeline starts or ends, or is asked for."""
        data, pipelines, failed = event.data, self._pipelines, None
        pr_id = data.get("pr_id")
        match event.type:
            case "pipeline_started":
                pipelines.move(f"request {pr_id}", None)
                pipelines.move(data["pipeline_id"], _RUNNING)
            case "pipeline_completed":
                pipelines.move(data["pipeline_id"], None)
            case "pipeline_failed":
                pipelines.move(data["pipeline_id"], None)
                failed = _FAILED
                if data.get("reason") == "infra" and pr_id in self._required:
                    pipelines.move(f"request {pr_id}", _WAITING)
            case "pr_created" if data.get("require_green"):
                self._require(data["pr_id"])
                pipelines.move(f"request {pr_id}", _WAITING)
            case "issue_updated" if data.get("state") == "in_review" and pr_id in self._required:
                pipelines.move(f"request {pr_id}", _WAITING)
            case "pr_merged" | "pr_closed":
                self._required.pop(data["pr_id"], None)
                pipelines.move(f"request {pr_id}", None)
            case _:
                return
        self.set(time_s, pipelines.counts, failed)

    def gap(self, now_s: float, label: str) -> None:
        """Pipelines may have started and ended unseen; see `Census`."""
        super().gap(now_s, label)
        self._pipelines.doubt()
        self._levels = list(self._pipelines.counts)

    def advance(self, now_s: float) -> None:
        """Time goes on; what was not seen for as long as is shown is forgotten."""
        doubtful = self._pipelines.counts[_PIPELINE_DOUBTFUL]
        if doubtful and self.gaps and self.gaps[-1].end_s < now_s - self._bins * self.bin_s:
            self._pipelines.forget_doubtful()
            self._levels = list(self._pipelines.counts)
        super().advance(now_s)

    def begin(self) -> None:
        """There are none yet."""
        self._pipelines.clear()
        self._required.clear()
        self._levels = list(self._pipelines.counts)

    def _require(self, pr_id: str) -> None:
        self._required[pr_id] = None
        if len(self._required) > MAX_REQUIRED:
            del self._required[next(iter(self._required))]


MAX_REQUIRED = 20_000
"""Open requests that are remembered: more than any team has, and a bound for one that closes none."""
