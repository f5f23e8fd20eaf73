"""The words: what an event is, which types there are, and where an event stands in a log.

* :mod:`~syndarix_rt.events.event`: `Event`, `EventId`, encoding and decoding
* :mod:`~syndarix_rt.events.series`: many events that are alike, checked in bulk
* :mod:`~syndarix_rt.events.rules`: what an event's attributes must be
* :mod:`~syndarix_rt.events.catalogue`: the types and their categories
* :mod:`~syndarix_rt.events.payloads`: what ``data`` holds, one struct a family
* :mod:`~syndarix_rt.events.names`: what others call things, as ids, texts and times of events
"""

from syndarix_rt.events.catalogue import CATALOGUE, CATEGORIES, CORE_TYPES, EventType, category_of
from syndarix_rt.events.event import (
    MAX_EVENT_BYTES,
    Event,
    EventId,
    decode_batch,
    encode_lines,
    is_project_name,
)
from syndarix_rt.events.names import as_id, as_text, as_time

__all__ = [
    "CATALOGUE",
    "CATEGORIES",
    "CORE_TYPES",
    "MAX_EVENT_BYTES",
    "Event",
    "EventId",
    "EventType",
    "as_id",
    "as_text",
    "as_time",
    "category_of",
    "decode_batch",
    "encode_lines",
    "is_project_name",
]
