"""What the ``data`` of each catalogue event holds.

One struct per family; a type's struct is found through :data:`syndarix_rt.events.catalogue.CATALOGUE`. A struct names
what must be there and what is checked when it is there; further keys are welcome and pass through untouched, so a
payload can grow without breaking anybody.

Units stand in the names: ``_s`` seconds, ``_usd`` US dollars, ``_tokens`` tokens. Durations are in the time of the
event (simulated or real). Names that begin with ``gen_ai.`` are those of the OpenTelemetry semantic conventions for
generative AI (v1.41, status *Development*).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

__all__ = [
    "LLM_OPERATIONS",
    "MAX_COUNT",
    "AgentActivity",
    "AgentEnd",
    "AgentStarted",
    "ApprovalRequired",
    "ApprovalResolved",
    "Branch",
    "Commit",
    "Issue",
    "Payload",
    "Pipeline",
    "PullRequest",
    "Sprint",
]

Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]  # Python's $ also matches before a last line end
"""An id of a run, agent, issue, pull request, pipeline, approval or sprint."""

Text = Annotated[str, Meta(min_length=1, max_length=4096)]
"""A short text; never interpreted, never HTML."""

GitName = Annotated[str, Meta(min_length=1, max_length=255)]
"""A git branch name or commit hash."""

MAX_COUNT = 2**63 - 1
"""What a column of whole numbers holds, in frames and files alike; a greater count is a slip."""

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Ordinal = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Seconds = Annotated[float, Meta(ge=0)]
Dollars = Annotated[float, Meta(ge=0)]


LLM_OPERATIONS = ("chat", "generate_content", "text_completion")
"""Values of ``gen_ai.operation.name`` that are calls of a model."""


class Payload(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of all payloads: keyword-only, optional keys left out when absent."""


class _Agent(Payload, kw_only=True):
    """What every ``agent_*`` event says: who works, in which run, on what."""

    run_id: Id
    """The run: one agent working on one issue once."""
    agent_id: Id
    role: Text
    """The agent's job, such as planner, developer, tester or reviewer."""
    issue_id: Id | None = None
    branch: GitName | None = None


class AgentStarted(_Agent, kw_only=True):
    """``agent_started``: a run begins."""

    model: Text | None = field(default=None, name="gen_ai.request.model")
    attempt: Ordinal | None = None
    """How often this issue has been worked on in this role, this run included."""
    concurrency: Ordinal | None = None
    """How many runs this agent may have open at once; absent: 1."""
    queued_s: Seconds | None = None
    """How long the work waited for an agent of this role before the run began."""
    joined: bool | None = None
    """True: the run began earlier; ``time`` is when the first call that is known of it began."""


class AgentActivity(_Agent, kw_only=True):
    """``agent_activity``: one finished LLM or tool call of a run; ``time`` is its end, ``duration_s`` reaches back."""

    operation: Text | None = field(default=None, name="gen_ai.operation.name")
    """``chat`` for an LLM call, ``execute_tool`` for a tool call."""
    model: Text | None = field(default=None, name="gen_ai.request.model")
    input_tokens: Count | None = field(default=None, name="gen_ai.usage.input_tokens")
    """All tokens of the prompt, the cached ones included."""
    output_tokens: Count | None = field(default=None, name="gen_ai.usage.output_tokens")
    tool: Text | None = field(default=None, name="gen_ai.tool.name")
    tool_call_id: Id | None = field(default=None, name="gen_ai.tool.call.id")
    prefix_tokens: Count | None = None
    """Tokens that stood in the context before this call; ``prefix + append = input``."""
    append_tokens: Count | None = None
    """Tokens that this call added to the context."""
    cached_tokens: Count | None = None
    """Tokens of the prompt that the provider read from its cache; at most ``input``."""
    duration_s: Seconds | None = None
    cost_usd: Dollars | None = None
    status: Literal["ok", "error"] = "ok"
    error: Text | None = None
    """Why it failed, such as ``rate_limited``, ``overloaded``, ``server_error`` or ``timeout``."""
    attempt: Ordinal | None = None
    """1 for the first try of a call, then counting its retries."""
    backoff_s: Seconds | None = None
    """How long the agent waits before it tries again."""


class AgentEnd(_Agent, kw_only=True):
    """``agent_completed`` and ``agent_error``: a run ends, with its totals (sums over its activities)."""

    end_reason: Text
    """``completed``, ``max_iters``, ``rate_limited``, ``llm_failure``, ``tool_failure`` or ``cancelled``; real agents
    have others."""
    llm_calls: Count | None = None
    tool_calls: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cost_usd: Dollars | None = None
    duration_s: Seconds | None = None
    error: Text | None = None


class Issue(Payload, kw_only=True):
    """``issue_created``, ``issue_updated``, ``issue_closed``: the life of a piece of work."""

    issue_id: Id
    title: Text | None = None
    state: Text | None = None
    """``open``, ``assigned``, ``in_progress``, ``in_review``, ``blocked``, ``carried_over`` or ``reopened``."""
    resolution: Text | None = None
    """Of a closed issue: ``done``, ``no_change`` or ``wont_do``."""
    priority: Text | None = None
    sprint_id: Id | None = None
    agent_id: Id | None = None
    run_id: Id | None = None
    pr_id: Id | None = None


class Branch(Payload, kw_only=True):
    """``branch_created``."""

    branch: GitName
    commit: GitName | None = None
    """Where it starts."""
    issue_id: Id | None = None
    agent_id: Id | None = None
    run_id: Id | None = None


class Commit(Payload, kw_only=True):
    """``commit_pushed``."""

    branch: GitName
    commit: GitName
    issue_id: Id | None = None
    agent_id: Id | None = None
    run_id: Id | None = None
    files_changed: Count | None = None
    lines_added: Count | None = None
    lines_deleted: Count | None = None


class PullRequest(Payload, kw_only=True):
    """``pr_created``, ``pr_merged`` and the extension ``pr_closed`` (closed without a merge)."""

    pr_id: Id
    branch: GitName | None = None
    commit: GitName | None = None
    """The head that was proposed, merged or given up."""
    issue_id: Id | None = None
    agent_id: Id | None = None
    run_id: Id | None = None
    gated: bool | None = None
    """Whether a human must approve it before it may be merged."""
    require_green: bool | None = None
    """Whether the last pipeline of its head must have gone well before it may be merged."""
    approval_id: Id | None = None
    """Of a merge: the approval that allowed it."""
    reason: Text | None = None


class Pipeline(Payload, kw_only=True):
    """``pipeline_started``, ``pipeline_completed``, ``pipeline_failed``: one CI run on one commit."""

    pipeline_id: Id
    branch: GitName | None = None
    commit: GitName | None = None
    pr_id: Id | None = None
    issue_id: Id | None = None
    runner: Text | None = None
    queued_s: Seconds | None = None
    """How long it waited for a runner before it started."""
    duration_s: Seconds | None = None
    reason: Text | None = None
    """Of a failure: ``tests``, ``infra``, ``cancelled`` …"""


class ApprovalRequired(Payload, kw_only=True):
    """``approval_required``: a human is asked."""

    approval_id: Id
    kind: Text | None = None
    """What is asked for: ``merge``, ``tool`` …"""
    pr_id: Id | None = None
    run_id: Id | None = None
    issue_id: Id | None = None
    title: Text | None = None


class ApprovalResolved(Payload, kw_only=True):
    """``approval_resolved`` (extension): the human's decision."""

    approval_id: Id
    decision: Literal["approved", "rejected"]
    by: Text | None = None
    comment: Annotated[str, Meta(max_length=4096)] | None = None
    waited_s: Seconds | None = None
    """From the question to the decision."""
    queued_s: Seconds | None = None
    """Of it, how long it waited for a human after somebody took notice."""
    busy_s: Seconds | None = None
    """Of it, how long the decision kept a human busy, up to ``time``."""
    pr_id: Id | None = None
    run_id: Id | None = None
    issue_id: Id | None = None


class Sprint(Payload, kw_only=True):
    """``sprint_started``, ``sprint_completed``: a time box of a project."""

    sprint_id: Id
    number: Ordinal | None = None
    goal: Text | None = None
    duration_s: Seconds | None = None
    """Planned length."""
    issues_planned: Count | None = None
    issues_completed: Count | None = None
    """Issues closed between start and completion."""
    issues_carried_over: Count | None = None
