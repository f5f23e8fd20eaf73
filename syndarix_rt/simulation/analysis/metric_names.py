"""The names of the metrics that `Summary` gives; units stand at their end."""

from __future__ import annotations

__all__ = ["COUNTS", "END_REASONS", "QUEUE_METRICS", "SAMPLES", "sample_metrics"]

END_REASONS = ("completed", "max_iters", "rate_limited", "llm_failure", "tool_failure", "cancelled")
"""Of simulated runs; real ones have others."""

COUNTS = (
    "events",
    "issues.created",
    "issues.closed",
    "issues.closed_done",
    "runs.started",
    "runs.ended",
    "runs.errors",
    *(f"runs.end_reason.{reason}" for reason in END_REASONS),
    "llm.calls",
    "llm.errors",
    "llm.rate_limited",
    "llm.retries",
    "llm.input_tokens",
    "llm.output_tokens",
    "llm.cached_tokens",
    "llm.cost_usd",
    "tools.calls",
    "tools.errors",
    "changes.commits",
    "changes.prs_created",
    "changes.prs_merged",
    "changes.prs_closed",
    "pipelines.started",
    "pipelines.ended",
    "pipelines.failed",
    "pipelines.failed_infra",
    "approvals.required",
    "approvals.resolved",
    "approvals.rejected",
)
"""Counts and sums."""

SAMPLES = (
    "issues.lead_time_h",
    "issues.interarrival_min",
    "runs.duration_min",
    "runs.developer_completed_duration_min",
    "runs.input_tokens",
    "runs.output_tokens",
    "runs.cost_usd",
    "changes.interarrival_min",
    "changes.merge_time_h",
    "pipelines.duration_min",
    "approvals.wait_h",
)
"""What has a mean and quantiles; see :func:`sample_metrics`."""

QUEUE_METRICS = (
    "arrivals",
    "arrivals_per_h",
    "servers",
    "service_mean_s",
    "utilisation",
    "delayed_share",
    "wait_mean_s",
    "wait_p90_s",
    "sojourn_mean_s",
    "waiting_mean",
    "number_mean",
)
"""Of each queue, behind ``queues.<name>.``; those of `Measured` without the variations."""


def sample_metrics(name: str) -> tuple[str, str, str]:
    """The metrics that sum up a sample: ``runs.duration_min`` has ``runs.duration_mean_min``, ``_p50_``, ``_p90_``."""
    stem, _, unit = name.rpartition("_")
    return f"{stem}_mean_{unit}", f"{stem}_p50_{unit}", f"{stem}_p90_{unit}"
