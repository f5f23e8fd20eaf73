from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from syndarix_rt.events import CORE_TYPES
from syndarix_rt.playback import read_lines, read_recording
from syndarix_rt.simulation import validate

SAMPLES = Path(__file__).parents[1] / "sample_data"
ROWS = dict(re.findall(r"^\| `(\S+)` \| (\w*) \|", (SAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
MADE = sorted(path for path in SAMPLES.iterdir() if path.name not in (".gitattributes", "README.md", "make.py"))
RECORDINGS = [path for path in MADE if ".jsonl" in path.suffixes]


def content(path):
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def test_the_readme_names_everything_that_is_there_with_its_sum():
    assert {name: ROWS[name] for name in sorted(ROWS)} == {
        path.name: hashlib.sha256(content(path)).hexdigest() for path in MADE
    }
    assert len(RECORDINGS) >= 2


def test_making_the_samples_again_gives_the_same_bytes(tmp_path):
    again = tmp_path / "sample_data"
    again.mkdir()
    for name in ("README.md", "make.py"):
        shutil.copy(SAMPLES / name, again)
    done = subprocess.run([sys.executable, again / "make.py"], timeout=100, check=True, capture_output=True, text=True)
    assert (len(done.stdout.splitlines()), done.stderr) == (len(MADE), "")
    for path in (*MADE, SAMPLES / "README.md"):
        assert content(again / path.name) == content(path), f"{path.name} is not what its command makes: make samples"


def test_the_samples_are_small():
    assert sum(path.stat().st_size for path in MADE) < 2_000_000


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name)
def test_a_recording_is_valid(path):
    assert not validate(line.rstrip(b"\n") for line in read_lines(path)).violations


@pytest.mark.parametrize("name", ["ci_outage", "incident_storm", "provider_brownout"])
def test_a_recording_of_a_fault_shows_what_comes_after_it(name):
    events = list(read_recording(SAMPLES / f"{name}.jsonl.gz"))
    (end,) = (event.time for event in events if event.type == "fault_ended")
    assert events[-1].time - end > timedelta(minutes=30), "raise --events in the README of the samples"


def test_the_demo_has_every_core_type():
    types = {event.type for event in read_recording(SAMPLES / "demo_small.jsonl")}
    assert types >= set(CORE_TYPES)
