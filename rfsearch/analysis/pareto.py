"""The trials that no other trial beats in everything that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

Direction = Literal["maximize", "minimize"]


def pareto_front(frame: pd.DataFrame, objectives: Mapping[str, Direction]) -> pd.DataFrame:
    """The rows of a table of trials that are not dominated, in order of the first objective.

    A row dominates another if it is at least as good in all objectives and better in one. Rows
    that lack an objective do not take part; equal rows do not dominate each other.

    Args:
        frame: From `rfsearch.trials_dataframe`, or any other with these columns.
        objectives: Column to `"maximize"` or `"minimize"`, at least one.

    Raises:
        ValueError: If there is no objective, no such column, or another direction.
    """
    if not objectives:
        raise ValueError("`objectives` must name at least one column, but it is empty.")
    for column, direction in objectives.items():
        if column not in frame.columns:
            raise ValueError(f"`objectives` must name columns of the frame, but got {column!r}.")
        if direction not in ("maximize", "minimize"):
            raise ValueError(
                f"`objectives` must be 'maximize' or 'minimize', but got {direction!r} for "
                f"{column!r}."
            )
    known = frame.dropna(subset=list(objectives))
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in objectives.values()]
    losses = known[list(objectives)].to_numpy(dtype=float) * signs
    front = known[undominated(losses)]
    first, direction = next(iter(objectives.items()))
    return front.sort_values(first, ascending=direction == "minimize", kind="stable")


def undominated(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows no other row dominates; smaller is better. Equal rows do not dominate."""
    # A row can only be dominated by one that precedes it in lexicographic order.
    order = np.lexsort(losses.T[::-1])
    undominated = np.zeros(len(losses), dtype=bool)
    front = np.empty((0, losses.shape[1]))
    for row in order:
        loss = losses[row]
        beaten = (front <= loss).all(axis=1) & (front < loss).any(axis=1)
        if not beaten.any():
            undominated[row] = True
            front = np.vstack([front, loss])
    return undominated
