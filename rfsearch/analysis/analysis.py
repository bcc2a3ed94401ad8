"""Trials as a tidy table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from optuna.study import StudyDirection
from optuna.trial import TrialState

from rfsearch.analysis.checked_trials import ALONG_AXES, ATTRIBUTES, SCORES, checked_trials
from rfsearch.analysis.objective_columns import with_objectives
from rfsearch.analysis.pareto import undominated
from rfsearch.search.promotion import goes_on
from rfsearch.space.trial_attributes import (
    BASELINE,
    CONTROL,
    ENVIRONMENT,
    PROMOTED_FROM,
    REFERENCE_SCORE,
    attribute,
    judged_axes,
)
from rfsearch.space.trial_gates import CONSTRAINT_KEYS

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

#: ERF ratios and the sizes that they are ratios of.
_RATIOS = {
    "erf_ratio": "erf_init",
    "erf_ratio_expected": "erf_expected",
    "erf_ratio_trained": "erf_trained",
}


def trials_dataframe(study: optuna.Study) -> pd.DataFrame:
    """One tidy row per trial, with the same typed columns whatever the task and the trials.

    Sizes are in px; what a trial has not is missing. Choices of a parameter that cannot be
    compared, such as numbers and names, are text. A trial that cannot be read, or whose attributes
    are of other kinds than what this program writes, is named in a warning; its row says no more
    than that it has failed. The columns, beside one for each parameter:

    - `number`, `state`, and `value`, the score of candidates trained to the end, which is the
      first of several objectives; others that have no column below follow as Optuna names them,
      `values_NAME` or `values_1`;
    - `metric`, what that is: `accuracy`, `miou` (mean intersection over union) or `ap` (COCO's
      average precision);
    - `score_small`, `score_medium`, `score_large`: the same for objects below 32 px, below 96 px
      and above, at the network's input resolution: the accuracy on images of such an object, the
      share of such objects most of whose pixels are right, or their average precision;
    - `ap50`: average precision at an overlap of 50 %;
    - `trf_size`, and `erf_expected`, `erf_init`, `erf_trained`: closed form, measured before and
      after training;
    - `erf_ratio_expected`, `erf_ratio` (before training), `erf_ratio_trained`: the same over
      `trf_size`;
    - `erf_sigma_expected`, `erf_sigma_init`, `erf_sigma_trained`: RMS radius per axis of the
      squared gradient, and `erf_half_expected`, `erf_half_init`, `erf_half_trained`: side of the
      square that holds half of the gradient, which small networks do not fill; both are missing
      where candidates differ between axes;
    - where candidates differ between axes, sizes, ratios and `output_stride` for each, such as
      `trf_height`, `erf_expected_height`, `erf_ratio_width`: theirs are missing in the columns
      above, and there are no such columns where no candidate does;
    - `erf_clipped`: share of the receptive field outside the measured input;
    - `skipped`: share of the units of a map along an axis that nothing behind it reads, in the map
      where it is largest;
    - `output_stride`, `params_m` (millions), `flops_g` (10^9, a multiply-add is two),
      `training_memory_mb` (MiB that an update of the weights is estimated to need),
      `train_seconds`, `seed`;
    - `device`: name of what trained it; `batch_halved`: true where its memory was too small for
      whole batches, so that batch statistics are those of halves;
    - `latency_ms` and `peak_memory_mb` of one image, where candidates are timed;
    - `erf_misfit`: octaves from `erf_trained` to the middle of the range that fits, where it is an
      objective;
    - `baseline`: name in timm of a network that is no candidate: it has no parameters and no
      expected ERF, and is no result of the search;
    - `control`: true for a candidate that does not fit, and was trained beside the search to show
      whether the range is right; it is no result of the search either;
    - `duplicate_of`: number of the trial with the same architecture whose results it repeats;
    - `retry_of`: number of the first of this candidate's trials, which ended with its worker or
      was stopped by the pruner;
    - `promoted_from`: number of the trial of the same candidate that the pruner had stopped, and
      that this one went on from when it had turned out to be promising: `train_seconds` are those
      since; and `promoted_to` in the other one's row, where that is no result of the search;
    - `levels`: JSON with the receptive fields of every output map, where there are several; the
      other columns are of the last;
    - `findings`: kinds of what `diagnose` finds in closed form, separated by commas;
    - `global_layers`: parts that mix the whole image, likewise; the sizes are those of the local
      field;
    - `rejected_by`: `theoretical`, `output_stride`, `parameters`, `flops`,
      `training_memory`, `finest_stride`, `gridding`, `skipped`, `expected`, `measured`, `latency`,
      `memory`, `pruner`, `space`, `training`, `baseline`, or missing; and `reason`;
    - the constraints in octaves, and `feasible`: whether all of them are at most 0;
    - `pareto`: of candidates trained to the end that fit, whether no other is better in one of the
      study's objectives and as good in all; with one objective, whether it is the best;
    - `duration_seconds`.
    """
    trials = checked_trials(study)
    axes = dict.fromkeys(axis for trial in trials for axis in judged_axes(trial) if axis)
    columns: dict[str, pd.Series[Any]] = {
        "number": pd.Series([trial.number for trial in trials], dtype="int64"),
        "state": pd.Series([trial.state.name for trial in trials], dtype="string"),
        "value": pd.Series([_value(trial) for trial in trials], dtype="Float64"),
    }
    for name, dtype in SCORES.items():
        columns[name] = _attribute(trials, name, dtype)
    for name in _parameter_names(trials):
        columns[name] = _choices([_params(trial).get(name) for trial in trials])
    for name, dtype in ATTRIBUTES.items():
        columns[name] = _attribute(trials, name, dtype)
        if name == "erf_trained":
            for ratio, size in _RATIOS.items():
                columns[ratio] = columns[size] / columns["trf_size"]
            for axis in axes:
                columns |= _along(trials, axis)
        elif name == "seed":
            devices = [_device(trial) for trial in trials]
            columns["device"] = pd.Series(devices, dtype="string")
        elif name == BASELINE:
            controls = [CONTROL in trial.user_attrs for trial in trials]
            columns["control"] = pd.Series(controls, dtype="bool")
        elif name == PROMOTED_FROM:
            columns["promoted_to"] = _promoted_to(trials)
    for key in CONSTRAINT_KEYS.values():
        values = [trial.constraints.get(key) for trial in trials]
        columns[key] = pd.Series(values, dtype="Float64")
    columns["feasible"] = pd.Series([_feasible(trial) for trial in trials], dtype="boolean")
    columns["pareto"] = _pareto(study.directions, trials)
    columns["duration_seconds"] = pd.Series(
        [_duration(trial) for trial in trials], dtype="Float64"
    )
    return with_objectives(pd.DataFrame(columns), study, trials)


def _along(trials: list[FrozenTrial], axis: str) -> dict[str, pd.Series[Any]]:
    """Columns of one axis, of candidates whose axes differ."""
    columns = {
        attribute(name, axis): _attribute(trials, attribute(name, axis), dtype)
        for name, dtype in ALONG_AXES.items()
    }
    for ratio, size in _RATIOS.items():
        of_axis = columns[attribute(size, axis)]
        columns[attribute(ratio, axis)] = of_axis / columns[attribute("trf_size", axis)]
    return columns


def _choices(values: list[Any]) -> pd.Series[Any]:
    """Values of a parameter; as text where they are of kinds that cannot be compared."""
    kinds = {type(value) in (int, float) or type(value) for value in values if value is not None}
    if len(kinds) > 1:
        values = [None if value is None else str(value) for value in values]
    return pd.Series(values).convert_dtypes()


def _parameter_names(trials: list[FrozenTrial]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in _params(trial)))


def _params(trial: FrozenTrial) -> dict[str, Any]:
    """The candidate's; a control's trial has none that Optuna knows."""
    return trial.params or dict(trial.user_attrs.get(CONTROL, {}).get("params", {}))


def _attribute(trials: list[FrozenTrial], name: str, dtype: str) -> pd.Series[Any]:
    return pd.Series([trial.user_attrs.get(name) for trial in trials], dtype=dtype)


def _promoted_to(trials: list[FrozenTrial]) -> pd.Series[Any]:
    later = {t.user_attrs.get(PROMOTED_FROM): t.number for t in trials if goes_on(t)}
    return pd.Series([later.get(trial.number) for trial in trials], dtype="Int64")


def _device(trial: FrozenTrial) -> str | None:
    try:
        return str(json.loads(trial.user_attrs[ENVIRONMENT])["device"])
    except (KeyError, TypeError, ValueError):  # It has none, or the study is somebody else's.
        return None


def _value(trial: FrozenTrial) -> float | None:
    # Optuna gives a pruned trial its last intermediate value, and a rejected one may have
    # completed with a stand-in; neither is a result.
    if REFERENCE_SCORE in trial.user_attrs:
        return float(trial.user_attrs[REFERENCE_SCORE])
    return trial.values[0] if _has_result(trial) else None


def _has_result(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE and "rejected_by" not in trial.user_attrs


def _feasible(trial: FrozenTrial) -> bool | None:
    if not trial.constraints:
        return None
    return all(violation <= 0 for violation in trial.constraints.values())


def _pareto(directions: list[StudyDirection], trials: list[FrozenTrial]) -> pd.Series[Any]:
    signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in directions]
    found = pd.Series(index=range(len(trials)), dtype="boolean")
    part = [
        place
        for place, trial in enumerate(trials)
        if _has_result(trial) and _feasible(trial) is not False
    ]
    if part:
        losses = np.array([trials[place].values for place in part]) * signs
        found[part] = undominated(losses)
    return found


def _duration(trial: FrozenTrial) -> float | None:
    return trial.duration.total_seconds() if trial.duration else None
