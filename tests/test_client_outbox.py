"""`Outbox`: what is sent when, and again, until it is acknowledged."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from syndarix_rt.client.outbox import MAX_KNOWN, PIECE, Draft, Outbox
from syndarix_rt.delivery.chat import MAX_ANSWER_BYTES, MAX_ENTRY_BYTES, Delta, Done, Finish, Refused, Said, Say, encode
from syndarix_rt.errors import ChatError

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def said(name, text="hello", to="all"):
    return Said(id=name, speaker="ana", to=to, text=text, time=NOW)


def done(name, text="hello", **more):
    return Done(id=name, speaker="ana", to="all", text=text, time=NOW, **more)


def delta(draft, at, text):
    return Delta(id=draft.id, speaker="ana", to=draft.to, at=at, text=text)


def all_of(outbox):
    """What is sent now, as decoded frames."""
    sent = []
    while (text := outbox.next()) is not None:
        sent.append(json.loads(text))
    return sent


def names(frames):
    return [frame["id"] for frame in frames]


def test_what_is_not_acknowledged_is_sent_again_in_its_order():
    outbox = Outbox()
    posted = [outbox.post(Say(id=name, text="hello")) for name in "abc"]
    assert names(all_of(outbox)) == ["a", "b", "c"]
    assert all_of(outbox) == []
    outbox.acknowledge(said("b"))
    assert [each.is_done for each in posted] == [False, True, False]
    assert posted[1].heard == said("b")
    outbox.reopen()
    outbox.post(Say(id="d", text="hello"))
    assert names(all_of(outbox)) == ["a", "c", "d"]


def test_the_same_message_is_there_once_and_another_one_under_its_id_is_a_conflict():
    outbox = Outbox()
    first = outbox.post(Say(id="m", text="hello"))
    assert outbox.post(Say(id="m", text="hello")) is first
    for other in (Say(id="m", text="bye"), Say(id="m", text="hello", to="dev"), Finish(id="m", text="hello")):
        with pytest.raises(ChatError, match="another message waits") as caught:
            outbox.post(other)
        assert (caught.value.code, caught.value.id) == ("conflict", "m")
    assert len(all_of(outbox)) == 1


@pytest.mark.parametrize(
    ("frame", "heard", "same"),
    [
        (Say(id="m", text="hello"), said("m"), True),
        (Say(id="m", text="bye"), said("m"), False),
        (Say(id="m", text="hello"), said("m", to="dev"), False),
        (Say(id="m", text="hello"), done("m"), False),
        (Finish(id="m", text="hello"), done("m"), True),
        (Finish(id="m", text="hello", speaker="ana"), done("m"), True),
        (Finish(id="m", text="hello", speaker="ben"), done("m"), False),
        (Finish(id="m", text="hello"), done("m", error="broken off"), False),
        (Finish(id="m", text="hello"), said("m"), False),
    ],
)
def test_what_an_earlier_process_said_is_known_and_anything_else_is_the_servers_to_refuse(frame, heard, same):
    outbox = Outbox()
    outbox.acknowledge(heard)  # from history
    posted = outbox.post(frame)
    assert posted.heard == (heard if same else None)
    assert names(all_of(outbox)) == ([] if same else ["m"])


def test_what_another_process_said_under_an_id_that_waits_is_no_acknowledgement():
    outbox = Outbox()
    posted = outbox.post(Say(id="m", text="hello"))
    all_of(outbox)
    outbox.acknowledge(said("m", "bye"))
    assert not posted.is_done
    outbox.refuse(Refused(code="conflict", detail="other content", id="m"))
    assert posted.error.code == "conflict"


def test_what_is_remembered_is_bounded():
    outbox = Outbox()
    for number in range(MAX_KNOWN + 1):
        outbox.acknowledge(said(f"m{number}"))
    assert not outbox.post(Say(id="m0", text="hello")).is_done
    assert outbox.post(Say(id="m1", text="hello")).is_done


def test_a_refusal_is_an_error_and_a_broker_that_is_away_is_none():
    outbox = Outbox()
    for name in "abc":
        outbox.post(Say(id=name, text="hello"))
    later = Refused(code="conflict", detail="no", id="c")
    assert outbox.refuse(later) is None  # which was not sent yet, so it is meant for somebody else
    posted = {name: outbox.waiting[name] for name in "abc"}
    all_of(outbox)
    assert outbox.refuse(Refused(code="broker-away", detail="later", id="a")) is posted["a"]
    assert outbox.refuse(Refused(code="broker-error", detail="later", id="b")) is posted["b"]
    assert outbox.refuse(Refused(code="conflict", detail="other content", path="$.id", id="c")) is None
    assert outbox.refuse(Refused(code="rate-limit", detail="too much")) is None
    assert list(outbox.waiting) == ["a", "b"]
    error = posted["c"].error
    assert (error.code, str(error), error.id) == ("conflict", "$.id: other content", "c")
    assert posted["c"].is_done


def test_a_piece_of_an_answer_that_is_refused_is_left_to_the_whole():
    outbox = Outbox()
    outbox.post(Finish(id="a", text="all"))
    all_of(outbox)
    assert outbox.refuse(Refused(code="conflict", detail="no", path="$.at", id="a")) is None
    assert list(outbox.waiting) == ["a"]


def test_answers_take_turns_and_go_on_from_what_is_known():
    outbox = Outbox()
    one, two = Draft("one", "ana", "q1"), Draft("two", "ben", None, "dev-1")
    outbox.drafts |= {"one": one, "two": two}
    one.add("x" * (2 * PIECE + 1))
    two.add("y")
    sent = all_of(outbox)
    assert [(frame["id"], frame.get("at"), len(frame["text"])) for frame in sent] == [
        ("one", 0, PIECE), ("two", 0, 1), ("one", PIECE, PIECE), ("one", 2 * PIECE, 1),
    ]  # fmt: skip
    assert (sent[0]["to"], sent[0]["reply_to"]) == ("ana", "q1")
    assert sent[1]["from"] == "dev-1"
    outbox.acknowledge(delta(one, PIECE, "x"))  # out of order: nothing is known by it
    outbox.acknowledge(delta(one, 0, "x" * PIECE))
    outbox.acknowledge(delta(Draft("three", "ana", None), 0, "z"))
    outbox.reopen()
    assert all_of(outbox) == []
    outbox.resume()
    assert sorted((frame["id"], frame["at"]) for frame in all_of(outbox)) == [
        ("one", PIECE), ("one", 2 * PIECE), ("two", 0),
    ]  # fmt: skip


def test_a_whole_message_goes_before_pieces_and_a_sign_of_typing_before_both():
    outbox = Outbox()
    draft = outbox.drafts["a"] = Draft("a", "ana", None)
    draft.add("x")
    outbox.post(Say(id="m", text="hello"))
    outbox.typing()
    outbox.typing()
    assert [frame["type"] for frame in all_of(outbox)] == ["typing", "say", "delta"]
    outbox.typing()
    outbox.reopen()  # on the next socket nobody is typing any more
    assert [frame["type"] for frame in all_of(outbox)] == ["say"]


def test_an_answer_that_fits_fits_whole_whatever_it_consists_of():
    for text in ('"', "\n", "\x00", "é", "🙂", "x"):
        draft = Draft("a" * 128, "n" * 64, "q" * 128)
        with pytest.raises(ChatError, match=f"at most {MAX_ANSWER_BYTES} bytes"):
            while True:
                draft.add(text * 100)
        assert len(encode(draft.whole("🙂" * 1_000))) <= MAX_ENTRY_BYTES
        known = draft.text
        with pytest.raises(ChatError, match="cannot be written as JSON"):
            draft.add("\ud800")
        assert draft.text == known
