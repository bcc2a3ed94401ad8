"""Which GPU a worker takes, where several work on one machine."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import torch

#: Most workers on one GPU, where nobody says how many.
_PLACES = 64


def count_gpus() -> int:
    """CUDA devices that this process may use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def workers_for(trials_per_gpu: int) -> int:
    """Workers of this machine, if so many share each GPU.

    Raises:
        ValueError: If there is no GPU.
    """
    if not (count := count_gpus()):
        raise ValueError("--trials-per-gpu needs a GPU, but torch finds none; use --workers.")
    return trials_per_gpu * count


@contextmanager
def free_device(folder: Path | None = None, places: int | None = None) -> Iterator[str]:
    """Keep the CUDA device that the fewest workers of this user have; `"cpu"` if there is none.

    A worker holds a place on its GPU by a lock on a file, which ends with its process. Devices are
    those that `CUDA_VISIBLE_DEVICES` leaves.

    Args:
        folder: Of the lock files; the machine's folder for temporary files by default.
        places: Most workers of this user on one GPU.

    Raises:
        ValueError: If all places are taken.
    """
    count, places = count_gpus(), places or _PLACES
    if not count:
        yield "cpu"
        return
    folder = folder or Path(tempfile.gettempdir())
    for place, number in product(range(places), range(count)):
        lock = _take(folder / f"rfsearch-{os.getuid()}-{_identity(number)}-{place}.lock")
        if lock is not None:
            try:
                yield f"cuda:{number}"
            finally:
                os.close(lock)
            return
    raise ValueError(f"All {count} GPUs have {places} workers each; use --device.")


def _identity(number: int) -> str:
    """Of the physical device, since processes may number theirs differently."""
    return str(torch.cuda.get_device_properties(number).uuid)


def _take(path: Path) -> int | None:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW  # Others may put links into this folder.
    lock = os.open(path, flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
