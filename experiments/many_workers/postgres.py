"""A real PostgreSQL server on the loopback interface, for the tests and the benchmark."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def server_programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`, if a server is installed."""
    found = shutil.which("pg_ctl")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    programs = [Path(found).resolve()] if found else installed[::-1]
    return programs[0].parent if programs else None


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class PostgresServer:
    """A server with its data in a temporary folder; `url` has a password."""

    password = "s3cret-p4ssw0rd"

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        self.port = unused_port()
        # The server refuses to run as the administrator.
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user is not None:
            owner = pwd.getpwnam(self.user)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        password_file = folder / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o644)
        self._run(
            "initdb", "-D", "data", "-U", "rfsearch", "-A", "scram-sha-256",
            f"--pwfile={password_file}", "--no-sync",
        )  # fmt: skip

    @property
    def url(self) -> str:
        """Address of its database, with the password."""
        return f"postgresql://rfsearch:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop: `"fast"` ends all sessions in order, `"immediate"` is a crash."""
        self._run("pg_ctl", "-D", "data", "-m", mode, "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        done = subprocess.run(
            command,
            cwd=self.folder,
            user=self.user,
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "output").open("a"),
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (self.folder / "output").read_text()[-2000:]


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A running server.

    Raises:
        FileNotFoundError: If none is installed.
    """
    programs = server_programs()
    if programs is None:
        raise FileNotFoundError("no PostgreSQL server (pg_ctl) is installed")
    with tempfile.TemporaryDirectory(prefix="rfsearch-pg-") as name:
        server = PostgresServer(programs, Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
