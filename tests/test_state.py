"""The user's state directory: where it is, who may look into it, locks, and how running servers are found."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from syndarix_rt.errors import SyndarixError
from syndarix_rt.state import FileLock, announce_server, private_dir, running_servers, state_dir, write_private

ANNOUNCE = """
import sys
from syndarix_rt.state import announce_server
with announce_server(sys.argv[1], memory=False):
    print("announced", flush=True)
    sys.stdin.read()
"""

HOLD = """
import sys
import time
from pathlib import Path
from syndarix_rt.state import FileLock
lock = FileLock.acquire(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""

HOLD_AND_FORK = """
import os, sys
from pathlib import Path
from syndarix_rt.state import FileLock
lock = FileLock.acquire(Path(sys.argv[1]))
child = os.fork()
os.write(1, b"%d\\n" % child)  # whole lines: two processes write
sys.stdin.read()
"""


@contextlib.contextmanager
def program(code, *arguments):
    """A Python process that runs until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def poll(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# ---- where ----------------------------------------------------------------------------------------------------------


def test_the_environment_names_the_state_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("SYNDARIX_RT_STATE_DIR", str(tmp_path / "mine"))
    assert state_dir() == tmp_path / "mine"


def test_a_relative_state_directory_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNDARIX_RT_STATE_DIR", "mine")
    assert state_dir() == tmp_path / "mine"


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"HOME": "/home/ada"}, "/home/ada/.local/state/syndarix-rt"),
        ("linux", {"HOME": "/home/ada", "XDG_STATE_HOME": "/var/state"}, "/var/state/syndarix-rt"),
        ("linux", {"HOME": "/home/ada", "XDG_STATE_HOME": "relative"}, "/home/ada/.local/state/syndarix-rt"),
        ("darwin", {"HOME": "/Users/ada"}, "/Users/ada/Library/Application Support/syndarix-rt"),
        ("win32", {"HOME": "/x", "LOCALAPPDATA": "/Users/ada/AppData/Local"}, "/Users/ada/AppData/Local/syndarix-rt"),
    ],
)
def test_without_it_the_platform_says_where(monkeypatch, platform, variables, expected):
    for name in ("SYNDARIX_RT_STATE_DIR", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert state_dir() == Path(expected)


# ---- who may look into it -------------------------------------------------------------------------------------------


def test_nobody_else_can_look_into_our_directories(state_dir):
    before = os.umask(0)
    try:
        path = private_dir("redis")
    finally:
        os.umask(before)
    assert path == state_dir / "redis"
    assert mode(path) == mode(state_dir) == 0o700


def test_a_directory_of_ours_that_others_could_look_into_is_closed(state_dir):
    (state_dir / "redis").mkdir(parents=True)
    (state_dir / "redis").chmod(0o755)
    assert mode(private_dir("redis")) == 0o700


def test_a_state_directory_that_the_user_chose_keeps_its_mode(state_dir):
    state_dir.mkdir()
    state_dir.chmod(0o755)
    private_dir("redis")
    assert mode(state_dir) == 0o755


def test_a_directory_of_another_user_is_refused(state_dir, monkeypatch):
    private_dir("redis")
    monkeypatch.setattr(os, "geteuid", lambda: 4_242)
    with pytest.raises(SyndarixError, match=r"belongs to user .*; set SYNDARIX_RT_STATE_DIR"):
        private_dir("redis")


def test_a_state_directory_that_cannot_be_made_is_an_error_for_people(state_dir):
    state_dir.write_text("a file is in the way")
    with pytest.raises(SyndarixError, match=r"the state directory .*/state/redis: .*; set SYNDARIX_RT_STATE_DIR"):
        private_dir("redis")


def test_a_private_file_is_readable_by_its_owner_only_and_replaced_whole(tmp_path):
    path = tmp_path / "secret"
    before = os.umask(0)
    try:
        write_private(path, b"one")
        inode = path.stat().st_ino
        write_private(path, b"two")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert path.stat().st_ino != inode
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


# ---- locks ----------------------------------------------------------------------------------------------------------


def test_an_exclusive_lock_excludes_and_shared_ones_share(tmp_path):
    path = tmp_path / "lock"
    with FileLock.acquire(path, shared=True), FileLock.acquire(path, shared=True):
        with pytest.raises(BlockingIOError):
            FileLock.acquire(path)
    with FileLock.acquire(path):
        with pytest.raises(BlockingIOError):
            FileLock.acquire(path, shared=True, timeout_s=0.05)
    FileLock.acquire(path).release()


def test_a_lock_that_nobody_refers_to_any_more_is_freed(tmp_path):
    FileLock.acquire(tmp_path / "lock")
    FileLock.acquire(tmp_path / "lock").release()


def test_releasing_twice_frees_nothing_of_others(tmp_path):
    first = FileLock.acquire(tmp_path / "lock")
    first.release()
    with FileLock.acquire(tmp_path / "lock"):
        first.release()
        with pytest.raises(BlockingIOError):
            FileLock.acquire(tmp_path / "lock")


def test_a_killed_process_holds_no_lock(tmp_path):
    path = tmp_path / "lock"
    with program(HOLD, path) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(BlockingIOError):
            FileLock.acquire(path)
        holder.send_signal(signal.SIGKILL)
        FileLock.acquire(path, timeout_s=60).release()


def test_a_forked_child_does_not_keep_the_lock_of_its_killed_parent(tmp_path):
    path = tmp_path / "lock"
    with program(HOLD_AND_FORK, path) as parent:
        child = max(int(parent.stdout.readline()), int(parent.stdout.readline()))  # it says 0 itself
        with pytest.raises(BlockingIOError):
            FileLock.acquire(path)
        parent.send_signal(signal.SIGKILL)
        FileLock.acquire(path, timeout_s=60).release()
        os.kill(child, 0)  # it lives


def test_a_forked_child_that_ends_leaves_its_parent_the_lock(tmp_path):
    path = tmp_path / "lock"
    with program(HOLD_AND_FORK.replace("sys.stdin.read()", "child and (os.wait(), sys.stdin.read())"), path) as parent:
        parent.stdout.readline()
        parent.stdout.readline()
        poll(lambda: not psutil.Process(parent.pid).children())
        with pytest.raises(BlockingIOError):
            FileLock.acquire(path)


def test_a_started_program_holds_the_lock_only_if_it_gets_the_descriptor(tmp_path):
    path = tmp_path / "lock"
    for inherits in (False, True):
        lock = FileLock.acquire(path)
        passed = [lock.fileno()] if inherits else []
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=passed) as heir:
            lock.release()
            with pytest.raises(BlockingIOError) if inherits else contextlib.nullcontext():
                FileLock.acquire(path).release()
            heir.stdin.close()
            heir.wait()
        FileLock.acquire(path).release()


def test_who_waited_for_a_file_that_its_holder_removed_locks_the_new_one(tmp_path):
    path = tmp_path / "lock"
    with program(HOLD, path) as holder:
        holder.stdout.readline()
        with program(HOLD.replace("sys.argv[1])", "sys.argv[1]), timeout_s=30"), path) as waiter:
            poll(lambda: any(file.path == str(path) for file in psutil.Process(waiter.pid).open_files()))
            path.unlink()
            with FileLock.acquire(path):
                holder.kill()
                with pytest.raises(BlockingIOError):  # held by us; what the killed one held is nobody's
                    FileLock.acquire(path)
            assert waiter.stdout.readline() == "locked\n"
            with pytest.raises(BlockingIOError):
                FileLock.acquire(path)


# ---- running servers ------------------------------------------------------------------------------------------------


def test_a_running_server_is_found_with_its_key_and_no_longer_when_it_ends(state_dir):
    assert running_servers() == []
    with announce_server("http://127.0.0.1:8000/?key=s3cret", memory=True):
        (endpoint,) = running_servers()
        assert endpoint.url == "http://127.0.0.1:8000/?key=s3cret"
        assert endpoint.pid == os.getpid()
        assert endpoint.memory
        assert endpoint.broker_url is None
        (file,) = (state_dir / "servers").iterdir()
        assert mode(file) == 0o600
        assert file.name.startswith(f"{os.getpid()}-")
    assert running_servers() == []
    assert list((state_dir / "servers").iterdir()) == []


def test_the_newest_server_comes_first():
    with announce_server("http://127.0.0.1:1/", memory=True):
        with announce_server("http://127.0.0.1:2/", memory=False, broker_url="redis://127.0.0.1:6379/0"):
            assert [endpoint.url for endpoint in running_servers()] == ["http://127.0.0.1:2/", "http://127.0.0.1:1/"]
            assert running_servers()[0].broker_url == "redis://127.0.0.1:6379/0"
        assert [endpoint.url for endpoint in running_servers()] == ["http://127.0.0.1:1/"]


def test_a_killed_server_is_not_believed_and_its_file_removed(state_dir):
    with program(ANNOUNCE, "http://127.0.0.1:9/") as server:
        assert server.stdout.readline() == "announced\n"
        assert [endpoint.pid for endpoint in running_servers()] == [server.pid]
        server.kill()
        server.wait()
        assert running_servers() == []
        assert list((state_dir / "servers").iterdir()) == []


def test_a_server_that_fails_is_removed_too(state_dir):
    with pytest.raises(KeyboardInterrupt), announce_server("http://127.0.0.1:9/", memory=True):
        raise KeyboardInterrupt
    assert list((state_dir / "servers").iterdir()) == []


def test_an_endpoint_of_another_version_is_passed_over_but_kept(state_dir):
    file = private_dir("servers") / "1-x.json"
    file.write_text('{"from": "the future"}')
    with FileLock.acquire(file):
        assert running_servers() == []
        assert file.exists()


def test_a_server_that_can_write_nowhere_runs_and_says_that_it_cannot_be_found(state_dir, caplog):
    state_dir.write_text("a file is in the way")
    with announce_server("http://127.0.0.1:8000/?key=s3cret", memory=True):
        assert running_servers() == []
    assert "cannot be found without its URL" in caplog.text
    assert "s3cret" not in caplog.text
