"""What files may ask for at most, so that none of them exhausts the machine.

Each limit is far beyond sensible use. What several numbers ask for together, such as the memory
of all images, is estimated before it is allocated.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sized
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Annotated

from pydantic import Field

#: Of images, in px.
MAX_SIDE = 8192
ImageSide = Annotated[int, Field(ge=1, le=MAX_SIDE)]
#: Images, or trials.
MAX_AMOUNT = 10_000_000
Amount = Annotated[int, Field(ge=1, le=MAX_AMOUNT)]
#: Images per update.
BatchSize = Annotated[int, Field(ge=2, le=65_536)]
Epochs = Annotated[int, Field(ge=1, le=1_000_000)]
#: Updates of the weights.
Steps = Annotated[int, Field(ge=1, le=1_000_000_000)]
#: Of a training: at most a year.
Seconds = Annotated[float, Field(gt=0, le=366 * 86_400)]
#: Of random numbers; NumPy and torch both take 32 bits.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
#: Of a file of annotations, which becomes about ten times as much in memory.
MAX_TEXT_BYTES = 2**32
#: Side of the input of a network that is traced or measured, in px: memory bounds it further.
MAX_INPUT_SIDE = 1_000_000
#: Of an image: hyperspectral ones have some hundreds.
MAX_CHANNELS = 4096
#: Images that pass through a network at once, where it is timed.
MAX_BATCH_SIZE = 65_536
#: For which one batch size is timed, in s.
MAX_TIMED_SECONDS = 3600
#: In px; which of its pixels are touched is held as a mask.
MAX_RECEPTIVE_FIELD = 1_000_000

#: Combinations of options that are held in memory one by one.
_MAX_COMBINATIONS = 100_000


def check_combinations(what: str, *options: Sized) -> None:
    """Refuse more combinations of options than can be listed.

    Args:
        what: What is combined.
        options: The options of each choice.

    Raises:
        ValueError: If there are too many.
    """
    number = prod(len(of_one) for of_one in options)
    if number > _MAX_COMBINATIONS:
        raise ValueError(
            f"{what} may have {_MAX_COMBINATIONS:,} combinations at most, but got {number:,}."
        )


def check_memory(num_bytes: float, what: str) -> None:
    """Refuse to allocate more memory than this machine has.

    Args:
        num_bytes: How much will be needed at least.
        what: What for, as the subject of a sentence in the plural.

    Raises:
        ValueError: If that is more than there is.
    """
    there_is = machine_memory()
    if num_bytes > there_is:
        raise ValueError(
            f"{what} must fit into the memory of this machine, {there_is / 1e9:,.1f} GB, but need "
            f"{num_bytes / 1e9:,.1f} GB or more."
        )


def machine_memory() -> int:
    """Bytes of memory of this machine; of the container or the process if that may have fewer."""
    most = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        limit, _ = resource.getrlimit(kind)
        most += [] if limit == resource.RLIM_INFINITY else [limit]
    with suppress(OSError):
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        most += [int(text)] if text.isdigit() else []
    return min(most)
