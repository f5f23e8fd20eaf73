"""A project's chat over each broker: what is said is there once, in one order; who is here is known everywhere."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from syndarix_rt.broker import Chat, MemoryBroker, RedisBroker, Retention, chat_channel
from syndarix_rt.broker import chat as chat_module
from syndarix_rt.delivery import Gap
from syndarix_rt.delivery.chat import Delta, Done, Finish, Member, Said, Say, Stream
from syndarix_rt.errors import BrokerError, ChatError
from syndarix_rt.events import EventId

DEADLINE_S = 60


@pytest.fixture(params=["memory", "redis"])
async def chats(request, redis_url):
    """Makes chats of the project, as several instances have them: on the same data."""
    opened = []

    def open_chat(**options):
        if request.param == "redis":
            opened.append(RedisBroker(redis_url, **options))
        elif not opened or options:
            opened.append(MemoryBroker(**options))
        return Chat(opened[-1], "apollo")

    yield open_chat
    for broker in opened:
        await broker.aclose()


async def entries(chat, count, after=None):
    """The next so many entries after an offset (of all that there is)."""
    epoch = (await chat._broker.position(chat.channel)).epoch
    found = []
    async with asyncio.timeout(DEADLINE_S), aclosing(chat.follow(after or EventId(epoch, 0))) as frames:
        async for frame in frames:
            found.append(frame)
            if len(found) == count:
                break
    return found


async def test_what_is_said_is_there_once_through_whichever_instance(chats):
    one, two = chats(), chats()
    first = await one.send("ana", Say(id="1", text="why?", to="dev"))
    again = await two.send("ana", Say(id="1", text="why?", to="dev"))
    assert (again.epoch, again.first, again.duplicates) == (first.epoch, first.first, 1)
    await two.send("ben", Say(id="1", text="why?", to="dev"))
    said, other = await entries(one, 2)
    assert isinstance(said, Said)
    assert (said.id, said.speaker, said.to, said.text, said.position) == ("1", "ana", "dev", "why?", f"{first.epoch}.1")
    assert (other.speaker, other.position) == ("ben", f"{first.epoch}.2")


async def test_another_text_under_the_same_id_is_refused(chats):
    chat = chats()
    await chat.send("ana", Say(id="1", text="yes"))
    for frame in (Say(id="1", text="no"), Say(id="1", text="yes", to="dev"), Finish(id="1", text="yes")):
        with pytest.raises(ChatError) as raised:
            await chat.send("ana", frame)
        assert (raised.value.code, raised.value.path, raised.value.id) == ("conflict", "$.id", "1")
    assert (await chat._broker.position(chat.channel)).last == 1


async def test_an_answer_is_streamed_in_order_and_each_piece_is_there_once(chats):
    one, two = chats(), chats()
    pieces = [Stream(id="a", at=0, text="It ", to="ana", reply_to="1"), Stream(id="a", at=3, text="works", to="ana")]
    await one.send("dev", pieces[0])
    await one.send("dev", pieces[1])
    assert (await two.send("dev", pieces[1])).duplicates == 1
    whole = Finish(id="a", text="It works", to="ana", reply_to="1", error="cut short")
    await two.send("dev", whole)
    assert (await one.send("dev", whole)).duplicates == 1
    for late in (pieces[0], pieces[1], Stream(id="a", at=8, text="!")):
        with pytest.raises(ChatError, match="came"):
            await one.send("dev", late)
    first, second, done = await entries(one, 3)
    assert [(frame.at, frame.text) for frame in (first, second)] == [(0, "It "), (3, "works")]
    assert isinstance(first, Delta)
    assert isinstance(done, Done)
    assert (first.reply_to, done.text, done.reply_to, done.error) == ("1", "It works", "1", "cut short")
    assert (await one._broker.position(one.channel)).last == 3


async def test_what_is_too_long_or_cannot_be_written_is_refused(chats):
    chat = chats()
    for text in ("x" * 65_500, "\ud800"):
        with pytest.raises(ChatError) as raised:
            await chat.send("ana", Say(id="1", text=text))
        assert (raised.value.code, raised.value.path) == ("invalid-frame", "$.text")
    await chat.send("ana", Say(id="1", text="x" * 65_000))


async def test_all_follow_the_same_order_and_see_a_gap_where_there_is_one(chats):
    here, there = chats(), chats()

    async def talk(chat, name):
        for n in range(40):
            await chat.send(name, Say(id=f"{n}", text=f"{name} {n}"))

    _, _, first, second = await asyncio.gather(
        talk(here, "ana"), talk(there, "ben"), entries(here, 80), entries(there, 80)
    )
    assert first == second
    assert [frame.text for frame in first if frame.speaker == "ben"] == [f"ben {n}" for n in range(40)]
    gap, _ = await entries(here, 2, after=EventId("anotherone", 7))
    assert isinstance(gap, Gap)
    await here._broker.publish(here.channel, [b'{"type":"my_event"}', b"[]"])
    await here.send("ana", Say(id="last", text="last"))
    epoch = (await here._broker.position(here.channel)).epoch
    assert (await entries(here, 1, after=EventId(epoch, 80)))[0].position == f"{epoch}.83"


async def test_the_place_before_the_last_messages(chats, monkeypatch):
    chat = chats()
    assert (await chat.before(5)).offset == 0
    for n in range(1, 11):
        for at in range(30):
            await chat.send("dev", Stream(id=f"a{n}", at=at, text="x"))
        await chat.send("dev", Finish(id=f"a{n}", text="x" * 30))
        await chat.send("ana", Say(id=f"m{n}", text="and?"))
    assert [(await chat.before(n)).offset for n in (0, 1, 2, 3, 20)] == [320, 319, 318, 287, 30]
    assert (await chat.before(100)).offset == 0
    monkeypatch.setattr(chat_module, "PAGE_ENTRIES", 7)
    assert [(await chat.before(n)).offset for n in (0, 1, 2, 3, 20, 100)] == [320, 319, 318, 287, 30, 0]
    monkeypatch.setattr(chat_module, "SCAN_ENTRIES", 100)
    assert (await chat.before(100)).offset == 220


async def test_the_place_before_the_last_messages_where_they_are_very_large_or_gone(chats):
    chat = chats(retention=Retention(entries=150))
    for n in range(100):
        await chat.send("ana", Say(id=f"{n}", text="x" * 60_000))
    found = await chat.before(90)
    assert 10 < found.offset < 100, "a page has at most 4 MiB"
    for n in range(100, 600):
        await chat.send("ana", Say(id=f"{n}", text="x"))
    oldest = (await chat._broker.position(chat.channel)).first
    assert oldest > 1
    assert (await chat.before(10_000)).offset == oldest - 1


async def test_who_is_here_is_known_everywhere_and_lapses(chats, monkeypatch):
    one, two = chats(), chats()
    ana, dev = Member("ana"), Member("dev", "agent")
    await one.arrive(ana, "tab-1")
    await two.arrive(ana, "tab-2")
    await two.arrive(dev, "s")
    await two.typing("ana")
    await two.typing("nobody")
    await one._broker.claim(chat_channel("apollo"), "not a member", 60)
    assert await one.here() == await two.here() == (frozenset({ana, dev}), frozenset({"ana"}))
    await one.typing("ana", over=True)
    await one.leave(ana, "tab-1")
    assert await two.here() == (frozenset({ana, dev}), frozenset())
    await two.leave(ana, "tab-2")
    assert (await one.here()).members == {dev}
    monkeypatch.setattr(chat_module, "HERE_S", 0.05)
    await two.arrive(dev, "s")
    async with asyncio.timeout(DEADLINE_S):
        while (await one.here()).members:
            await asyncio.sleep(0.02)


async def test_a_chat_says_when_its_broker_is_closed(chats):
    chat = chats()
    await chat._broker.aclose()
    with pytest.raises(BrokerError):
        await chat.send("ana", Say(id="1", text="x"), give_up_after_s=5)
