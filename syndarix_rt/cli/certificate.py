"""A certificate that nobody has signed, to try a server over TLS: browsers speak HTTP/2 over nothing else."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from pathlib import Path

from syndarix_rt.errors import SyndarixError
from syndarix_rt.state import private_dir, write_private

__all__ = ["self_signed"]

DAYS = 30
"""A demo is over by then; a new one is made at every start."""

OPENSSL_S = 20.0
"""It takes a tenth of a second."""


def self_signed(host: str) -> Path:
    """Make a certificate with its key, for a host and this machine's own names; the file (PEM, readable by its user).

    Raises:
        SyndarixError: there is no openssl here, or it refuses.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise SyndarixError("openssl is needed to make a certificate: install it, or give one with --tls-cert FILE")
    names = dict.fromkeys(["localhost", "127.0.0.1", "::1", host])
    subjects = ",".join(f"{_kind(name)}:{name}" for name in names if name not in ("", "0.0.0.0", "::"))  # noqa: S104 - not bound to
    path = private_dir("tls") / "self-signed.pem"
    command = [
        *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", str(DAYS), "-subj", "/CN=Syndarix RT", "-addext", f"subjectAltName={subjects}"),
        *("-keyout", "-", "-out", "-"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, timeout=OPENSSL_S, check=False)  # noqa: S603 - our own words
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SyndarixError(f"{openssl} cannot make a certificate: {error}") from error
    if done.returncode:
        raise SyndarixError(f"{openssl} cannot make a certificate: {done.stderr.decode(errors='replace').strip()}")
    write_private(path, done.stdout)
    return path


def _kind(name: str) -> str:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "DNS"
    return "IP"
