"""How many candidates are trained, for how long, and how wide they can be in that time."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import numpy as np

from rfsearch.network.architecture import Architecture
from rfsearch.planning._spaces import Counted

#: Passes over whole images for training, and over tiles, most pixels of which are in four, that a
#: candidate has time for at least, if one width allows it; and updates.
EPOCHS, EPOCHS_OF_TILES, UPDATES = 5, 2, 100
#: Most passes, and updates: small data sets are known by heart after both of them.
MOST_EPOCHS, MOST_UPDATES = 40, 400
#: Widths of the stem to choose from, the widest first.
WIDTHS = (32, 24, 16, 8)
#: Share of the budget for trainings; the rest goes to measured ERFs, reading and the report.
_TRAINING = 0.7
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_SHORTEST = 20.0
#: Least seconds a training is given.
_LEAST_SECONDS = 1.0
_FEWEST_TRIALS = 3
#: Candidates that the typical one is the median of.
_DRAWN = 9


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


def passes(images: int, batch_size: int, are_tiles: bool) -> tuple[int, int]:
    """Passes over so many images that are wanted at least, and the most that are made.

    >>> passes(4000, 32, False), passes(70, 8, True)
    ((5, 40), (13, 50))
    """
    updates = max(1, images // batch_size)
    return (
        max(EPOCHS_OF_TILES if are_tiles else EPOCHS, math.ceil(UPDATES / updates)),
        max(MOST_EPOCHS, math.ceil(MOST_UPDATES / updates)),
    )


def schedule(
    budget: float, has_baseline: bool, has_controls: bool, least: float = 0.0
) -> Schedule:
    """Share out the time of a search in seconds.

    Candidates grow with the root of the time, and so does the time of each; there are fewer, but
    three, where each needs `least` seconds or more.

    >>> schedule(1800, True, True)
    Schedule(trials=13, controls=2, baselines=1, seconds=78.0)
    >>> schedule(1800, True, True, 200)
    Schedule(trials=5, controls=0, baselines=1, seconds=210.0)
    """
    trials = max(_FEWEST_TRIALS, min(50, round(math.sqrt(budget / 10))))
    for fewer in range(trials, _FEWEST_TRIALS - 1, -1):
        time = _shared(budget, fewer, has_baseline, has_controls)
        if time.seconds >= least:
            break
    return time


def enough(least: float, has_baseline: bool) -> float:
    """The shortest time of a search, in seconds, that gives each candidate so many of them."""
    fewest = _FEWEST_TRIALS + int(has_baseline)
    return least * fewest / _TRAINING


def in_words(seconds: float) -> str:
    """A budget of at least so many seconds.

    >>> in_words(75), in_words(600), in_words(9000)
    ('75s', '10min', '3h')
    """
    unit = "s" if seconds < 120 else "min" if seconds < 7200 else "h"
    return f"{math.ceil(seconds / _UNITS[unit])}{unit}"


def _shared(budget: float, trials: int, has_baseline: bool, has_controls: bool) -> Schedule:
    controls = 2 if has_controls and trials >= 8 else 0
    baselines = int(has_baseline)
    seconds = _TRAINING * budget / (trials + controls + baselines)
    seconds = float(int(seconds)) if seconds >= 10 else round(seconds, 1)
    return Schedule(trials, controls, baselines, max(_LEAST_SECONDS, seconds))


def typical(counted: Counted) -> list[dict[str, Any]]:
    """Parameters of some candidates that fit, without those of one choice, such as widths."""
    rng = np.random.default_rng(0)
    feasible = counted.space.feasible(counted.constraint)
    open_to = {name for name, options in feasible.choices().items() if len(options) > 1}
    drawn = [feasible.sample_params(rng) for _ in range(_DRAWN)]
    return [{name: one[name] for name in open_to & one.keys()} for one in drawn]


def middle(counted: Counted, params: list[dict[str, Any]]) -> tuple[Architecture, float]:
    """The candidate of median FLOPs for one image among some, and its FLOPs."""
    candidates = counted.space.feasible(counted.constraint).candidates
    budget = counted.constraint.budget
    assert budget is not None
    costs = [(float(budget.cost(one).flops), one) for one in map(candidates.from_params, params)]
    flops, architecture = sorted(costs, key=lambda cost: cost[0])[len(costs) // 2]
    return architecture, flops
