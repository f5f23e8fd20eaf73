"""`Reporter`: an agent reports as a simulation does, whatever becomes of the server, the disk and itself."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from command_line import Command, environment
from scripted_server import ScriptedServer, answer
from serving import TIMEOUT_S, running

from syndarix_rt import validate
from syndarix_rt.broker import RedisBroker
from syndarix_rt.client import LogHandler, Reporter, current_run, spool
from syndarix_rt.client.courier import Courier
from syndarix_rt.client.spool import OpenRun, Spool
from syndarix_rt.errors import StreamError
from syndarix_rt.events import Event

CHANNEL = "project:{apollo}"


async def stored(broker, channel=CHANNEL):
    """Every event of a log."""
    events, after = [], 0
    while entries := (await broker.read(channel, after, 1_000)).entries:
        events += [Event.decode(entry) for entry in entries]
        after += len(entries)
    return events


async def flushed(reporter, timeout_s=TIMEOUT_S):
    assert await asyncio.to_thread(reporter.flush, timeout_s), reporter.delivery


def types(events):
    return [event.type for event in events]


@contextlib.contextmanager
def serving(redis_url, port):
    with Command("serve", "--port", port, "--redis-url", redis_url, "--token", "") as server:
        server.url()
        yield server


async def test_a_run_is_told_as_a_simulation_tells_it():
    async with running(token="s3cret") as server:
        async with Reporter(f"{server.url}/p/apollo?key=s3cret") as reporter:
            async with reporter.run("coder", issue="ACME/repo#42", model="gpt-5") as run:
                run.llm(input_tokens=1200, output_tokens=80, cached_tokens=1000, duration_s=0.0, cost_usd=0.004)
                run.tool("pytest", duration_s=0.0, error="2 tests fail")
                run.llm("gpt-5-mini", input_tokens=300, output_tokens=20)
                run.event("commit_pushed", {"branch": "main", "commit": "c0ffee"})
            await flushed(reporter)
        events = await stored(server.broker)
    assert types(events) == ["agent_started", *["agent_activity"] * 3, "commit_pushed", "agent_completed"]
    started, call, tool, other, commit, ended = events
    assert started.data == {
        "run_id": run.run_id, "agent_id": "coder-1", "role": "coder", "issue_id": "ACME-repo-42",
        "gen_ai.request.model": "gpt-5",
    }  # fmt: skip
    assert call.data["gen_ai.request.model"] == "gpt-5"
    assert other.data["gen_ai.request.model"] == "gpt-5-mini"
    assert (tool.data["status"], tool.data["error"]) == ("error", "2 tests fail")
    assert commit.data["run_id"] == run.run_id
    assert ended.data["end_reason"] == "completed"
    totals = {key: ended.data[key] for key in ("llm_calls", "tool_calls", "input_tokens", "output_tokens", "cost_usd")}
    assert totals == {
        "llm_calls": 2, "tool_calls": 1, "input_tokens": 1500, "output_tokens": 100, "cost_usd": 0.004,
    }  # fmt: skip
    assert [event.cause for event in events] == [None, *[event.id for event in events[:-1]]]
    assert not [violation for violation in validate(events).violations if violation.invariant != "C1"]


async def test_threads_tasks_and_decorated_functions_have_runs_of_their_own():
    async with running() as server:
        with Reporter(server.url, project="apollo") as reporter:

            @reporter.run("tester")
            def check(number):
                """Is kept."""
                current_run().tool("pytest", number=number)
                return number

            @reporter.run("planner")
            async def plan(number):
                await asyncio.sleep(0)
                current_run().llm(input_tokens=number)
                return check(number)

            assert check.__doc__ == "Is kept."
            assert await asyncio.gather(*map(plan, range(5))) == list(range(5))
            threads = [threading.Thread(target=check, args=[n]) for n in range(5, 9)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert current_run() is None
            await flushed(reporter)
        events = await stored(server.broker)
    assert str(validate(events)) == "42 events, 0 violations"
    assert {event.data["agent_id"] for event in events if event.data["role"] == "planner"} == {
        f"planner-{n}" for n in range(1, 6)
    }


async def test_a_generators_run_lasts_as_long_as_its_items_are_taken():
    async with running() as server:
        with Reporter(server.url, project="apollo") as reporter:

            @reporter.run("sync")
            def count(limit):
                for number in range(limit):
                    current_run().tool("count", number=number)
                    if (yield number) == "enough":
                        return "stopped"
                return "all"

            @reporter.run("async")
            async def write(limit):
                for number in range(limit):
                    current_run().tool("write", number=number)
                    await asyncio.sleep(0)
                    if (yield number) == "enough":
                        return

            assert inspect.isgeneratorfunction(count)
            assert inspect.isasyncgenfunction(write)
            numbers = count(3)
            assert next(numbers) == 0
            assert current_run() is None  # between two items it is others' turn
            with reporter.run("between"):
                assert next(numbers) == 1
            with pytest.raises(StopIteration, match="stopped"):
                numbers.send("enough")
            assert [number async for number in write(2)] == [0, 1]
            items = write(9)
            assert await anext(items) == 0
            assert current_run() is None
            with pytest.raises(StopAsyncIteration):
                await items.asend("enough")
            await flushed(reporter)
        events = await stored(server.broker)
    assert [(event.type, event.data["role"]) for event in events] == [
        ("agent_started", "sync"), ("agent_activity", "sync"),
        ("agent_started", "between"), ("agent_activity", "sync"), ("agent_completed", "between"),
        ("agent_completed", "sync"),
        ("agent_started", "async"), *[("agent_activity", "async")] * 2, ("agent_completed", "async"),
        ("agent_started", "async"), ("agent_activity", "async"), ("agent_completed", "async"),
    ]  # fmt: skip
    assert [event.data["tool_calls"] for event in events if event.type == "agent_completed"] == [0, 2, 2, 1]
    assert validate(events).ok


async def test_whoever_stops_or_breaks_a_generator_ends_its_run():
    async with running() as server:
        with Reporter(server.url, project="apollo") as reporter:
            closed = []

            @reporter.run("sync")
            def count():
                try:
                    yield 1
                    yield 2
                except KeyError:
                    yield "mended"
                finally:
                    closed.append(current_run().run_id)

            @reporter.run("async")
            async def write():
                try:
                    yield 1
                    yield 2
                except KeyError:
                    yield "mended"
                finally:
                    closed.append(current_run().run_id)

            for _ in count():  # is collected, and thereby closed
                break
            numbers = count()
            next(numbers)
            assert numbers.throw(KeyError) == "mended"
            with pytest.raises(ValueError, match="broken"):
                numbers.throw(ValueError("broken"))
            async with contextlib.aclosing(write()) as items:
                await anext(items)
            items = write()
            await anext(items)
            assert await items.athrow(KeyError) == "mended"
            with pytest.raises(ValueError, match="broken"):
                await items.athrow(ValueError("broken"))
            await flushed(reporter)
        events = await stored(server.broker)
    ends = [event for event in events if event.type == "agent_error"]
    assert [(end.data["role"], end.data["end_reason"]) for end in ends] == [
        ("sync", "cancelled"), ("sync", "error"), ("async", "cancelled"), ("async", "error"),
    ]  # fmt: skip
    assert [end.data["run_id"] for end in ends] == closed
    assert validate(events).ok


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no such file"), "error"),
        (KeyboardInterrupt(), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
async def test_an_exception_ends_the_run_and_goes_on_its_way(error, reason):
    async with running() as server:
        reporter = Reporter(server.url, project="apollo")
        with pytest.raises(type(error)), reporter.run("coder"):
            raise error
        with reporter.run("coder") as run:
            run.end("max_iters")
        await flushed(reporter)
        await asyncio.to_thread(reporter.close)
        events = await stored(server.broker)
    assert types(events) == ["agent_started", "agent_error"] * 2
    assert events[1].data["end_reason"] == reason
    assert events[1].data["error"].startswith(type(error).__name__)
    assert events[3].data["end_reason"] == "max_iters"
    assert validate(events).ok


async def test_what_is_said_wrongly_is_left_out_and_logged(caplog):
    async with running() as server:
        async with Reporter(server.url, project="apollo") as reporter:
            with reporter.run("coder") as run:
                run.llm(input_tokens=-1)
                run.llm(input_tokens=7, output_tokens="many")
                run.tool("x" * 10_000)
                run.event("No Type", {"a": float("nan")})
                run.event("big_event", {"text": "x" * 70_000})
                run.event("odd_event", {"what": object()})
                run.event("odd_event", ["no object"])
            run.llm(input_tokens=5)  # it is over
            reporter.event("my_event", {}, project="no project")
            await flushed(reporter)
        events = await stored(server.broker)
    assert types(events) == ["agent_started", "agent_activity", "agent_completed"]
    assert events[2].data["input_tokens"] == 0
    assert validate(events).ok
    assert "left out: $.data" in caplog.text
    assert len(caplog.records) == 1  # one warning, not one for each


async def test_a_run_that_is_entered_again_ends_where_the_next_one_begins():
    async with running() as server:
        async with Reporter(server.url, project="apollo") as reporter:
            with reporter.run("coder") as run:
                first = run.run_id
                with run:
                    assert run.run_id != first
                    run.tool("pytest")
                run.tool("nothing goes on any more")
            assert current_run() is None
            await flushed(reporter)
        events = await stored(server.broker)
    assert types(events) == ["agent_started", "agent_completed", "agent_started", "agent_activity", "agent_completed"]
    assert {event.data["run_id"] for event in events[:2]} == {first}
    assert validate(events).ok


async def test_what_belongs_to_no_project_is_left_out_and_logged(monkeypatch, caplog):
    monkeypatch.delenv("SYNDARIX_RT_PROJECT", raising=False)
    async with running() as server:
        async with Reporter(server.url) as reporter:
            assert reporter.event("my_event", {}) is None
            assert reporter.event("my_event", {"n": 1}, project="apollo")
            await flushed(reporter)
        assert [event.data for event in await stored(server.broker)] == [{"n": 1}]
    assert "no project is given, and SYNDARIX_RT_PROJECT is not set" in caplog.text


class Wordless(Exception):  # noqa: N818 - a name for a test
    """Cannot say what it is."""

    def __str__(self):
        raise RuntimeError("no words")


async def test_an_error_that_cannot_say_what_it_is_is_told_and_goes_on_its_way():
    async with running() as server:
        async with Reporter(server.url, project="apollo") as reporter:
            with pytest.raises(Wordless), reporter.run("coder") as run:
                run.tool("pytest", error=Wordless())
                raise Wordless
            await flushed(reporter)
        _, call, end = await stored(server.broker)
    told = "(Wordless without a text: RuntimeError)"
    assert (call.data["status"], call.data["error"]) == ("error", told)
    assert (end.data["end_reason"], end.data["error"]) == ("error", f"Wordless: {told}")


async def test_log_records_become_events_of_the_run(capsys):
    logger = logging.getLogger("my.agent")
    async with running() as server:
        async with Reporter(server.url, project="apollo") as reporter:
            handler = LogHandler(reporter, level=logging.WARNING)
            logging.getLogger().addHandler(handler)
            try:
                logger.warning("outside")
                logger.info("too quiet")
                with reporter.run("coder") as run:
                    logger.error("inside %d", 7)
                logging.getLogger("syndarix_rt.client.courier").error("about reporting itself")
            finally:
                logging.getLogger().removeHandler(handler)
            record = logging.LogRecord("my.agent", logging.ERROR, __file__, 1, "not a number: %d", ("seven",), None)
            handler.handle(record)
            await flushed(reporter)
        events = await stored(server.broker)
    assert "TypeError: %d format" in capsys.readouterr().err  # as with every handler
    outside, _, inside, _ = events
    assert outside.data == {"level": "WARNING", "logger": "my.agent", "message": "outside"}
    assert (inside.type, inside.data["message"], inside.data["run_id"]) == ("log_written", "inside 7", run.run_id)


async def test_without_a_url_nothing_is_reported(monkeypatch):
    monkeypatch.delenv("SYNDARIX_RT_URL", raising=False)
    async with Reporter() as reporter:
        with reporter.run("coder") as run:
            run.llm(input_tokens=1)
        assert reporter.flush()
        assert "no URL" in reporter.delivery.trouble
    with pytest.raises(StreamError, match="not a server's URL"):
        Reporter("ftp://x")
    with pytest.raises(StreamError, match="not a project name"):
        Reporter("http://localhost:1", project="a b")


# ---- the server goes away ---------------------------------------------------------------------------------------


async def test_a_server_that_is_killed_and_restarted_gets_every_event_once(redis_url, port):
    count = 10_000
    reporter = Reporter(f"http://127.0.0.1:{port}", project="apollo")
    with reporter.run("coder") as run:
        with serving(redis_url, port) as server:
            for number in range(count):
                run.tool("shell", number=number)
                if number % 1_000 == 999:
                    await asyncio.sleep(0.02)  # so that batches are under way at the kill
                if number == count // 3:
                    server.interrupt(signal.SIGKILL)
            assert reporter.delivery.waiting > count / 2
        for number in range(count, count + 100):
            run.tool("shell", number=number)
    with serving(redis_url, port):
        await flushed(reporter)
        assert reporter.delivery == (count + 102, 0, 0, "")
        await asyncio.to_thread(reporter.close)
    broker = RedisBroker(redis_url)
    events = await stored(broker)
    await broker.aclose()
    assert [event.data["number"] for event in events[1:-1]] == list(range(count + 100))
    assert str(validate(events)) == f"{count + 102} events, 0 violations"
    assert not list((reporter_dir()).glob("*/*"))  # nothing is left on the disk


def reporter_dir():
    from syndarix_rt.state import state_dir  # noqa: PLC0415 - a path of this test's own

    return state_dir() / "reporter"


AGENT = """
    import sys, time
    from syndarix_rt.client import Reporter

    reporter = Reporter(sys.argv[1], project="apollo")
    with reporter.run("coder", agent="ada") as run:
        for number in range(500):
            run.tool("shell", number=number)
        print("reported", flush=True)
        time.sleep(60)
"""


@contextlib.contextmanager
def agent(source, *args, **kwargs):
    command = [sys.executable, "-c", textwrap.dedent(source), *map(str, args)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), text=True, **kwargs) as process:
        try:
            yield process
        finally:
            process.kill()


async def until(found):
    async with asyncio.timeout(TIMEOUT_S):
        while not (value := found()):
            await asyncio.sleep(0.02)
    return value


def spooled():
    """Lines in segments on the disk."""
    return sum(path.read_bytes().count(b"\n") for path in reporter_dir().glob("*/*/*") if path.name.endswith(".apollo"))


def all_is_kept():
    """Whether the disk has what `AGENT` reported; that its run is open is noted only then."""
    return spooled() == 501


async def test_what_a_killed_agent_left_on_the_disk_arrives_with_the_next_start(port):
    with agent(AGENT, f"http://127.0.0.1:{port}") as first:
        assert first.stdout.readline() == "reported\n"
        await until(all_is_kept)
        first.kill()
        first.wait()
    async with running(port=port) as server:
        async with Reporter(server.url, project="apollo") as reporter:
            with reporter.run("coder", agent="ada"):  # which is not at work any more
                pass
            await flushed(reporter)
        events = await stored(server.broker)
        assert types(events[-3:]) == ["agent_error", "agent_started", "agent_completed"]
        assert events[-3].data["end_reason"] == "killed"
        assert [event.data["number"] for event in events[1:501]] == list(range(500))
        assert str(validate(events)) == "504 events, 0 violations"
        async with Reporter(server.url, project="apollo") as again:  # there is nothing left to take over
            again.event("my_event", {})
            await flushed(again)
        assert len(await stored(server.broker)) == 505
    assert not list(reporter_dir().glob("*/*"))


async def test_a_line_that_was_cut_by_the_kill_is_left_out(port):
    with agent(AGENT, f"http://127.0.0.1:{port}") as first:
        first.stdout.readline()
        await until(all_is_kept)
        first.kill()
        first.wait()
    (segment,) = reporter_dir().glob("*/*/*.apollo")
    segment.write_bytes(segment.read_bytes()[:-10])
    async with running(port=port) as server:
        async with Reporter(server.url, project="apollo") as reporter:
            reporter.event("my_event", {})
            await flushed(reporter)
        assert types(await stored(server.broker)) == [
            "agent_started", *["agent_activity"] * 499, "agent_error", "my_event",
        ]  # fmt: skip


async def test_a_file_that_was_damaged_harms_no_other(port, caplog):
    with agent(AGENT, f"http://127.0.0.1:{port}") as first:
        first.stdout.readline()
        await until(all_is_kept)
        first.kill()
        first.wait()
    (segment,) = reporter_dir().glob("*/*/*.apollo")
    segment.write_bytes(b"\xff{]\n[1]\n" + segment.read_bytes())
    async with running(port=port) as server:
        async with Reporter(server.url, project="apollo") as reporter:
            reporter.event("my_event", {})
            await flushed(reporter)
            assert reporter.delivery.lost == 503
        assert types(await stored(server.broker)) == ["agent_error", "my_event"]
    assert "503 events are refused" in caplog.text


def left_behind(url, producer):
    """The directory of a spool whose process is gone: the lock is freed by collection."""
    return Spool.of(url, producer).directory


async def test_notes_and_files_that_are_none_harm_no_others(port, caplog):
    url = f"http://127.0.0.1:{port}"
    whole, broken = left_behind(url, "whole"), left_behind(url, "broken")
    (broken / f"{1:012d}.apollo").mkdir()  # where a file should be
    who = {"agent_id": "ada", "role": "coder"}
    runs = {
        "run-1": {"project": "apollo", "source": "/agent/1", "run_id": "run-1", "who": who},
        "run-2": {"project": "apollo", "run_id": "run-2", "who": who},
        "run-3": 3,
        "run-4": {"project": "no project", "source": "/agent/1", "run_id": "run-4", "who": who},
        "run-5": {"project": "apollo", "source": "/agent/1", "run_id": "run-5", "who": {"role": "coder"}},
    }
    for directory in (whole, broken):
        (directory / "open-runs.json").write_text(json.dumps(runs))
    async with running(port=port) as server:
        async with Reporter(server.url, project="apollo") as reporter:
            reporter.event("my_event", {})
            await flushed(reporter)
        ended, _ = await stored(server.broker)
        assert (ended.type, ended.data) == ("agent_error", {"run_id": "run-1", "end_reason": "killed", **who})
        assert caplog.text.count("an open run of a killed process is passed over") == 2
        assert caplog.text.count("of a killed process cannot be ended") == 2
        assert caplog.text.count("a killed process has left in") == 1
        assert len(caplog.records) == 5
        (broken / f"{1:012d}.apollo").rmdir()  # somebody mends it, and nothing is forgotten
        async with Reporter(server.url, project="apollo") as reporter:
            reporter.event("my_event", {})
            await flushed(reporter)
        assert types(await stored(server.broker)) == ["agent_error", "my_event", "agent_error", "my_event"]
    assert not list(reporter_dir().glob("*/*"))


def test_a_run_whose_end_waits_is_open_no_more_and_an_empty_file_is_no_segment():
    gone = Spool.of("http://127.0.0.1:1", "gone")
    note = OpenRun("apollo", "/agent/1", "run-1", {"agent_id": "ada", "role": "coder"})
    gone.note_open_runs({"run-1": note, "run-2": OpenRun("apollo", "/agent/1", "run-2", {})})
    gone.path(1, "apollo").write_bytes(
        b'{"type":"agent_activity","data":{"run_id":"run-1"}}\n{"type":"agent_error","data":{"run_id":"run-2"}}\n'
    )
    gone.path(2, "apollo").write_bytes(b'{"type":"agent_err')  # it was killed in the middle of the line
    (segment,) = gone.segments()
    assert (segment.key, segment.events, segment.sealed) == ("gone-1", 2, True)
    assert not gone.path(2, "apollo").exists()
    assert gone.open_runs([segment]) == [note]
    gone.close()


def test_a_run_that_begins_in_what_waits_is_open_if_it_was_noted_or_not():
    gone = Spool.of("http://127.0.0.1:1", "gone")
    gone.path(1, "apollo").write_bytes(
        b"""
{"type":"agent_started","source":"/agent/1","data":{"run_id":"run-1","agent_id":"ada","role":"coder","model":"m"}}
{"type":"agent_started","source":"/agent/1","data":{"run_id":"run-2"}}
{"type":"agent_completed","source":"/agent/1","data":{"run_id":"run-2"}}
{"type":"agent_started","data":{}}
{"type":"agent_started","data":{"run_id":[]}}
{"type":"agent_started","data":[]}
{"type":"agent_started"
""".lstrip()
    )
    assert gone.open_runs(gone.segments()) == [
        OpenRun("apollo", "/agent/1", "run-1", {"agent_id": "ada", "role": "coder"})
    ]
    gone.close()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000], ids=["empty", "list", "bytes", "deep"])
def test_notes_that_cannot_be_read_are_none(content, caplog):
    gone = Spool.of("http://127.0.0.1:1", "gone")
    (gone.directory / "open-runs.json").write_bytes(content)
    assert gone.open_runs([]) == []
    assert "are not known" in caplog.text
    gone.forget_open_runs()
    assert gone.open_runs([]) == []
    assert len(caplog.records) == 1
    gone.close()


def test_a_spool_that_goes_away_just_now_is_not_left_behind(monkeypatch):
    """Another process takes over what is left, and removes it, while this one looks."""
    url = "http://127.0.0.1:1"
    gone, there = (left_behind(url, name) for name in ("gone", "there"))
    (there / "000000000001.apollo").touch()
    is_settled = spool._is_settled

    def looked_at(directory):
        shutil.rmtree(gone, ignore_errors=True)
        return is_settled(directory)

    monkeypatch.setattr(spool, "_is_settled", looked_at)
    assert [found.directory for found in Spool.left_behind(url)] == [there]


async def test_a_living_agents_spool_is_left_alone(port):
    with agent(AGENT, f"http://127.0.0.1:{port}") as first:
        first.stdout.readline()
        await until(lambda: spooled() == 501)
        second = Reporter(f"http://127.0.0.1:{port}", project="apollo")
        second.event("my_event", {})
        await until(lambda: spooled() == 502)
        assert second.delivery.waiting == 1
        assert not await asyncio.to_thread(second.close, 0.1)


async def test_what_a_program_could_not_send_by_its_end_is_sent_by_the_next(port):
    source = """
        import sys
        from syndarix_rt.client import Reporter
        Reporter(sys.argv[1], project="apollo").event("my_event", {"n": 1})
    """
    with agent(source, f"http://127.0.0.1:{port}") as program:
        assert await asyncio.to_thread(program.wait, TIMEOUT_S) == 0
    async with running(port=port) as server:
        with agent(source, server.url.replace("127.0.0.1", "localhost")) as program:  # a name, and another server's URL
            assert await asyncio.to_thread(program.wait, TIMEOUT_S) == 0
        assert len(await stored(server.broker)) == 1
        with agent(source, server.url) as program:
            assert await asyncio.to_thread(program.wait, TIMEOUT_S) == 0
        assert len(await stored(server.broker)) == 3


async def test_a_forked_child_reports_for_itself():
    async with running() as server:
        source = """
            import os, sys
            from syndarix_rt.client import Reporter
            reporter = Reporter(sys.argv[1], project="apollo")
            with reporter.run("parent"):
                pass
            reporter.flush()
            with reporter.runs_lock:  # as if another thread were just reporting
                child = os.fork()
            if child == 0:
                with reporter.run("child"):
                    pass
                reporter.close()
                os._exit(0)
            os.wait()
        """
        with agent(source, server.url) as program:
            assert await asyncio.to_thread(program.wait, TIMEOUT_S) == 0
        events = await stored(server.broker)
    assert [event.data["role"] for event in events] == ["parent"] * 2 + ["child"] * 2
    assert len({event.source for event in events}) == 2
    assert validate(events).ok


# ---- no room ----------------------------------------------------------------------------------------------------


async def test_a_full_disk_harms_nobody(caplog):
    """Files of this process may not grow: what a full disk does, without filling one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with running() as server:
        await server.stop()
        port = int(server.url.rpartition(":")[2])
        reporter = Reporter(server.url, project="apollo")
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            for number in range(1_000):
                reporter.event("my_event", {"n": number})
                if number % 100 == 0:
                    await until(lambda: not reporter._courier._buffer)
            await until(lambda: "cannot be written" in caplog.text)
            lines = b"".join(path.read_bytes() for path in sorted(reporter_dir().glob("*/*/*.apollo"))).splitlines()
            assert [json.loads(line)["data"]["n"] for line in lines] == list(range(len(lines)))  # no half ones
            async with running(server.broker, port) as again:
                await flushed(reporter)
                events = await stored(again.broker)
                await asyncio.to_thread(reporter.close)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [event.data["n"] for event in events] == list(range(1_000))


async def test_a_state_directory_that_is_none_harms_nobody(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SYNDARIX_RT_STATE_DIR", str(tmp_path / "file" / "state"))
    async with running() as server:
        async with Reporter(server.url, project="apollo") as reporter:
            reporter.event("my_event", {})
            await flushed(reporter)
        assert len(await stored(server.broker)) == 1
    assert "nothing can be kept on the disk" in caplog.text


async def test_without_a_disk_events_wait_in_memory():
    async with running() as server:
        await server.stop()
        port = int(server.url.rpartition(":")[2])
        reporter = Reporter(server.url, project="apollo", disk_bytes=0)
        reporter.event("my_event", {"n": 1})
        await until(lambda: reporter.delivery.trouble)
        async with running(server.broker, port) as again:
            await flushed(reporter)
            assert len(await stored(again.broker)) == 1
            await asyncio.to_thread(reporter.close)
    assert not reporter_dir().exists()


async def test_a_file_that_somebody_removes_is_counted_as_lost(caplog):
    async with running() as server:
        await server.stop()
        port = int(server.url.rpartition(":")[2])
        reporter = Reporter(server.url, project="apollo")
        reporter.event("my_event", {"n": 1})
        await until(lambda: spooled() == 1 and reporter.delivery.trouble)
        (segment,) = reporter_dir().glob("*/*/*.apollo")
        segment.unlink()
        async with running(server.broker, port) as again:
            reporter.event("my_event", {"n": 2})
            await flushed(reporter)
            assert [event.data["n"] for event in await stored(again.broker)] == [2]
            await asyncio.to_thread(reporter.close)
    assert (reporter.delivery.sent, reporter.delivery.lost) == (1, 1)
    assert "1 events are refused: the spool cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("thread", "told"),
    [("_keep", "reporting has ended"), ("_ask", "nothing is sent any more; events wait on the disk")],
)
async def test_a_failure_of_our_own_is_told_and_harms_no_agent(thread, told, monkeypatch, caplog):
    def fail(*_):
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(Courier, thread, fail)
    async with running() as server:
        reporter = Reporter(server.url, project="apollo")
        with reporter.run("coder") as run:
            run.tool("pytest")
        await until(lambda: told in caplog.text)
        assert "ZeroDivisionError: a mistake" in caplog.text
        assert reporter.event("my_event", {})
        assert not await asyncio.to_thread(reporter.close, 0.1)
        assert not await stored(server.broker)


async def test_what_has_no_room_is_counted_and_told_in_the_stream():
    async with running() as server:
        await server.stop()
        port = int(server.url.rpartition(":")[2])
        reporter = Reporter(server.url, project="apollo", memory_bytes=20_000, disk_bytes=50_000)
        for number in range(1_000):
            reporter.event("my_event", {"n": number})
            if number % 20 == 0:
                await until(lambda: not reporter._courier._buffer)
        lost = reporter.delivery.lost
        assert 0 < lost < 900
        async with running(server.broker, port) as again:
            await flushed(reporter)
            reporter.event("my_event", {"n": 1_000})
            await flushed(reporter)
            events = await stored(again.broker)
            await asyncio.to_thread(reporter.close)
    told = [event for event in events if event.type == "events_lost"]
    assert sum(event.data["count"] for event in told) == lost
    numbers = [event.data["n"] for event in events if event.type == "my_event"]
    assert numbers == [*range(1_000 - lost), 1_000]


# ---- servers that misbehave -------------------------------------------------------------------------------------

STORED = b'{"epoch":"epoch-one","first":1,"last":1,"duplicates":0}'


async def store(exchange):
    await exchange.send(answer("202 Accepted", STORED, content_type="application/json"))


async def test_a_batch_keeps_its_key_and_its_bytes_until_there_is_an_answer():
    async def reset(exchange):
        exchange.reset()

    async def busy(exchange):
        await exchange.send(answer("503 Service Unavailable", retry_after=0))

    async def cut(exchange):
        await exchange.send(answer("202 Accepted", STORED)[:10])
        exchange.cut()

    async with ScriptedServer(reset, busy, cut, store) as server:
        reporter = Reporter(server.url, project="apollo", token="s3cret")
        reporter.event("my_event", {"n": 1})
        await until(lambda: server.requests)
        reporter.event("my_event", {"n": 2})  # goes into a batch of its own
        await flushed(reporter)
        *tries, second = server.requests
        assert len(tries) == 4
        assert len({(request.headers["idempotency-key"], request.body) for request in tries}) == 1
        assert json.loads(tries[0].body)["data"] == {"n": 1}
        assert json.loads(second.body)["data"] == {"n": 2}
        assert second.headers["authorization"] == "Bearer s3cret"
        await asyncio.to_thread(reporter.close)


async def test_what_a_killed_agent_was_just_sending_goes_on_under_the_same_key():
    """The server may have stored it, and the answer was on its way."""

    async def silent(exchange):
        await exchange.gone()

    async with ScriptedServer(silent, store) as server:
        with agent(AGENT, server.url) as first:
            await until(lambda: server.requests)
            first.kill()
            first.wait()
        reporter = Reporter(server.url, project="apollo")
        reporter.event("my_event", {})
        await flushed(reporter)
        await asyncio.to_thread(reporter.close)
        cut, again, *_ = server.requests
    assert cut.headers["idempotency-key"] == again.headers["idempotency-key"]
    assert cut.body == again.body


async def test_a_refused_batch_is_lost_and_the_next_one_goes_on(caplog):
    async def refuse(exchange):
        await exchange.send(answer("400 Bad Request", b'{"detail":"not so"}', content_type="application/problem+json"))

    async with ScriptedServer(refuse, store) as server:
        reporter = Reporter(server.url, project="apollo")
        reporter.event("my_event", {"n": 1})
        await flushed(reporter)
        assert reporter.delivery.lost == 1
        assert "1 events are refused" in caplog.text
        assert "400 Bad Request: not so" in caplog.text
        reporter.event("my_event", {"n": 2})
        await flushed(reporter)
        assert reporter.delivery == (1, 0, 1, "")
        await asyncio.to_thread(reporter.close)


async def test_an_odd_answer_does_not_end_the_reporting(monkeypatch):
    monkeypatch.setattr("syndarix_rt.client.courier.FIRST_DELAY_S", 0.01)
    year = "Mon, 20 Nov 99999999999999 19:12:08 GMT"

    async def refuse(exchange):
        await exchange.send(answer("503 Service Unavailable", b"[" * 60_000, retry_after=year))

    async with ScriptedServer(refuse, store) as server:
        reporter = Reporter(server.url, project="apollo")
        reporter.event("my_event", {"n": 1})
        await flushed(reporter)
        assert reporter.delivery == (1, 0, 0, "")
        await asyncio.to_thread(reporter.close)


async def test_a_wrong_key_loses_nothing():
    async with running(token="s3cret") as server:
        with Reporter(server.url, project="apollo", token="wrong") as wrong:
            wrong.event("my_event", {"n": 1})
            await until(lambda: "401 Unauthorized" in wrong.delivery.trouble)
            await asyncio.to_thread(wrong.close, 0.1)
        async with Reporter(server.url, project="apollo", token="s3cret") as right:
            right.event("my_event", {"n": 2})
            await flushed(right)
        assert [event.data["n"] for event in await stored(server.broker)] == [1, 2]


async def test_a_server_that_answers_nothing_does_not_keep_the_agent():
    async def silent(exchange):
        await exchange.gone()

    async with ScriptedServer(silent) as server:
        reporter = Reporter(server.url, project="apollo")
        reporter.event("my_event", {"n": 1})
        await until(lambda: server.requests)
        reporter.event("my_event", {"n": 2})
        await until(lambda: spooled() == 2)  # so a kill would not lose it either
        assert not await asyncio.to_thread(reporter.close, 0.1)
        assert spooled() == 2
