"""An excerpt of a long study, for samplers whose proposals take the longer the more they see.

The trees of TPE are two densities: of the best trials, at most 25, and of all others. So the best
are kept, and of the others the latest and a random part.
"""

from __future__ import annotations

import copy
from collections.abc import Container
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import TrialState

from rfsearch.feasible._scores import as_one

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

#: Finished trials that a sampler sees, at most; and which shares are the best and the latest.
MOST = 1_000
_BEST, _LATEST = 0.2, 0.2
#: Weighings of several objectives, each of which has its best.
_WEIGHINGS = 20


class _Storage:
    """A storage whose study has some of its trials only; all else is the storage's own."""

    def __init__(self, storage: Any, study_id: int, trials: list[FrozenTrial]) -> None:
        self._whole, self._shown = storage, study_id
        self._trials = trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As any storage has it."""
        if study_id != self._shown:
            found: list[FrozenTrial] = self._whole.get_all_trials(study_id, deepcopy, states)
            return found
        some = [one for one in self._trials if states is None or one.state in states]
        return copy.deepcopy(some) if deepcopy else some


def excerpt(study: Study, rng: np.random.Generator) -> Study:
    """The study, or one with at most `MOST` of its finished trials, and all others.

    Optuna has no public way to show a sampler less than the whole study: this replaces the
    storage of a copy.
    """
    every = study.get_trials(deepcopy=False)
    finished = [n for n, trial in enumerate(every) if trial.state.is_finished()]
    if len(finished) <= MOST:
        return study
    kept = {n for n, trial in enumerate(every) if not trial.state.is_finished()}
    kept |= set(finished[-int(_LATEST * MOST) :])
    kept |= _best(study, every, int(_BEST * MOST), rng)
    rest = [n for n in finished if n not in kept]
    chosen = rng.choice(rest, MOST - len(finished) + len(rest), replace=False)
    kept |= set(chosen.tolist())
    shown = copy.copy(study)
    storage = _Storage(study._storage, study._study_id, [every[n] for n in sorted(kept)])
    shown._storage = storage  # type: ignore[assignment]
    return shown


def _best(
    study: Study, trials: list[FrozenTrial], number: int, rng: np.random.Generator
) -> set[int]:
    """Numbers of the best trials that keep all constraints; by several weighings of objectives."""
    signs = [1.0 if way == StudyDirection.MAXIMIZE else -1.0 for way in study.directions]
    places, rows = [], []
    for place, trial in enumerate(trials):
        if trial.state == TrialState.COMPLETE and max(trial.constraints.values(), default=0) <= 0:
            places.append(place)
            rows.append(trial.values)
    if not rows:
        return set()
    weighings = 1 if len(signs) == 1 else _WEIGHINGS
    values = np.nan_to_num(np.array(rows)) * signs
    orders = (np.argsort(-as_one(values, rng)) for _ in range(weighings))
    return {places[n] for order in orders for n in order[: -(-number // weighings)]}
