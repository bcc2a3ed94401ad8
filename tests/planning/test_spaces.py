"""Spaces for objects that one square field cannot serve: elongated ones, and many sizes."""

from __future__ import annotations

import numpy as np

from rfsearch.planning import _spaces
from rfsearch.planning._contrast import Contrast
from rfsearch.planning._sizing import UNITS, Sizing, size_up
from rfsearch.planning._survey import Survey
from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint

BUDGET = Budget(input_size=(128, 128), in_chans=1, num_classes=2)


def sized(heights: list[float], widths: list[float]) -> Sizing:
    number = len(heights)
    return size_up(
        Survey(
            sides=np.array([[512, 512]]),
            channels=1,
            heights=np.array(heights),
            widths=np.array(widths),
            labels=("object",) * number,
            per_image=np.array([number]),
            touching=0.0,
            contrast=Contrast(0.0, "", 1),
            skipped="none",
            ignored="none",
        ),
        "detection",
    )


def test_elongated_objects_get_elongated_kernels() -> None:
    sizing = sized([12.0] * 20, [48.0] * 20)
    assert sizing.target.axes
    values = next(_spaces._stacks(sizing, 8))
    assert values["stages"][-1]["kernel_size"] == [3, [3, 9]]
    upright = sized([48.0] * 20, [12.0] * 20)
    assert next(_spaces._stacks(upright, 8))["stages"][-1]["kernel_size"] == [3, [9, 3]]
    counted = _spaces.count(values, RFConstraint(sizing.target), BUDGET)
    assert counted.low > 0


def test_objects_of_many_sizes_get_a_pyramid_with_a_level_for_each() -> None:
    sides = np.geomspace(10, 90, 40).tolist()
    sizing = sized(sides, sides)
    assert sizing.needs_levels
    strides = _spaces.level_strides(sizing)
    target = sizing.target
    assert strides[0] <= target.min_size / UNITS
    assert 4 * strides[-1] <= target.max_size <= 16 * strides[-1]
    values = next(_spaces._pyramids(sizing, 8))
    assert values["neck"]["num_levels"] == len(strides) == len(values["stages"])
