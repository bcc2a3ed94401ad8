"""Reading images as a search will, with the first split that leaves objects in both parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfsearch.basics.validation import parse
from rfsearch.data.tiles import NoSplitError
from rfsearch.planning._found import Found
from rfsearch.planning._sizing import MULTIPLE, SMALLEST_TILE, Sizing
from rfsearch.search.config import ExperimentConfig

if TYPE_CHECKING:
    from rfsearch.data.datasets import TaskData

#: From so many images on, whole ones validate.
FEWEST_TO_SPLIT = 5
#: Share of the images, or of their area, that validates.
VALID_SHARE = 0.25
#: Seeds of a split that are tried.
_SEEDS = 5


def load(
    found: Found, files: dict[str, Any], sizing: Sizing, stage: Path
) -> tuple[TaskData, dict[str, Any], Sizing]:
    """Read the images; also gives the table `[data]`, and the sizing with the tiles' side.

    Args:
        found: The data.
        files: What the table says of files.
        sizing: At which resolution to look.
        stage: The experiment's folder.

    Raises:
        ValueError: If an image cannot be read, or no split leaves something in both parts.
    """
    first = ""
    for tried in _tries(found, sizing):
        table = files | tried
        config = parse(ExperimentConfig, {"space": "toy", "data": table}, "[data]")
        try:
            loaded = config.data.load(stage)
        except NoSplitError as error:
            first = first or str(error).partition(": ")[2]
            continue
        return loaded, table, replace(sizing, input_size=table["image_size"])
    raise ValueError(f"{found.source}: cannot be split into images to train and to validate with, "
                     f"whichever way: {first}")  # fmt: skip


def _tries(found: Found, sizing: Sizing) -> Iterator[dict[str, Any]]:
    """Tables without files, the best first."""
    side, number = sizing.input_size, len(found.files)
    if found.kind == "classification":
        yield {"image_size": side}
        return
    common = {"scale": sizing.scale, "valid_share": VALID_SHARE}
    if found.valid:
        yield {"image_size": side, **common, "split": "images", "valid": list(found.valid)}
        return
    whole = [{"image_size": side, **common, "split": "images", "seed": n} for n in range(_SEEDS)]
    if number >= FEWEST_TO_SPLIT:
        yield from whole
        return
    sides = [side, *range(side - MULTIPLE, SMALLEST_TILE - 1, -MULTIPLE)]
    holding = [one for one in sides if one == side or one >= sizing.longest]
    yield from _parts(holding, common)
    if number > 1:
        yield from whole
    yield from _parts([one for one in sides if one not in holding], common)  # Objects are cut.


def _parts(sides: list[int], common: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for side in sides:
        for seed in range(_SEEDS):
            yield {"image_size": side, **common, "split": "areas", "seed": seed}
