"""The objectives of a study as columns of its table of trials.

What rfsearch can optimise has a column of its own, which knows baselines and controls too. Other
objectives have Optuna's names for them: `values_NAME`, or `values_1` for the second without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from rfsearch.analysis.erf_effect import candidates
from rfsearch.search.objectives import DIRECTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import optuna
    from optuna.trial import FrozenTrial

    from rfsearch.analysis.pareto import Direction


def objectives_of(study: optuna.Study) -> dict[str, Direction]:
    """The columns with the study's objectives, as `with_objectives` has them.

    Returns:
        Columns in the order of the objectives, the score's first, with their directions.
    """
    return {
        column: "maximize" if direction.name == "MAXIMIZE" else "minimize"
        for column, direction in zip(_columns(study), study.directions, strict=True)
    }


def with_objectives(
    frame: pd.DataFrame, study: optuna.Study, trials: Sequence[FrozenTrial]
) -> pd.DataFrame:
    """The table with a column for each objective of its study, after that of the first.

    Args:
        frame: One row for each trial, with `value`, `baseline` and `control`.
        study: The study.
        trials: Its trials.
    """
    has_result = frame["value"].notna() & frame.index.isin(candidates(frame).index)
    added = {}
    for place, column in enumerate(_columns(study)):
        if place:
            values = [
                trial.values[place] if known else None
                for trial, known in zip(trials, has_result, strict=True)
            ]
            own = pd.Series(values, dtype="Float64")
            added[column] = frame[column].fillna(own) if column in frame.columns else own
    new = [name for name in added if name not in frame.columns]
    first = list(frame.columns).index("value") + 1
    for place, name in enumerate(new, start=first):
        frame.insert(place, name, added[name])
    return frame.assign(**added)


def _columns(study: optuna.Study) -> list[str]:
    names = study.metric_names or [""] * len(study.directions)
    columns = ["value"]
    for place, name in enumerate(names[1:], start=1):
        if name in DIRECTIONS and name != "score" and name not in columns:
            columns.append(name)
        else:
            columns.append(f"values_{name or place}")
    return columns
