"""The objectives of a study as columns of its table of trials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from rfsearch.analysis.erf_effect import candidates
from rfsearch.search.objectives import DIRECTIONS

if TYPE_CHECKING:
    import optuna

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


def with_objectives(frame: pd.DataFrame, study: optuna.Study) -> pd.DataFrame:
    """The table with a column for each objective of its study.

    What rfsearch can optimise has a column already, which knows baselines and controls too. An
    objective of somebody else's study gets one, by its number and its name if it has one.

    Args:
        frame: The study's `rfsearch.trials_dataframe`.
        study: The study.
    """
    trials = study.get_trials(deepcopy=False)
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
    return frame.assign(**added)


def _columns(study: optuna.Study) -> list[str]:
    names = study.metric_names or [""] * len(study.directions)
    columns = ["value"]
    for place, name in enumerate(names[1:], start=2):
        if name in DIRECTIONS and name != "score" and name not in columns:
            columns.append(name)
        else:
            columns.append(f"objective {place}: {name}" if name else f"objective {place}")
    return columns
