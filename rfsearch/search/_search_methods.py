"""Optuna's samplers and pruners, by the names that an experiment has for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from rfsearch.search.rungs import Hyperband, SuccessiveHalving
from rfsearch.search.sampler import RFSampler
from rfsearch.space.constraint import RFConstraint

if TYPE_CHECKING:
    from optuna import Study

    from rfsearch.search.experiment import Experiment

_SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": lambda seed, startup: TPESampler(seed=seed, n_startup_trials=startup),
    "random": lambda seed, _: RandomSampler(seed=seed),
    "nsgaii": lambda seed, startup: NSGAIISampler(seed=seed, population_size=max(10, startup)),
    "gp": lambda seed, startup: GPSampler(seed=seed, n_startup_trials=startup),
}
#: Each for so many epochs, or None where their number is not known.
_PRUNERS: dict[str, Callable[[int | None], BasePruner]] = {
    "none": lambda _: NopPruner(),
    "median": lambda _: MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    "hyperband": Hyperband,
    "successive_halving": SuccessiveHalving,
}


def make_sampler(
    experiment: Experiment, seed: int, earlier: Sequence[tuple[Study, RFConstraint]] = ()
) -> BaseSampler:
    """The experiment's sampler, which proposes only what fits if the experiment says so.

    Args:
        experiment: The experiment.
        seed: Of what is random.
        earlier: As for `RFSampler`.

    Raises:
        ValueError: If a package that the sampler needs is missing, or earlier studies say nothing.
    """
    search = experiment.config.search
    name = search.chosen_sampler
    if name == "descriptors":
        everything = RFConstraint(theoretical=None, effective=None)
        fits = experiment.constraint if search.feasible_only else everything
        return RFSampler(
            experiment.space,
            fits,
            "descriptors",
            seed=seed,
            n_startup_trials=search.startup_trials,
            earlier=earlier,
        )
    try:
        # Optuna's TPE counts the trials beside the search, too.
        beside = len(experiment.baselines) + search.controls
        base = _SAMPLERS[name](seed, search.startup_trials + (name == "tpe") * beside)
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"search, sampler: {name!r} cannot be used: {reason}") from None
    if not search.feasible_only:
        return base
    return RFSampler(
        experiment.space,
        experiment.constraint,
        base,
        seed=seed,
        n_startup_trials=search.startup_trials,
    )


def make_pruner(experiment: Experiment) -> BasePruner:
    """The experiment's pruner."""
    num_images = len(experiment.task.data.train_images)
    epochs = experiment.config.training.max_epochs(num_images)
    return _PRUNERS[experiment.config.search.pruner](epochs)
