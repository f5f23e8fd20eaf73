"""A certificate authority of a test's own."""

from __future__ import annotations

import subprocess

from system_tools import require_tool

OPENSSL_S = 60
# Complete enough for the strict checks that Python makes from 3.13 on.
EXTENSIONS = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[signed]
basicConstraints = critical, CA:FALSE
authorityKeyIdentifier = keyid
subjectAltName = {subject}
"""


class Authority:
    """Signs certificates; nobody trusts it who was not given ``certificate``."""

    def __init__(self, directory):
        self._openssl = require_tool("openssl")
        self._directory = directory
        self.certificate = self._make("authority", "-extensions", "authority")

    def signed(self, name, subject="IP:127.0.0.1"):
        """A certificate and its key, in one file."""
        return self._make(
            name, *("-extensions", "signed", "-CA", self.certificate, "-CAkey", self.certificate), subject=subject
        )

    def _make(self, name, *options, subject="IP:127.0.0.1"):
        config, path = self._directory / f"{name}.conf", self._directory / f"{name}.pem"
        config.write_text(EXTENSIONS.format(subject=subject))
        done = subprocess.run(
            [
                *(self._openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-nodes", "-days", "2", "-subj", f"/CN={name}", "-config", config, "-keyout", "-", "-out", "-"),
                *options,
            ],
            capture_output=True,
            timeout=OPENSSL_S,
            check=True,
        )
        path.write_bytes(done.stdout)
        return path
