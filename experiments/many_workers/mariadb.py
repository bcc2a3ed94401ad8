"""A real MariaDB server on the loopback interface, which speaks MySQL, for the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
from postgres import unused_port


class MariaServer:
    """A server with its data in a temporary folder; `url` has a password."""

    password = "s3cret-p4ssw0rd"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = unused_port()
        data = folder / "data"
        install = shutil.which("mariadb-install-db")
        assert install is not None
        command = [install, "--no-defaults", f"--datadir={data}", "--skip-test-db"]
        # The server runs as whoever owns its data, the administrator included.
        self._user = ["--user=root"] if os.geteuid() == 0 else []
        with self._log.open("a") as log:
            subprocess.run([*command, *self._user], stdout=log, stderr=log, check=True)
        (folder / "begin.sql").write_text(
            "CREATE DATABASE IF NOT EXISTS studies;\n"
            f"GRANT ALL ON studies.* TO 'rfsearch'@'%' IDENTIFIED BY '{self.password}';\n"
        )

    @property
    def url(self) -> str:
        """Address of its database, with the password."""
        return f"mysql://rfsearch:{self.password}@127.0.0.1:{self.port}/studies"

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        """Start, and wait until it answers.

        Raises:
            TimeoutError: If it does not within a minute.
        """
        server = shutil.which("mariadbd")
        assert server is not None
        options = {
            "datadir": self.folder / "data",
            "init-file": self.folder / "begin.sql",
            "socket": self.folder / "socket",
            "pid-file": self.folder / "pid",
            "bind-address": "127.0.0.1",
            "port": self.port,
        }
        command = [
            server,
            "--no-defaults",
            *(f"--{key}={value}" for key, value in options.items()),
        ]
        with self._log.open("a") as log:
            self._process = subprocess.Popen([*command, *self._user], stdout=log, stderr=log)
        end = time.monotonic() + 60
        while not self._answers():
            if time.monotonic() > end or self._process.poll() is not None:
                raise TimeoutError(self._log.read_text()[-2000:])
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            pymysql.connect(
                host="127.0.0.1",
                port=self.port,
                user="rfsearch",
                password=self.password,
                database="studies",
            ).close()
        except pymysql.err.OperationalError:
            return False
        return True

    def stop(self, mode: str = "fast") -> None:
        """Stop: `"fast"` ends all sessions in order, `"immediate"` is a crash."""
        self._process.send_signal(signal.SIGKILL if mode == "immediate" else signal.SIGTERM)
        self._process.wait(60)


@contextmanager
def mariadb() -> Iterator[MariaServer]:
    """A running server.

    Raises:
        FileNotFoundError: If none is installed.
    """
    if shutil.which("mariadbd") is None or shutil.which("mariadb-install-db") is None:
        raise FileNotFoundError("no MariaDB server (mariadbd) is installed")
    with tempfile.TemporaryDirectory(prefix="rfsearch-maria-") as name:
        server = MariaServer(Path(name))
        try:
            server.start()
            yield server
        finally:
            server.stop("immediate")
