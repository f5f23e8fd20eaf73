"""The words: what an event is, which types there are, and where an event stands in a log.

* :mod:`~syndarix_rt.events.event`: `Event`, `EventId`, encoding and decoding
* :mod:`~syndarix_rt.events.rules`: what an event's attributes must be
* :mod:`~syndarix_rt.events.catalogue`: the types and their categories
* :mod:`~syndarix_rt.events.payloads`: what ``data`` holds, one struct a family
"""

from syndarix_rt.events.catalogue import CATALOGUE, CATEGORIES, CORE_TYPES, EventType, category_of
from syndarix_rt.events.event import (
    MAX_EVENT_BYTES,
    Event,
    EventId,
    decode_batch,
    is_project_name,
)

__all__ = [
    "CATALOGUE",
    "CATEGORIES",
    "CORE_TYPES",
    "MAX_EVENT_BYTES",
    "Event",
    "EventId",
    "EventType",
    "category_of",
    "decode_batch",
    "is_project_name",
]
