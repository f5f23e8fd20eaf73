"""A real nginx in front of servers, on loopback and as the user who runs the tests, configured by `docs/nginx.conf`."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time

from system_tools import ROOT, require_tool

from syndarix_rt.ports import port_of

EXAMPLE = ROOT / "docs" / "nginx.conf"
CERTIFICATE = ROOT / "tests" / "localhost.pem"
START_S = 60

WHOLE = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
events {{ worker_connections 512; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {extra}
    include {directory}/site.conf;
}}
"""


class Nginx:
    """One that balances over servers; ``url`` and ``tls_url`` without a slash at their ends.

    Args:
        directory: an empty one, for its files.
        ports: of the two instances; twice the same for one alone.
        extra: further lines of configuration for all of it, such as a shorter timeout.
    """

    def __init__(self, directory, ports, *, extra=""):
        directory.mkdir()
        self.directory = directory
        port, tls_port = port_of(self), port_of(self)
        self.url, self.tls_url = f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls_port}"
        site = EXAMPLE.read_text("utf-8")
        for there, here in {
            "listen 80;": f"listen 127.0.0.1:{port};",
            "listen 443 ": f"listen 127.0.0.1:{tls_port} ",
            "server_name rt.example.org;": "server_name 127.0.0.1;",
            "server 127.0.0.1:8765 ": f"server 127.0.0.1:{ports[0]} ",
            "server 127.0.0.1:8766 ": f"server 127.0.0.1:{ports[1]} ",
            "/etc/ssl/certs/rt.example.org.pem": str(CERTIFICATE),
            "/etc/ssl/private/rt.example.org.pem": str(CERTIFICATE),
        }.items():
            assert site.count(there) == 1, f"{there!r} in {EXAMPLE.name}"
            site = site.replace(there, here)
        (directory / "site.conf").write_text(site, "utf-8")
        self._config = directory / "nginx.conf"
        self._config.write_text(WHOLE.format(directory=directory, extra=extra), "utf-8")

    def change(self, there, here):
        """Change the example before it is used."""
        path = self.directory / "site.conf"
        site = path.read_text("utf-8")
        assert site.count(there) == 1, there
        path.write_text(site.replace(there, here), "utf-8")

    def __enter__(self):
        command = [require_tool("nginx"), "-p", str(self.directory), "-c", str(self._config), "-e", "stderr"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(_address(self.url), timeout=1):
                return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise RuntimeError(f"nginx did not start: {self._process.communicate()[1].decode()}")
            time.sleep(0.01)

    def __exit__(self, *_):
        self._process.terminate()
        self._process.communicate()

    def answered(self):
        """Status of each request, from the access log."""
        return [
            int(line.split('" ')[1].split()[0]) for line in (self.directory / "access.log").read_text().splitlines()
        ]


def _address(url):
    host, _, port = url.partition("//")[2].partition(":")
    return host, int(port)
