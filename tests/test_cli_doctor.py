"""``syndarix-rt doctor`` beside real things that are right and wrong."""

from __future__ import annotations

import platform
import re
import resource
import socket
import sys

import pytest
from command_line import Command, call, environment, run
from nginx_proxy import Nginx
from redis_server import PASSWORD, RedisServer
from serving import running

from syndarix_rt.broker.endpoint import PERMISSIONS
from syndarix_rt.cli.doctor import machine, redis, way
from syndarix_rt.server.tokens import issue


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


LIMITED = any(not finding.is_good for finding in machine.limits())
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
    assert texts["port"] == "any free one is taken"
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
        assert re.search(
            r"redis +Valkey 9\.\S+ at redis://127\.0\.0\.1:\d+, \d+\.\d ms away, \S+ used$", good.out, re.MULTILINE
        )
        assert "takes events" in good.out
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


USERS = [
    f"few on >pw {PERMISSIONS.replace('~srt:', '~lab:srt:').replace('&', '&lab:')}",
    "watcher on >pw ~* &* +ping",
]


def test_a_redis_that_answers_and_takes_no_events_is_to_be_mended(tmp_path, capsys):
    with RedisServer(tmp_path, users=USERS) as server:

        def examined(url, *options):
            done = call(capsys, "doctor", "--redis-url", url, "--port", "0", *options)
            assert done.code == (1 if mended(done.out) else LIMITED), done
            return done

        def refusal(url):
            """What it takes no events for."""
            [(what, text)] = mended(examined(url).out)
            assert what == "redis"
            return text.removeprefix("takes no events: ")

        few, watcher = (server.url.replace(f":{PASSWORD}@", f"{user}:pw@") for user in ("few", "watcher"))
        assert mended(examined(few, "--namespace", "lab:").out) == []
        assert "does not permit its user 'few'" in refusal(few)  # of other names it may touch nothing
        assert "does not permit its user 'watcher'" in refusal(watcher)
        done = examined(watcher)
        assert "this user may not ask for its version and durability" in done.out
        assert "append-only" not in done.out
        for options, says in (("replicaof 127.0.0.1 1", "read only replica"), ("maxmemory 1", "'maxmemory'")):
            server.stop()
            server.start(options)
            assert says in refusal(server.url)


def test_the_redis_is_that_of_the_server_that_runs_here(tmp_path, state_dir, capsys):
    with RedisServer(tmp_path) as server:
        with Command("serve", "--port", "0", "--redis-url", server.url, "--namespace", "lab:") as command:
            url = command.url()
            for options in ([], ["--url", url]):
                done = call(capsys, "doctor", "--port", "0", *options)
                assert (done.code, mended(done.out)) == (LIMITED, []), done
                assert f" at redis://127.0.0.1:{server.port}, " in done.out
                assert "events arrive at once" in done.out
        assert not (state_dir / "redis").exists(), "no other one was started"
    with Command("serve", "--port", "0", "--redis-url", "memory://") as command:
        command.url()
        assert "kept in the server's process" in call(capsys, "doctor", "--port", "0").out


def test_what_a_token_may_not_do_is_no_fault_of_a_proxy(capsys):
    key = "k" * 48
    with Command("serve", "--port", "0", "--redis-url", "memory://", "--token", key) as command:
        base = command.url().partition("/?")[0]

        def examined(*rights):
            token = issue(key, [f"{right}:doctor-*" for right in rights], name="Ada", life_s=60)
            return call(capsys, "doctor", "--url", f"{base}/?key={token}", "--redis-url", "memory://", "--port", "0")

        for rights in (["subscribe", "publish"], ["subscribe", "publish", "chat"]):
            done = examined(*rights)
            assert (done.code, mended(done.out)) == (LIMITED, []), done
            assert f"{base}: WebSockets come through" in done.out
            assert "this token may not ask which way streams take" in done.out
        [(what, text)] = mended(examined("subscribe").out)
        assert what == "stream"
        assert "no right to publish in 'doctor-check'" in text


def test_a_server_that_says_nothing_is_given_up(capsys, monkeypatch):
    monkeypatch.setattr(way, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = call(capsys, "doctor", "--url", url, "--redis-url", "memory://", "--port", "0")
    assert mended(done.out) == [("server", f"{url}: no answer within 0.2 s")]


@pytest.mark.parametrize(
    ("metrics", "is_good", "says"),
    [
        ('syndarix_rt_stream_paths{path="asgi",reason="hypercorn"} 2\n', False, "this Hypercorn is not what"),
        ('syndarix_rt_stream_paths{path="asgi",reason="http/2"} 2\n', True, "2 through ASGI (HTTP/2)"),
        ("another_figure 1\n", False, "does not say which way streams take"),
    ],
)
async def test_which_way_streams_take_is_judged_by_what_the_server_tells(monkeypatch, metrics, is_good, says):
    class Told:
        """Of a server that is not like ours here."""

        async def metrics(self):
            return metrics

    monkeypatch.setattr(way, "ARRIVE_S", 3.0 if "paths" in metrics else 0.3)
    async with running() as server:
        finding = await way._path(server.url, Told())
    assert (finding.what, finding.is_good) == ("path", is_good)
    assert says in finding.text


def test_a_version_that_is_too_old_or_no_url_of_a_redis_is_told(capsys):
    old = redis._version({"redis_version": "6.2.14", "used_memory_human": "1M"}, "at redis://h")
    assert old == ("redis", "Redis 6.2.14 at redis://h, 1M used; version 7 or later is needed", False)
    done = call(capsys, "doctor", "--redis-url", "http://h", "--port", "0")
    [(what, text)] = mended(done.out)
    assert what == "redis"
    assert "'http://h' is not the URL of a broker" in text


def test_a_port_is_free_or_taken_by_a_server_of_ours(served, port):
    ours = int(served.partition("/?")[0].rpartition(":")[2])
    assert machine.port(ours) == ("port", f"{ours} is taken by a server of yours", True)
    assert machine.port(port) == ("port", f"{port} is free", True)


@pytest.mark.parametrize("files", [(65_536, 65_536), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)])
def test_a_machine_that_takes_many_connections_is_good(monkeypatch, files):
    monkeypatch.setattr(resource, "getrlimit", lambda _: files)
    monkeypatch.setattr(machine, "BACKLOG", 1)
    assert all(finding.is_good for finding in machine.limits())


def test_a_short_queue_of_connections_is_told(monkeypatch):
    monkeypatch.setattr(machine, "BACKLOG", 1 << 31)
    *_, finding = machine.limits()
    assert not finding.is_good
    assert "fewer than come after a restart: sysctl -w net.core.somaxconn=" in finding.text


async def test_a_socket_that_nobody_answers_is_told_so(monkeypatch):
    monkeypatch.setattr(way, "ARRIVE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        what, text, is_good = await way._socket(url, url)
    assert (what, is_good) == ("socket", False)
    assert "no WebSocket comes through (no answer)" in text


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


def told_of(monkeypatch, **requirements):
    """What is told of packages where ours ask for these."""
    monkeypatch.setattr(machine.metadata, "requires", lambda name: requirements[name.replace("-", "_")])
    return machine.packages()


def test_packages_that_do_not_fit_are_named(monkeypatch):
    here = f"sys_platform == '{sys.platform}' and platform_machine == '{platform.machine()}'"
    finding = told_of(
        monkeypatch,
        syndarix_rt=[
            "hypercorn<0.19,>=0.18", "missing-package>=1", "numpy==1.0", "nowhere>=1; sys_platform == 'another'",
            f"lost==1; ({here}) or sys_platform == 'another'", "redis[fast,odd]<99,>=8", "absent; extra == 'absent'",
        ],
        redis=["not-there>=3; extra == 'fast'", 'msgspec>=99; extra == "odd"', "nobody; extra == 'slow'"],
    )  # fmt: skip
    assert (finding.what, finding.is_good) == ("packages", False)
    assert re.search(
        r": missing-package is missing; numpy \S+ is installed, numpy==1.0 is needed; lost is missing; "
        r"not-there is missing; msgspec \S+ is installed, msgspec>=99 is needed; install it anew",
        finding.text,
    )


def test_extras_that_lack_something_are_named_and_those_of_the_tests_are_not(monkeypatch):
    finding = told_of(
        monkeypatch, syndarix_rt=["numpy>=2", *(f"absent; extra == '{name}'" for name in ("auth", "test"))]
    )
    assert finding.is_good
    assert finding.text.endswith("all that it needs; without [auth] (absent)")


def test_what_ours_ask_for_is_understood():
    """All lines of the real metadata; of a platform without binaries, too."""
    assert machine.packages().is_good
    assert {"redis", "hiredis"} <= {name for name, _, _ in machine._requirements()}
    for line in machine.metadata.requires("syndarix-rt"):
        machine._applies(line.partition(";")[2], "test")


def test_a_package_that_was_never_installed_is_told_so(monkeypatch):
    def unknown(name):
        raise machine.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(machine.metadata, "requires", unknown)
    finding = machine.packages()
    assert not finding.is_good
    assert "is not installed" in finding.text


@pytest.mark.parametrize(
    ("version", "sign", "bound", "holds"),
    [
        ("0.18.0", "<", "0.19", True),
        ("0.19", "<", "0.19", False),
        ("8", ">=", "8", True),
        ("8.1.9", ">=", "8.2.1", False),
        ("9.1.2.post2", "==", "9.1.2.post2", True),
        ("9.1.2", "==", "9.1.2.post2", False),
        ("10.0", ">=", "9.5", True),
    ],
)
def test_versions_are_compared_as_numbers(version, sign, bound, holds):
    assert machine._holds(version, sign, bound) is holds


def test_a_wrong_key_and_a_server_that_is_not_there_are_told(served):
    url = served.partition("?")[0]
    for target, says in ((f"{url}?key=wrong", "key"), ("http://127.0.0.1:9", "127.0.0.1:9")):
        done = run("doctor", "--url", target, "--port", "0", "--redis-url", "memory://", env=environment())
        assert done.code == 1
        [(what, text)] = mended(done.out)
        assert what == "server"
        assert says in text
