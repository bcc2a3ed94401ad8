"""The sampler of candidates whose receptive field fits."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Literal

from optuna.study import StudyDirection
from optuna.trial import TrialState

from rfsearch.feasible.expectation import Expectation
from rfsearch.feasible.sampler import FeasibleSampler
from rfsearch.network.architecture import Architecture
from rfsearch.space.module_space import ModuleSpace
from rfsearch.space.trial_attributes import reference_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from rfsearch.feasible.choices import Params
    from rfsearch.feasible.expectation import Outcomes
    from rfsearch.space.candidate import Given
    from rfsearch.space.constraint import RFConstraint
    from rfsearch.space.space import SearchSpace


#: Candidates that are described before the first proposal and before each other one.
_COMPUTED = 64, 8
_TRACED = 24, 4
#: Descriptor: the score that earlier studies let expect.
_EARLIER = "earlier"
#: What is expected before anything is known: that more units of the map across an object are
#: better. Among candidates that fit it is so in all trained tables.
_EXPECTED = "units"


class RFSampler(FeasibleSampler):
    """Proposes feasible candidates of a search space; other parameters are left to the base.

    A misfit that was enqueued is used as it is, and `constraint.check` prunes its trial.

    Args:
        space: What may be proposed, by `space.suggest(trial)`: architectures, or modules of a
            user's own.
        constraint: Which receptive fields fit.
        base: Any Optuna sampler; by default TPE. `"descriptors"` learns from what closed forms
            tell of each candidate, its field, costs and gaps, beside its parameters
            (`rfsearch.feasible._descriptor_sampler`). With one objective it begins with a map of
            many units across the objects, for its operations.
        seed: Of the uniform draws, and of the default base.
        n_startup_trials: As for `FeasibleSampler`.
        earlier: With `"descriptors"`, studies whose trained candidates say what to expect, each
            with the constraint that it was made for. Their objects, images and space may be
            others: sizes count over those of the objects, and scores in deviations of a study.

    Raises:
        ValueError: When the first candidate is proposed, if none fits. If an earlier study has
            several objectives, or none has two different scores.
    """

    refuses_misfits = False

    def __init__(
        self,
        space: SearchSpace | ModuleSpace,
        constraint: RFConstraint,
        base: BaseSampler | Literal["descriptors"] | None = None,
        *,
        seed: int | None = None,
        n_startup_trials: int | None = None,
        earlier: Sequence[tuple[Study, RFConstraint]] = (),
    ) -> None:
        learns = base == "descriptors"
        if earlier and not learns:
            raise ValueError('`earlier` is for `base="descriptors"`; other samplers ignore it.')
        outcomes = [_outcomes(space, *one) for one in earlier]
        known = Expectation(outcomes, _EXPECTED) if earlier else None

        def describe(params: Params) -> dict[str, float]:
            candidate = _candidate(space, params)
            assert candidate is not None  # Members are networks.
            found = constraint.descriptors(candidate, _input_size(space))
            return found if known is None else found | {_EARLIER: known.of(found)}

        # Closed forms take milliseconds, a trace some tens.
        first, more = _TRACED if isinstance(space, ModuleSpace) else _COMPUTED
        super().__init__(
            space.distributions(),
            space.feasible(constraint),
            base,
            describe=describe if learns else None,
            expected=(_EARLIER if earlier else _EXPECTED) if learns else None,
            cost="flops" if learns else None,
            described=first,
            described_each=more,
            seed=seed,
            n_startup_trials=n_startup_trials,
        )
        self.space = space

    def stands_aside(self, trial: FrozenTrial) -> bool:
        """Whether a trial is a baseline or a control."""
        return reference_kind(trial) is not None

    def counts_as_tried(self, trial: FrozenTrial) -> bool:
        """A failed trial counts if its candidate is to blame, not if it was interrupted."""
        return super().counts_as_tried(trial) or "rejected_by" in trial.user_attrs


def _candidate(space: SearchSpace | ModuleSpace, params: Params) -> Given | None:
    return space.candidate(params) if isinstance(space, ModuleSpace) else space.from_params(params)


def _input_size(space: SearchSpace | ModuleSpace) -> int | tuple[int, ...] | None:
    return space.input_size if isinstance(space, ModuleSpace) else None


def _outcomes(
    space: SearchSpace | ModuleSpace, study: Study, constraint: RFConstraint
) -> Outcomes:
    """What came of the candidates that a study has trained, each described."""
    if len(study.directions) > 1:
        raise ValueError(
            f"Earlier studies must have one objective, but {study.study_name!r} has "
            f"{len(study.directions)}."
        )
    sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
    rows, scores = [], []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        # Some of those that are rejected end with a value that stands in.
        if reference_kind(trial) is not None or "rejected_by" in trial.user_attrs:
            continue
        candidate, (value,) = _trained(space, trial), trial.values
        if candidate is not None and math.isfinite(value):
            rows.append(constraint.descriptors(candidate, _input_size(space)))
            scores.append(sign * value)
    return rows, scores


def _trained(space: SearchSpace | ModuleSpace, trial: FrozenTrial) -> Given | None:
    """The candidate of a trial, which is stored with it or a member of the space; else None."""
    if "architecture" in trial.user_attrs:
        return Architecture.from_dict(json.loads(trial.user_attrs["architecture"]))
    try:
        return _candidate(space, {name: trial.params[name] for name in space.distributions()})
    except (KeyError, ValueError):
        return None
