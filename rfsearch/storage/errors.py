"""When the database of a study fails."""

from __future__ import annotations


class DatabaseLostError(RuntimeError):
    """The database cannot be used any more; the message is one line that holds no password."""
