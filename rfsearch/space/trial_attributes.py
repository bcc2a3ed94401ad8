"""Names of trial attributes that several modules rely on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

#: Name in timm of the baseline that a trial is.
BASELINE = "baseline"
#: Of a control: `params`, and the `side` of the range that it lies on.
CONTROL = "control"
#: The sides: of the range, and candidates that fail only because of the gaps in their field.
SMALLER, LARGER, GRIDDING = "smaller", "larger", "gridding"
#: Of a study: how many controls were asked for, how many there are, and on which sides none.
CONTROLS = "rfsearch_controls"
#: Score of a baseline or a control.
REFERENCE_SCORE = "reference_score"
#: JSON with the versions, the device and the git state that a trial ran with. With the study's
#: experiment and the trial's seed and architecture it is all that its numbers depend on.
ENVIRONMENT = "environment"
#: Number of the trial of the same candidate that the pruner had stopped; of one that goes on.
PROMOTED_FROM = "promoted_from"
#: Whether batches did not fit into memory and were halved; of trials where they were.
BATCH_HALVED = "batch_halved"
#: Name of the artifact that holds the trained candidate's weights.
WEIGHTS = "weights"


def enqueued(trial: optuna.Trial | object) -> dict[str, Any]:
    """The parameters that were enqueued for a trial, which Optuna's trials do not show."""
    stored = getattr(getattr(trial, "_cached_frozen_trial", trial), "system_attrs", {})
    found: dict[str, Any] = stored.get("fixed_params", {})
    return found


#: JSON with the numbers of the maps whose small fields the whole image makes up for.
GLOBAL_MAPS = "global_maps"
#: JSON with the names of the axes along which a candidate was judged apart; of one where it was.
JUDGED_AXES = "judged_axes"


def attribute(name: str, axis: str | None) -> str:
    """Name of a trial's attribute: of one axis where axes are judged apart.

    >>> attribute("trf_size", None), attribute("trf_size", "height")
    ('trf_size', 'trf_height')
    >>> attribute("erf_init", "width")
    'erf_init_width'
    """
    return name if axis is None else f"{name.removesuffix('_size')}_{axis}"


def judged_axes(trial: FrozenTrial | optuna.Trial) -> tuple[str | None, ...]:
    """The axes that a trial's candidate was judged along; None where one number serves all."""
    return tuple(json.loads(trial.user_attrs.get(JUDGED_AXES, "[null]")))


def reference_kind(trial: FrozenTrial | optuna.Trial) -> str | None:
    """`BASELINE` or `CONTROL` if a trial is one, and so stands beside the search; else None."""
    return next((kind for kind in (BASELINE, CONTROL) if kind in trial.user_attrs), None)
