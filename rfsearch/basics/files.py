"""Opening files that people give: regular files only, of a size that can be held."""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

from rfsearch.basics.limits import MAX_TEXT_BYTES

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
#: Bytes that tell most files apart.
_START = 2**14
#: Half of a character in JSON, which is no text where the other half is missing.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def real_path(path: Path) -> Path:
    """Where a path leads to; links that lead in a circle are left, to be refused when opened."""
    return Path(os.path.realpath(path))


def open_file(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes.

    Raises:
        ValueError: If there is none, or it cannot be read; it names the file.
    """
    try:
        # Without waiting for somebody to write into a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: what can be the name of no file.
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read ({reason}).") from None
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise ValueError(f"{path}: cannot be read (it is {_KINDS.get(kind, 'no file')}).")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path) -> bytes:
    """The content of a file of text, in whatever encoding.

    Raises:
        ValueError: If it cannot be read or is too large; it names the file.
    """
    with open_file(path) as file:
        # Not by reading so much: memory for all of it would be taken for the smallest file.
        if os.fstat(file.fileno()).st_size > MAX_TEXT_BYTES:
            raise ValueError(f"{path}: must have {MAX_TEXT_BYTES / 2**30:g} GiB at most.")
        return file.read()


def first_alike(files: Sequence[Path]) -> list[int]:
    """The index of the first file with the same bytes, for each file; only those there count.

    Files are read whole only where their sizes and their first bytes are those of another.
    """
    known: list[object] = [file.stat().st_size if file.is_file() else None for file in files]
    for most in (_START, -1):
        several = {one for one, number in Counter(known).items() if number > 1} - {None}
        for number, file in enumerate(files):
            if known[number] in several:
                with open_file(file) as opened:
                    known[number] = known[number], sha256(opened.read(most)).digest()
    seen: dict[object, int] = {}
    return [
        number if one is None else seen.setdefault(one, number) for number, one in enumerate(known)
    ]


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: If it cannot be read or is no text; it names the file.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8.") from None


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses document types, where entities are declared: no file of annotations has one.

    So no entity can be expanded, neither one of an external file (which the parser would not
    fetch anyway) nor a small one that grows to gigabytes.
    """

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called by the parser before it reads any declaration."""
        raise ValueError("it has a document type, which files of annotations have not")


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file, in the encoding that it states.

    Raises:
        ValueError: If it cannot be read or is no XML (it may be truncated); it names the file.
    """
    content = read_bytes(path)
    try:
        return ElementTree.fromstring(content, ElementTree.XMLParser(target=_NoDoctype()))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path}: not an XML file ({error}).") from None


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: If it cannot be read, is no JSON (it may be truncated), or has a text with half
            a character, which can neither be printed nor stored; it names the file.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end]
        raise ValueError(f"{path}: holds half a character, {half!a}.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file ({error}).") from None
    return content
