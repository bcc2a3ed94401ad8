"""The address of a study's database, and how to speak of it without its password."""

from __future__ import annotations

from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

#: The scheme of Optuna's gRPC proxy, which is no database address of SQLAlchemy's.
GRPC = "grpc"
_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
}


def parse_url(text: str) -> URL:
    """Read an address such as `postgresql://user:password@host/database`.

    PostgreSQL and MySQL without a driver get the one that `rfsearch[postgresql]` and
    `rfsearch[mysql]` install.

    >>> parse_url("postgres://me:secret@db/studies")
    postgresql+psycopg://me:***@db/studies

    Raises:
        ValueError: If it is no address.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # The text may hold a password: it is not repeated.
        raise ValueError(
            "--storage must be an address such as postgresql://USER@HOST/DATABASE, "
            "mysql://USER@HOST/DATABASE, sqlite:///FILE or grpc://HOST:PORT, but it is none."
        ) from None
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def shown(url: URL) -> str:
    """The address for messages: no password, and no options, which may hold one too.

    >>> shown(parse_url("mysql://me:secret@db/studies?password=secret"))
    'mysql://me:***@db/studies'
    """
    plain = url.set(drivername=url.get_backend_name(), query={})
    return plain.render_as_string(hide_password=True)


def without_password(message: str, url: URL) -> str:
    """A database's own message on one line, should it ever repeat the password."""
    line = " ".join(message.split())
    secrets = {str(url.password)} if url.password else set()
    secrets |= {
        value for key, value in url.query.items() if isinstance(value, str) and "pass" in key
    }
    for secret in secrets | {quote(secret, safe="") for secret in secrets}:
        line = line.replace(secret, "***")
    return line
