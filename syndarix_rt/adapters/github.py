"""GitHub's webhooks as events: issues, pull requests, pushes, new branches, workflow runs.

The payloads are those of GitHub's documentation of webhook events; what is read of them stands in the structs below. A
payload says what a repository is like after something happened, so each is an event by itself; what it cannot be in a
valid stream (a label on a closed issue) is ignored with its reason, and other changes of a pull request or a branch
are custom events. Ids are GitHub's numbers: a project has one repository.

Every issue, pull request, branch and workflow run is a ``source`` of its own, since deliveries overtake each other.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from syndarix_rt.events import Event, as_id, as_text

__all__ = ["Delivered", "is_signed", "read_delivery"]

_PREFIX = "sha256="
_LINK = re.compile(r"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):?\s+#(\d{1,18})\b", re.IGNORECASE)
"""The words by which a pull request names the issue that its merge closes (GitHub, "Linking a pull request")."""

_BODY_READ = 10_000
_GREEN = ("success", "neutral", "skipped")


def is_signed(body: bytes, secret: str, signature: str) -> bool:
    """Whether the header ``X-Hub-Signature-256`` is right for a body; takes as long for any wrong one."""
    expected = _PREFIX + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))


class Delivered(NamedTuple):
    """What a delivery comes to."""

    events: list[Event]
    branch: Event | None = None
    """``branch_created``: both a push and a creation tell of it, and it is to be published once, before the others."""
    ignored: str = ""
    """Why there are no events."""


def read_delivery(kind: str, delivery: str, body: bytes, *, project: str, received: datetime) -> Delivered:
    """Read a webhook.

    Args:
        kind: the header ``X-GitHub-Event``.
        delivery: the header ``X-GitHub-Delivery``; ids of events are made of it.
        body: the payload, JSON.
        project: whose events they are.
        received: when it came, UTC; taken where the payload has no time.

    Raises:
        msgspec.DecodeError: the payload is not what GitHub documents.
        EventError: what it says is nothing that an event can say, such as a name without end.
    """
    reader = _READERS.get(kind)
    if reader is None:
        return Delivered([], ignored=f"{kind[:50]!r} is no event that is read")
    payload_type, read = reader
    payload = msgspec.json.decode(body, type=payload_type)
    return read(payload, _Maker(payload, delivery, project, received))


# ---- what is read of payloads ---------------------------------------------------------------------------------------

_Time = Annotated[datetime, Meta(tz=True)]


class _User(msgspec.Struct):
    login: str = ""


class _Repository(msgspec.Struct):
    full_name: str
    html_url: str
    pushed_at: int | str | None = None
    """Seconds since 1970 in a push, a date elsewhere."""


class _Payload(msgspec.Struct, kw_only=True):
    """What every payload says."""

    repository: _Repository
    sender: _User | None = None


class _Issue(msgspec.Struct):
    number: int
    created_at: _Time
    updated_at: _Time
    title: str = ""
    state: str = "open"
    state_reason: str | None = None
    closed_at: _Time | None = None


class _Issues(_Payload, kw_only=True):
    action: str
    issue: _Issue


class _Place(msgspec.Struct):
    ref: str
    sha: str
    repo: _Repository | None = None
    """None: the fork is gone."""


class _Pull(msgspec.Struct):
    number: int
    head: _Place
    created_at: _Time
    updated_at: _Time
    title: str = ""
    body: str | None = None
    merged: bool = False
    merged_at: _Time | None = None
    closed_at: _Time | None = None
    additions: int | None = None
    deletions: int | None = None


class _PullRequest(_Payload, kw_only=True):
    action: str
    pull_request: _Pull


class _Commit(msgspec.Struct):
    id: str
    message: str = ""
    added: list[str] = []
    removed: list[str] = []
    modified: list[str] = []


class _Push(_Payload, kw_only=True):
    ref: str
    created: bool = False
    deleted: bool = False
    commits: list[_Commit] = []


class _Create(_Payload, kw_only=True):
    ref: str
    ref_type: str


class _Number(msgspec.Struct):
    number: int


class _Run(msgspec.Struct):
    id: int
    head_sha: str
    created_at: _Time
    updated_at: _Time
    head_branch: str | None = None
    head_repository: _Repository | None = None
    name: str | None = None
    run_attempt: int = 1
    run_started_at: _Time | None = None
    conclusion: str | None = None
    pull_requests: list[_Number] = []


class _WorkflowRun(_Payload, kw_only=True):
    action: str
    workflow_run: _Run


# ---- events ---------------------------------------------------------------------------------------------------------


class _Maker:
    """Makes the events of one delivery.

    Attributes:
        by: who did it.
    """

    def __init__(self, payload: _Payload, delivery: str, project: str, received: datetime) -> None:
        self.by = as_text(payload.sender.login, longest=100) if payload.sender else None
        self._repository = payload.repository
        self._received = received
        self._delivery = as_id(delivery)
        self._project = project
        self._count = 0

    def event(self, kind: str, time: datetime | None, source: str, data: dict[str, Any]) -> Event:
        """An event of this repository; keys without a value are left out."""
        self._count += 1
        return Event.new(
            kind,
            {key: value for key, value in data.items() if value is not None},
            project=self._project,
            id=f"github-{self._delivery}-{self._count}",
            time=time or self._received,
            source=f"{self._repository.html_url}/{source}"[:512],
        )

    def is_own(self, repository: _Repository | None) -> bool:
        """Whether it is not a fork."""
        return repository is not None and repository.full_name == self._repository.full_name


def _read_issue(payload: _Issues, make: _Maker) -> Delivered:
    issue, action = payload.issue, payload.action
    data = {"issue_id": str(issue.number), "title": as_text(issue.title), "by": make.by}
    kind, time = "issue_updated", issue.updated_at
    match action:
        case "opened":
            kind, time = "issue_created", issue.created_at
            data["state"] = "open"
        case "closed":
            kind, time = "issue_closed", issue.closed_at or issue.updated_at
            # Closed as completed is not "done" in our sense, which is by a merged pull request.
            data["resolution"] = "wont_do" if issue.state_reason in ("not_planned", "duplicate") else None
            data["state_reason"] = issue.state_reason
        case "reopened":
            data["state"] = "reopened"
        case "deleted" | "transferred":
            return Delivered([], ignored=f"the issue is {action}")
        case _ if issue.state == "closed":
            return Delivered([], ignored=f"{action[:50]} of a closed issue")
        case _:
            data["state"] = "assigned" if action == "assigned" else "open"
            data["action"] = as_text(action, longest=100)
    return Delivered([make.event(kind, time, f"issues/{issue.number}", data)])


def _read_pull(payload: _PullRequest, make: _Maker) -> Delivered:
    pull, action = payload.pull_request, payload.action
    link = _LINK.search((pull.body or "")[:_BODY_READ])
    own = make.is_own(pull.head.repo)
    data: dict[str, Any] = {
        "pr_id": str(pull.number),
        "branch": pull.head.ref if own else None,  # a fork's branches are not this repository's
        "commit": pull.head.sha,
        "issue_id": link[1] if link else None,
        "title": as_text(pull.title),
        "by": make.by,
    }
    kind, time = "pr_updated", pull.updated_at
    match action:
        case "opened":
            kind, time = "pr_created", pull.created_at
        case "closed" if pull.merged:
            kind, time = "pr_merged", pull.merged_at or pull.updated_at
            data |= {"lines_added": pull.additions, "lines_deleted": pull.deletions}
        case "closed":
            kind, time = "pr_closed", pull.closed_at or pull.updated_at
        case "reopened":
            kind = "pr_reopened"
        case _:
            data["action"] = as_text(action, longest=100)
    return Delivered([make.event(kind, time, f"pull/{pull.number}", data)])


def _read_push(payload: _Push, make: _Maker) -> Delivered:
    branch = payload.ref.removeprefix("refs/heads/")
    if branch == payload.ref:
        return Delivered([], ignored="a push of a tag")
    source, at = f"tree/{branch}", payload.repository.pushed_at
    time = datetime.fromtimestamp(at, UTC) if isinstance(at, int) and 0 <= at < 2**33 else None
    if payload.deleted:
        return Delivered([make.event("branch_deleted", time, source, {"branch": branch, "by": make.by})])
    created = _branch(make, branch, time) if payload.created else None
    events = []
    for commit in payload.commits:
        changed = len(commit.added) + len(commit.removed) + len(commit.modified)
        data = {
            "branch": branch,
            "commit": commit.id,
            "files_changed": changed,
            "message": as_text(commit.message.partition("\n")[0]),
            "by": make.by,
        }
        events.append(make.event("commit_pushed", time, source, data))
    ignored = "" if events or created else "a push without commits"
    return Delivered(events, created, ignored)


def _read_create(payload: _Create, make: _Maker) -> Delivered:
    if payload.ref_type != "branch":
        return Delivered([], ignored=f"a new {payload.ref_type[:50]}")
    return Delivered([], _branch(make, payload.ref, None))


def _branch(make: _Maker, branch: str, time: datetime | None) -> Event:
    # Not the branch's own clock: whether it comes from the push or from the creation, it may overtake commits.
    return make.event("branch_created", time, f"branches/{branch}", {"branch": branch, "by": make.by})


def _read_run(payload: _WorkflowRun, make: _Maker) -> Delivered:
    run = payload.workflow_run
    own = make.is_own(run.head_repository) or run.head_repository is None
    started = run.run_started_at or run.created_at
    data: dict[str, Any] = {
        "pipeline_id": f"{run.id}-{run.run_attempt}",
        "branch": run.head_branch if own else None,
        "commit": run.head_sha if own else None,
        "pr_id": str(run.pull_requests[0].number) if run.pull_requests else None,
        "workflow": as_text(run.name or ""),
    }
    source = f"actions/runs/{run.id}"
    match payload.action:
        case "in_progress":
            return Delivered([make.event("pipeline_started", started, source, data)])
        case "completed":
            green = run.conclusion in _GREEN
            data["duration_s"] = max((run.updated_at - started).total_seconds(), 0.0)
            data["conclusion"] = run.conclusion
            data["reason"] = None if green else _reason(run.conclusion)
            kind = "pipeline_completed" if green else "pipeline_failed"
            return Delivered([make.event(kind, max(run.updated_at, started), source, data)])
    return Delivered([], ignored=f"a workflow run is {payload.action[:50]}")


def _reason(conclusion: str | None) -> str:
    return {"failure": "tests", "startup_failure": "infra", "cancelled": "cancelled"}.get(
        conclusion or "", conclusion or "unknown"
    )


_READERS: dict[str, tuple[Any, Callable[[Any, _Maker], Delivered]]] = {
    "issues": (_Issues, _read_issue),
    "pull_request": (_PullRequest, _read_pull),
    "push": (_Push, _read_push),
    "create": (_Create, _read_create),
    "workflow_run": (_WorkflowRun, _read_run),
}
