"""The documents say what is so: their Python runs, their links lead to files, the tests that they name are there."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys

import pytest
from serving import running
from system_tools import ROOT

from syndarix_rt import Event, validate
from syndarix_rt.server.socket import CLOSE_CODES

DOCS = sorted((ROOT / "docs").glob("*.md"))
HOWTO = ROOT / "docs" / "howto.md"
AGENTS = ROOT / "docs" / "real-agents.md"


def blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize(
    "path", [path for path in DOCS if blocks(path) and path not in (HOWTO, AGENTS)], ids=lambda path: path.stem
)
def test_the_python_of_a_document_runs(path):
    names = {}
    for block in blocks(path):
        exec(compile(block, path.name, "exec"), names)


async def test_the_how_tos_do_what_they_say(tmp_path):
    async with running() as server:
        printed = []
        for block in blocks(HOWTO):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", block,
                env=os.environ | {"SYNDARIX_RT_URL": server.url}, cwd=tmp_path, stdout=subprocess.PIPE,
            )  # fmt: skip
            printed.append((await process.communicate())[0].decode())
    published, read, scripted = printed
    assert published.startswith("202 ")
    assert read.startswith("1 found")
    count = int(scripted.split()[0])
    assert f"{count} events, 0 gaps, 0 undeclared holes" in scripted
    assert len((tmp_path / "apollo.jsonl").read_bytes().splitlines()) == count > 50


async def test_real_agents_need_nothing_but_two_variables(tmp_path):
    """Each program runs in an environment with the two variables that the document names before it."""
    key = "k" * 40
    (tmp_path / "real.jsonl").write_bytes((ROOT / "sample_data" / "demo_small.jsonl").read_bytes())
    async with running(token=key) as server:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{key},syndarix-project=apollo",
            "SYNDARIX_RT_URL": f"{server.url}/?key={key}",
            "SYNDARIX_RT_PROJECT": "apollo",
        }
        printed, seen = [], []
        for block in blocks(AGENTS):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", block, env=os.environ | variables, cwd=tmp_path,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            out, err = await process.communicate()
            assert process.returncode == 0, err.decode()
            printed.append(out.decode())
            entries = (await server.broker.read("project:{apollo}", len(seen), 100)).entries
            seen += [Event.decode(entry) for entry in entries]
    assert validate(seen, partial=True).ok
    assert [event.data["role"] for event in seen if event.type == "agent_completed"] == [
        "Coder", "coder", *["reviewer"] * 3,
    ]  # fmt: skip
    assert sum(event.type == "log_written" for event in seen) == 3
    assert seen[0].data["issue_id"] == "42"
    assert "real and simulated differ most in" in printed[-1]


def test_every_fenced_block_is_one_that_a_test_runs():
    """Python here and in test_readme.py; what is typed into a terminal, in test_readme_console.py."""
    for path in (*DOCS, ROOT / "README.md"):
        fences = re.findall(r"^ *```(.*)$", path.read_text("utf-8"), re.MULTILINE)
        assert {*fences[::2]} <= {"python", "console"}, path.name
        assert {*fences[1::2]} <= {""}, path.name


@pytest.mark.parametrize("document", ["adr-002.md", "security.md"])
def test_every_test_that_a_document_names_is_there(document):
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", (ROOT / "docs" / document).read_text("utf-8"))
    assert len(named) >= 15
    for file, name in named:
        assert re.search(rf"def {name}\(", (ROOT / file).read_text("utf-8")), (file, name)


def anchors(path):
    """The names of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_links_of_the_documents_lead_to_files_and_headings():
    checked = 0
    for path in [*DOCS, ROOT / "README.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text("utf-8")):
            file, _, anchor = target.partition("#")
            to = (path.parent / file).resolve() if file else path
            assert to.exists(), (path.name, target)
            assert not anchor or anchor in anchors(to), (path.name, target)
            checked += 1
    assert checked > 12


def test_every_document_is_in_the_table_of_contents():
    listed = {*re.findall(r"\]\(([\w.-]+)\)", (ROOT / "docs" / "README.md").read_text("utf-8"))}
    assert {path.name for path in DOCS} - {"README.md"} <= listed


def test_the_close_codes_are_documented_as_the_server_has_them():
    protocol = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d{4}) \| (.+) \|$", protocol, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == CLOSE_CODES
