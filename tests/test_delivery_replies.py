"""`Reply`: an agent's answer in frames that are few, whole and never too long."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from syndarix_rt.delivery.chat import DELTA_S, MAX_ANSWER_BYTES, MAX_ENTRY_BYTES, Finish, Said, Stream, encode
from syndarix_rt.delivery.replies import Reply

SAID = Said(id="1", speaker="Ana", to="planner-1", text="?", time=datetime(2026, 3, 1, 12, 0, tzinfo=UTC))


def test_what_came_within_a_moment_is_one_frame():
    reply = Reply(SAID, "planner-1")
    assert (reply.due_s(), reply.take(10.0)) == (None, None)
    reply.add("I ")
    assert reply.due_s() <= 10.0
    assert reply.take(10.0) == Stream(id=reply.id, at=0, text="I ", to="Ana", reply_to="1")
    reply.add("am ")
    reply.add("here")
    assert reply.due_s() == 10.0 + DELTA_S
    assert reply.take(10.0 + DELTA_S / 2) is None
    assert reply.take(10.0 + DELTA_S) == Stream(id=reply.id, at=2, text="am here", to="Ana", reply_to="1")
    assert reply.finish() == Finish(id=reply.id, text="I am here", to="Ana", reply_to="1")
    assert reply.finish("the run has ended").error == "the run has ended"
    assert reply.finish(LookupError("no model")).error == "LookupError: no model"


def test_its_id_follows_from_who_answers_what():
    reply = Reply(SAID, "planner-1")
    assert Reply(SAID, "planner-1").id == reply.id
    assert reply.id != Reply(msgspec.structs.replace(SAID, speaker="Ben"), "planner-1").id
    assert reply.id != Reply(SAID, "planner-2").id


def test_one_that_is_too_long_is_cut_and_says_so():
    reply = Reply(SAID, "planner-1")
    reply.add("\ud800é")
    reply.add("é" * MAX_ANSWER_BYTES)
    reply.add("x")  # which would have room
    text = "?" + "é" * (MAX_ANSWER_BYTES // 2 - 1)
    assert reply.take(10.0).text == reply.text == text
    assert reply.due_s() is None
    assert reply.finish().error == f"cut off after {MAX_ANSWER_BYTES} bytes"
    assert reply.finish("the run has ended").error == "the run has ended"


def test_its_last_frame_fits_into_the_log_whatever_it_consists_of():
    reply = Reply(SAID, "planner-1")
    while not reply.full:
        reply.add('"' * 999)  # two bytes each
    assert reply.text == '"' * (MAX_ANSWER_BYTES // 2)
    assert len(encode(reply.finish(ValueError("\x00\ud800" * 5_000)))) < MAX_ENTRY_BYTES
