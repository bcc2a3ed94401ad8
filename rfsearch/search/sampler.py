"""The sampler of candidates whose receptive field fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rfsearch.feasible.sampler import FeasibleSampler
from rfsearch.space.module_space import ModuleSpace
from rfsearch.space.trial_attributes import reference_kind

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from rfsearch.feasible.choices import Params
    from rfsearch.space.constraint import RFConstraint
    from rfsearch.space.space import SearchSpace


#: Candidates that are described before the first proposal and before each other one.
_COMPUTED = 64, 8
_TRACED = 24, 4


class RFSampler(FeasibleSampler):
    """Proposes feasible candidates of a search space; other parameters are left to the base.

    A misfit that was enqueued is used as it is, and `constraint.check` prunes its trial.

    Args:
        space: What may be proposed, by `space.suggest(trial)`: architectures, or modules of a
            user's own.
        constraint: Which receptive fields fit.
        base: Any Optuna sampler; by default TPE. `"descriptors"` learns from what closed forms
            tell of each candidate, its field, costs and gaps, beside its parameters
            (`rfsearch.feasible._descriptor_sampler`).
        seed: Of the uniform draws, and of the default base.
        n_startup_trials: As for `FeasibleSampler`.

    Raises:
        ValueError: When the first candidate is proposed, if none fits.
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
    ) -> None:
        def describe(params: Params) -> dict[str, float]:
            if not isinstance(space, ModuleSpace):
                return constraint.descriptors(space.from_params(params))
            candidate = space.candidate(params)
            assert candidate is not None  # Members are networks.
            return constraint.descriptors(candidate, space.input_size)

        # Closed forms take milliseconds, a trace some tens.
        first, more = _TRACED if isinstance(space, ModuleSpace) else _COMPUTED
        super().__init__(
            space.distributions(),
            space.feasible(constraint),
            base,
            describe=describe if base == "descriptors" else None,
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
