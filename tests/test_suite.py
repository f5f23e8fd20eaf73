"""The suite's own promises: a missing tool is listed and fails in CI, and what a test leaves behind is found."""

import os
import subprocess
import sys
from pathlib import Path

from system_tools import ROOT

SAMPLE = """
import asyncio, subprocess
LEFT = []
from system_tools import require_tool

def test_that_needs_nginx():
    require_tool("nginx")

def test_that_leaves_a_process():
    LEFT.append(subprocess.Popen(["sleep", "60"]))

async def test_that_leaves_a_task():
    asyncio.create_task(asyncio.sleep(60), name="left-over")

def test_that_is_fine(state_dir):
    assert not state_dir.exists()
"""


def run_sample(directory, *arguments, **environment):
    """Exit code and output of pytest over `SAMPLE` with this suite's conftest, on a machine without nginx."""
    path = directory / "test_sample.py"
    path.write_text(SAMPLE)
    (directory / "nowhere.py").write_text(
        "import system_tools\nsystem_tools.TOOLS['nginx'] = system_tools.Tool(('no-such-program',), 'not used')\n"
    )
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", directory]
    command += ["-p", "conftest", "-p", "nowhere", "-p", "no:cacheprovider", *arguments, path]
    search = os.pathsep.join([str(ROOT / "tests"), str(directory)])
    done = subprocess.run(
        command,
        cwd=directory,
        env=os.environ | {"PYTHONPATH": search} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_missing_tool_is_listed_and_what_a_test_leaves_is_found(tmp_path: Path):
    code, out = run_sample(tmp_path, CI="")
    assert code == 1
    assert "3 passed, 1 skipped, 2 errors" in out
    assert "1 for nginx: apt-get install nginx" in out.partition("skipped for lack of a tool")[2]
    assert "ERROR at teardown of test_that_leaves_a_process" in out
    assert "sleep 60" in out
    assert "ERROR at teardown of test_that_leaves_a_task" in out
    assert "left-over" in out


def test_in_ci_a_skip_is_a_failure(tmp_path: Path):
    code, out = run_sample(tmp_path, "-k", "nginx or fine", CI="true")
    assert code == 1
    assert "needs nginx (with CI=true a skip is a failure)" in out
    assert "1 failed, 1 passed, 2 deselected" in out
