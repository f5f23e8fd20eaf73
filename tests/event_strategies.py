"""Hypothesis strategies for events: any valid event of any type, with payloads built from the payload structs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from syndarix_rt import Event, EventId
from syndarix_rt.events import CATALOGUE
from syndarix_rt.events.catalogue import TYPE_PATTERN

json_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
json_values = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(st.text(max_size=10), json_values, max_size=5)

names = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
ids = st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True)
epochs = st.from_regex(r"[A-Za-z0-9_-]{8,32}", fullmatch=True)
event_ids = st.builds(EventId, epochs, st.integers(0, 2**53 - 1))
custom_types = st.from_regex(TYPE_PATTERN, fullmatch=True).filter(lambda t: len(t) <= 64 and t not in CATALOGUE)

_offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
_clock = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31))  # noqa: DTZ001 - the zone is put on next
times = st.builds(lambda time, zone: time.replace(tzinfo=zone), _clock, st.just(UTC) | _offsets) | st.builds(
    lambda time: time.replace(microsecond=0, tzinfo=UTC), _clock
)

extension_names = st.from_regex(r"[a-z0-9]{1,24}", fullmatch=True).filter(
    lambda name: name not in {*Event.__struct_fields__, "dataschema"} or name == "extensions"
)
extensions = st.dictionaries(
    extension_names, st.text(max_size=20) | st.booleans() | st.integers(-(2**31), 2**31 - 1), max_size=3
)


def _values(kind: inspect.Type) -> st.SearchStrategy:
    """Valid JSON values of a payload field."""
    match kind:
        case inspect.UnionType():
            return st.one_of(*map(_values, kind.types))
        case inspect.StrType(pattern=str()):
            return names
        case inspect.StrType():
            return st.text(min_size=kind.min_length or 0, max_size=min(kind.max_length or 40, 40))
        case inspect.IntType():
            return st.integers(kind.ge, kind.le)
        case inspect.FloatType():
            return st.floats(kind.ge, 1e12)
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
    raise NotImplementedError(kind)


def payloads(struct: type[msgspec.Struct]) -> st.SearchStrategy[dict]:
    """Valid payloads of a struct: what is required, some of what is optional, and keys that it does not know."""
    fields = inspect.type_info(struct).fields
    return st.builds(
        lambda known, more: more | known,
        st.fixed_dictionaries(
            {f.encode_name: _values(f.type) for f in fields if f.required},
            optional={f.encode_name: _values(f.type) for f in fields if not f.required},
        ),
        st.dictionaries(st.from_regex(r"x_[a-z]{1,8}", fullmatch=True), json_values, max_size=2),
    )


def data_of(event_type: str) -> st.SearchStrategy[dict]:
    """Valid payloads of an event type."""
    return payloads(CATALOGUE[event_type].payload) if event_type in CATALOGUE else json_objects


types = st.sampled_from(list(CATALOGUE)) | custom_types


@st.composite
def events(draw, types=types) -> Event:
    """Any valid event."""
    event_type = draw(types)
    optional = {
        "subject": st.text(min_size=1, max_size=20),
        "cause": ids,
        "simulation": st.text(max_size=20),
        "recordedtime": times,
        "traceparent": st.from_regex(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", fullmatch=True),
        "datacontenttype": st.just("application/json"),
        "extensions": extensions,
    }
    return Event(
        specversion="1.0",
        id=draw(ids),
        source=draw(st.text(min_size=1, max_size=40)),
        type=event_type,
        time=draw(times),
        project=draw(names),
        data=draw(data_of(event_type)),
        **draw(st.fixed_dictionaries({}, optional=optional)),
    )
