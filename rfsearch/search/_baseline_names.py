"""Lists of networks of timm to train beside the candidates of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from rfsearch.basics.validation import FrozenData, parse, read_toml
from rfsearch.space.space import BASELINES, shipped_files


class BaselineList(FrozenData):
    """The contents of a file with baselines.

    Attributes:
        models: Names in timm.
    """

    models: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


def baseline_names(baselines: str | tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """The names that an experiment's `baselines` stands for.

    Args:
        baselines: Names in timm; or a TOML file with a list `models`, as a path from `folder`, or
            `"baselines"` for the list that comes with the package.
        folder: The experiment's.

    Raises:
        ValueError: If there is no such file, or it is no such list.
    """
    if not isinstance(baselines, str):
        return baselines
    if baselines.endswith(".toml"):
        path = folder / baselines
    elif baselines == BASELINES:
        path = shipped_files()[BASELINES]
    else:
        raise ValueError(
            f"`baselines` must be a list of names in timm, a .toml file or {BASELINES!r}, but got "
            f"{baselines!r}."
        )
    return parse(BaselineList, read_toml(path), path.name).models
