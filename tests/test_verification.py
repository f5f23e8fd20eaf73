"""`syndarix-rt verify`: a real stack that is broken on purpose, and what the verdict says of it."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import asynccontextmanager, suppress
from html import escape

import msgspec
import pytest
from command_line import run

from syndarix_rt.verification import PLANTED, Level, Verdict, html_report, verify
from syndarix_rt.verification.link import Link
from syndarix_rt.verification.oracle import Violation
from syndarix_rt.verification.plan import FAULTS, OF_CLUSTER, Fault

pytestmark = pytest.mark.timeout(300)  # half a minute, or minutes on a busy machine


def test_quick_breaks_everything_once_and_nobody_misses_anything_undeclared(tmp_path):
    file = tmp_path / "verdict.json"
    page = tmp_path / "verdict.html"
    done = run("verify", "quick", "--seed", "11", "--json", file, "--html", page, timeout=250)
    assert done.code == 0, done.out + done.err
    assert done.out.splitlines()[-1].endswith(": clean")
    found = json.loads(file.read_text())
    assert found["clean"]
    assert "<span class=clean>Clean</span>" in page.read_text()
    assert {fault["kind"] for fault in found["faults"]} | set(found["left_out"]) == set(FAULTS) - set(OF_CLUSTER)
    assert found["published"] > 1_500
    assert found["deliveries"] > 10 * found["published"]
    kinds = {each["kind"] for each in found["subscribers"]}
    assert kinds == {"client", "live", "browser", "slow", "filtered", "wanderer", "late"}
    assert sum(each["gaps"] for each in found["subscribers"]) > len(found["subscribers"])  # losses there were
    assert sum(each["resumed"] for each in found["subscribers"]) > 10


def test_on_a_cluster_a_failover_and_a_rollback_are_declared():
    level = Level(name="cluster", duration_s=4, events_per_s=120, subscribers=14, faults=2)
    faults = [
        Fault(0.7, "cut_broker", 0, 0.1),  # of the log's node
        Fault(1, "fail_over", 0, 0),
        Fault(1.5, "half_open_broker", 0, 0.9),  # of another one
        Fault(2, "lose_writes", 0.5, 0),
        Fault(2.5, "half_open_broker", 0, 0.1),
        Fault(3, "trim", 0, 0),
    ]
    verdict = asyncio.run(verify(level, 3, cluster=True, faults=faults))
    assert verdict.clean, str(verdict)
    assert sorted(fault.kind for fault in verdict.faults) == sorted(fault.kind for fault in faults)
    assert sum(each.gaps for each in verdict.subscribers) >= 7
    assert "--cluster" in verdict.command


@pytest.fixture(scope="module")
def falsified():
    """A run in which each fault is planted at a subscriber of its own."""
    level = Level(name="planted", duration_s=4, events_per_s=120, subscribers=14, faults=1)
    flush = Fault(at_s=2, kind="flush_redis", for_s=0, draw=0)
    return asyncio.run(verify(level, 5, workers=1, planted=list(PLANTED), faults=[flush]))


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_fault_is_found_at_its_subscriber(falsified, kind):
    victim = falsified.victims[kind]
    expected = {
        "skip": {"hole"},
        "repeat": {"duplicate"},
        "swap": {"hole", "order", "duplicate"},
        "hide-gap": {"epoch"},
        "gap-bounds": {"gap"},
        "epoch": {"epoch"},
        "filter": {"filter"},
    }
    found = {each.kind for each in falsified.violations if each.subscriber == victim}
    assert found & expected[kind], falsified.violations


def test_nobody_else_is_accused_and_the_verdict_says_what_to_do(falsified):
    assert {each.subscriber for each in falsified.violations} == set(falsified.victims.values())
    assert not falsified.clean
    text = str(falsified)
    assert text.endswith(" violations")
    assert "Again: syndarix-rt verify planted --seed 5 --workers 1 --plant skip" in text
    assert "Before the first one:" in text or falsified.violations[0].at_s < falsified.faults[0].began_s


def test_a_verdict_is_a_frame_with_a_row_for_each_subscriber(falsified):
    frame = falsified.to_frame()
    assert len(frame) == 14
    assert frame["events"].sum() == falsified.deliveries
    assert (frame["violations"] > 0).sum() == len(PLANTED)
    assert falsified.to_dict()["clean"] is False
    assert isinstance(falsified, Verdict)


def test_the_report_is_one_page_with_everything_on_it(falsified):
    page = html_report(falsified)
    assert "src=" not in page
    assert "href=" not in page
    assert f"Verification: <span class=broken>{len(falsified.violations):,} violations" in page
    for each in falsified.subscribers:
        assert f">{each.name}</text>" in page
    for violation in falsified.violations[:20]:
        assert escape(violation.text) in page
    assert "<title>all data in Redis are deleted, " in page
    hostile = msgspec.structs.replace(falsified, violations=[Violation("client-1", 1.0, "hole", "<script>alert(1)")])
    assert "<script>" not in html_report(hostile)


# ---- the link -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def linked(tamper=None):
    """A link to an echo server, and a connection through it."""

    async def echo(reader, writer):
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Link(lambda: [port], random.Random(1), tamper) as link:
            reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
            try:
                yield link, reader, writer
            finally:
                writer.transport.abort()


async def said(reader, count):
    async with asyncio.timeout(10):
        return await reader.readexactly(count)


@pytest.mark.asyncio
async def test_a_link_passes_everything_whole_in_pieces_and_late():
    async with linked() as (link, reader, writer):
        data = bytes(range(256)) * 400
        for link.piece_bytes, link.delay_s in ((0, 0), (7_000, 0), (0, 0.001)):
            writer.write(data)
            assert await said(reader, len(data)) == data


@pytest.mark.asyncio
async def test_a_cut_is_seen_on_both_sides_and_a_half_open_connection_on_none():
    async with linked() as (link, reader, writer):
        writer.write(b"a")
        assert await said(reader, 1) == b"a"
        link.half_open()
        writer.write(b"b")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)
        link.cut()
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(10):
                await reader.read(1)


@pytest.mark.asyncio
async def test_a_stalled_link_takes_nothing_until_it_is_healed():
    async with linked() as (link, reader, writer):
        writer.write(b"a")
        assert await said(reader, 1) == b"a"
        link.stall()
        writer.write(b"b")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.readexactly(1)
        link.heal()
        assert await said(reader, 1) == b"b"


@pytest.mark.asyncio
async def test_a_link_that_leads_nowhere_ends_the_connection():
    async with Link(lambda: [1], random.Random(1)) as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        async with asyncio.timeout(10):
            assert await reader.read(1) == b""
        writer.close()
