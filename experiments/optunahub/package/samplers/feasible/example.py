"""Widths of eight layers whose heads divide them, within a budget of parameters."""

from __future__ import annotations

import optuna
import optunahub
from optuna.distributions import CategoricalDistribution, IntDistribution

module = optunahub.load_module(package="samplers/feasible")

LAYERS = range(8)
WIDTHS = {f"width{layer}": IntDistribution(16, 128, step=16) for layer in LAYERS}
HEADS = CategoricalDistribution([1, 3, 4, 6, 8])
#: In thousands.
BUDGET = 40

State = tuple[int, int, int]


def step(state: State, name: str, value: int) -> State | None:
    """What the rest needs to know: the last width, parameters spent, and a common divisor."""
    width, spent, heads = state
    if name == "heads":
        return 3, 0, value
    spent += width * value // 1000
    return (value, spent, heads) if spent <= BUDGET and value % heads == 0 else None


sampler = module.FeasibleSampler(
    {"heads": HEADS, **WIDTHS},
    module.Fold(start=(3, 0, 1), step=step),
    base=optuna.samplers.TPESampler(seed=0),
    seed=0,
)


def objective(trial: optuna.Trial) -> float:
    """Stands for training: wide at the end, and many heads."""
    heads = trial.suggest_categorical("heads", HEADS.choices)
    widths = [trial.suggest_int(name, 16, 128, step=16) for name in WIDTHS]
    assert all(width % heads == 0 for width in widths)
    return sum(layer * width for layer, width in enumerate(widths)) * float(heads)


if __name__ == "__main__":
    print(sampler.feasible)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=50)
    print(study.best_params)
