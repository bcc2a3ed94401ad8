"""One row per trial and output map, for networks with a pyramid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from rfsearch.analysis.checked_trials import checked_trials

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

#: Columns beside the trial's number and the level's name, with their types.
_TYPES = {"stride": "Float64", "trf_size": "Int64", "erf_expected": "Float64"}


def levels_dataframe(study: optuna.Study) -> pd.DataFrame:
    """The output maps of all candidates: a row for each trial and level.

    Sizes are in px. Columns: `number`, `state`, `value` (as Optuna has it; the
    first of several objectives, which is the score), `level`; `stride`,
    `trf_size`, `erf_expected`; `erf_ratio_expected`; `part_low` and `part_high`, the object
    sizes that the level is for. Trials without the attribute `levels` have no row: a network with
    a single map is described by `rfsearch.trials_dataframe` alone.
    """
    rows = [row for trial in checked_trials(study) for row in _rows(trial)]
    names = ["number", "state", "value", "level", *_TYPES, "part_low", "part_high"]
    frame = pd.DataFrame(rows, columns=names).astype(
        {"state": "string", "value": "Float64", "level": "string"}
        | _TYPES
        | {"part_low": "Float64", "part_high": "Float64"}
    )
    frame.insert(7, "erf_ratio_expected", frame["erf_expected"] / frame["trf_size"])
    return frame


def _rows(trial: FrozenTrial) -> list[tuple[Any, ...]]:
    text = trial.user_attrs.get("levels")
    if text is None:
        return []
    value = trial.values[0] if trial.values else None
    return [
        (
            trial.number,
            trial.state.name,
            value,
            name,
            *(level.get(column) for column in _TYPES),
            *(level.get("part") or (None, None)),
        )
        for name, level in json.loads(text).items()
    ]
