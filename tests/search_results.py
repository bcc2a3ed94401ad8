"""A study with made-up results, as a search would leave them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial
from studies import open_storage

from rfsearch.search.curves import CURVE
from rfsearch.search.objectives import DIRECTIONS, name_objectives
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.space.trial_attributes import BASELINE, CONTROL, CONTROLS, REFERENCE_SCORE
from rfsearch.space.trial_gates import CONSTRAINT_KEYS
from rfsearch.target.target import ScaleTarget

SPACE = SearchSpace.load("toy")
CONSTRAINT = RFConstraint(ScaleTarget(6, 10))


def finished_trial(
    index: int, rng: np.random.Generator, objectives: tuple[str, ...] = ("score",)
) -> FrozenTrial:
    """Candidate `index` of the toy space: stopped by a gate, or trained.

    The accuracy is a peak over the ERF size, training seconds and latency are lines in FLOPs.
    """
    architecture = SPACE[index]
    erf = architecture.expected_erf().size
    cost = architecture.cost((48, 48), 1, 10)
    attributes: dict[str, Any] = {
        "architecture": json.dumps(architecture.to_dict()),
        "trf_size": architecture.receptive_field().size,
        "output_stride": architecture.receptive_field().stride,
        "erf_expected": erf,
        "params_m": cost.parameters / 1e6,
        "flops_g": cost.flops / 1e9,
        "seed": 0,
        "findings": "",
        "metric": "accuracy",
    }
    verdicts = CONSTRAINT.verdicts(architecture)
    failed = [verdict for verdict in verdicts if not verdict.passes]
    common: dict[str, Any] = {
        "params": SPACE.to_params(architecture),
        "distributions": SPACE.distributions(),
        "constraints": {CONSTRAINT_KEYS[verdict.gate]: verdict.octaves for verdict in verdicts},
    }
    common["params"] = {name: common["params"][name] for name in common["distributions"]}
    if failed:
        attributes |= {"rejected_by": failed[0].gate, "reason": str(failed[0])}
        return create_trial(state=TrialState.PRUNED, user_attrs=attributes, **common)
    value = float(0.9 - 0.1 * np.log2(erf / 18) ** 2 + rng.normal(scale=0.01))
    attributes |= {
        "erf_init": erf * 1.05,
        "erf_trained": erf * 1.2,
        "erf_clipped": 0.0,
        "train_seconds": 10 + 1e3 * attributes["flops_g"],
        "latency_ms": 1 + 1e2 * attributes["flops_g"] + rng.uniform(),
    }
    epochs = {epoch: value * (1 - 0.5**epoch) for epoch in (1, 2, 3)}
    if len(objectives) == 1:
        common |= {"value": value, "intermediate_values": epochs}
    else:
        common["values"] = [value, *(attributes[name] for name in objectives[1:])]
        attributes[CURVE] = {str(epoch): score for epoch, score in epochs.items()}
    return create_trial(user_attrs=attributes, **common)


def add_baseline(study: optuna.Study, value: float, name: str = "resnet18") -> None:
    """A trained network of timm, as `rfsearch.search.baselines` adds it."""
    attributes = {BASELINE: name, REFERENCE_SCORE: value, "params_m": 11.0, "trf_size": 435}
    attributes |= {"erf_init": 200.0, "erf_trained": 180.0, "metric": "accuracy"}
    epochs = {1: value / 2, 2: value}
    if len(study.directions) > 1:
        attributes[CURVE], epochs = {str(epoch): score for epoch, score in epochs.items()}, {}
    study.add_trial(
        create_trial(state=TrialState.PRUNED, user_attrs=attributes, intermediate_values=epochs)
    )


def add_controls(study: optuna.Study, *values: float, side: str = "smaller") -> None:
    """Trained candidates that do not fit, as `rfsearch.search.controls` adds them."""
    rejected = (n for n in range(SPACE.size) if not CONSTRAINT.is_feasible(SPACE[n]))
    for value, index in zip(values, rejected, strict=False):
        trial = finished_trial(index, np.random.default_rng(0))
        about = {"params": trial.params, "side": side}
        attributes = trial.user_attrs | {CONTROL: about, REFERENCE_SCORE: value}
        attributes |= {"erf_init": 5.0, "erf_trained": 6.0, "train_seconds": 1e6}
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                user_attrs=attributes,
                constraints=trial.constraints,
                intermediate_values={1: value} if len(study.directions) == 1 else {},
            )
        )
    known = {"asked": len(values), "there_are": len(values), "missing": ["larger"]}
    study.set_user_attr(CONTROLS, known)


def searched_study(
    name: str = "made-up",
    trials: int = 60,
    storage: str | None = None,
    objectives: tuple[str, ...] = ("score",),
) -> optuna.Study:
    """A study of the toy space with some trials stopped and some trained."""
    rng = np.random.default_rng(0)
    study = optuna.create_study(
        study_name=name,
        storage=open_storage(storage) if storage else None,
        directions=[DIRECTIONS[objective] for objective in objectives],
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    indices = rng.choice(SPACE.size, size=min(trials, SPACE.size), replace=False)
    study.add_trials([finished_trial(int(index), rng, objectives) for index in indices])
    if len(objectives) > 1:
        name_objectives(study, objectives)
    return study
