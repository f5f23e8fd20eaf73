from __future__ import annotations

import asyncio
import io
import os
import re
import socket
import subprocess
import sys
from functools import partial

import click
import pytest
from command_line import PROGRAM, TIMEOUT_S, call, environment, run

from syndarix_rt import Scenario
from syndarix_rt.cli import COMMANDS, _cli, console, listening
from syndarix_rt.server import Settings
from syndarix_rt.server.tokens import verify

SERVE = "--host --port --workers --redis-url --token --retention --keepalive --cors-origin --tls-cert --tls-key"
FIXED = {
    "demo": "--port --project --speed --seed",
    "serve": SERVE,
    "play": "--project --seed --speed --events --redis-url --url --replace --append",
    "simulate": "--seed --events -o --report --traces",
    "watch": "--url --json --events --types --last-event-id --replay",
    "record": "-o --events --url",
    "replay": "--project --speed --redis-url --url --replace --append",
    "debug": "--url --run",
    "chat": "--url --name --wait",
    "import": "-o",
    "export": "-o",
    "fit": "-o",
    "validate": "--partial",
    "scenarios": "--profile",
    "verify": "--seed --workers --cluster --plant --json --html",
    "bench": "--json",
    "doctor": "--redis-url --namespace --url --port",
    "token": "--key --name --life --revoke --url",
    "lab": "",
}


@pytest.fixture
def cli(capsys):
    return partial(call, capsys)


def options(command):
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def one_line(text):
    return text.count("\n") == 1 and text.endswith("\n") and "Traceback" not in text


# ---- help -----------------------------------------------------------------------------------------------------------


def test_the_commands_and_their_options_are_those_that_are_fixed():
    assert list(COMMANDS) == list(FIXED)
    for name, expected in FIXED.items():
        names = {text for option in options(_cli.get_command(None, name)) for text in option.opts}
        assert set(expected.split()) <= names, name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_variable_that_is_the_same_for_all_commands(cli, name):
    code, out, err = cli(name, "--help")
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    for option in options(_cli.get_command(None, name)):
        long = max(option.opts, key=len)
        variable = "SYNDARIX_RT_" + long.removeprefix("--").replace("-", "_").upper()
        assert option.envvar == variable
        assert f"[env var: {variable}" in text
        described = text.split(f" {long} ", 1)[1].split("SYNDARIX_RT_", 1)[1].split("]", 1)[0]
        assert "default: " in described or option.is_flag or option.required


def test_help_loads_nothing_that_is_slow():
    script = (
        "import sys\nfrom syndarix_rt.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('redis', 'quart', 'aiohttp', 'numpy', 'simpy', 'rich', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['asyncio']"


def test_the_module_runs_as_the_command_does():
    done = run("--version")
    assert re.fullmatch(r"syndarix-rt \d+\.\d+\.\d+\n", done.out)
    assert run("token").out != run("token").out


def test_a_terminal_that_lacks_a_character_shows_the_others():
    done = run("serve", "--help", env=environment(PYTHONIOENCODING="latin-1"))
    assert (done.code, done.err) == (0, "")
    assert "? of one address" in done.out


# ---- wrong usage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["dmeo"], "No such command 'dmeo'; did you mean 'demo'?"),
        (["nonsense"], "No such command 'nonsense'."),
        (["play"], "Missing argument 'SCENARIO'"),
        (["watch"], "Missing argument 'PROJECT'"),
        (["play", "demo_small", "--sped", "3"], "--sped"),
        (["play", "demo_small", "--speed", "0"], "'0' is no speed"),
        (["play", "demo_small", "--speed", "fast"], "'fast' is no speed"),
        (["play", "demo_small", "--events", "0"], "0 is not in the range"),
        (["play", "demo_small", "--seed", "-1"], "-1 is not in the range"),
        (["play", "demo_small", "--project", "a b"], "'a b' is no project name"),
        (["play", "demo_small", "--replace", "--append"], "not both"),
        (["play", "demo_small", "--url", "http://h:1", "--redis-url", "redis://h"], "not both"),
        (["play", "demo_small", "--url", "ftp://h/?key=s3cret"], "not a server's URL: 'ftp://h/'"),
        (["watch", "a/b"], "'a/b' is no project name"),
        (["watch", "apollo", "--types", "agents"], "'agents' is no category"),
        (["watch", "apollo", "--last-event-id", "7"], "not an event id: '7'"),
        (["watch", "apollo", "--replay", "-1"], "'-1' is neither a number"),
        (["serve", "--token", "", "--host", "0.0.0.0"], "a secret is needed"),
        (["demo", "--token", "", "--host", "example.org"], "a secret is needed"),
        (["serve", "--token", "a b"], "printable ASCII"),
        (["serve", "--retention", "lots"], "'lots' is no retention"),
        (["serve", "--retention", "5,6"], "'5,6' is no retention"),
        (["serve", "--cors-origin", "a.example"], "'a.example' is no origin"),
        (["serve", "--cors-origin", "https://a.example/"], "'https://a.example/' is no origin"),
        (["serve", "--publish-rate", "lots"], "'lots' is no size"),
        (["serve", "--keepalive", "0"], "0.0 is not in the range"),
        (["serve", "--port", "70000"], "70000 is not in the range"),
        (["serve", "--tls-key", "key.pem"], "--tls-cert"),
        (["serve", "--tls", "self-signed", "--tls-cert", "cert.pem"], "there is a certificate already"),
        (["import", "azure-vm", "."], "'azure-vm' is not"),
        (["token", "--revoke", ""], "there is no token to end"),
        (["token", "--revoke", "a.b.c", "subscribe:apollo"], "one of both"),
        (["token", "--revoke", "a.b.c", "--life", "2"], "--life is for a token that is made"),
        (["token", "--name", "Ada"], "--name is for a token with rights; give some, such as subscribe:apollo"),
        (["token", "--key", "s3cret"], "--key is for a token with rights"),
        (["token", "subscribe:apollo", "--url", "http://127.0.0.1:1"], "--url says where --revoke ends a token"),
        (["record", "apollo"], "Missing option '-o' / '--output'"),
        (["debug", "apollo", "--run", "a b"], "'a b' is no run's name"),
        (["serve", "--root-path", "rt"], "'rt' is no path"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(cli, args, reason):
    code, out, err = cli(*args)
    assert (code, out) == (2, "")
    assert one_line(err)
    assert reason in err
    assert err.startswith("syndarix-rt")
    assert "--help)" in err
    assert "s3cret" not in err


def test_an_option_can_come_from_the_environment(cli, tmp_path):
    output = tmp_path / "a.jsonl"
    code, _, _ = cli("simulate", "demo_small", SYNDARIX_RT_EVENTS="2", SYNDARIX_RT_OUTPUT=str(output))
    assert code == 0
    assert output.read_bytes().count(b"\n") == 2
    code, _, err = cli("play", "demo_small", SYNDARIX_RT_SPEED="never")
    assert code == 2
    assert "env var: 'SYNDARIX_RT_SPEED'" in err


def test_the_command_line_wins_over_the_environment(cli):
    nowhere = {"SYNDARIX_RT_URL": "http://127.0.0.1:1", "SYNDARIX_RT_REDIS_URL": "redis://127.0.0.1:1"}
    assert "not both" in cli("play", "demo_small", **nowhere)[2]
    _, _, err = cli("play", "demo_small", "--redis-url", "redis://127.0.0.1:2", **nowhere)
    assert "Redis at 127.0.0.1:2 cannot be reached" in err
    _, _, err = cli("play", "demo_small", "--url", "http://127.0.0.1:3", **nowhere)
    assert "http://127.0.0.1:3/projects/demo_small/claim: cannot connect" in err


# ---- what fails -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["simulate", "none.toml", "-o", "-"], "none.toml: cannot be read: No such file or directory"),
        (["simulate", "demo_small", "-o", "/no/such/dir/a.jsonl"], "cannot write: No such file or directory"),
        (["verify", "quick", "--json", "/no/such/dir/v.json"], "cannot write: No such file or directory"),
        (["verify", "quick", "--html", "/no/such/dir/v.html"], "cannot write: No such file or directory"),
        (["bench", "--quick", "--json", "/no/such/dir/b.json"], "cannot write: No such file or directory"),
        (["watch", "apollo"], "start one (syndarix-rt demo), or name one with --url"),
        (["record", "apollo", "-o", "a.jsonl"], "start one (syndarix-rt demo), or name one with --url"),
        (["replay", "none.jsonl", "--redis-url", "redis://127.0.0.1:1"], "none.jsonl: no such file"),
        (["validate", "none.jsonl"], "none.jsonl: no such file"),
        (["fit", "none.jsonl", "-o", "/no/such/dir/p.toml"], "cannot write: No such file or directory"),
        (["import", "aidev", "none", "-o", "a.jsonl"], "cannot read: No such file or directory"),
        (["serve", "--host", "192.0.2.1", "--port", "0"], "cannot listen on 192.0.2.1, port 0"),
        (["serve", "--port", "0", "--redis-url", "http://h"], "'http://h' is not the URL of a broker"),
        (["serve", "--port", "0", "--tls-cert", "none.pem"], "cannot use the certificate none.pem"),
        (["demo", "--port", "0", "--tls", "self-signed", "--host", "no,host"], "cannot make a certificate"),
    ],
)
def test_what_fails_is_one_line_and_code_1(cli, tmp_path, monkeypatch, args, reason):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(*args)
    assert (code, out) == (1, "")
    assert one_line(err)
    assert reason in err
    assert list(tmp_path.glob("*.json*")) == []


def test_a_certificate_needs_openssl(cli, tmp_path):
    code, _, err = cli("serve", "--port", "0", "--tls", "self-signed", PATH=str(tmp_path))
    assert code == 1
    assert one_line(err)
    assert "openssl is needed to make a certificate" in err


def test_without_a_server_and_without_a_redis_a_run_has_nowhere_to_go(cli):
    code, _, err = cli("play", "demo_small", SYNDARIX_RT_EMBEDDED="off")
    assert code == 1
    assert one_line(err)
    assert "no server of yours runs here (start one: syndarix-rt demo), and " in err


def test_without_a_command_the_help_is_shown(cli):
    code, _, err = cli()
    assert code == 2
    assert err.startswith("Usage: syndarix-rt ")


def test_a_reader_that_is_gone_is_no_fault_to_be_told_of():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(
            [*PROGRAM, "scenarios"],
            stdout=nobody, stderr=subprocess.PIPE, env=environment(), timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    assert done.stderr == b""


# ---- what a person sees ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "tls_cert", "url"),
    [
        ("0.0.0.0", None, "http://127.0.0.1:80"),
        ("", None, "http://127.0.0.1:80"),
        ("::", None, "http://[::1]:80"),
        ("lab.example", "cert.pem", "https://lab.example:80"),
    ],
)
def test_the_url_that_is_printed_is_one_that_this_machine_reaches(host, tls_cert, url):
    assert listening._base_url(Settings(host=host, tls_cert=tls_cert), 80) == url


def test_progress_is_told_at_a_terminal_alone(monkeypatch):
    for is_terminal in (False, True):
        seen = io.StringIO()
        seen.isatty = lambda is_terminal=is_terminal: is_terminal
        monkeypatch.setattr(sys, "stderr", seen)
        monkeypatch.setenv("TERM", "xterm")
        with console.progress("Simulating", 1_200) as update:
            assert list(console.counted(range(1_200), update)) == list(range(1_200))
            update(1_200)
        assert ("Simulating" in seen.getvalue()) is is_terminal


def test_a_command_that_is_cancelled_was_interrupted():
    async def cancelled():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(KeyboardInterrupt):
        console.run(cancelled())


def test_a_busy_port_is_named_with_what_to_do(cli):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in ("serve", "demo"):
            code, out, err = cli(command, "--port", port)
            assert (code, out) == (1, "")
            assert one_line(err)
            assert f"cannot listen on 127.0.0.1, port {port}" in err
            assert "--port" in err


# ---- small commands -------------------------------------------------------------------------------------------------


def test_scenarios_are_listed_with_what_to_look_for(cli):
    code, out, _ = cli("scenarios")
    assert code == 0
    header, *lines = out.splitlines()
    assert header.split()[:3] == ["SCENARIO", "SPEED", "HORIZON"]
    assert {"demo_small", "steady_sprint"} <= {line.split()[0] for line in lines}


def test_a_scenario_is_printed_as_a_file_with_its_expected_load(cli, tmp_path):
    code, out, _ = cli("scenarios", "demo_small")
    assert code == 0
    path = tmp_path / "demo_small.toml"
    path.write_text(out)
    assert Scenario.load(path) == Scenario.preset("demo_small")
    loads = {line.split()[2]: line.split() for line in out.splitlines() if line.startswith("# demo_small")}
    assert loads["agents.developer"][6:] == ["4", "0.59"]
    path.write_text("allow_overload = true\nissues.rate_per_h = 20")
    assert " per h\n" in cli("scenarios", path)[1]


@pytest.mark.parametrize(
    "command", [("scenarios",), ("simulate", "--report"), ("play", "--project", "apollo"), ("demo",)]
)
def test_an_unknown_scenario_is_wrong_usage_and_told_the_nearest(cli, command):
    code, out, err = cli(*command, "demo_smal")
    assert (code, out) == (2, "")
    assert ": unknown preset 'demo_smal'; did you mean 'demo_small'? (see syndarix-rt " in err
    assert one_line(err)


def test_a_profile_is_explained_with_its_sources(cli):
    code, out, _ = cli("scenarios", "--profile", "copilot")
    assert code == 0
    assert "AIDev-pop, Copilot PRs" in out
    assert one_line(cli("scenarios", "--profile", "copilott")[2])


def test_a_token_fits_where_serve_takes_one(cli):
    variables = {"SYNDARIX_RT_NAME": "Ada", "SYNDARIX_RT_KEY": "k" * 48, "SYNDARIX_RT_URL": "http://127.0.0.1:1"}
    for others in ({}, variables):  # which are there for other commands
        code, out, err = cli("token", **others)
        assert (code, err) == (0, "")
        assert re.fullmatch(r"[0-9a-f]{48}\n", out)


def test_a_token_with_rights_is_made_of_the_servers_key(cli):
    key = cli("token")[1].strip()
    code, out, err = cli("token", "subscribe:apollo", "--key", key, "--name", "Ada")
    assert (code, err) == (0, "")
    assert verify(key, out.strip()).name == "Ada"
    assert cli("token", "subscribe:apollo")[0] == 2
    assert one_line(cli("token", "own:apollo", "--key", key)[2])


def test_lab_names_what_is_not_installed(cli, monkeypatch):
    monkeypatch.setattr("syndarix_rt.cli.tools.find_spec", lambda name: None)
    code, _, err = cli("lab")
    assert code == 1
    assert err == "syndarix-rt: lab needs: pip install 'syndarix-rt[notebook]'\n"
    monkeypatch.setattr("syndarix_rt.cli.tools.find_spec", lambda name: name != "jupyterlab")
    assert cli("lab")[2] == "syndarix-rt: lab needs: pip install jupyterlab\n"


def test_lab_becomes_jupyterlab_on_loopback_with_the_notebooks(cli, monkeypatch):
    started = []

    def execv(path, arguments):
        started.append(arguments)
        raise SystemExit(0)

    monkeypatch.setattr("syndarix_rt.cli.tools.find_spec", lambda name: object())  # also where it is not installed
    monkeypatch.setattr("os.execv", execv)
    assert cli("lab", "--no-browser", "--port", "9999", "somewhere").code == 0
    assert started[0][:4] == [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1"]
    assert started[0][4].startswith("--notebook-dir=")
    assert started[0][4].endswith("/notebooks")
    assert started[0][5:] == ["--no-browser", "--port", "9999", "somewhere"]
