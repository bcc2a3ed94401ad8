"""Candidates that have been trained, all of a space with several seeds, as tables."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pandas as pd


def trained_table(name: str) -> pd.DataFrame:
    """All trainings of one of the experiments that train every candidate of a space.

    Searches can be replayed on it in seconds: a sampler's proposals are looked up. What was
    trained, and how, is in `experiments/trained_tables/README.md`.

    Args:
        name: One of `trained_tables()`.

    Returns:
        A row for each training: a column for each parameter, `seed`, `score` (higher is better),
        and costs and fields as in `trials_dataframe`. Parameters are as the space offers them.

    Raises:
        ValueError: If there is no such table.
    """
    tables = _tables()
    if name not in tables:
        raise ValueError(f"`name` must be one of {', '.join(tables)}, but got {name!r}.")
    table = pd.read_csv(tables[name])
    mixed = table.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]]
    return table.assign(**{choice: table[choice].map(_as_offered) for choice in mixed})


def trained_tables() -> tuple[str, ...]:
    """Names of the tables that `trained_table` gives."""
    return tuple(_tables())


def _as_offered(value: str) -> str | int:
    """A choice as the space has it, where others of the same column are words: 3 beside 3x9."""
    return int(value) if value.isdigit() else value


def _tables() -> dict[str, Path]:
    """The tables that come with the package, or lie in the experiments of a checkout."""
    package = Path(str(files("rfsearch")))
    folders = (package, package.parent / "experiments")
    found = (sorted((folder / "trained_tables").glob("*.csv.gz")) for folder in folders)
    return {path.name.partition(".")[0]: path for path in next(filter(None, found), [])}
