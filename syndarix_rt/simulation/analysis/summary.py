"""`Summary`: the metrics of a stream of events, taken event by event.

Memory: eight bytes for each duration (an issue, a run, a pipeline …) and 24 for each visit to a queue, nothing for LLM
and tool calls, which are most of the events. Quantiles are exact.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from syndarix_rt.events import Event
from syndarix_rt.events.payloads import LLM_OPERATIONS
from syndarix_rt.simulation.analysis.metric_names import COUNTS, QUEUE_METRICS, SAMPLES, sample_metrics
from syndarix_rt.simulation.analysis.queues import Queues, pool_sizes
from syndarix_rt.simulation.scenario import Scenario

__all__ = ["Summary"]

_NO_VERDICT = ("infra", "cancelled")
"""Why a pipeline may fail without saying anything about the change."""


class _Open:
    """What goes on in one project: when it began, in seconds since the stream's first event."""

    def __init__(self) -> None:
        self.issues: dict[str, float] = {}
        self.runs: dict[str, float] = {}
        self.prs: dict[str, float] = {}
        self.pipelines: dict[str, float] = {}
        self.approvals: dict[str, float] = {}
        self.last_issue_s = self.last_pr_s = math.nan
        self.verdicts: dict[str, bool | None] = {}
        """Pipelines whose failure (True) or success is known, while one that started earlier still runs."""
        self.order: deque[str] = deque()
        """Pipelines in the order of their start, from the first one that still runs."""
        self.failed: bool | None = None
        """The last verdict in that order."""


class Summary:
    """Metrics of one simulation or recording, over all its projects.

    Args:
        warmup_h: hours after the first event that are left out: counts and rates begin then, durations and waits are
            those of what began then or later. What was open by then goes on to count as open.
        scenario: tells how many agents, runners and humans there are; None: those that were seen at work.

    Example:
        ``summary = Summary(warmup_h=8)``, ``for event in Simulation(...): summary.feed(event)``,
        ``summary.metrics()["runs.duration_p50_min"]``
    """

    def __init__(self, *, warmup_h: float = 0.0, scenario: Scenario | None = None) -> None:
        self._warmup = timedelta(hours=warmup_h)
        self._scenario = scenario
        self._first: datetime | None = None
        self._last: datetime | None = None
        self._from: datetime | None = None
        """When the warm-up ends; None: it has ended."""
        self._from_s = self._warmup.total_seconds()
        self._projects: dict[str, _Open] = {}
        self._queues = Queues()
        self._backlog = 0
        self._reset()

    def feed(self, event: Event) -> None:
        """Take the next event."""
        time = event.time
        if self._last is None or time > self._last:
            if self._first is None:
                self._first = time
                self._from = time + self._warmup
            self._last = time
            if self._from is not None and time >= self._from:
                self._from = None
                self._advance_backlog(self._from_s)
                self._reset()
        self._count["events"] += 1
        if event.type == "agent_activity":
            self._activity(event.data)
            return
        handler = self._HANDLERS.get(event.type)
        if handler is not None:
            now_s = (time - self._first).total_seconds()  # type: ignore[operator] # set with the first event
            project = self._projects.get(event.project)
            if project is None:
                project = self._projects[event.project] = _Open()
            handler(self, project, event.data, now_s)
            self._queues.feed(event, now_s)

    @property
    def samples(self) -> dict[str, NDArray[np.float64]]:
        """The values behind the quantiles by name, such as ``runs.duration_min``, in the order of the events."""
        return {name: np.array(values) for name, values in self._samples.items()}

    def metrics(self) -> dict[str, float]:
        """All metrics by dotted name; units stand at the end, counts have none, ``_share`` is 0 to 1.

        NaN where nothing was there to be measured. The names are always the same but for ``queues.<name>.*``: queues
        that nobody visited are left out, and for ``runs.end_reason.*`` of reasons that are not the simulation's.
        """
        until_s = (self._last - self._first).total_seconds() if self._first and self._last else 0.0
        hours = max(until_s - self._from_s, 0.0) / 3600
        if self._from is not None:  # the stream ended within the warm-up
            self._reset()
        count = self._count
        cancelled = count["runs.end_reason.cancelled"]
        metrics = {"simulated_h": hours, "events_per_h": _ratio(count["events"], hours), **count}
        self._advance_backlog(until_s)
        metrics |= {
            "issues.open": float(self._backlog),
            "issues.backlog_mean": _ratio(self._backlog_area, hours * 3600),
            "issues.backlog_max": float(self._backlog_max),
            "issues.created_per_h": _ratio(count["issues.created"], hours),
            "issues.closed_per_h": _ratio(count["issues.closed"], hours),
            "runs.open": float(sum(len(project.runs) for project in self._projects.values())),
            "runs.error_share": _ratio(count["runs.errors"], count["runs.ended"] - cancelled),
            "llm.calls_per_min": _ratio(count["llm.calls"], hours * 60),
            "llm.tokens_per_min": _ratio(count["llm.input_tokens"] + count["llm.output_tokens"], hours * 60),
            "llm.cached_share": _ratio(count["llm.cached_tokens"], count["llm.input_tokens"]),
            "llm.error_share": _ratio(count["llm.errors"], count["llm.calls"]),
            "llm.retry_share": _ratio(count["llm.retries"], count["llm.calls"]),
            "llm.rate_limited_share": _ratio(count["llm.rate_limited"], count["llm.calls"]),
            "llm.cost_per_closed_issue_usd": _ratio(count["llm.cost_usd"], count["issues.closed"]),
            "tools.error_share": _ratio(count["tools.errors"], count["tools.calls"]),
            "changes.merged_share": _ratio(
                count["changes.prs_merged"], count["changes.prs_merged"] + count["changes.prs_closed"]
            ),
            "pipelines.failed_share": _ratio(count["pipelines.failed"], count["pipelines.ended"]),
            "pipelines.fail_after_failure_share": _ratio(*self._after[True]),
            "pipelines.fail_after_success_share": _ratio(*self._after[False]),
            "approvals.pending": float(sum(len(project.approvals) for project in self._projects.values())),
            "approvals.rejected_share": _ratio(count["approvals.rejected"], count["approvals.resolved"]),
        }
        for name, values in self.samples.items():
            p50, p90 = np.quantile(values, (0.5, 0.9)).tolist() if len(values) else (math.nan, math.nan)
            mean = float(values.mean()) if len(values) else math.nan
            metrics |= zip(sample_metrics(name), (mean, p50, p90), strict=True)
        servers = self._servers(until_s)
        for name, queue in sorted(self._queues.merged().items()):
            measured = queue.measure(self._from_s, until_s, servers.get(name))._asdict()
            metrics |= {f"queues.{name}.{key}": measured[key] for key in QUEUE_METRICS}
        return metrics

    def _reset(self) -> None:
        """Begin to count."""
        self._count: dict[str, float] = dict.fromkeys(COUNTS, 0.0)
        self._samples: dict[str, array[float]] = {name: array("d") for name in SAMPLES}
        self._after = {True: [0, 0], False: [0, 0]}
        """Of pipelines after a failed one, and after one that went well: failed ones, all."""
        self._backlog_area = 0.0
        self._backlog_max = self._backlog
        self._backlog_since_s = self._from_s

    def _advance_backlog(self, now_s: float) -> None:
        self._backlog_area += self._backlog * max(now_s - self._backlog_since_s, 0)
        self._backlog_since_s = max(now_s, self._backlog_since_s)

    def _servers(self, until_s: float) -> dict[str, float]:
        """Members of each pool in the scenario, those of all projects together."""
        together: dict[str, float] = {}
        if self._scenario is not None:
            for (_, name), servers in pool_sizes(self._scenario, self._from_s, until_s).items():
                together[name] = together.get(name, 0.0) + servers
        return together

    def _activity(self, data: dict[str, Any]) -> None:
        count = self._count
        operation = data.get("gen_ai.operation.name")
        if operation in LLM_OPERATIONS:
            count["llm.calls"] += 1
            if data.get("status") == "error":
                count["llm.errors"] += 1
                count["llm.rate_limited"] += data.get("error") == "rate_limited"
            else:
                count["llm.input_tokens"] += data.get("gen_ai.usage.input_tokens") or 0
                count["llm.output_tokens"] += data.get("gen_ai.usage.output_tokens") or 0
                count["llm.cached_tokens"] += data.get("cached_tokens") or 0
                count["llm.cost_usd"] += data.get("cost_usd") or 0
            count["llm.retries"] += (data.get("attempt") or 1) > 1
        elif operation == "execute_tool":
            count["tools.calls"] += 1
            count["tools.errors"] += data.get("status") == "error"

    def _since(self, stem: str, began: dict[str, float], entity: str, now_s: float, unit_s: float) -> None:
        """Something that was open is over: keep how long it took, if it did not begin in the warm-up."""
        began_s = began.pop(entity, -math.inf)
        if began_s >= self._from_s:
            self._samples[stem].append((now_s - began_s) / unit_s)

    def _issue_created(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        self._count["issues.created"] += 1
        if project.last_issue_s >= self._from_s:
            self._samples["issues.interarrival_min"].append((now_s - project.last_issue_s) / 60)
        project.last_issue_s = now_s
        self._issue_opened(project, data, now_s)

    def _issue_updated(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        if data.get("state") == "reopened":
            self._issue_opened(project, data, now_s)

    def _issue_opened(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        if data["issue_id"] not in project.issues:
            project.issues[data["issue_id"]] = now_s
            self._advance_backlog(now_s)
            self._backlog += 1
            self._backlog_max = max(self._backlog, self._backlog_max)

    def _issue_closed(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        self._count["issues.closed"] += 1
        self._count["issues.closed_done"] += data.get("resolution") == "done"
        if data["issue_id"] in project.issues:
            self._advance_backlog(now_s)
            self._backlog -= 1
            self._since("issues.lead_time_h", project.issues, data["issue_id"], now_s, 3600)

    def _run_started(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        self._count["runs.started"] += 1
        project.runs[data["run_id"]] = now_s

    def _run_completed(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        if data["role"] == "developer" and project.runs.get(data["run_id"], -math.inf) >= self._from_s:
            minutes = (now_s - project.runs[data["run_id"]]) / 60
            self._samples["runs.developer_completed_duration_min"].append(minutes)
        self._run_ended(project, data, now_s)

    def _run_failed(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        self._count["runs.errors"] += data["end_reason"] != "cancelled"
        self._run_ended(project, data, now_s)

    def _run_ended(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        count = self._count
        count["runs.ended"] += 1
        reason = f"runs.end_reason.{data['end_reason']}"
        count[reason] = count.get(reason, 0.0) + 1
        if project.runs.get(data["run_id"], -math.inf) >= self._from_s:
            for key in ("input_tokens", "output_tokens", "cost_usd"):
                if data.get(key) is not None:
                    self._samples[f"runs.{key}"].append(data[key])
        self._since("runs.duration_min", project.runs, data["run_id"], now_s, 60)

    def _commit_pushed(self, project: _Open, data: dict[str, Any], now_s: float) -> None:  # noqa: ARG002 - as the others
        self._count["changes.commits"] += 1

    def _pr_created(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        self._count["changes.prs_created"] += 1
        if project.last_pr_s >= self._from_s:
            self._samples["changes.interarrival_min"].append((now_s - project.last_pr_s) / 60)
        project.last_pr_s = project.prs[data["pr_id"]] = now_s

    def _pr_merged(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        self._count["changes.prs_merged"] += 1
        self._since("changes.merge_time_h", project.prs, data["pr_id"], now_s, 3600)

    def _pr_closed(self, project: _Open, data: dict[str, Any], now_s: float) -> None:  # noqa: ARG002 - as the others
        self._count["changes.prs_closed"] += 1
        project.prs.pop(data["pr_id"], None)

    def _pipeline_started(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        self._count["pipelines.started"] += 1
        if data["pipeline_id"] not in project.pipelines:  # else it is told twice
            project.order.append(data["pipeline_id"])
        project.pipelines[data["pipeline_id"]] = now_s

    def _pipeline_completed(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        self._pipeline_ended(project, data, now_s, failed=False)

    def _pipeline_failed(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        self._count["pipelines.failed"] += 1
        self._count["pipelines.failed_infra"] += data.get("reason") == "infra"
        self._pipeline_ended(project, data, now_s, failed=None if data.get("reason") in _NO_VERDICT else True)

    def _pipeline_ended(self, project: _Open, data: dict[str, Any], now_s: float, *, failed: bool | None) -> None:
        self._count["pipelines.ended"] += 1
        if data["pipeline_id"] in project.pipelines:
            self._since("pipelines.duration_min", project.pipelines, data["pipeline_id"], now_s, 60)
            project.verdicts[data["pipeline_id"]] = failed
        while project.order and project.order[0] in project.verdicts:
            verdict = project.verdicts.pop(project.order.popleft())
            if verdict is None:
                continue
            if project.failed is not None:
                self._after[project.failed][0] += verdict
                self._after[project.failed][1] += 1
            project.failed = verdict

    def _approval_required(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        self._count["approvals.required"] += 1
        project.approvals[data["approval_id"]] = now_s

    def _approval_resolved(self, project: _Open, data: dict[str, Any], now_s: float) -> None:
        self._count["approvals.resolved"] += 1
        self._count["approvals.rejected"] += data["decision"] == "rejected"
        self._since("approvals.wait_h", project.approvals, data["approval_id"], now_s, 3600)

    _HANDLERS: ClassVar[dict[str, Callable[[Summary, _Open, dict[str, Any], float], None]]] = {
        "issue_created": _issue_created,
        "issue_updated": _issue_updated,
        "issue_closed": _issue_closed,
        "agent_started": _run_started,
        "agent_completed": _run_completed,
        "agent_error": _run_failed,
        "commit_pushed": _commit_pushed,
        "pr_created": _pr_created,
        "pr_merged": _pr_merged,
        "pr_closed": _pr_closed,
        "pipeline_started": _pipeline_started,
        "pipeline_completed": _pipeline_completed,
        "pipeline_failed": _pipeline_failed,
        "approval_required": _approval_required,
        "approval_resolved": _approval_resolved,
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
