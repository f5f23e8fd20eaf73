"""``syndarix-rt doctor`` beside real things that are right and wrong."""

from __future__ import annotations

import re
import resource
import socket

import pytest
from command_line import Command, call, environment, run
from nginx_proxy import Nginx
from redis_server import RedisServer

from syndarix_rt.cli import doctor


@pytest.fixture
def served():
    with Command("serve", "--port", "0", "--redis-url", "memory://") as command:
        url = command.url()
        assert "serves; event streams go straight to their connections. Ctrl-C ends it." in command.out.text
        yield url


def findings(out):
    """By what was looked at, the marks and texts."""
    found = [re.fullmatch(r"(good|mend)  (\w+) +(\S.*)", line) for line in out.splitlines()]
    assert all(found), out
    return [match.groups() for match in found]


LIMITED = any(not finding.is_good for finding in doctor._limits())
"""Whether the machine that runs the tests is to be mended; then the command exits with 1 whatever else is good."""


def mended(out):
    """What is to be mended, apart from the machine's limits."""
    return [(what, text) for mark, what, text in findings(out) if mark == "mend" and what != "limits"]


def test_where_all_is_well_it_says_so_and_measures(served):
    done = run("doctor", "--url", served, "--port", "0", "--redis-url", "memory://")
    assert (done.code, mended(done.out)) == (LIMITED, []), done
    texts = {what: text for _, what, text in findings(done.out)}
    assert texts.keys() == {"packages", "limits", "port", "redis", "stream", "socket", "path"}
    assert texts["path"] == "of the streams that are open now: 1 straight to the connection"
    assert re.search(r"events arrive at once, \d+\.\d ms after they are sent", texts["stream"])
    assert "key=" not in done.out
    watched = run("watch", "doctor-check", "--url", served, "--json", "--replay", "all", "--events", "0")
    assert watched.out == "", "what it sent is gone again"


def test_a_fast_path_that_is_switched_off_is_told_at_the_start_and_here():
    with Command("serve", "--port", "0", "--redis-url", "memory://", "--fast-path", "off") as command:
        url = command.url()
        assert "serves; event streams go through ASGI: the fast path is switched off. Ctrl-C" in command.out.text
        done = run("doctor", "--url", url, "--port", "0", "--redis-url", "memory://")
    assert (done.code, mended(done.out)) == (LIMITED, []), done
    assert "path      of the streams that are open now: 1 through ASGI (--fast-path off)" in done.out


BUFFERING = ("proxy_http_version 1.1;", "proxy_http_version 1.0; proxy_ignore_headers X-Accel-Buffering;")
NO_UPGRADE = (r"proxy_set_header (Upgrade|Connection) .*;", "")


@pytest.mark.parametrize(
    ("change", "what", "says"),
    [
        (("", ""), None, "events arrive at once"),
        (BUFFERING, "stream", "a proxy on the way buffers"),
        (NO_UPGRADE, "socket", "no WebSocket comes through"),
    ],
    ids=["as in docs", "buffering", "without upgrade"],
)
def test_it_measures_what_a_proxy_does(served, tmp_path, change, what, says):
    port = int(served.partition("/?")[0].rpartition(":")[2])
    nginx = Nginx(tmp_path / "nginx", (port, port))
    site = nginx.directory / "site.conf"
    site.write_text(re.sub(*change, site.read_text()))
    with nginx:
        url = f"{nginx.url}/?{served.partition('?')[2]}"
        done = run("doctor", "--url", url, "--port", "0", "--redis-url", "memory://")
    wanted = {what} if what != "stream" else {"stream", "socket"}  # HTTP/1.0 has no upgrade
    assert {kind for kind, _ in mended(done.out)} == wanted - {None}, done
    assert done.code == (1 if what else LIMITED)
    assert says in done.out


def test_a_redis_that_forgets_or_evicts_is_to_be_mended(tmp_path):
    with RedisServer(tmp_path) as server:
        url = server.url
        good = run("doctor", "--redis-url", url, "--port", "0")
        assert (good.code, mended(good.out)) == (LIMITED, [])
        assert re.search(r"redis +Valkey 9\.\S+ at redis://127\.0\.0\.1:\d+, \d+\.\d ms away", good.out)
        server.stop()
        server.start("appendonly no\nmaxmemory-policy allkeys-lru\nmaxmemory 100mb")
        bad = run("doctor", "--redis-url", url, "--port", "0")
        assert bad.code == 1
        assert [(what, text.rpartition("(")[2]) for what, text in mended(bad.out)] == [
            ("redis", "CONFIG SET appendonly yes)"),
            ("redis", "CONFIG SET maxmemory-policy noeviction)"),
        ]
        assert "a-password-of-the-tests" not in good.out + bad.out
    gone = run("doctor", "--redis-url", url, "--port", "0")
    assert gone.code == 1
    assert "cannot be reached" in gone.out or "refused" in gone.out, gone


def test_a_port_that_is_taken_and_few_descriptors_are_told(capsys, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 512))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = call(capsys, "doctor", "--port", port, "--redis-url", "memory://")
    assert done.code == 1
    assert [what for what, _ in mended(done.out)] == ["port"]
    assert "mend  limits    256 open files" in done.out
    assert "256 open files; each stream takes one: ulimit -n 65536" in done.out
    assert "(at most 512 as this user)" in done.out


def test_packages_that_do_not_fit_are_named(capsys, monkeypatch):
    needed = ["hypercorn<0.19,>=0.18", "missing-package>=1", "numpy==1.0", "pandas>=2; extra == 'absent'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: [*needed, "nowhere>=1; sys_platform == 'win32'"])
    done = call(capsys, "doctor", "--port", "0", "--redis-url", "memory://")
    [(what, text)] = mended(done.out)
    assert what == "packages"
    assert re.search(r"missing-package is missing; numpy \S+ is installed, numpy==1.0 is needed; install", text)


@pytest.mark.parametrize(
    ("version", "sign", "bound", "holds"),
    [
        ("0.18.0", "<", "0.19", True),
        ("0.19", "<", "0.19", False),
        ("8", ">=", "8", True),
        ("8.1.9", ">=", "8.2.1", False),
        ("9.1.2.post2", "==", "9.1.2.post2", True),
        ("10.0", ">=", "9.5", True),
    ],
)
def test_versions_are_compared_as_numbers(version, sign, bound, holds):
    assert doctor._holds(version, sign, bound) is holds


def test_a_wrong_key_and_a_server_that_is_not_there_are_told(served):
    url = served.partition("?")[0]
    for target, says in ((f"{url}?key=wrong", "key"), ("http://127.0.0.1:9", "127.0.0.1:9")):
        done = run("doctor", "--url", target, "--port", "0", "--redis-url", "memory://", env=environment())
        assert done.code == 1
        [(what, text)] = mended(done.out)
        assert what == "server"
        assert says in text
