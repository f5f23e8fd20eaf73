"""The routes below ``/projects``: stream, history, publish, position, approvals, claim and reset (DESIGN §6)."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from quart import Blueprint, Response, current_app, g, request

from syndarix_rt.broker.protocol import MAX_BATCH_BYTES, control_channel, is_run_name, project_channel
from syndarix_rt.delivery import Position, TypeFilter, judge
from syndarix_rt.delivery.log import Span
from syndarix_rt.delivery.steering import ANSWER, NOTICE
from syndarix_rt.events import is_project_name
from syndarix_rt.server import query
from syndarix_rt.server.bodies import asked, json_answer
from syndarix_rt.server.connection import StreamResponse, hold_history
from syndarix_rt.server.documents import (
    KEY_CHARACTERS,
    Approvals,
    Bounds,
    Choice,
    Claim,
    Entry,
    Held,
    HistoryPage,
    ProjectLine,
    Projects,
    Stored,
)
from syndarix_rt.server.figures import streams_elsewhere
from syndarix_rt.server.hub import Hub
from syndarix_rt.server.ingress import read_batch
from syndarix_rt.server.problems import Problem, bad_request
from syndarix_rt.server.stream import Start, Stream
from syndarix_rt.server.tokens import Grant

__all__ = ["Rates", "projects"]

projects = Blueprint("projects", __name__, url_prefix="/projects")

HISTORY_SCAN = 10_000
"""Entries looked at for one history page; a rare type is found over several requests."""

HISTORY_BYTES = MAX_BATCH_BYTES
"""A page ends after the entry that passes this, whatever its limit, so that memory stays bounded."""

RATE_WINDOW_S = 10.0
"""A project's rate is taken over about so long."""


def _hub() -> Hub:
    hub: Hub = current_app.extensions["syndarix_rt"]
    return hub


def _channel(project: str) -> str:
    if not is_project_name(project):
        raise bad_request(
            f"Not a project name: {project[:100]!r} (1 to 64 of letters, digits, '_' and '-').", kind="invalid-project"
        )
    return project_channel(project)


def _control_channel(project: str, run: str) -> str:
    _channel(project)
    if not is_run_name(run):
        raise bad_request(f"Not a run's name: {run[:200]!r} (1 to 128 of letters, digits, '_' and '-').")
    return control_channel(run)


async def _check_run(project: str, run: str) -> None:
    """Channels of runs are named after the run alone: a token for one project must not reach another's."""
    _control_channel(project, run)
    grant: Grant = g.grant
    if grant.rights is None or grant.may("publish", "*"):
        return
    if run not in await _hub().broker.claimants(_channel(project)):
        raise Problem(404, "unknown-run", f"No run {run[:100]!r} plays into {project!r}; it claims the project first.")


# --- reading ---------------------------------------------------------------------------------------------------------


@projects.get("")
async def list_projects() -> Response:
    """Names, positions, rates and subscribers."""
    hub = _hub()
    names = [name for name in await hub.broker.projects() if g.grant.may("subscribe", name)]
    positions = await asyncio.gather(*(hub.broker.position(project_channel(name)) for name in names))
    rates: Rates = current_app.extensions["syndarix_rt_rates"]
    elsewhere = streams_elsewhere(hub.settings.figures_dir)
    lines = [
        ProjectLine(
            *(name, position.epoch, position.first, position.last),
            events_per_s=rates.take(name, position),
            subscribers=hub.subscribers(project_channel(name)) + elsewhere[name],
        )
        for name, position in zip(names, positions, strict=True)
    ]
    return json_answer(Projects(lines))


class Rates:
    """Events per second of each project, from the positions at successive requests."""

    def __init__(self) -> None:
        self._samples: dict[str, list[tuple[float, Position]]] = {}

    def take(self, project: str, position: Position) -> float | None:
        """The rate since the oldest sample of the window; None at first, and over a change of epoch."""
        now_s = time.monotonic()
        samples = [
            (at_s, known)
            for at_s, known in self._samples.get(project, [])
            if known.epoch == position.epoch and now_s - at_s <= RATE_WINDOW_S
        ]
        self._samples[project] = [*samples[-100:], (now_s, position)]
        if not samples or now_s - samples[0][0] < 0.2:  # noqa: PLR2004 - too short to mean anything
            return None
        at_s, known = samples[0]
        return round((position.last - known.last) / (now_s - at_s), 2)


@projects.get("/<project>/position")
async def position(project: str) -> Response:
    """``{epoch, first, last}``."""
    found = await _hub().broker.position(_channel(project))
    return json_answer(Bounds(found.epoch, found.first, found.last))


@projects.get("/<project>/events")
async def events(project: str) -> Response:
    """The event stream; to whoever accepts JSON or NDJSON, the history."""
    channel = _channel(project)
    query.check_names(request)
    types = query.types(request)
    # Checked for the history, too, and its limit for the stream: a mistake is one in either.
    start, limit = query.start(request, _hub().settings.replay_limit), query.page_limit(request)
    wanted = request.accept_mimetypes.best_match(["text/event-stream", "application/json", "application/x-ndjson"])
    if wanted in ("application/json", "application/x-ndjson"):
        return await _history(channel, types, limit, ndjson=wanted == "application/x-ndjson")
    if wanted is None and request.headers.get("accept"):
        raise Problem(406, "not-acceptable", "Accept one of text/event-stream, application/json, application/x-ndjson.")
    return _stream(channel, types, start)


@projects.get("/<project>/runs/<run>/control")
async def control(project: str, run: str) -> Response:
    """The control channel of a run that publishes over HTTP, as an event stream: what it is asked."""
    await _check_run(project, run)
    query.check_names(request)
    start = query.start(request, _hub().settings.replay_limit)
    return _stream(_control_channel(project, run), query.types(request), start)


def _stream(channel: str, types: TypeFilter | None, start: Start) -> Response:
    return StreamResponse(
        Stream(
            *(_hub(), channel, start, types),
            expires_s=g.grant.expires_s,
            token_id=g.grant.id,
            client=f"{request.remote_addr} {g.principal}",
        )
    )


async def _history(channel: str, types: TypeFilter | None, limit: int, *, ndjson: bool) -> Response:
    """A page of the log (CONTRACT §5)."""
    hub = _hub()
    hold_history(request, hub.limits)
    broker = hub.broker
    position = await broker.position(channel)
    after = position.first - 1
    if "after" in request.args:
        text = request.args["after"]
        after, gap = judge(query.event_id(text), position, requested=text)
        if gap is not None:
            members: dict[str, Any] = msgspec.to_builtins(gap)
            detail = "History after this event id is gone; continue at 'first'."
            raise Problem(410, "gap", detail, epoch=position.epoch, **members)
    found: list[Entry] = []
    scanned = size_bytes = 0
    while len(found) < limit and scanned < HISTORY_SCAN and size_bytes < HISTORY_BYTES:
        async with hub.page_reads:
            page = await broker.read(channel, after, min(1_000, HISTORY_SCAN - scanned))
        if page.position.epoch != position.epoch or (page.entries and page.first != after + 1) or not page.entries:
            break  # a reset or trimming overtook us: what we have is whole, and 'next' says where it ends
        of_types = Span.types_of(page.entries)
        for offset, (event_type, entry) in enumerate(zip(of_types, page.entries, strict=True), page.first):
            after = offset
            scanned += 1
            if types is None or types.matches(event_type):
                found.append(Entry(f"{position.epoch}.{offset}", msgspec.Raw(entry)))
                size_bytes += len(entry)
                if len(found) == limit or size_bytes >= HISTORY_BYTES:
                    break
    following = f"{position.epoch}.{after}"
    if ndjson:
        body = b"".join(msgspec.json.encode(line) + b"\n" for line in found)
        response = Response(body, content_type="application/x-ndjson")
        rest = {"after": following, "limit": limit} | ({"types": request.args["types"]} if types else {})
        response.headers["link"] = f'<?{urlencode(rest, safe=",*")}>; rel="next"'
        response.headers["cache-control"] = "no-store"
        return response
    return json_answer(HistoryPage(position.epoch, position.first, position.last, following, found))


@projects.get("/<project>/approvals")
async def approvals(project: str) -> Response:
    """What waits for a person's decision, in the order in which it was asked for."""
    return json_answer(Approvals(await _hub().broker.approvals(_channel(project))))


# --- writing ---------------------------------------------------------------------------------------------------------


@projects.post("/<project>/events")
async def publish(project: str) -> Response:
    """Publish one event, a JSON array, or NDJSON: all or nothing."""
    return await _store(_channel(project), project)


@projects.post("/<project>/runs/<path:run>/events")
async def publish_run(project: str, run: str) -> Response:  # noqa: ARG001 - names the run to whoever reads a proxy's log
    """Publish a run that is played: its events hold the decisions of its own people, simulated or recorded.

    So it takes the right to approve, too. From anybody else a decision has to come as a decision.
    """
    return await _store(_channel(project), project, decisions=True)


@projects.post("/<project>/runs/<run>/control")
async def answer(project: str, run: str) -> Response:
    """What such a run answers to those who steer it, and tells them."""
    await _check_run(project, run)
    return await _store(_control_channel(project, run), project, only=(ANSWER, NOTICE))


async def _store(channel: str, project: str, *, decisions: bool = False, only: Sequence[str] = ()) -> Response:
    """Append the request's body to a channel."""
    broker = _hub().broker
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= KEY_CHARACTERS:
        raise bad_request(f"Idempotency-Key must have 1 to {KEY_CHARACTERS} characters.")
    body: bytes = await request.get_data()  # type: ignore[assignment]  # str only if asked for
    entries = read_batch(body, request.mimetype, project, decisions=decisions, only=only)
    producer = None
    if key is not None:
        producer = "http-" + hashlib.sha256(f"{g.principal}\n{key}".encode()).hexdigest()[:40]
    done = await broker.publish(
        channel, entries, producer=producer, fingerprint=hashlib.sha256(body).hexdigest()[:32] if key else ""
    )
    _hub().tally.counts["published"] += len(entries) - done.duplicates
    return json_answer(Stored(done.epoch, done.first, done.last, done.duplicates), status=202)


@projects.post("/<project>/approvals/<approval_id>")
async def decide(project: str, approval_id: str) -> Response:
    """Decide an approval: ``{decision, by, comment}``. The first decision stands: 409 says which, if it is another."""
    channel = _channel(project)
    choice = await asked(Choice, "a decision")
    by = choice.by if g.grant.rights is None else g.principal  # a token speaks for its subject alone
    stands = await _hub().broker.decide(
        channel, approval_id, choice.decision, at=datetime.now(UTC), by=by, comment=choice.comment
    )
    if stands is None:
        raise Problem(
            404,
            "unknown-approval",
            f"Nobody in {project!r} has asked for the approval {approval_id[:100]!r}, or it is long ago; "
            f"GET /projects/{project}/approvals lists what waits.",
        )
    if stands.decision != choice.decision:
        detail = f"{stands.by or 'Somebody'} has {stands.decision} it at {stands.time.isoformat()}, and that stands."
        members: dict[str, Any] = msgspec.to_builtins(stands)
        raise Problem(409, "already-decided", detail, **members)
    return json_answer(stands)


@projects.delete("/<project>/events")
async def reset(project: str) -> Response:
    """Delete the project's log and begin a new epoch."""
    found = await _hub().broker.reset(_channel(project))
    return json_answer(Bounds(found.epoch, found.first, found.last))


@projects.put("/<project>/claim")
async def claim(project: str) -> Response:
    """Say that a run plays into the project: ``{holder, ttl_s}``; 409 names another run that does."""
    channel = _channel(project)
    wanted = await asked(Claim, "a claim")
    holder = await _hub().broker.claim(channel, wanted.holder, wanted.ttl_s)
    if holder != wanted.holder:
        raise Problem(409, "project-busy", f"The run {holder!r} plays into {project!r}.", holder=holder)
    return json_answer(Held(holder))


@projects.delete("/<project>/claim/<path:holder>")
async def release(project: str, holder: str) -> Response:
    """End a claim."""
    await _hub().broker.release(_channel(project), holder)
    return Response("", status=204)
