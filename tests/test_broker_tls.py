"""Brokers over TLS, by a user who may do what is needed and no more: on a cluster, and on a master under Sentinels."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager

import pytest
from broker_contract import (
    CHANNEL,
    DEADLINE_S,
    NOW,
    Consumer,
    asked,
    eventually,
    following,
    happened,
    numbered,
    once_it_is_back,
)
from redis.asyncio import SSLConnection
from redis_cluster import RedisCluster
from redis_sentinel import ASKER, Watched
from redis_server import PASSWORD, RedisServer
from redis_tls import Authority
from system_tools import ROOT

from syndarix_rt.broker.endpoint import PERMISSIONS
from syndarix_rt.broker.factory import open_broker
from syndarix_rt.broker.protocol import chat_channel, control_channel, project_channel
from syndarix_rt.broker.sentinel import PERMISSIONS as OF_SENTINELS
from syndarix_rt.errors import BrokerError, BrokerUnavailable

pytestmark = pytest.mark.usefixtures("shared_cluster", "shared_watched", "valkey")  # started before the first test
CHANNELS = [project_channel(f"p-{number}") for number in range(12)]  # spread over all masters
USER = "ours:s%40cret"  # as in a URL
USERS = [
    f"ours on >s@cret -@all {PERMISSIONS}",
    f"reader on >reader -@all {PERMISSIONS} -@write",
    f"elsewhere on >elsewhere -@all {PERMISSIONS} resetkeys ~other:*",
    f"deaf on >deaf -@all {PERMISSIONS} resetchannels",
    f"uninformed on >uninformed -@all {PERMISSIONS} -info",
    f"lost on >lost -@all {PERMISSIONS} -cluster",
]


@pytest.fixture(scope="module", autouse=True)
def no_other_authorities():
    """Whoever makes a context for TLS loads what this machine trusts, for 50 ms; here that is nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)
        yield


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory, authority):
    directory = tmp_path_factory.mktemp("cluster")
    with RedisCluster(directory, replicas=False, calm=True, name="redis", tls=authority, users=USERS) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster):
    shared_cluster.empty()
    return shared_cluster


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("valkey"), users=USERS, appendfsync="no") as server:
        yield server


@pytest.fixture(scope="module")
def shared_watched(tmp_path_factory, authority):
    with _watched(tmp_path_factory.mktemp("watched"), authority, calm=True) as watched:
        yield watched


@pytest.fixture
def watched(shared_watched):
    shared_watched.ask(shared_watched.master, "FLUSHALL")
    return shared_watched


@contextmanager
def _watched(directory, authority, **options):
    with ExitStack() as stack:
        watched = Watched(directory, name="redis", tls=authority, users=USERS, **options)
        watched.start(stack)
        yield watched


def of_cluster(cluster, credentials=USER, query=""):
    return f"rediss+cluster://{credentials}@{cluster.places}?{query or trusting(cluster.nodes[0].tls)}"


def of_sentinel(watched, credentials=USER, query="", password=PASSWORD):
    asker = f"sentinel_user={ASKER}&sentinel_password={password}"
    return f"rediss+sentinel://{credentials}@{watched.places}/ours?{asker}&{query or trusting(watched.master.tls)}"


def trusting(authority):
    return f"ssl_ca_certs={authority.certificate}"


@pytest.fixture(params=["cluster", "sentinel"])
def place(request):
    """URL of a broker, and the servers behind it that hold logs."""
    if request.param == "cluster":
        cluster = request.getfixturevalue("cluster")
        return of_cluster(cluster), cluster.nodes
    watched = request.getfixturevalue("watched")
    return of_sentinel(watched), [watched.master]


@asynccontextmanager
async def opened(url):
    broker = await open_broker(url)
    try:
        yield broker
    finally:
        await broker.aclose()


async def publish(broker, first, last, channels=CHANNELS):
    for channel in channels:
        for n in range(first, last + 1):
            await once_it_is_back(lambda: broker.publish(channel, numbered(n, n), producer="p", sequence=n))  # noqa: B023 - called before n changes


async def test_whoever_follows_goes_on_where_its_links_were_cut(place):
    url, servers = place
    async with opened(url) as publisher, AsyncExitStack() as stack:
        broker = await stack.enter_async_context(opened(url))
        consumers = [await stack.enter_async_context(Consumer(broker, channel)) for channel in CHANNELS]
        await publish(publisher, 1, 3)
        await eventually(lambda: all(len(consumer.seen) == 3 for consumer in consumers))
        cut = [await asyncio.to_thread(Watched.ask, server, "CLIENT", "KILL", "USER", "ours") for server in servers]
        assert min(cut) >= 2  # one that publishes, one that listens
        await publish(publisher, 4, 6)
        await eventually(lambda: all(len(consumer.seen) >= 6 for consumer in consumers))
        assert all(consumer.seen == list(enumerate(numbered(1, 6), 1)) for consumer in consumers)
        assert not any(consumer.gaps for consumer in consumers)
    async with opened(url) as later:
        assert (await later.read(CHANNELS[0], 2, 10)).entries == numbered(3, 6)


async def test_the_permissions_suffice_for_all_that_a_broker_does(place):
    url, _ = place
    async with opened(url) as broker:
        await broker.ping()
        await broker.publish(CHANNEL, [asked(1), happened(2)], producer="p", sequence=1)
        assert [approval.approval_id for approval in await broker.approvals(CHANNEL)] == ["a-1"]
        assert (await broker.decide(CHANNEL, "a-1", "approved", at=NOW, by="Ana")).decision == "approved"
        assert (await broker.position(CHANNEL)).last == 3
        assert await broker.projects() == ["apollo"]
        assert await broker.claim(CHANNEL, "me", 60) == "me"
        assert await broker.claimants(CHANNEL) == ["me"]
        await broker.release(CHANNEL, "me")
        await broker.keep("ticket", b"once", 60)
        assert await broker.take("ticket") == b"once"
        assert (await broker.reset(CHANNEL)).last == 0
        for channel in (chat_channel("apollo"), control_channel("run-1")):
            async with following(broker, channel) as tail:
                await broker.publish(channel, numbered(1, 2))
                assert await tail.entries(2) == numbered(1, 2)


async def test_a_master_that_fails_is_replaced_over_tls(tmp_path, authority):
    with _watched(tmp_path, authority) as watched:
        async with opened(of_sentinel(watched)) as broker, Consumer(broker) as consumer:
            await publish(broker, 1, 3, [CHANNEL])
            await asyncio.to_thread(watched.until_replicated)
            await asyncio.to_thread(watched.master.kill)
            await publish(broker, 4, 6, [CHANNEL])
            await eventually(lambda: len(consumer.seen) == 6)
            assert consumer.seen == list(enumerate(numbered(1, 6), 1))
            assert consumer.gaps == []


async def test_nodes_that_tell_nobody_s_address_are_where_they_were_asked(cluster):
    for node in cluster.nodes:
        node.call("CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint")
    try:
        async with opened(of_cluster(cluster)) as broker:
            await publish(broker, 1, 1)
            to = cluster.others(cluster.owner(CHANNELS[0]))[0]
            await asyncio.to_thread(cluster.move, CHANNELS[0], to)
            await broker.publish(CHANNELS[0], numbered(2, 2))  # where it was, which says where it is
            assert (await broker.read(CHANNELS[0], 0, 10)).entries == numbered(1, 2)
    finally:
        for node in cluster.nodes:
            node.call("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")


async def test_a_server_that_wants_a_certificate_is_given_one(tmp_path, authority):
    with RedisServer(tmp_path, name="redis", tls=authority) as server:
        server.stop()
        server.start("tls-auth-clients yes")
        ours = authority.signed("ours")
        async with opened(f"{server.url}&ssl_certfile={ours}&ssl_keyfile={ours}") as broker:
            await broker.publish(CHANNEL, numbered(1, 1))
        # Whether its alert is read, or the connection is found broken off, is chance.
        said = await refusal(server.url, BrokerUnavailable)
        assert said.endswith("it wants a certificate from its clients: ?ssl_certfile=FILE&ssl_keyfile=FILE")


async def taken_leave_of(server, _):
    async with opened(server.url) as broker, following(broker) as tail:
        await broker.publish(CHANNEL, numbered(1, 1))
        await tail.entries(1)
        server.pause()  # it does not answer at once that we say goodbye
        threading.Timer(0.1, server.resume).start()


async def taken_leave_of_in_vain(server, _):
    async with opened(server.url) as broker:
        await broker.ping()
        server.pause()


async def given_up(server, _):
    async with opened(server.url) as broker:
        await broker.ping()
        server.pause()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(broker.ping(), 0.05)


async def refusing_us(server, patch):
    disconnect = SSLConnection.disconnect

    def once_it_is_silent(*args, **options):
        server.pause()
        return disconnect(*args, **options)

    patch.setattr(SSLConnection, "disconnect", once_it_is_silent)
    with pytest.raises(BrokerError, match="refuses these credentials"):
        async with opened(server.url.replace(PASSWORD, "wrong")) as broker:
            await broker.ping()


@pytest.mark.parametrize("use", [taken_leave_of, taken_leave_of_in_vain, given_up, refusing_us])
def test_a_loop_that_ends_with_its_broker_leaks_no_connection(tmp_path, authority, monkeypatch, use):
    gc.collect()  # of others
    with RedisServer(tmp_path, name="redis", tls=authority) as server, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            asyncio.run(use(server, monkeypatch))
            gc.collect()
        finally:
            server.resume()
    assert [str(each.message) for each in warned] == []


def test_the_guide_says_what_a_user_must_be_permitted():
    guide = " ".join((ROOT / "docs" / "howto.md").read_text("utf-8").split())
    assert f"`ACL SETUSER syndarix on >PASSWORD {PERMISSIONS}`" in guide
    assert f"on the Sentinels `{OF_SENTINELS}`" in guide


# ---- what is wrong is said for people ------------------------------------------------------------------------------


async def refusal(url, kind=BrokerError, *, connect_s=DEADLINE_S):
    """What is said to who publishes there, and has all the time that a starved server takes to say it.

    Its type must be the very ``kind``: of others, one tries again.
    """
    with pytest.MonkeyPatch.context() as patch, pytest.raises(BrokerError) as caught:
        for limit in ("cluster.ANSWER_S", "sentinel.ANSWER_S", "endpoint.COMMAND_S"):
            patch.setattr(f"syndarix_rt.broker.{limit}", DEADLINE_S)
        patch.setattr("syndarix_rt.broker.endpoint.CONNECT_S", connect_s)
        async with opened(url) as broker:
            await broker.publish(CHANNEL, numbered(1, 1))
    assert type(caught.value) is kind, caught.value
    assert "cret" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(params=[of_cluster, of_sentinel])
def url_of(request):
    """Makes the URL of either place."""
    place = request.getfixturevalue("cluster" if request.param is of_cluster else "watched")
    return lambda *args, **options: request.param(place, *args, **options)


async def test_a_certificate_that_nobody_vouches_for(url_of):
    said = await refusal(url_of(query="db=0"), BrokerUnavailable)
    assert "its certificate is not to be trusted: self-signed certificate in certificate chain" in said
    assert "?ssl_ca_certs=FILE" in said


async def test_a_certificate_for_another_name(url_of):
    said = await refusal(url_of().replace("127.0.0.1", "localhost"), BrokerUnavailable)
    assert "another server's: Hostname mismatch, certificate is not valid for 'localhost'; give the host by" in said


async def test_tls_where_it_was_not_asked_for(url_of):
    plain = url_of(query="db=0").replace("rediss", "redis")
    said = await refusal(plain, BrokerUnavailable)
    assert said.endswith("; if it wants TLS, give it as rediss")


async def test_tls_where_there_is_none(redis_url):
    said = await refusal(redis_url.replace("redis://", "rediss://"), BrokerUnavailable, connect_s=0.2)  # it is silent
    assert said.endswith("; if it speaks no TLS, give it as redis")


@pytest.mark.parametrize("credentials", ["ours:wrong-s%40cret", "nobody:s%40cret"])
async def test_credentials_that_are_wrong(url_of, credentials):
    assert "refuses these credentials: invalid username-password pair" in await refusal(url_of(credentials))


async def test_a_password_that_the_sentinels_refuse(watched):
    said = await refusal(of_sentinel(watched, password="wrong"))
    assert f"Redis at 127.0.0.1:{watched.sentinel.port} refuses these credentials" in said


@pytest.mark.parametrize("user", ["reader", "elsewhere", "deaf", "uninformed", "lost"])
async def test_a_user_who_may_too_little(cluster, user):
    said = await refusal(of_cluster(cluster, f"{user}:{user}"))
    assert f"does not permit its user '{user}' all that is needed (" in said
    assert said.endswith(f": ACL SETUSER {user} {PERMISSIONS}")


@pytest.mark.parametrize("user", ["reader", "elsewhere", "deaf", "uninformed"])
async def test_a_user_who_may_too_little_of_valkey(valkey, user):
    said = await refusal(valkey.url.replace(f":{PASSWORD}", f"{user}:{user}"))
    assert f"does not permit its user '{user}' all that is needed (" in said


@pytest.mark.parametrize("place", ["", "+cluster", "+sentinel"])
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("ssl_ca_certs=/no/such", "ssl_ca_certs=/no/such is of no use: No such file or directory"),
        ("ssl_certfile=/dev/null", "ssl_certfile=/dev/null is of no use: "),
        ("ssl_ca_cert=ca.pem", "there is no option 'ssl_ca_cert'"),
        ("ssl_cert_reqs=sometimes", "sometimes"),
        ("ssl_min_version=high", "Invalid value for 'ssl_min_version'"),
    ],
)
async def test_options_that_are_none_are_refused_at_once(place, query, said):
    with pytest.raises(BrokerError, match=rf"cannot use the broker's URL 'rediss.*': .*{said}"):
        await open_broker(f"rediss{place}://ours:s%40cret@127.0.0.1:1/ours?{query}")
