"""What all tests share: a state directory of their own, real servers and browsers, checks that nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import inspect
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from system_tools import HOW_TO_GET, require_tool, require_traces

from syndarix_rt.ports import held_port

# Many environments and CI ask for no bytecode; then each of the hundreds of programs that tests start would compile the
# whole package anew, 1.3 s of work a server, and each worker all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What is run in the background of a script ignores Ctrl-C, and so would all that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# One core a test: several are run at a time, and threads that wait for each other's cores cost a third more work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# jsonschema, which nbformat loads, would build a grammar of IRIs for three seconds; nothing here checks one.
sys.modules["rfc3987_syntax"] = None

pytest.register_assert_rewrite("broker_contract")  # a helper module whose asserts should explain themselves too

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
STATE_DIR = "SYNDARIX_RT_STATE_DIR"

CHROMIUM_FLAGS = [
    "--no-sandbox",  # containers and CI run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # a test never leaves this machine
]


# How long an example takes says nothing on a busy machine. Where a property needs more examples it says so; a hundred
# of each, which is the library's own default, took an eighth of the suite.
settings.register_profile(
    "suite",
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=IN_CI,
    print_blob=True,
)
settings.load_profile("suite")


# ---- skips: none in CI, and a summary elsewhere -------------------------------------------------------------------


def _fail_if_skipped(report):
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: {report.longrepr[2]} (with CI=true a skip is a failure)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    report = yield
    _fail_if_skipped(report)
    return report


def pytest_terminal_summary(terminalreporter):
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    lacking = {
        name: sum(count for reason, count in reasons.items() if reason == f"Skipped: needs {name}")
        for name in HOW_TO_GET
    }
    if not any(lacking.values()):
        return
    terminalreporter.section("skipped for lack of a tool")
    for name, count in lacking.items():
        if count:
            terminalreporter.line(f"{count:4d} for {name}: {HOW_TO_GET[name]}")


# ---- how tests are collected --------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    gc.disable()  # what is made stays; see `pytest_collection_finish`
    try:
        _import_share(session.config)
        return (yield)
    finally:
        gc.enable()


def _import_share(config):
    """Import what falls to this worker of all tests.

    Each worker imports them all, in the same order and at the same time: of a fresh clone each would compile them all.
    Begun with a share, it finds most of the others compiled.
    """
    worker = getattr(config, "workerinput", None)
    tests = Path(__file__).parent
    if worker is None or [config.rootpath / arg for arg in config.args] != [tests]:
        return
    paths = sorted(tests.glob("test_*.py"), key=lambda path: -path.stat().st_size)
    for path in paths[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # which its collection tells
            importlib.import_module(path.stem)


# ---- the order of tests, and one browser for a worker's -------------------------------------------------------------


def _limit_s(item):
    mark = item.get_closest_marker("timeout")
    return mark.args[0] if mark else 0


def pytest_collection_modifyitems(items):
    # Files whose tests may take longest begin first: started last, one of them would keep a single worker busy alone.
    limits_s = {}
    for item in items:
        limits_s[item.path] = max(limits_s.get(item.path, 0), _limit_s(item))
    items.sort(key=lambda item: -limits_s[item.path])

    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):  # which it is driven in the loop of
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def pytest_collection_finish():
    gc.freeze()  # half a million objects of all modules and tests stay to the end, and need not be looked through


# ---- nothing is left behind ---------------------------------------------------------------------------------------


def _wait_until_gone(find, seconds):
    """What ``find()`` still finds when the time is over."""
    deadline = time.monotonic() + seconds
    while left := find():
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return left


def _lives(process):
    with contextlib.suppress(psutil.Error):
        tracker = "multiprocessing.resource_tracker" in " ".join(process.cmdline())
        return process.status() != psutil.STATUS_ZOMBIE and not tracker
    return False


def _describe(process):
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    return str(process.pid)


def _kill(processes):
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _children():
    """The pids of our children; with the list that Linux has, in a fiftieth of the time that all processes take."""
    try:
        lists = [(task / "children").read_text().split() for task in Path("/proc/self/task").iterdir()]
    except OSError:  # no such list, or a thread that ended meanwhile
        return {child.pid for child in psutil.Process().children()}
    return {int(pid) for pids in lists for pid in pids}


@pytest.fixture(autouse=True)
def no_process_left():
    """After a test none of its child processes is left. What servers and browsers of the session start is theirs."""
    before = _children()

    def left():
        found = []
        for pid in _children() - before:
            with contextlib.suppress(psutil.Error):
                child = psutil.Process(pid)
                found += [each for each in (child, *child.children(recursive=True)) if _lives(each)]
        return found

    yield
    processes = _wait_until_gone(left, seconds=5)
    if processes:
        described = "\n  ".join(map(_describe, processes))
        _kill(processes)
        pytest.fail(f"the test left processes running:\n  {described}", pytrace=False)


@pytest.fixture(autouse=True)
def _asyncio_checks(request, no_process_left):
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        shared = "browser" in request.fixturenames
        request.getfixturevalue("no_task_left_in_session" if shared else "no_task_left")


@pytest.fixture
async def no_task_left():
    """After an async test no task of its loop is pending."""
    yield
    await _fail_if_pending(asyncio.all_tasks())


@pytest_asyncio.fixture(loop_scope="session")
async def no_task_left_in_session():
    """After a test with a browser no task is pending that was not there before."""
    before = asyncio.all_tasks()
    yield
    await _fail_if_pending(asyncio.all_tasks() - before)


async def _fail_if_pending(tasks):
    tasks = tasks - {asyncio.current_task()}
    if tasks:  # those that were cancelled just now may need a moment
        _, tasks = await asyncio.wait(tasks, timeout=2)
    if tasks:
        pytest.fail("the test left tasks running:\n  " + "\n  ".join(map(repr, tasks)), pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def _session_state(tmp_path_factory):
    """Session servers get their own state directory too; at the end no process that lives in one of ours is left."""
    patch = pytest.MonkeyPatch()
    patch.setenv(STATE_DIR, str(tmp_path_factory.mktemp("session-state")))
    yield
    patch.undo()
    base = f"{tmp_path_factory.getbasetemp()}{os.sep}"  # with its end: that of another run may begin with this name

    def left():
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(STATE_DIR, "").startswith(base):
                    found.append(process)
        return found

    processes = _wait_until_gone(left, seconds=30)  # the embedded server's watchdog waits 5 s for another user
    if processes:
        described = "\n  ".join(map(_describe, processes))
        _kill(processes)
        pytest.fail(f"the suite left processes running:\n  {described}", pytrace=False)


# ---- where things are ---------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def state_dir(tmp_path, monkeypatch, no_process_left) -> Path:
    """The user's state directory, empty and for this test alone; child processes inherit it."""
    directory = tmp_path / "state"
    monkeypatch.setenv(STATE_DIR, str(directory))
    return directory


@pytest.fixture(scope="session")
def traces_dir() -> Path:
    """The real traces; use with the marker ``traces``."""
    return require_traces()


@pytest.fixture(scope="session")
def chromium() -> str:
    return require_tool("chromium")


@pytest.fixture(scope="session")
def nginx() -> str:
    return require_tool("nginx")


@pytest.fixture
def port():
    """A free port of 127.0.0.1, for a server that is there later or again."""
    with held_port() as number:
        yield number


# ---- servers and browsers -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """One real Redis-compatible server for the whole run."""
    from redis_server import RedisServer  # noqa: PLC0415 - only where it is used

    with RedisServer(tmp_path_factory.mktemp("redis"), appendfsync="no") as server:  # nobody kills it
        yield server


@pytest.fixture
def redis_url(redis_server) -> str:
    """URL of the real server, emptied for this test."""
    import redis  # noqa: PLC0415 - only where it is used

    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_browser(chromium):
    """One headless Chromium for the whole run: to start one takes longer than most tests."""
    from playwright.async_api import async_playwright  # noqa: PLC0415 - slow to load

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, headless=True, args=CHROMIUM_FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(shared_browser):
    """A headless Chromium (Playwright, async); its pages are closed after the test. Such tests share a loop."""
    yield shared_browser
    for context in shared_browser.contexts:
        await context.close()
