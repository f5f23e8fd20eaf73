from __future__ import annotations

import gzip
import json
from functools import partial

import pytest
from command_line import call, run
from exporting import simulated

from syndarix_rt.playback import write_recording
from syndarix_rt.playback.exports import read_parquet


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "good.jsonl"
    write_recording(path, simulated(2_000))
    return path


@pytest.fixture
def cli(capsys):
    return partial(call, capsys)


@pytest.mark.parametrize("packing", ["plain", "packed", "piped"])
def test_a_recording_is_exported_from_a_file_a_packed_file_or_stdin(recording, tmp_path, packing):
    output, source = tmp_path / "a.parquet", recording
    if packing == "packed":
        source = tmp_path / "good.jsonl.gz"
        source.write_bytes(gzip.compress(recording.read_bytes()))
    stdin = {"input": recording.read_bytes(), "text": False} if packing == "piped" else {}
    done = run("export", "parquet", "-" if packing == "piped" else source, "-o", output, **stdin)
    assert (done.code, len(done.out), len(done.err)) == (0, 0, 0)
    assert b"".join(event.raw + b"\n" for event in read_parquet(output)) == recording.read_bytes()


@pytest.mark.parametrize(("name", "key"), [("ocel", "events"), ("perfetto", "traceEvents")])
def test_a_recording_is_exported_as_a_document(cli, recording, tmp_path, name, key):
    assert cli("export", name, recording, "-o", tmp_path / "a.json") == (0, "", "")
    assert len(json.loads((tmp_path / "a.json").read_bytes())[key]) >= 2_000


def test_an_export_of_a_recording_that_is_wrong_names_the_line_and_leaves_no_file(cli, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text("no event\n")
    code, out, err = cli("export", "ocel", bad, "-o", tmp_path / "a.json")
    assert (code, out) == (1, "")
    assert f"{bad}, line 1" in err
    assert list(tmp_path.iterdir()) == [bad]
    assert cli("export", "xes", bad, "-o", tmp_path / "a.json").code == 2
