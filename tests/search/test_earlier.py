"""Searches that begin with what was learnt in earlier ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from helpers import TINY_SPACE
from studies import open_study
from torch import nn

import rfsearch as rfs
from rfsearch.feasible import _descriptor_sampler
from rfsearch.search.experiment import Experiment
from rfsearch.search.sampler import RFSampler
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.target.target import ScaleTarget

TOY = SearchSpace.load("toy")
NO_GATE = {"theoretical": None, "effective": None, "max_gridding": None, "min_units": None}


def constraint_for(size: float) -> RFConstraint:
    return RFConstraint(ScaleTarget(size, size), **NO_GATE)


def score(architecture: rfs.Architecture, size: float) -> float:
    """Best where the expected ERF is 1.5 times the object."""
    return -abs(math.log2(architecture.expected_erf().sigma / size / 0.4))


def trained(size: float, scale: float = 1.0, direction: str = "maximize") -> optuna.Study:
    """A study that tried a fifth of the space."""
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=0))
    sign = 1 if direction == "maximize" else -1
    for _ in range(20):
        trial = study.ask()
        architecture = TOY.suggest(trial)
        trial.set_user_attr("architecture", json.dumps(architecture.to_dict()))
        study.tell(trial, sign * scale * score(architecture, size))
    return study


def first_proposal(size: float, *earlier: tuple[optuna.Study, RFConstraint]) -> float:
    """How good the first one is: the share of all that it beats or equals."""
    sampler = RFSampler(TOY, constraint_for(size), "descriptors", seed=0, earlier=earlier)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    proposed = score(TOY.suggest(study.ask()), size)
    return float(np.mean([score(other, size) <= proposed for other in TOY]))


@pytest.mark.parametrize(
    ("before", "size", "scale", "direction"),
    [(12, 6, 1.0, "maximize"), (8, 16, 30.0, "minimize")],
)
def test_objects_of_another_size_say_what_to_try_first(
    before: float, size: float, scale: float, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_descriptor_sampler, "_COST_POWER", 0.0)  # Costs are not what this asks.
    earlier = trained(before, scale, direction)
    assert first_proposal(size, (earlier, constraint_for(before))) > 0.9
    # In px, and not over the objects, the same study would mislead.
    assert first_proposal(size, (earlier, constraint_for(size))) < 0.6


def test_candidates_of_another_space_are_known_by_what_is_stored_with_them() -> None:
    space = SearchSpace.load("plain")
    study, rng = optuna.create_study(direction="maximize"), np.random.default_rng(0)
    for _ in range(30):
        architecture, trial = space.sample(rng), study.ask()
        trial.set_user_attr("architecture", json.dumps(architecture.to_dict()))
        study.tell(trial, score(architecture, 24))
    assert first_proposal(12, (study, constraint_for(24))) > 0.8


def test_modules_are_known_by_their_parameters() -> None:
    def build(depth: int, kernel_size: int) -> nn.Module:
        return nn.Sequential(*(nn.Conv2d(3, 3, kernel_size) for _ in range(depth)))

    space = rfs.ModuleSpace(build, {"depth": [1, 2, 3], "kernel_size": [3, 5]}, input_size=32)
    constraint = RFConstraint(ScaleTarget(5, 5), **NO_GATE)
    study = optuna.create_study(direction="maximize")
    for depth in (1, 2, 3):
        study.enqueue_trial({"depth": depth, "kernel_size": 3})
    study.optimize(lambda trial: len(list(space.suggest(trial).modules())), n_trials=3)
    sampler = RFSampler(space, constraint, "descriptors", seed=0, earlier=[(study, constraint)])
    other = optuna.create_study(direction="maximize", sampler=sampler)
    trial = other.ask()
    space.suggest(trial)
    assert trial.params["depth"] == 3


def test_what_stands_beside_a_search_or_in_for_a_score_does_not_count() -> None:
    study = optuna.create_study(direction="maximize")
    values = {"baseline": 0.1, "control": 0.2, "rejected_by": 0.3}
    for name, value in values.items():
        trial = study.ask()
        TOY.suggest(trial)
        trial.set_user_attr(name, "expected")
        study.tell(trial, value)
    with pytest.raises(ValueError, match="at least two different scores"):
        first_proposal(12, (study, constraint_for(6)))


def test_what_cannot_be_learnt_from() -> None:
    several = optuna.create_study(study_name="both", directions=["maximize", "minimize"])
    with pytest.raises(ValueError, match="must have one objective, but 'both' has 2"):
        first_proposal(12, (several, constraint_for(6)))
    earlier = [(trained(6), constraint_for(6))]
    with pytest.raises(ValueError, match='`earlier` is for `base="descriptors"`'):
        RFSampler(TOY, constraint_for(12), earlier=earlier)


# -- in an experiment -------------------------------------------------------------------------

EXPERIMENT = """
space = "space.toml"
[target]
min_size = 5
max_size = {largest}
[data]
source = "digits"
object_size = 8
canvas_size = 16
num_train = 32
num_valid = 16
[training]
epochs = 1
[search]
trained_trials = 2
{search}
"""


def write(folder: Path, largest: int, search: str = "") -> Path:
    folder.mkdir()
    (folder / "space.toml").write_text(TINY_SPACE)
    (folder / "experiment.toml").write_text(EXPERIMENT.format(largest=largest, search=search))
    return folder


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """An experiment that learns from another one, which was not run."""
    write(tmp_path / "before", 6)
    return write(tmp_path / "later", 5, 'earlier = ["../before"]')


def test_an_experiment_learns_from_another(later: Path) -> None:
    before = Experiment.load(later.parent / "before", "cpu")
    study = open_study(before)
    for architecture in list(before.space)[:8]:
        study.enqueue_trial(before.space.to_params(architecture))
        trial = study.ask()
        before.space.suggest(trial)
        study.tell(trial, score(architecture, 6))
    sampler = open_study(Experiment.load(later, "cpu")).sampler
    assert isinstance(sampler, RFSampler)
    assert sampler.base._expected == "earlier"  # type: ignore[attr-defined]


def test_what_an_experiment_cannot_learn_from(later: Path) -> None:
    with pytest.raises(ValueError, match=r"before.*study\.db"):
        open_study(Experiment.load(later, "cpu"))
    text = (later / "experiment.toml").read_text()
    (later / "experiment.toml").write_text(text.replace("../before", "../nowhere"))
    with pytest.raises(ValueError, match="nowhere: cannot be read"):
        open_study(Experiment.load(later, "cpu"))
    (later / "experiment.toml").write_text(text + 'sampler = "tpe"')
    with pytest.raises(ValueError, match=r"`earlier` needs the sampler 'descriptors'.*'tpe'"):
        Experiment.load(later, "cpu")
