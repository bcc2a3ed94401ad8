from __future__ import annotations

import pytest
import torch
from timm.optim import list_optimizers
from torch import nn

from rfsearch.training._optimizers import (
    _SCHEDULERS,
    check_names,
    make_optimizer,
    make_scheduler,
    without_compiling,
)
from rfsearch.training.config import TrainingConfig

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", list_optimizers())
def test_an_optimizer_is_refused_or_takes_steps(name: str) -> None:
    config = TrainingConfig(optimizer=name, learning_rate=0.01)
    if name.startswith(("fused", "bnb", "adahessian")):  # Need a GPU, or second derivatives.
        with pytest.raises(ValueError, match="`optimizer` must be one of timm's that works here"):
            check_names(config, CPU)
        return
    check_names(config, CPU)
    network = nn.Linear(3, 2)
    optimizer = make_optimizer(network, config, CPU)
    network(torch.ones(2, 3)).square().sum().backward()
    with without_compiling():
        optimizer.step()
    assert all(weight.isfinite().all() for weight in network.parameters())


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("adamm", "there is none of this name; the nearest are adam"),
        ("", "there is none of this name."),
    ],
)
def test_an_optimizer_that_does_not_exist(name: str, end: str) -> None:
    with pytest.raises(ValueError, match=f"`optimizer` must be .*, but got '{name}': {end}"):
        check_names(TrainingConfig(optimizer=name), CPU)


@pytest.mark.parametrize("name", _SCHEDULERS)
def test_schedulers_that_are_offered_work(name: str) -> None:
    config = TrainingConfig(scheduler=name)
    check_names(config, CPU)
    scheduler = make_scheduler(torch.optim.SGD([torch.zeros(1)], lr=0.1), config)
    assert (scheduler is None) == (name == "none")
    if scheduler is not None:
        scheduler.step_update(100)


@pytest.mark.parametrize("name", ["plateau", "cosin", ""])
def test_schedulers_that_are_not(name: str) -> None:
    with pytest.raises(ValueError, match=f"`scheduler` must be one of .*, but got '{name}'"):
        check_names(TrainingConfig(scheduler=name), CPU)
