"""The SSE codec, case by case: each stream whole, one byte at a time, and split anywhere."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt.delivery.sse import Decoder, Frame, encode, encode_entry
from syndarix_rt.errors import DecodeError


def M(data, id="", event="message"):
    return Frame(id, event, data)


# name: (bytes, frames, last_event_id, retry_ms); from WHATWG HTML, "Interpreting an event stream", and its examples.
CASES = {
    "one line": (b"data: hello\n\n", [M("hello")], "", None),
    "stock quote": (b"data: YHOO\ndata: +2\ndata: 10\n\n", [M("YHOO\n+2\n10")], "", None),
    "four blocks": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [M("first event", "1"), M("second event", ""), M(" third event", "")],
        "",
        None,
    ),
    "empty and newline data, then a cut block": (b"data\n\ndata\ndata\n\ndata:", [M(""), M("\n")], "", None),
    "the space is optional": (b"data:test\n\ndata: test\n\n", [M("test"), M("test")], "", None),
    "CR": (b"data: a\rdata: b\r\r", [M("a\nb")], "", None),
    "CRLF": (b"data: a\r\ndata: b\r\n\r\n", [M("a\nb")], "", None),
    "mixed line ends": (b"data: a\rdata: b\r\ndata: c\n\r\ndata: d\n\n", [M("a\nb\nc"), M("d")], "", None),
    "CR LF CR LF is two ends": (b"data: a\r\n\r\ndata: b\r\n\r\n", [M("a"), M("b")], "", None),
    "BOM": (b"\xef\xbb\xbfdata: a\n\n", [M("a")], "", None),
    "two BOMs: the second belongs to the field's name": (
        b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n",
        [M("b")],
        "",
        None,
    ),
    "BOM in the middle is data": (b"data: \xef\xbb\xbfa\n\n", [M("\ufeffa")], "", None),
    "half a BOM": (b"\xef\xbbdata: a\n\ndata: b\n\n", [M("b")], "", None),
    "named": (b"event: add\ndata: 1\n\ndata: 2\n\n", [M("1", event="add"), M("2")], "", None),
    "an empty name is message": (b"event:\ndata: 1\n\n", [M("1")], "", None),
    "a name without data is forgotten": (b"event: add\n\ndata: 1\n\n", [M("1")], "", None),
    "the id is sticky": (b"id: 7\ndata: a\n\ndata: b\n\n", [M("a", "7"), M("b", "7")], "7", None),
    "an id-only block moves the cursor": (b"id: 7\n\n", [], "7", None),
    "a cut block does not move the cursor": (b"id: 7\n\nid: 8\ndata: x\n", [], "7", None),
    "NUL voids the id": (b"id: 7\n\nid: 8\x009\ndata: a\n\n", [M("a", "7")], "7", None),
    "an empty id resets": (b"id: 7\n\nid\ndata: a\n\n", [M("a", "")], "", None),
    "an id keeps its spaces": (b"id:  7 \n\n", [], " 7 ", None),
    "retry": (b"retry: 1500\n\n", [], "", 1500),
    "retry must be digits": (
        b"retry: 10\nretry: -1\nretry: +5\nretry: 1_0\nretry: 1.5\nretry:\nretry: 5s\n\n",
        [],
        "",
        10,
    ),
    "retry in other digits": ("retry: ٣\n\n".encode(), [], "", None),
    "retry without end": (b"retry: " + b"9" * 5000 + b"\n\n", [], "", 2**53 - 1),
    "retry counts at once": (b"retry: 5\n", [], "", 5),
    "comments": (b": keepalive\n:\n::x\ndata: a\n: in between\ndata: b\n\n", [M("a\nb")], "", None),
    "a keepalive after an id dispatches nothing": (b"id: 1\ndata: a\n\n: k\n\n: k\n\n", [M("a", "1")], "1", None),
    "unknown fields": (b"foo: bar\ndata : no\n data: no\ndata: yes\n\n", [M("yes")], "", None),
    "a field without a colon": (b"data\ndata\n\n", [M("\n")], "", None),
    "colons in the value": (b"data: a:b: c\n\n", [M("a:b: c")], "", None),
    "bad UTF-8 becomes U+FFFD": (b"data: a\xffb\xc3\ndata: \xe2\x82\n\n", [M("a�b�\n�")], "", None),
    "UTF-8": ("data: grüße 🎉\n\n".encode(), [M("grüße 🎉")], "", None),
    "nothing": (b"", [], "", None),
    "blank lines": (b"\n\n\r\r\n\n", [], "", None),
}


def decode(chunks):
    decoder = Decoder()
    frames = [frame for chunk in chunks for frame in decoder.feed(chunk)]
    return frames, decoder.last_event_id, decoder.retry_ms


def split(stream, at):
    """The stream cut at each of the given places."""
    bounds = [0, *sorted(place % (len(stream) + 1) for place in at), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(bounds)]


@pytest.mark.parametrize("name", CASES)
def test_a_stream_is_read_by_the_whatwg_rules_whole_and_one_byte_at_a_time(name):
    stream, *expected = CASES[name]
    assert list(decode([stream])) == expected
    assert list(decode([stream[i : i + 1] for i in range(len(stream))])) == expected
    assert list(decode([part for i in range(len(stream)) for part in (stream[i : i + 1], b"")])) == expected


@given(st.sampled_from(sorted(CASES)), st.lists(st.integers(0, 10_000), max_size=6))
def test_no_split_changes_what_is_read(name, cuts):
    stream, *expected = CASES[name]
    assert list(decode(split(stream, cuts))) == expected


@given(st.binary(max_size=300), st.lists(st.integers(0, 1000), max_size=8))
def test_any_bytes_decode_the_same_however_they_are_split(stream, cuts):
    assert decode([stream]) == decode(split(stream, cuts))


line_soup = st.lists(
    st.sampled_from(
        [
            b"data",
            b"id",
            b"event",
            b"retry",
            b":",
            b" ",
            b"\r",
            b"\n",
            b"\r\n",
            b"\0",
            b"7",
            b"x",
            b"\xef\xbb\xbf",
            b"\xff",
        ]
    ),
    max_size=40,
).map(b"".join)


@given(line_soup, st.lists(st.integers(0, 1000), max_size=8))
def test_any_fields_decode_the_same_however_they_are_split(stream, cuts):
    assert decode([stream]) == decode(split(stream, cuts))


text = st.text(st.characters(codec="utf-8"), max_size=60)
name = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=20).filter(
    lambda value: not value.startswith(" ")
)


@given(text, name, name, st.integers(0, 2**53 - 1), text)
def test_what_is_encoded_reads_back(data, event, id, retry_ms, comment):
    block = encode(data, event=event, id=id, retry_ms=retry_ms, comment=comment)
    lines = data.replace("\r\n", "\n").replace("\r", "\n")
    assert decode([block]) == ([Frame(id, event, lines)], id, retry_ms)


def test_an_entry_is_encoded_as_a_block_of_three_lines():
    assert encode_entry("e.7", "issue_created", b"{}") == b"id: e.7\nevent: issue_created\ndata: {}\n\n"
    assert encode_entry("e.7", "issue_created", b"{}") == encode(b"{}", event="issue_created", id="e.7")


@pytest.mark.parametrize("forged", ["a\nb", "a\rb", "a\0b"])
def test_an_id_or_a_name_cannot_forge_a_block(forged):
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        encode("x", id=forged)
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        encode("x", event=forged)


def test_data_and_comments_cannot_forge_a_block():
    block = encode("a\n\nevent: evil\rid: 9", comment="b\n\ndata: evil")
    assert decode([block]) == ([M("a\n\nevent: evil\nid: 9")], "", None)


def test_an_event_may_be_as_large_as_the_limit_and_no_larger():
    limit = 1000
    assert Decoder(max_event_bytes=limit).feed(b"data:" + b"x" * (limit - 5) + b"\n\n")
    with pytest.raises(DecodeError, match="longer than 1000"):
        Decoder(max_event_bytes=limit).feed(b"data:" + b"x" * limit)
    many = Decoder(max_event_bytes=limit)
    with pytest.raises(DecodeError, match="larger than 1000"):
        for _ in range(limit + 1):
            many.feed(b"data: x\n")


def test_an_endless_line_is_refused_even_if_it_comes_byte_by_byte():
    decoder = Decoder(max_event_bytes=1000)
    with pytest.raises(DecodeError):
        for _ in range(2000):
            decoder.feed(b":")


def test_comments_for_days_are_no_large_event():
    decoder = Decoder(max_event_bytes=100)
    for _ in range(10_000):
        assert decoder.feed(b": keepalive\n") == []
    assert decoder.feed(b"data: a\n\n") == [M("a")]


def test_a_new_connection_takes_the_id_over():
    decoder = Decoder(last_event_id="e.7")
    assert decoder.feed(b"data: a\n\n") == [M("a", "e.7")]
