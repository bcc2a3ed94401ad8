"""Trials whose attributes are what this program writes; others are named and left out.

A study's attributes can be edited, or be another program's that chose the same names. This is the
one place where they are checked: what reads them afterwards may rely on their kinds.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError, create_model

from rfsearch.basics.axes import AXIS_NAMES
from rfsearch.search.curves import CURVE
from rfsearch.search.objectives import name_objectives
from rfsearch.space.trial_attributes import (
    BASELINE,
    CONTROL,
    JUDGED_AXES,
    PROMOTED_FROM,
    REFERENCE_SCORE,
    WEIGHTS,
    attribute,
)
from rfsearch.storage.recovery import RETRY_OF

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Scores beside the value, and what that is: the types of their columns.
SCORES = {
    "metric": "string",
    "score_small": "Float64",
    "score_medium": "Float64",
    "score_large": "Float64",
    "ap50": "Float64",
}
#: Sizes, costs and what became of a trial: the types of their columns.
ATTRIBUTES = {
    "trf_size": "Int64",
    "erf_expected": "Float64",
    "erf_init": "Float64",
    "erf_trained": "Float64",
    "erf_sigma_expected": "Float64",
    "erf_sigma_init": "Float64",
    "erf_sigma_trained": "Float64",
    "erf_half_expected": "Float64",
    "erf_half_init": "Float64",
    "erf_half_trained": "Float64",
    "erf_clipped": "Float64",
    "skipped": "Float64",
    "output_stride": "Float64",
    "params_m": "Float64",
    "flops_g": "Float64",
    "training_memory_mb": "Float64",
    "latency_ms": "Float64",
    "peak_memory_mb": "Float64",
    "erf_misfit": "Float64",
    "train_seconds": "Float64",
    "seed": "Int64",
    "batch_halved": "boolean",
    BASELINE: "string",
    "duplicate_of": "Int64",
    "levels": "string",
    RETRY_OF: "Int64",
    PROMOTED_FROM: "Int64",
    "findings": "string",
    "global_layers": "string",
    "rejected_by": "string",
    "reason": "string",
}
#: Those that candidates whose axes differ have for each axis.
ALONG_AXES = {
    name: ATTRIBUTES[name]
    for name in ("trf_size", "erf_expected", "erf_init", "erf_trained", "output_stride")
}
#: Attributes that name another trial.
_OTHER_TRIALS = ("duplicate_of", RETRY_OF, PROMOTED_FROM)
#: System attribute of trials that stand for others.
_STAND_IN = "rfsearch_stand_in"
#: Trials that are named one by one; the others are counted.
_NAMED = 3

_Pixels = Annotated[int, Field(ge=1)]
_Amount = Annotated[float, Field(ge=0)]
_KINDS: dict[str, Any] = {
    "Int64": Annotated[int, Field(ge=0)],
    "Float64": _Amount,
    "string": str,
    "boolean": bool,
}
_STRICT = ConfigDict(strict=True, extra="ignore")


class _Level(BaseModel):
    """What is logged of an output map."""

    model_config = _STRICT

    stride: _Amount | None = None
    trf_size: _Pixels | None = None
    erf_expected: _Amount | None = None
    part: Annotated[tuple[_Amount, _Amount], Field(strict=False)] | None = None


_EXPECTED: dict[str, Any] = (
    {name: _KINDS[dtype] for name, dtype in ATTRIBUTES.items()}
    | {name: float if dtype == "Float64" else _KINDS[dtype] for name, dtype in SCORES.items()}
    | {"trf_size": _Pixels, "levels": Json[dict[str, _Level]]}
    | {
        attribute(name, axis): _KINDS[dtype]
        for name, dtype in ALONG_AXES.items()
        for axis in AXIS_NAMES[3]
    }
    | {JUDGED_AXES: Json[list[Literal["time", "depth", "height", "width"]]]}
    | {"architecture": Json[dict[str, Any]], REFERENCE_SCORE: float, WEIGHTS: str}
    | {CONTROL: dict[str, Any]}
    | {CURVE: dict[Annotated[int, Field(strict=False)], float]}
)
_FIELDS: dict[str, Any] = {name: (kind | None, None) for name, kind in _EXPECTED.items()}
_TrialAttributes = create_model("_TrialAttributes", __config__=_STRICT, **_FIELDS)


def checked_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The study's trials, by number.

    One that cannot be read, or whose attributes are of other kinds than what this program writes,
    is named in a warning; a failed trial without attributes stands for it.
    """
    trials, problems = _read_trials(study)
    for number, trial in enumerate(trials):
        if trial is not None and (problem := _problem(trial, len(study.directions))):
            problems[number] = problem
    if problems:
        named = [f"trial {n} ({problems[n]})" for n in sorted(problems)[:_NAMED]]
        if len(problems) > _NAMED:
            named.append(f"{len(problems) - _NAMED} more")
        warnings.warn(
            f"Study {study.study_name!r}: left out are {', '.join(named)}.", stacklevel=3
        )
    return [
        trial if trial is not None and number not in problems else _stand_in(number)
        for number, trial in enumerate(trials)
    ]


def readable_study(study: optuna.Study) -> optuna.Study:
    """The study itself if all of its trials are as they should be, else a copy in memory.

    In the copy failed trials stand for those that are not; see `checked_trials`.
    """
    trials = checked_trials(study)
    if all(trial.system_attrs.get(_STAND_IN) is None for trial in trials):
        return study
    copy = optuna.create_study(
        study_name=study.study_name,
        directions=study.directions,
        storage=optuna.storages.InMemoryStorage(),
    )
    if study.metric_names:
        name_objectives(copy, study.metric_names)
    for key, value in study.user_attrs.items():
        copy.set_user_attr(key, value)
    copy.add_trials(trials)
    return copy


def _read_trials(study: optuna.Study) -> tuple[Sequence[FrozenTrial | None], dict[int, str]]:
    """All trials; one by one where they cannot be read together, and then why some cannot be."""
    try:
        return study.get_trials(deepcopy=False), {}
    except (LookupError, ValueError, TypeError):
        pass
    storage, trials, problems = study._storage, list[FrozenTrial | None](), dict[int, str]()
    while True:
        number = len(trials)
        try:
            trial_id = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        except KeyError:  # There are no more.
            return trials, problems
        try:
            trials.append(storage.get_trial(trial_id))
        except (LookupError, ValueError, TypeError) as error:
            trials.append(None)
            problems[number] = next(iter(str(error).splitlines()), type(error).__name__)


def _problem(trial: FrozenTrial, num_objectives: int) -> str | None:
    """What is wrong with a trial, if anything is."""
    attributes = trial.user_attrs
    try:
        trial._validate()
        if trial.state == TrialState.COMPLETE and len(trial.values) != num_objectives:
            return f"it has {len(trial.values)} values"
        _TrialAttributes.model_validate(attributes)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        attribute = str(first["loc"][0])
        text = repr(attributes[attribute])
        shown = text if len(text) <= 50 else f"{text[:50]}..."
        return f"{attribute} = {shown}: {first['msg']}"
    except ValueError as error:
        return str(error).splitlines()[0].rstrip(".")
    for name in _OTHER_TRIALS:
        if not attributes.get(name, 0) <= trial.number:
            return f"{name} = {attributes[name]}: there was no such trial yet"
    return None


def _stand_in(number: int) -> FrozenTrial:
    trial = create_trial(state=TrialState.FAIL, system_attrs={_STAND_IN: True})
    trial.number = number
    return trial
