"""How many candidates are trained, for how long, and how wide they can be in that time."""

from __future__ import annotations

import math
import re
import time
from typing import NamedTuple

import numpy as np

from rfsearch.network.architecture import Architecture
from rfsearch.planning._spaces import Counted

#: Passes over the training images that a candidate has time for at least, if one width allows it.
EPOCHS = 5
#: Most passes: small data sets are known by heart after them.
MOST_EPOCHS = 40
#: Widths of the stem to choose from, the widest first.
WIDTHS = (32, 24, 16, 8)
#: Share of the budget for trainings; the rest goes to measured ERFs, reading and the report.
_TRAINING = 0.7
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_SHORTEST = 20.0
#: Forward and backward pass over a forward pass.
_UPDATE = 3
#: Least seconds a training is given.
_LEAST_SECONDS = 1.0
_TIMED_IMAGES = 8


class Schedule(NamedTuple):
    """Time for a search.

    Attributes:
        trials: Candidates to train.
        controls: Trained beside them.
        baselines: How many of these, at most.
        seconds: For each of them.
    """

    trials: int
    controls: int
    baselines: int
    seconds: float


def parse_budget(text: str) -> float:
    """Seconds of a text such as 30min.

    Raises:
        ValueError: If it is none, or too short for a search.

    >>> parse_budget("30min"), parse_budget("1.5h")
    (1800.0, 5400.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h|d)", text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if seconds < _SHORTEST:
        raise ValueError(
            f"--budget must be {_SHORTEST:g}s or more, as 90s, 30min, 8h or 2d, but got {text!r}."
        )
    return seconds


def schedule(budget: float, has_baseline: bool, has_controls: bool) -> Schedule:
    """Share out the time of a search in seconds.

    Candidates grow with the root of the time, and so does the time of each.

    >>> schedule(1800, True, True)
    Schedule(trials=13, controls=2, baselines=1, seconds=78.0)
    """
    trials = max(3, min(50, round(math.sqrt(budget / 10))))
    controls = 2 if has_controls and trials >= 8 else 0
    baselines = int(has_baseline)
    seconds = _TRAINING * budget / (trials + controls + baselines)
    seconds = float(int(seconds)) if seconds >= 10 else round(seconds, 1)
    return Schedule(trials, controls, baselines, max(_LEAST_SECONDS, seconds))


def typical(counted: Counted) -> Architecture:
    """The candidate of median FLOPs among some that fit."""
    rng = np.random.default_rng(0)
    feasible = counted.space.feasible(counted.constraint)
    drawn = [feasible.sample(rng) for _ in range(9)]
    return sorted(drawn, key=lambda one: flops(one, counted))[len(drawn) // 2]


def flops(architecture: Architecture, counted: Counted) -> float:
    """Floating-point operations for one image."""
    budget = counted.constraint.budget
    assert budget is not None
    return float(budget.cost(architecture).flops)


def throughput(counted: Counted, device: str | None) -> float:
    """Floating-point operations per second in updates of a typical candidate, measured."""
    import torch

    from rfsearch.network.model import build_model

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    one, budget = typical(counted), counted.constraint.budget
    assert budget is not None
    model = build_model(one, in_chans=budget.in_chans, num_classes=2).to(place)
    images = torch.randn(_TIMED_IMAGES, budget.in_chans, *budget.input_size, device=place)

    def update() -> float:
        started = time.perf_counter()
        outputs = model(images)
        maps = outputs if isinstance(outputs, list | tuple) else [outputs]
        torch.stack([one.float().square().mean() for one in maps]).sum().backward()
        if place.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - started

    update()  # The first one also prepares kernels.
    seconds = min(update() for _ in range(3))
    return _UPDATE * _TIMED_IMAGES * flops(one, counted) / seconds


def epochs_in(seconds: float, images: int, operations: float, per_second: float) -> float:
    """Passes over images that a time allows."""
    return seconds * per_second / (_UPDATE * operations * max(1, images))
