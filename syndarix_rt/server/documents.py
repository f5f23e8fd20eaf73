"""What the routes below ``/projects`` take and answer, as structs: they encode it, check it, and describe it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from syndarix_rt.delivery.approvals import Approval, Verdict

__all__ = [
    "HISTORY_DEFAULT",
    "HISTORY_LIMIT",
    "KEY_CHARACTERS",
    "Approvals",
    "Bounds",
    "Choice",
    "Claim",
    "Entry",
    "Held",
    "HistoryPage",
    "ProblemDocument",
    "ProjectLine",
    "Projects",
    "RevokedToken",
    "Stored",
    "Ticket",
    "TokenText",
]

HISTORY_LIMIT = 1_000
HISTORY_DEFAULT = 100

KEY_CHARACTERS = 128
"""Of an ``Idempotency-Key``, and of a claim's holder."""

CLAIM_MAX_S = 60.0
"""A run that died must not keep a project for longer than a person waits."""


class Bounds(msgspec.Struct, frozen=True):
    """What a project's log holds: offsets ``first`` to ``last`` of ``epoch``; empty if ``first`` is ``last + 1``."""

    epoch: str
    first: int
    last: int


class ProjectLine(msgspec.Struct, frozen=True):
    """One project: its bounds, its rate over the last seconds, and the streams open on it."""

    project: str
    epoch: str
    first: int
    last: int
    events_per_s: float | None
    """None until it has been asked for twice."""
    subscribers: int
    """Of all workers of the server that answers."""


class Projects(msgspec.Struct, frozen=True):
    """The projects that the credential may subscribe to."""

    projects: list[ProjectLine]


class Entry(msgspec.Struct, frozen=True):
    """An event with its event id."""

    position: str
    event: msgspec.Raw


class HistoryPage(msgspec.Struct, frozen=True):
    """Events of the log. ``next`` is the last entry looked at: go on ``after`` it, here or in the stream."""

    epoch: str
    first: int
    last: int
    next: str
    events: list[Entry]


class Stored(msgspec.Struct, frozen=True):
    """Where a batch stands in the log. ``duplicates`` is its size if it was there already, else 0."""

    epoch: str
    first: int
    last: int
    duplicates: int


class Approvals(msgspec.Struct, frozen=True):
    """What waits for a person's decision, in the order in which it was asked for."""

    approvals: list[Approval]


class Choice(msgspec.Struct, frozen=True):
    """A person's decision. With a token of limited rights ``by`` is the token's name, whatever is said."""

    decision: Verdict
    by: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None  # as in the event's payload
    comment: Annotated[str, Meta(max_length=4096)] | None = None


class Claim(msgspec.Struct, frozen=True):
    """A run says that it plays into the project, for ``ttl_s`` seconds unless it says so again."""

    holder: Annotated[str, Meta(min_length=1, max_length=KEY_CHARACTERS)]
    ttl_s: Annotated[float, Meta(gt=0, le=CLAIM_MAX_S)] = 10.0


class Held(msgspec.Struct, frozen=True):
    """The run that plays into the project."""

    holder: str


class ProblemDocument(msgspec.Struct, frozen=True):
    """An error (RFC 9457): what happened, where, and what to do. Some kinds have further members."""

    type: str
    """``urn:syndarix-rt:problem:`` and the kind, such as ``invalid-event``."""
    title: str
    status: int
    detail: str


class Ticket(msgspec.Struct, frozen=True):
    """For ``?ticket=`` of the project's stream, once."""

    ticket: str
    expires_in_s: float


class TokenText(msgspec.Struct, frozen=True):
    """A token with rights, as ``syndarix-rt token`` printed it."""

    token: Annotated[str, Meta(min_length=1, max_length=4096)]


class RevokedToken(msgspec.Struct, frozen=True):
    """Whose token it was, and when it would have ended, in seconds since 1970."""

    name: str
    expires_s: float
