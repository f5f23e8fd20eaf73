"""The benchmark's own honesty: what it counts, on a real server and on one that errs on purpose."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest
from command_line import call, run

from syndarix_rt.benchmark import candidate, machine, measures
from syndarix_rt.cli import benching
from syndarix_rt.errors import SyndarixError

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
PYTHON = [sys.executable, "-m", "syndarix_rt.benchmark.load"]


@pytest.fixture(scope="module")
def redis():
    with candidate.private_redis() as url:
        yield url


@pytest.fixture(scope="module")
def server(redis):
    with candidate.our_server(redis) as running:
        yield running


@pytest.fixture
def load(monkeypatch):
    monkeypatch.setattr(measures, "DRAIN_S", 60)  # they listen until all is there, so a slow machine only takes longer
    return measures.Loader(PYTHON)


def test_a_real_server_delivers_all_and_its_use_is_told(server, load):
    found = measures.fan_out(server, load, subscribers=6, rate=50, seconds=0.4, projects=2, stall=2)
    assert (found["arrived"], found["missing"], found["duplicated"], found["out_of_order"]) == (1, 0, 0, 0)
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]
    assert found["memory_mib"] > 20


def test_clients_that_come_back_get_what_they_missed(server):
    for missed, size_bytes in ((300, 300), (60, 20_000)):  # the second come in more bytes than a client has room for
        found = measures.resume(server, clients=5, missed=missed, size_bytes=size_bytes)
        assert (found["lost"], found["doubled"], found["out_of_order"]) == (0, 0, 0)
        assert 0 < found["p50_ms"] <= found["p99_ms"]


async def test_a_client_that_comes_back_has_the_last_event_wherever_its_line_was_cut():
    nobody = candidate.Candidate("nobody", 1, "/", 1, [])
    data = HEAD + tick(1) + tick(2)
    for cut in range(1, len(data) - 2):
        client = measures._Returning(nobody, "epoch-of-1.0", 2)
        client._began_s = time.perf_counter()
        for piece in (data[:cut], data[cut:-2]):
            assert not client.done.done()
            client.get_buffer(-1)[: len(piece)] = piece
            client.buffer_updated(len(piece))
        assert not client.done.done()
        client.get_buffer(-1)[:2] = data[-2:]
        client.buffer_updated(2)
        assert client.done.done()
        assert client.took_s > 0
        assert client.sequences() == [1, 2]


def returned(port):
    """What is told of two clients that come back to have two events each."""
    here = candidate.Candidate("here", port, "/", 1, [])
    return asyncio.run(measures._resume(here, 2, 2))


def test_clients_that_do_not_get_what_they_missed_are_told_of_and_have_no_time():
    position = b'HTTP/1.1 200 OK\r\n\r\n{"epoch": "epoch-of-1", "last": 9}'
    found = returned(answering([position], [HEAD, tick(2), tick(2), tick(1)], [HEAD]))
    assert (found["lost"], found["doubled"], found["out_of_order"]) == (2, 1, 1)
    assert found["p50_ms"] == found["p99_ms"] > 0
    found = returned(answering([position], [HEAD, tick(1)], []))
    assert found["lost"] == 3
    assert "p50_ms" not in found


TINY = benching.Scale(many=4, few=3, seconds=0.2, ladder=(20,), published=200)


def test_every_measure_has_the_figures_that_the_table_shows(server, load):
    for row in benching.rows(TINY):
        figures = row.measure(server, load)
        assert row.columns.keys() <= figures.keys() or figures["rate"] == 0, row.name
        assert figures.get("served", 20) == 20


def test_the_command_prints_a_table_and_writes_all_figures(tmp_path, capsys, monkeypatch):
    kept = benching.rows(TINY)[1:2]
    monkeypatch.setattr(benching, "QUICK", TINY)
    monkeypatch.setattr(benching, "rows", lambda _: kept)
    done = call(capsys, "bench", "--quick", "--repeats", "1", "--json", tmp_path / "figures.json")
    assert done.code == 0, done
    assert re.search(r"^3 subscribers, 10 events/s +p50_ms \d+\.\d  p99_ms \d+\.\d  cpu_us \d", done.out, re.MULTILINE)
    assert re.search(r"^publishing into Redis, batches of 100  events_per_s [\d,]+$", done.out, re.MULTILINE)
    document = json.loads((tmp_path / "figures.json").read_text())
    assert document["machine"]["cores"]
    assert {name: len(each) for name, each in document["figures"].items()} == {
        "3 subscribers, 10 events/s": 1, "publishing into Redis, batches of 100": 1,
    }  # fmt: skip


def test_a_rate_that_is_not_sustained_is_no_highest_one_and_the_loads_at_it_are_told(server, load, monkeypatch):
    monkeypatch.setattr(measures, "SUSTAINED_P99_MS", 0.0)
    found = measures.highest_rate(server, load, [20, 40], subscribers=2, seconds=0.1)
    assert (found["rate"], found["deliveries_per_s"]) == (0, 0)
    assert found["beyond_server_load"] >= 0 < found["beyond_client_load"]


def test_what_children_use_counts_and_what_has_ended_cannot_be_told():
    parent = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    program = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"]
    with candidate.child([sys.executable, "-c", parent, *program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        whole = candidate.Candidate("family", 1, "/", process.pid, [])
        assert whole.usage().memory_kib > candidate._usage(process.pid).memory_kib
        for child in psutil.Process(process.pid).children():
            child.kill()
    with pytest.raises(SyndarixError, match="it has ended, or this is not Linux"):
        whole.usage()


def test_a_process_that_does_not_end_is_killed_and_what_is_printed_is_json_or_an_error(monkeypatch):
    monkeypatch.setattr(candidate, "STOP_S", 0.2)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with candidate.child([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
    assert process.returncode == -9
    with pytest.raises(SyndarixError, match=r"failed: no end within 0\.2 s"):
        candidate.beside([sys.executable, "-c", deaf], 0.2)
    with pytest.raises(SyndarixError, match=r"failed: .*no such thing"):
        candidate.beside([sys.executable, "-c", "import sys; sys.exit('no such thing')"], 60)


def test_a_source_without_a_compiler_and_a_package_that_is_not_there_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SyndarixError, match=r"there is no C compiler"):
        candidate.load_client(tmp_path / "load.c", tmp_path)
    assert machine._version("no-such-package") == "not installed"


def tick(sequence):
    return b'data: {"seq":%d,"sent_ns":%d}\n\n' % (sequence, time.time_ns())


def answering(*answers):
    """A server that gives each connection its own answer, in pieces, and closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener:
            for pieces in answers:
                peer, _ = listener.accept()
                with peer:
                    peer.recv(4096)
                    for piece in pieces:
                        peer.sendall(piece)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def test_the_subscribers_notice_what_is_missing_doubled_or_out_of_order():
    whole = HEAD + b"".join(map(tick, [7, 8, 8, 10, 9, 13]))
    port = answering([whole[:50], whole[50:131], whole[131:]], [b"HTTP/1.1 503 No\r\n\r\n"])
    command = [*PYTHON, "-p", str(port), "-u", "/", "-n", "2", "-d", "5"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)
    assert (found["conns_ok"], found["conns_failed"]) == (1, 1)
    assert (found["events"], found["missing"], found["duplicated"], found["out_of_order"]) == (6, 2, 1, 1)


def test_refused_connections_are_no_result(load):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    nobody = candidate.Candidate("nobody", port, "/", 1, [])
    with pytest.raises(SyndarixError, match="3 of 3 connections failed"):
        load.run(nobody, connections=3, seconds=1, during=lambda: None)


def test_a_load_client_that_fails_is_told_with_its_words(server):
    broken = measures.Loader([sys.executable, "-c", "import sys; sys.exit('no such file')"])
    with pytest.raises(SyndarixError, match="did not get in: ended with 1") as caught:
        broken.run(server, connections=3, seconds=1, during=lambda: None)
    assert "no such file" in caught.value.__notes__[0]


def test_a_server_that_does_not_start_is_told_with_its_words(redis):
    with (
        pytest.raises(SyndarixError, match="did not start: ended with 2") as caught,
        candidate.our_server(redis, "--keepalive", "never"),
    ):
        pass
    assert "'never' is not a valid float" in caught.value.__notes__[0]


def test_the_table_holds_medians():
    columns = {"latency": {"p50_ms": ".1f", "lost": ".0f"}, "rate": {"rate": ",.0f", "p99_ms": ".0f", "load": ".2f"}}
    found = {
        "latency": [{"p50_ms": 1, "lost": 0}, {"p50_ms": 30, "lost": 0}, {"p50_ms": 2.04, "lost": 5}],
        "rate": [{"rate": 1_000, "p99_ms": 9}, {"rate": 0}, {"rate": 2_000, "p99_ms": 4}],  # one sustained none
    }
    assert benching.table(columns, found) == ["latency  p50_ms 2.0  lost 0", "rate     rate 1,000  p99_ms 6  load -"]


def test_a_source_that_does_not_compile_is_a_line(tmp_path):
    source = tmp_path / "load.c"
    source.write_text("nonsense")
    done = run("bench", "--quick", "--load-client", str(source), env={"SYNDARIX_RT_STATE_DIR": str(tmp_path)})
    assert done.code == 1
    assert "load.c" in done.err
    assert done.err.count("\n") == 1
