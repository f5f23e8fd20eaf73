"""The frames of the chat, and a member's transcript of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt.delivery import chat
from syndarix_rt.delivery.chat import Delta, Done, Finish, Ping, Pong, Said, Say, Stream, Transcript, Typing
from syndarix_rt.errors import ChatError

NOW = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)


def position(offset):
    return f"someepoch.{offset}"


def said(offset, text="hello", *, id=None, speaker="ana"):
    return Said(position=position(offset), id=id or f"m{offset}", speaker=speaker, to="all", text=text, time=NOW)


def delta(offset, at, text, *, id="a1", speaker="dev"):
    return Delta(position=position(offset), id=id, speaker=speaker, to="ana", at=at, text=text)


def done(offset, text, *, id="a1", speaker="dev", error=None):
    return Done(position=position(offset), id=id, speaker=speaker, to="ana", text=text, time=NOW, error=error)


@pytest.mark.parametrize(
    ("sent", "frame"),
    [
        ('{"type":"say","id":"1","to":"dev","text":"why?"}', Say(id="1", to="dev", text="why?")),
        ('{"text":"why?","id":"1","type":"say"}', Say(id="1", to="all", text="why?")),
        ('{"type":"delta","id":"1","at":3,"text":"x"}', Stream(id="1", at=3, text="x")),
        ('{"type":"done","id":"1","text":""}', Finish(id="1", text="")),
        ('{"type":"typing","more":[1]}', Typing()),
        ('{"type":"ping"}', Ping()),
    ],
)
def test_a_frame_of_a_client_is_read(sent, frame):
    assert chat.decode_client(sent) == frame


@pytest.mark.parametrize(
    ("sent", "code", "path", "frame_id"),
    [
        ("", "invalid-json", "$", None),
        ("{", "invalid-json", "$", None),
        ("[" * 5_000, "invalid-json", "$", None),
        (b'{"type":"say","id":"1","text":"\xff"}', "invalid-json", "$", None),
        ('{"type":"say","id":"1","text":"\\ud800"}', "invalid-json", "$", None),
        ("[]", "invalid-frame", "$", None),
        ("null", "invalid-frame", "$", None),
        ("{}", "invalid-frame", "$", None),
        ('{"type":"shout","id":"1","text":"x"}', "invalid-frame", "$.type", "1"),
        ('{"type":"said","id":"1","text":"x"}', "invalid-frame", "$.type", "1"),
        ('{"type":7}', "invalid-frame", "$.type", None),
        ('{"type":"say","id":7,"text":"x"}', "invalid-frame", "$.id", None),
        ('{"type":"say","id":"","text":"x"}', "invalid-frame", "$.id", ""),
        ('{"type":"say","id":"1","text":""}', "invalid-frame", "$.text", "1"),
        ('{"type":"say","id":"1"}', "invalid-frame", "$", "1"),
        ('{"type":"say","id":"1","text":"x","to":[]}', "invalid-frame", "$.to", "1"),
        ('{"type":"say","id":"1","text":"x","to":"%s"}' % ("x" * 65), "invalid-frame", "$.to", "1"),
        ('{"type":"say","id":"%s","text":"x"}' % ("x" * 129), "invalid-frame", "$.id", "x" * 128),
        ('{"type":"delta","id":"1","at":-1,"text":"x"}', "invalid-frame", "$.at", "1"),
        ('{"type":"delta","id":"1","at":1.5,"text":"x"}', "invalid-frame", "$.at", "1"),
    ],
)
def test_what_is_no_frame_is_refused_with_code_path_and_id(sent, code, path, frame_id):
    with pytest.raises(ChatError) as raised:
        chat.decode_client(sent)
    assert (raised.value.code, raised.value.path, raised.value.id) == (code, path, frame_id)
    assert raised.value.reason


def test_an_entry_becomes_a_frame_by_its_position():
    entry = chat.encode(msgspec.structs.replace(said(7, "a\nb é"), position=msgspec.UNSET))
    assert b"\n" not in entry
    assert b"position" not in entry
    frame = chat.placed(entry, "someepoch", 7)
    assert chat.decode_server(frame) == said(7, "a\nb é")
    assert json.loads(frame) == {
        "type": "said",
        "position": "someepoch.7",
        "id": "m7",
        "from": "ana",
        "to": "all",
        "text": "a\nb é",
        "time": "2026-03-01T12:00:00.000005Z",
    }
    assert chat.decode_entry(entry) == msgspec.structs.replace(said(7, "a\nb é"), position=msgspec.UNSET)


def test_a_frame_of_a_newer_server_may_be_skipped_and_what_is_none_may_not():
    assert chat.decode_server('{"type":"reaction","id":"1"}') is None
    assert chat.decode_server('{"type":"pong"}') == Pong()
    for wrong in ("", "[]", '{"type":"said"}', '{"type":1}'):
        with pytest.raises(ChatError):
            chat.decode_server(wrong)
    assert chat.decode_entry(b'{"type":"my_event"}') is chat.decode_entry(b"\xff") is chat.decode_entry(b"[") is None


def test_what_no_json_can_say_is_refused_where_it_is_encoded():
    with pytest.raises(ChatError, match=r"\$\.text"):
        chat.encode(Say(id="1", text="\ud800"))


@pytest.mark.parametrize(
    ("name", "right"),
    [("ana", True), ("Ana María", True), ("developer-1", True), ("x" * 64, True), ("日本", True)]
    + [(name, False) for name in ("", "all", " ana", "ana ", "x" * 65, "a\nb", "a\0b", "\u202eana")],
)
def test_names_of_members(name, right):
    assert chat.is_member_name(name) is right


# ---- the transcript -----------------------------------------------------------------------------------------------


def test_a_transcript_has_messages_in_order_and_an_answer_grows():
    transcript = Transcript()
    assert transcript.apply(said(1)).text == "hello"
    answer = transcript.apply(delta(2, 0, "It "))
    assert (answer.text, answer.done, list(transcript.answers)) == ("It ", False, [("dev", "a1")])
    transcript.apply(said(3, "and?"))
    assert transcript.apply(delta(4, 3, "works")) is answer
    assert transcript.apply(done(5, "It works.")) is answer
    assert (answer.text, answer.done, str(answer.position)) == ("It works.", True, "someepoch.5")
    assert [message.text for message in transcript.messages] == ["hello", "and?", "It works."]
    assert not transcript.answers
    for again in (said(1), delta(4, 3, "works"), done(5, "It works.")):
        assert transcript.apply(again) is None


def test_whoever_comes_in_the_middle_of_an_answer_has_all_of_it_in_the_end():
    transcript = Transcript()
    answer = transcript.apply(delta(4, 3, "works"))
    assert answer.text == ""
    assert transcript.apply(delta(5, 8, " we")) is None
    assert transcript.apply(done(6, "It works well")).text == "It works well"


@given(st.text(min_size=1, max_size=40), st.data())
def test_pieces_in_any_order_and_number_never_give_a_wrong_text(text, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)) | {0, len(text)})
    pieces = [delta(n, start, text[start:end]) for n, (start, end) in enumerate(pairwise(cuts), 1)]
    frames = data.draw(st.lists(st.sampled_from(pieces), max_size=12))
    transcript = Transcript()
    for frame in frames:
        transcript.apply(frame)
        assert all(text.startswith(answer.text) for answer in transcript.answers.values())
    transcript.apply(done(99, text))
    for frame in frames:
        assert transcript.apply(frame) is None
    assert [message.text for message in transcript.messages] == [text]


def test_after_a_hole_an_answer_that_was_on_its_way_is_known_by_what_comes_of_it():
    transcript = Transcript()
    transcript.apply(delta(1, 0, "I "))
    transcript.apply(delta(2, 0, "It ", id="a2"))
    transcript.missed()  # in it the first one ended
    assert not transcript.answers
    transcript.apply(delta(9, 7, "late ", id="a2"))
    assert [answer.text for answer in transcript.answers.values()] == [""]
    transcript.apply(done(10, "It is very late ", id="a2"))
    assert [message.text for message in transcript.messages] == ["It is very late "]
    assert not transcript.answers


def test_an_exception_is_told_in_words_that_a_frame_can_carry():
    assert chat.failure_text(ValueError("no idea")) == "ValueError: no idea"
    assert chat.failure_text(ValueError("\ud800")) == "ValueError: ?"
    assert chat.failure_text(ValueError()) == "ValueError: "
    assert len(chat.failure_text(ValueError("x" * 5_000))) == 1_000


def test_a_transcript_is_bounded():
    transcript = Transcript(keep=10)
    for n in range(1, 101):
        transcript.apply(said(n))
        transcript.apply(delta(n, 0, "x", id=f"a{n}"))
    assert [message.id for message in transcript.messages] == [f"m{n}" for n in range(91, 101)]
    assert len(transcript.answers) == len(transcript._finished) == 10
