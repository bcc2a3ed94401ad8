"""All that is decided for an experiment, from what was measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from rfsearch.basics.files import first_alike
from rfsearch.planning import _schedule, _spaces
from rfsearch.planning._baselines import choose_baseline
from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.target.target import ERF_PER_OBJECT
from rfsearch.training.config import TrainingConfig
from rfsearch.training.speed import epoch_seconds
from rfsearch.training.tasks import task_for

if TYPE_CHECKING:
    from rfsearch.data.datasets import TaskData
    from rfsearch.planning._baselines import Baseline
    from rfsearch.planning._found import Found
    from rfsearch.planning._schedule import Schedule
    from rfsearch.planning._sizing import Sizing
    from rfsearch.planning._spaces import Counted
    from rfsearch.planning._survey import Survey
    from rfsearch.training.task import Task

#: Images of an update, at most; and how many updates an epoch has at least.
_BATCH = {"classification": 32, "detection": 8, "segmentation": 8}
_FEWEST_UPDATES = 4


class Pace(NamedTuple):
    """How fast candidates are trained on the device.

    Attributes:
        epoch: Seconds that a typical candidate needs for a pass over the images, and for judging.
        wanted: Passes that it is to have at least.
        most: Passes after which it is done.
    """

    epoch: float
    wanted: int
    most: int


@dataclass(frozen=True, eq=False)
class Decisions:
    """All that was decided, and what it rests on.

    Attributes:
        found: The data.
        survey: What was measured of it.
        sizing: Resolution, tiles, target and output stride.
        table: The table `[data]`.
        relaxed: Whether lower bounds on fields are off, as a threshold finds the objects.
        counted: The space and how many of its candidates fit.
        schedule: Trials and their time.
        pace: How many passes that time allows.
        batch_size: Images of an update.
        train_images: Images or tiles to train on.
        valid_images: The same for validation.
        copies: Files that are the same as another.
        baseline: What is trained beside the candidates.
        budget: Time for the search in seconds.
    """

    found: Found
    survey: Survey
    sizing: Sizing
    table: dict[str, Any]
    relaxed: bool
    counted: Counted
    schedule: Schedule
    pace: Pace
    batch_size: int
    train_images: int
    valid_images: int
    copies: int
    baseline: Baseline | None
    budget: float

    @property
    def passes(self) -> float:
        """Over the images that a typical candidate has time for."""
        return min(self.pace.most, self.schedule.seconds / self.pace.epoch)

    @property
    def is_hasty(self) -> bool:
        """Whether time is too short for what is wanted."""
        return self.passes < self.pace.wanted

    @property
    def bounds(self) -> dict[str, Any]:
        """Ranges of fields that are not the rule's."""
        return _bounds(self.relaxed, self.sizing)


def decide(
    found: Found,
    measured: Survey,
    sizing: Sizing,
    loaded: TaskData,
    table: dict[str, Any],
    budget: float,
    device: str | None,
) -> Decisions | None:
    """Decide on space, widths, time and baseline; None if there is no space of a good size.

    Args:
        found: The data.
        measured: What was measured of it.
        sizing: At which resolution it is looked at.
        loaded: The images at that resolution.
        table: The table `[data]` that they are of.
        budget: Time for the search in seconds.
        device: Where it will run.
    """
    # Where a threshold finds all pixels of objects, no network needs to see a whole one.
    relaxed = found.kind == "segmentation" and measured.contrast.is_enough
    images = len(loaded.train_images)
    batch_size = max(2, min(_BATCH[found.kind], images // _FEWEST_UPDATES))
    task = task_for(loaded, TrainingConfig(batch_size=batch_size), device)
    narrow, sizing = _space(found, sizing, task, relaxed)
    if narrow is None:
        return None
    wanted, most = _schedule.passes(images, batch_size, found.kind != "classification")
    drawn = _schedule.typical(narrow)
    time = _schedule.schedule(budget, True, not relaxed)
    for width in _schedule.WIDTHS:
        # Fields do not depend on widths, so what fits stays the same.
        values = _spaces.widened(narrow.values, width)
        counted = narrow._replace(values=values, space=_spaces.as_space(values))
        usual, operations = _schedule.middle(counted, drawn)
        pace = Pace(epoch_seconds(task, usual), wanted, most)
        if time.seconds >= wanted * pace.epoch:
            break
    baseline = choose_baseline(task.budget, operations, sizing.max_output_stride)
    time = _schedule.schedule(budget, baseline is not None, not relaxed, wanted * pace.epoch)
    alike = first_alike(found.files)
    return Decisions(
        found=found,
        survey=measured,
        sizing=sizing,
        table=table,
        relaxed=relaxed,
        counted=counted,
        schedule=time,
        pace=pace,
        batch_size=batch_size,
        train_images=images,
        valid_images=len(loaded.valid_images),
        copies=sum(number != first for number, first in enumerate(alike)),
        baseline=baseline,
        budget=budget,
    )


def _space(
    found: Found, sizing: Sizing, task: Task, relaxed: bool
) -> tuple[Counted | None, Sizing]:
    """The first space of a kind that is diverse enough, and the sizing that it is for."""
    ways = [(sizing, False)]
    if sizing.needs_levels and found.kind == "detection":
        ways.insert(0, (sizing, True))
    if sizing.target.axes:  # Networks that are square fit the scales of elongated objects.
        whole = type(sizing.target)(sizing.target.min_size, sizing.target.max_size, quiet=True)
        ways.append((replace(sizing, target=whole), False))
    for tried, levels in ways:
        counted = _count(tried, task.budget, _bounds(relaxed, tried), levels)
        if counted is not None:
            return counted, tried
    return None, sizing


def _count(sizing: Sizing, budget: Budget, bounds: dict[str, Any], levels: bool) -> Counted | None:
    constraint = RFConstraint(
        sizing.target,
        theoretical=None if bounds else "rule",
        effective=tuple(bounds["effective"]) if bounds else "rule",
    )
    budget = replace(budget, max_output_stride=None if levels else sizing.max_output_stride)
    return _spaces.find_space(sizing, constraint, budget, _schedule.WIDTHS[-1], levels)


def _bounds(relaxed: bool, sizing: Sizing) -> dict[str, Any]:
    if not relaxed:
        return {}
    highest = round(ERF_PER_OBJECT[1] * sizing.target.max_size, 1)
    return {"theoretical": "off", "effective": [0, highest]}
