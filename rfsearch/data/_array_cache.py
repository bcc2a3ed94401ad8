"""A cache of decoded images in files, of which only the parts that are asked for are read.

An image is decoded once on a machine: then all processes there, those of later searches too, read
parts of it without decoding the rest, and share the memory in which the operating system keeps
what was read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from platformdirs import user_cache_path

from rfsearch.basics.atomic import NotWrittenError, atomic_file
from rfsearch.data.loading_errors import LoadingError

#: Variable of the environment with the folder that the cache is in.
CACHE_VARIABLE = "RFSEARCH_CACHE"
#: Of what the arrays hold: to be raised when files are read in another way.
_VERSION = 2


@dataclass(frozen=True)
class ArrayFile:
    """An array in a file.

    Attributes:
        file: In NumPy's format.
        shape: Of the array.
    """

    file: Path
    shape: tuple[int, ...]

    def __getitem__(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the array.

        Raises:
            LoadingError: If the file is not there any more, or broken.
        """
        try:
            return np.array(open_memmap(self.file, mode="r")[part])
        except Exception as error:  # A broken header makes NumPy raise many kinds.
            raise LoadingError(f"{self.file}: cannot be read from the cache ({error}).") from None


def cached_array(source: Path, what: str, read: Callable[[], NDArray[Any]]) -> ArrayFile:
    """What was read from a file, in the cache.

    Args:
        source: The file. The cache holds what was read of it as long as it does not change.
        what: What of it, and all that decides on how it is read.
        read: Reads it, where the cache does not have it.

    Raises:
        ValueError: What `read` raises, or that the cache cannot be written.
    """
    status = source.stat()
    # Of Pillow's version, since decoders and filters may round differently in another.
    key = [PIL.__version__, what, str(source.resolve()), status.st_size]
    # The time of modification alone may be that of another file, as archives and copies set it.
    key += [status.st_mtime_ns, status.st_ctime_ns]
    return _cached(json.dumps(key), read)


def cached_result(
    arrays: Iterable[ArrayFile], what: str, compute: Callable[[], NDArray[Any]]
) -> ArrayFile:
    """What was computed from arrays in the cache, in the cache as well.

    Args:
        arrays: The arrays.
        what: What of them, and all that decides on it.
        compute: Computes it, where the cache does not have it.

    Raises:
        ValueError: What `compute` raises, or that the cache cannot be written.
    """
    return _cached(json.dumps([what, *(array.file.name for array in arrays)]), compute)


def _cached(key: str, make: Callable[[], NDArray[Any]]) -> ArrayFile:
    digest = hashlib.sha256(f"{_VERSION} {key}".encode()).hexdigest()
    file = cache_folder() / digest[:2] / f"{digest[2:]}.npy"
    shape = _shape(file)
    if shape is None:
        array = make()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(file) as new:
                np.save(new, array)
        except OSError as error:
            reason = error.reason if isinstance(error, NotWrittenError) else error.strerror
            raise ValueError(
                f"{file.parent}: the cache of images cannot be written ({reason}): set "
                f"{CACHE_VARIABLE} to a folder with enough room, or `in_memory = true`."
            ) from None
        shape = array.shape
    return ArrayFile(file, shape)


def cache_folder() -> Path:
    """Where arrays are: in the folder that `RFSEARCH_CACHE` names, or the user's for caches."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return (Path(chosen) if chosen else user_cache_path("rfsearch")) / "images"


def _shape(file: Path) -> tuple[int, ...] | None:
    """Of the array in a file; None where there is none, or a broken one."""
    try:
        shape: tuple[int, ...] = open_memmap(file, mode="r").shape
    except Exception:  # Of many kinds, where a header is broken.
        return None
    return shape
