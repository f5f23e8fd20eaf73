"""What a broker knows about approvals, and how a person's decision becomes an event.

The log tells it: every batch is looked through for events about approvals before it is stored, and what they say is
recorded with it, in one step. States of an approval, and what changes them:

===========  ==================================  ===========
state        on                                  becomes
===========  ==================================  ===========
any          ``approval_required`` published     ``pending``
``pending``  a decision                          ``decided``
``pending``  ``approval_resolved`` published     ``resolved``
===========  ==================================  ===========

What is not in the table changes nothing. So the first one to decide wins, a person or a simulated one, until the same
question is asked anew (a run that is played again asks under the same id). A run's ``approval_resolved`` that comes
after a person's decision is refused with its whole batch: see `ApprovalDecided`. A run that resolves twice, or what
nobody asked for, contradicts only itself; that is published and left to ``validate()``.

An approval stays when its event is trimmed or its log expires: people have weekends. A reset or a flush takes all of
them, 7 days beyond the log's age without a word about any approval do, too, and of more than 4,096 in a channel the
newest 3,072 are kept, the pending ones first.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from syndarix_rt.broker.protocol import project_of
from syndarix_rt.delivery.approvals import DECISION_SOURCE, Approval, Decision, Verdict
from syndarix_rt.errors import ApprovalDecided
from syndarix_rt.events import Event
from syndarix_rt.events.payloads import ApprovalRequired, ApprovalResolved

__all__ = [
    "KEEP_KNOWN",
    "MAX_KNOWN",
    "SEARCH_ENTRIES",
    "Draft",
    "Mention",
    "Record",
    "State",
    "late_decisions",
    "mentions",
    "waiting",
]

MAX_KNOWN = 4096
"""Most approvals known of a channel, about a megabyte; beyond it the oldest are forgotten."""

KEEP_KNOWN = 3072
"""How many are left then, so that looking for the oldest is rare."""

SEARCH_ENTRIES = 10_000
"""How far back in the log the latest event of a simulation is looked for: a few milliseconds, once for a decision."""

State = Literal["pending", "resolved", "decided"]

_MARK = b'"type":"approval_re'  # of both types, as `Event.encode` writes it
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")  # likewise


class _Required(msgspec.Struct, tag_field="type", tag="approval_required"):
    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,128}\Z")]
    time: str
    data: ApprovalRequired
    simulation: str | None = None


class _Resolved(msgspec.Struct, tag_field="type", tag="approval_resolved"):
    time: str
    data: ApprovalResolved


class _Simulated(msgspec.Struct):
    """Any event of a simulation."""

    time: str
    simulation: str


class _Asked(msgspec.Struct, omit_defaults=True):
    """What a record keeps of an ``approval_required``."""

    event: str
    kind: str | None = None
    title: str | None = None
    pr_id: str | None = None
    run_id: str | None = None
    issue_id: str | None = None
    simulation: str | None = None


class _Told(msgspec.Struct, omit_defaults=True):
    """What a record keeps of an ``approval_resolved``."""

    decision: Verdict
    by: str | None = None
    comment: str | None = None


_read_mention = msgspec.json.Decoder(_Required | _Resolved).decode
_read_simulated = msgspec.json.Decoder(_Simulated).decode


class Mention(NamedTuple):
    """An event of a batch that says something about an approval."""

    entry: int
    """Which one of the batch, from 0."""
    approval_id: str
    state: State
    """``pending`` or ``resolved``."""
    time: str
    facts: bytes


class Record(NamedTuple):
    """What is known about one approval."""

    state: State
    epoch: str
    offset: int
    """Of the event that brought it into this state."""
    time: str
    """That event's, as it stands in the log."""
    facts: bytes
    """JSON: `_Asked` while it is pending, then `_Told`."""

    @classmethod
    def parse(cls, value: bytes) -> Record:
        """Read what ``bytes()`` gave."""
        state, epoch, offset, time, facts = value.split(b" ", 4)
        return cls(state.decode(), epoch.decode(), int(offset), time.decode(), facts)  # type: ignore[arg-type]  # a State

    def __bytes__(self) -> bytes:
        return f"{self.state} {self.epoch} {self.offset} {self.time} ".encode() + self.facts

    def approval(self, approval_id: str) -> Approval:
        """A pending one, for those who decide."""
        asked = msgspec.structs.asdict(msgspec.json.decode(self.facts, type=_Asked))
        since = datetime.fromisoformat(self.time)
        return Approval(approval_id=approval_id, since=since, epoch=self.epoch, offset=self.offset, **asked)

    def decision(self, approval_id: str) -> Decision:
        """How one that is not pending was decided."""
        told = msgspec.structs.asdict(msgspec.json.decode(self.facts, type=_Told))
        time = datetime.fromisoformat(self.time)
        return Decision(approval_id=approval_id, time=time, epoch=self.epoch, offset=self.offset, **told)


class Draft(NamedTuple):
    """A person's decision as an ``approval_resolved`` that lacks what is known only when it is appended: its time.

    That of a simulated approval is the time of the latest event of its simulation in the log, or if there is none
    within `SEARCH_ENTRIES`, the time at which it was asked for: so time does not go back within a simulation. That of
    any other is wall time. The payload's ``waited_s`` follows from it.
    """

    pieces: tuple[bytes, bytes, bytes]
    """The encoded event, cut open where the time and ``waited_s`` belong."""
    facts: bytes
    """For its record."""
    asked: str
    """The time at which it was asked for."""
    time: str
    """Its time, unless it is simulated and the log has a later event of that simulation."""
    simulation: str | None

    @classmethod
    def of(
        cls,
        channel: str,
        approval_id: str,
        record: Record,
        decision: Verdict,
        *,
        by: str | None,
        comment: str | None,
        at: datetime,
    ) -> Draft:
        """How to decide an approval whose pending ``record`` this is.

        Raises:
            EventError: what it says breaks a rule of the event's payload.
        """
        asked = msgspec.json.decode(record.facts, type=_Asked)
        told = _Told(decision, by, comment)
        # What stands before waited_s must hold nothing that a person wrote: it is found by its name.
        data: dict[str, Any] = {"approval_id": approval_id, "decision": decision, "waited_s": 0.0}
        data |= msgspec.to_builtins(told)
        about = {"pr_id": asked.pr_id, "run_id": asked.run_id, "issue_id": asked.issue_id}
        event = Event.new(
            "approval_resolved",
            data | {key: value for key, value in about.items() if value is not None},
            project=project_of(channel) or "",
            id=f"decision-{secrets.token_hex(8)}",
            time=at,
            source=DECISION_SOURCE,
            subject=approval_id,
            cause=asked.event,
            simulation=asked.simulation,
            recordedtime=at,
        ).encode()
        head, time_key, rest = event.partition(b'"time":"')
        time, body = rest[:27].decode(), rest[27:]
        middle, waited_key, tail = body.partition(b'"waited_s":')
        return cls(
            pieces=(head + time_key, middle + waited_key, tail.removeprefix(b"0.0")),
            facts=msgspec.json.encode(told),
            asked=record.time,
            time=time if asked.simulation is None else record.time,
            simulation=asked.simulation,
        )

    @property
    def mark(self) -> bytes:
        """What an encoded event of the same simulation holds; empty if there is none."""
        return b"" if self.simulation is None else b'"simulation":' + msgspec.json.encode(self.simulation)

    def time_in(self, entry: bytes) -> str | None:
        """The time of an entry that is an event of the same simulation; None of any other."""
        try:
            event = _read_simulated(entry)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return event.time if event.simulation == self.simulation and _is_time(event.time) else None

    def at(self, time: str) -> bytes:
        """The event of that time, encoded."""
        waited = max(datetime.fromisoformat(time) - datetime.fromisoformat(self.asked), timedelta())
        seconds, fraction = divmod(waited // timedelta(microseconds=1), 1_000_000)
        waited_s = f"{seconds}.{str(fraction).zfill(6).rstrip('0') or '0'}"
        head, middle, tail = self.pieces
        return b"".join((head, time.encode(), middle, waited_s.encode(), tail))


def mentions(channel: str, body: bytes) -> list[Mention]:
    """What a batch says about approvals; nearly always nothing. What is no event of ours is passed over.

    Args:
        channel: where it goes; only a project has approvals.
        body: the entries, joined by line ends.
    """
    if _MARK not in body or project_of(channel) is None:
        return []
    return [
        mention
        for number, entry in enumerate(body.split(b"\n"))
        if _MARK in entry and (mention := _mention(number, entry)) is not None
    ]


def waiting(known: Iterable[tuple[str, Record]]) -> list[Approval]:
    """Those that are pending, in the order in which they were asked for."""
    pending = [record.approval(approval_id) for approval_id, record in known if record.state == "pending"]
    return sorted(pending, key=lambda approval: approval.offset)


def late_decisions(channel: str, late: Sequence[int]) -> ApprovalDecided:
    """The error for a batch of which these entries resolve what a person has decided."""
    which = ", ".join(map(str, late))
    return ApprovalDecided(
        f"{channel}: a person has already decided what is resolved by these of the batch: {which} (counted from 0); "
        "nothing of it was stored",
        late,
    )


def _mention(number: int, entry: bytes) -> Mention | None:
    try:
        event = _read_mention(entry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not _is_time(event.time):
        return None
    data = event.data
    if isinstance(data, ApprovalRequired):
        asked = _Asked(event.id, data.kind, data.title, data.pr_id, data.run_id, data.issue_id, event.simulation)
        return Mention(number, data.approval_id, "pending", event.time, msgspec.json.encode(asked))
    told = _Told(data.decision, data.by, data.comment)
    return Mention(number, data.approval_id, "resolved", event.time, msgspec.json.encode(told))


def _is_time(text: str) -> bool:
    """Whether it is as `Event.encode` writes it, so that texts compare like times."""
    if not _TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
