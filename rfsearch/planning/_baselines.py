"""A network that people know, which needs about what the candidates need."""

from __future__ import annotations

from typing import NamedTuple

from rfsearch.space.budget import Budget
from rfsearch.training.traced_network import timm_network

#: Networks of timm, each of which may end in any of its maps.
_NETWORKS = ("regnetx_002", "test_resnet", "resnet10t", "resnet18")
_STRIDES = (4, 8, 16, 32)
#: How many times the FLOPs of a typical candidate it may need.
_SAME_COST = 3.0


class Baseline(NamedTuple):
    """A network to train beside the candidates.

    Attributes:
        name: Its name in timm, and the stride that it ends with.
        ratio: Its FLOPs over a typical candidate's.
    """

    name: str
    ratio: float


def choose_baseline(budget: Budget, operations: float, coarsest: int) -> Baseline | None:
    """The network whose FLOPs are closest to a typical candidate's; None if none is close.

    Args:
        budget: Says what images are like.
        operations: FLOPs of a typical candidate for one image.
        coarsest: Largest stride that resolves the objects.
    """
    names = [f"{name}@{stride}" for name in _NETWORKS for stride in _STRIDES if stride <= coarsest]
    ratios = {
        name: timm_network(name, budget.in_chans, budget.num_classes).cost(
            budget.input_size, budget.in_chans
        )[1]
        / operations
        for name in names
    }
    name = min(ratios, key=lambda one: max(ratios[one], 1 / ratios[one]), default="")
    is_close = bool(name) and 1 / _SAME_COST <= ratios[name] <= _SAME_COST
    return Baseline(name, ratios[name]) if is_close else None
