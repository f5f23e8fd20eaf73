"""Makes what lies here again: runs the commands of README.md, then writes the sums of their files into its table."""

from __future__ import annotations

import gzip
import hashlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
COMMAND = re.compile(r"^syndarix-rt (.* -o sample_data/.*)$", re.MULTILINE)
ROW = re.compile(r"^\| `(\S+)` \| ?\w* ?\|", re.MULTILINE)


def with_sum(row: re.Match[str]) -> str:
    """A row of the table with the sum of what is in its file, unpacked: programs differ in how they pack."""
    path = HERE / row[1]
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return f"| `{path.name}` | {hashlib.sha256(content).hexdigest()} |"


text = README.read_text(encoding="utf-8")
for command in COMMAND.findall(text):
    print("syndarix-rt", command, flush=True)  # noqa: T201 - a script that says what it does
    arguments = [sys.executable, "-m", "syndarix_rt", *shlex.split(command)]
    done = subprocess.run(arguments, check=False, cwd=HERE.parent, capture_output=True, text=True)  # noqa: S603 - commands of our own README
    if done.returncode:
        sys.exit(done.stderr)
README.write_text(ROW.sub(with_sum, text), encoding="utf-8")
