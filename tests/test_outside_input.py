"""What comes from outside, damaged: it is taken, or refused with an error that is made for it; nothing else happens.

Events, event streams, Pub/Sub messages, chat and debug frames have such tests beside their own ones.
"""

from __future__ import annotations

import gzip
import json
import random
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from playback_clock import ticks
from serving import event, running
from system_tools import ROOT
from test_server_github import SECRET, deliver, issue, pull, push, workflow
from test_server_otlp import JSON, PROTOBUF, export, sent

from syndarix_rt.delivery import TypeFilter
from syndarix_rt.errors import EventError, FilterError, RecordingError, ScenarioError
from syndarix_rt.events import CATEGORIES, EventId
from syndarix_rt.events.catalogue import CATALOGUE
from syndarix_rt.playback import read_recording, write_recording
from syndarix_rt.simulation import Scenario

CORPUS = Path(__file__).parent / "corpus"
ODD = (
    *(b"\0", b"\xff", b'"', b"{", b"]", b"null", b"-1", b"1e999", b"\\ud800"),
    *("😀\u2028".encode(), b"9" * 400, b"[" * 99),
)


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """Bits flipped, a part cut out, doubled or put elsewhere, the end missing, or something odd in the middle."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 3)):
        at, size = rng.randrange(len(data) + 1), rng.randint(1, 40)
        part = bytes(data[at : at + size])
        match rng.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = part
            case 3:
                to = rng.randrange(len(data) + 1)
                data[to : to + size] = part
            case 4:
                del data[at:]
            case _:
                data[at : at + rng.randint(0, 4)] = rng.choice(ODD)
    return bytes(data)


words = st.text("abz_*,. 019", max_size=12) | st.sampled_from([*CATEGORIES, *CATALOGUE, "agent_*", "*", "**_*"])


@given(st.lists(words | st.text(max_size=8), max_size=5).map(",".join), st.sampled_from(sorted(CATALOGUE)))
@example("*" * 3_000 + "a", "agent_activity")  # no pattern takes time without end
@example("a*" * 200, "agent_activity")
def test_a_filter_is_refused_or_lets_through_what_its_words_say(text, event_type):
    try:
        wanted = TypeFilter.parse(text)
    except FilterError as error:
        assert str(error).startswith("types: ")  # noqa: PT017 - one of two good outcomes
        return
    said = [word.strip(" ") for word in text.split(",")]
    category = CATALOGUE[event_type].category
    assert wanted.matches(event_type) == any(word == category or fnmatchcase(event_type, word) for word in said)


@given(st.text(max_size=30) | st.from_regex(r"[A-Za-z0-9_-]{6,34}\.[0-9]{1,18}", fullmatch=True))
@example("epoch-000.²")
@example("epoch-000.1\n")
def test_an_event_id_is_refused_or_is_its_own_text(text):
    try:
        position = EventId.parse(text)
    except EventError:
        return
    assert str(position) == text


SCENARIOS = [path.read_bytes() for path in sorted((ROOT / "syndarix_rt/simulation/presets").glob("*.toml"))]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SCENARIOS), st.randoms(use_true_random=False))
def test_a_damaged_scenario_is_one_or_says_what_is_wrong(tmp_path_factory, raw, rng):
    path = tmp_path_factory.getbasetemp() / "damaged.toml"
    path.write_bytes(damaged(raw, rng))
    try:
        scenario = Scenario.load(path)
    except ScenarioError as error:
        assert str(error)  # noqa: PT017 - as above
    else:
        assert Scenario.from_toml(scenario.to_toml()) == scenario


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    directory = tmp_path_factory.mktemp("recordings")
    for name in ("a.jsonl", "a.jsonl.gz"):
        write_recording(directory / name, ticks(20))
    return directory


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["a.jsonl", "a.jsonl.gz"]), st.booleans(), st.data())
def test_of_a_cut_or_damaged_recording_what_comes_is_as_it_was_and_the_rest_is_an_error(recordings, name, cut, data):
    raw = bytearray((recordings / name).read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    if cut:
        del raw[at:]
    else:
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
    path = recordings / f"damaged-{name}"
    path.write_bytes(raw)
    read, failed = [], False
    try:
        for each in read_recording(path):
            read.append(each)  # noqa: PERF402 - what came before the error counts
    except RecordingError as error:
        failed = str(path) in str(error)
        assert failed
    events = ticks(20)
    if name.endswith(".gz"):
        assert failed or read == events or not raw, "packed ones have a checksum, and an end"
    else:  # a letter of one line may be another one; no other line may
        assert failed or cut or len(read) == len(events)
        assert sum(a != b for a, b in zip(read, events, strict=False)) <= (not cut)


async def test_a_server_answers_every_damaged_request_and_serves_on():
    rng = random.Random(1)
    one = event(1).encode()
    bodies = [one, b"[" + one + b"," + event(2).encode() + b"]", one + b"\n" + event(2).encode() + b"\n"]
    kinds = ["application/json", "application/cloudevents+json", "application/x-ndjson", "text/plain"]
    hooks = [issue("opened"), pull("closed", merged=True), push("a" * 40), workflow("completed", "success")]
    spans = {JSON: (CORPUS / "spans.json").read_bytes(), PROTOBUF: export(4)}
    cursors = [b"epoch-000.17", b"", b"x.1", b"all", b"100", b"agent_*,git"]
    statuses = []

    def text(raw):
        return (
            "".join(character for character in damaged(raw, rng).decode("latin-1") if " " <= character != "\x7f") or "x"
        )

    async with running(github_secret=SECRET) as server:
        for _ in range(80):
            statuses.append(
                (await server.post("/projects/apollo/events", damaged(rng.choice(bodies), rng), rng.choice(kinds)))[0]
            )
            kind, whole = rng.choice(hooks)
            statuses.append((await deliver(server, kind, damaged(json.dumps(whole).encode(), rng)))[0])
            kind = rng.choice([JSON, PROTOBUF])
            body = damaged(spans[kind], rng)
            statuses.append((await sent(server, body, kind))[0])
            packed = damaged(gzip.compress(body), rng)
            statuses.append((await sent(server, packed, kind, content_encoding="gzip"))[0])
            decision = damaged(b'{"decision":"approved","by":"ada","comment":"yes"}', rng)
            statuses.append((await server.post("/projects/apollo/approvals/a-1", decision))[0])
            query = {name: text(rng.choice(cursors)) for name in rng.sample(["after", "limit", "types", "x"], 2)}
            accept = {"accept": "application/json"}
            statuses.append((await server.get("/projects/apollo/events", headers=accept, params=query))[0])
            headers = {"last-event-id": text(rng.choice(cursors)).encode().decode("latin-1")}
            query = {name: text(rng.choice(cursors)) for name in rng.sample(["types", "replay", "last_event_id"], 1)}
            url = f"{server.url}/projects/apollo/events"
            async with server.http.get(url, headers=headers, params=query) as response:
                statuses.append(response.status)
        done = await server.publish(1)
        async with server.stream(last_event_id=f"{done.epoch}.{done.last - 1}") as stream:
            assert [frame.id for frame in await stream.events(1)] == [f"{done.epoch}.{done.last}"]
    assert set(statuses) <= {200, 202, 400, 404, 410, 413, 415, 422}, sorted(set(statuses))
    assert {200, 202, 400} <= set(statuses)
