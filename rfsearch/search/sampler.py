"""The sampler of candidates whose receptive field fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rfsearch.feasible.sampler import FeasibleSampler
from rfsearch.space.trial_attributes import reference_kind

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from rfsearch.space.constraint import RFConstraint
    from rfsearch.space.module_space import ModuleSpace
    from rfsearch.space.space import SearchSpace


class RFSampler(FeasibleSampler):
    """Proposes feasible candidates of a search space; other parameters are left to the base.

    A misfit that was enqueued is used as it is, and `constraint.check` prunes its trial.

    Args:
        space: What may be proposed, by `space.suggest(trial)`: architectures, or modules of a
            user's own.
        constraint: Which receptive fields fit.
        base: Any Optuna sampler; by default TPE.
        seed: Of the uniform draws, and of the default base.
        n_startup_trials: So many trials are uniform draws from the feasible set before the base
            takes over; with `RandomSampler` all are, with `GridSampler` and `BruteForceSampler`
            none.

    Raises:
        ValueError: When the first candidate is proposed, if none fits.
    """

    refuses_misfits = False

    def __init__(
        self,
        space: SearchSpace | ModuleSpace,
        constraint: RFConstraint,
        base: BaseSampler | None = None,
        *,
        seed: int | None = None,
        n_startup_trials: int = 10,
    ) -> None:
        feasible = space.feasible(constraint)
        super().__init__(
            space.distributions(), feasible, base, seed=seed, n_startup_trials=n_startup_trials
        )
        self.space = space

    def stands_aside(self, trial: FrozenTrial) -> bool:
        """Whether a trial is a baseline or a control."""
        return reference_kind(trial) is not None

    def counts_as_tried(self, trial: FrozenTrial) -> bool:
        """A failed trial counts if its candidate is to blame, not if it was interrupted."""
        return super().counts_as_tried(trial) or "rejected_by" in trial.user_attrs
