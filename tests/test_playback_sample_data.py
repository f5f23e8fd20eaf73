from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from syndarix_rt.events import CORE_TYPES
from syndarix_rt.playback import read_lines, read_recording
from syndarix_rt.simulation import validate

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_data"
README = (SAMPLES / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^syndarix-rt (simulate .* -o (\S+))$", README, re.MULTILINE)
RECORDINGS = sorted(SAMPLES.glob("*.jsonl"))


def test_the_readme_says_of_every_recording_how_it_was_made_and_its_sum():
    assert RECORDINGS
    assert [ROOT / output for _, output in COMMANDS] == RECORDINGS
    for path in RECORDINGS:
        assert f"{path.name}` | {hashlib.sha256(path.read_bytes()).hexdigest()}" in README


@pytest.mark.parametrize(("command", "output"), COMMANDS)
def test_the_command_in_the_readme_makes_the_same_bytes_again(command, output, tmp_path):
    again = tmp_path / Path(output).name
    arguments = [*shlex.split(command)[:-1], str(again)]
    subprocess.run([sys.executable, "-m", "syndarix_rt", *arguments], cwd=tmp_path, timeout=60, check=True)
    assert again.read_bytes() == (ROOT / output).read_bytes()


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name)
def test_a_recording_is_valid_and_small(path):
    assert path.stat().st_size < 1_000_000
    report = validate(line.rstrip(b"\n") for line in read_lines(path))
    assert not report.violations


def test_the_demo_has_every_core_type():
    types = {event.type for event in read_recording(SAMPLES / "demo_small.jsonl")}
    assert types >= set(CORE_TYPES)
