"""What the query of a request for events asks for; all of it is untrusted input."""

from __future__ import annotations

from difflib import get_close_matches

from quart import Request

from syndarix_rt.delivery import TypeFilter
from syndarix_rt.errors import EventError
from syndarix_rt.events import EventId
from syndarix_rt.server.documents import HISTORY_DEFAULT, HISTORY_LIMIT
from syndarix_rt.server.problems import bad_request
from syndarix_rt.server.stream import Start

__all__ = ["CURSORS", "check_names", "event_id", "page_limit", "start", "types"]

CURSORS = ("lastEventId", "last_event_id")
"""Parameters that hold the cursor, the first that is there counts. ``lastEventId`` is what the usual polyfill of
``EventSource`` puts behind the address that it was given when it connects again, in place of the header."""

_NAMES = ("types", "replay", "after", "limit", "ticket", "key", *CURSORS)

_ALIKE = 0.8
"""Share of letters from which on a name was meant to be another: ``typs``, ``type``, ``last-event-id``."""

_FOREIGN_NAMES = 16
"""So many are looked at, and none that is twice as long as ours: comparing takes time."""


def check_names(request: Request) -> None:
    """Refuse a parameter that is spelled nearly as one of ours: without it a filter or a cursor would be passed over.

    Any other is left alone: caches are got round, and clicks are counted, by parameters of everybody's own.

    Raises:
        Problem: there is one.
    """
    foreign = [name for name in request.args if name not in _NAMES]
    for name in foreign[:_FOREIGN_NAMES]:
        alike = name.lower().replace("-", "_")[: 2 * len("last_event_id")]
        if meant := get_close_matches(alike, _NAMES, n=1, cutoff=_ALIKE):
            raise bad_request(f"There is no parameter {name[:50]!r}; did you mean {meant[0]!r}?")


def types(request: Request) -> TypeFilter | None:
    """The filter; None: all events.

    Raises:
        FilterError: it has a word that means nothing.
    """
    return TypeFilter.parse(request.args["types"]) if "types" in request.args else None


def start(request: Request, replay_limit: int) -> Start:
    """Where the subscriber wants to begin. A cursor in the header wins over one in the address.

    Raises:
        Problem: one of the cursors, or ``replay``, is malformed.
    """
    texts = (request.headers.get("last-event-id"), *(request.args.get(name) for name in CURSORS))
    given = [text for text in texts if text]
    cursors = [event_id(text) for text in given]
    if cursors:
        return Start(cursors[0], given[0])
    replay = request.args.get("replay", "0")
    if replay == "all":
        return Start(replay="all")
    if not (replay.isascii() and replay.isdigit() and len(replay) <= 16):  # noqa: PLR2004 - digits of 2^53
        raise bad_request(f"replay must be a count or 'all', not {replay[:50]!r}.")
    return Start(replay=min(int(replay), replay_limit))


def event_id(text: str) -> EventId:
    """An event id.

    Raises:
        Problem: it is none.
    """
    try:
        return EventId.parse(text)
    except EventError as error:
        raise bad_request(error.reason, kind="invalid-event-id") from error


def page_limit(request: Request) -> int:
    """The most events that a page of history is to hold.

    Raises:
        Problem: it is no such number.
    """
    text = request.args.get("limit", str(HISTORY_DEFAULT))
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0  # noqa: PLR2004 - of HISTORY_LIMIT
    if not 1 <= number <= HISTORY_LIMIT:
        raise bad_request(f"limit must be 1 to {HISTORY_LIMIT}, not {text[:50]!r}.")
    return number
