"""Events from outside: a request's body becomes a batch of encoded events, or one clear error and nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from syndarix_rt.broker.protocol import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from syndarix_rt.delivery.batch import encode_all
from syndarix_rt.errors import EventError
from syndarix_rt.events import Event, decode_batch
from syndarix_rt.server.problems import Problem, bad_request

__all__ = ["read_batch"]

JSON_TYPES = ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json")
NDJSON_TYPE = "application/x-ndjson"

DECISION = "approval_resolved"


def read_batch(
    body: bytes, content_type: str, project: str, *, decisions: bool = False, only: Sequence[str] = ()
) -> list[bytes]:
    """Check and encode everything in a body, before anything of it is stored.

    Args:
        body: one event, a JSON array, or NDJSON.
        content_type: the request's, without parameters.
        project: the URL's project; each event must say the same.
        decisions: take ``approval_resolved``, too.
        only: take only events of these types; without any, of all.

    Raises:
        EventError: an element is wrong; the path names it (``$[3].data.run_id``).
        Problem: 403 for a type that is not taken, 413 for too many or too much, 415 for another content type.
    """
    documents, single = _documents(body, content_type)
    if len(documents) > MAX_BATCH_EVENTS:
        raise Problem(413, "batch-too-large", f"{len(documents)} events in one batch; at most {MAX_BATCH_EVENTS}.")
    if not documents:
        raise bad_request("The batch is empty.", kind="empty-batch")
    # Before its payload is checked: who may not write it should not be told how to.
    if not decisions and any(isinstance(given, dict) and given.get("type") == DECISION for given in documents):
        raise Problem(
            403, "reserved-type", f"{DECISION} is written by POST …/approvals/{{id}} only; nothing was stored."
        )
    if only and any(not isinstance(given, dict) or given.get("type") not in only for given in documents):
        raise Problem(403, "reserved-channel", f"Only {', '.join(only)} come here; nothing was stored.")
    events = [Event.from_dict(documents[0])] if single else decode_batch(documents)
    try:
        entries = encode_all(events, project, recordedtime=datetime.now(UTC))
    except EventError as error:
        raise (EventError(error.reason, "$" + error.path.removeprefix("$[0]")) if single else error) from error
    size = sum(map(len, entries))
    if size > MAX_BATCH_BYTES:
        raise Problem(413, "batch-too-large", f"{size} bytes in one batch; at most {MAX_BATCH_BYTES}.")
    return entries


def _documents(body: bytes, content_type: str) -> tuple[list[Any], bool]:
    """The JSON values of a body, and whether it is one event alone."""
    if content_type in JSON_TYPES:
        try:
            document = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise EventError(f"not JSON: {error}") from error
        return (document, False) if isinstance(document, list) else ([document], True)
    if content_type == NDJSON_TYPE:
        documents = []
        for line in body.split(b"\n"):
            if line.strip():
                try:
                    documents.append(msgspec.json.decode(line))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    raise EventError(f"not JSON: {error}", f"$[{len(documents)}]") from error
        return documents, False
    known = ", ".join((*JSON_TYPES, NDJSON_TYPE))
    raise Problem(415, "unsupported-media-type", f"Content-Type is {content_type or 'missing'!r}; one of {known}.")
