"""An experiment planned from data: each decision with its number and its reason, and the files."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfsearch.basics.validation import parse
from rfsearch.planning import _schedule, _spaces
from rfsearch.planning._derived import copies, data_table, to_toml
from rfsearch.planning._finding import Found, find_data
from rfsearch.planning._sizing import MULTIPLE, SMALLEST_TILE, Sizing, size_up
from rfsearch.planning._survey import Survey, survey
from rfsearch.planning._words import Decisions, read_me
from rfsearch.search.config import ExperimentConfig
from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.target.target import ERF_PER_OBJECT

if TYPE_CHECKING:
    from rfsearch.data.datasets import TaskData
    from rfsearch.planning._schedule import Schedule
    from rfsearch.planning._spaces import Counted

#: Networks of timm that may stand beside classifiers, and how many times the FLOPs of a typical
#: candidate they may need.
_BASELINES, _SAME_COST = ("resnet10t", "mobilenetv3_small_050", "test_resnet", "resnet18"), 3.0
#: Seeds of the split that are tried until both parts show objects.
_SEEDS = 5


@dataclass(frozen=True)
class Plan:
    """What `rfsearch init` writes.

    Attributes:
        files: Text of each file by its name.
        decisions: What was decided, with numbers and reasons.
    """

    files: dict[str, str]
    decisions: Decisions


def plan(
    data: Path,
    out: Path,
    *,
    budget: str = "30min",
    device: str | None = None,
    kind: str | None = None,
    images: Path | None = None,
    semantic: bool | None = None,
    dry_run: bool = False,
) -> Plan:
    """Look at data and write an experiment for it, which `rfsearch run` takes as it is.

    Args:
        data: A folder, or a file of annotations.
        out: The folder to write, which must not be there yet.
        budget: Time that the search may take.
        device: Where it will run.
        kind: What to learn, where it could be several: see `rfsearch.planning._finding`.
        images: Folder of the images, where it is not beside the annotations.
        semantic: Whether the values of masks are classes.
        dry_run: Whether nothing is to be left behind.

    Raises:
        ValueError: One line that says what cannot be used, and why.
    """
    from rfsearch.search.experiment import Experiment

    seconds = _schedule.parse_budget(budget)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: must be a new or empty folder, but there is something in it.")
    found = find_data(data, kind, images, semantic)
    measured = survey(found)
    sizing = size_up(measured, found.kind)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _staged(out, dry_run) as stage, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What was left out stands in the README.
        table = data_table(found, sizing, stage)
        loaded, table, sizing = _load(table, sizing, stage)
        made = _decide(found, measured, sizing, table, loaded, seconds, device)
        for file, text in made.files.items():
            (stage / file).write_text(text, encoding="utf-8")
        Experiment.load(stage, device)
    return made


@contextmanager
def _staged(out: Path, dry_run: bool) -> Iterator[Path]:
    """A folder that becomes another at the end; beside it, as relative paths are the same."""
    with tempfile.TemporaryDirectory(
        prefix=".rfsearch-init-", dir=out.parent, ignore_cleanup_errors=True
    ) as name:
        stage = Path(name)
        yield stage
        if not dry_run:
            stage.chmod(0o755)
            stage.rename(out)  # An empty folder gives way.


def _load(
    table: dict[str, Any], sizing: Sizing, stage: Path
) -> tuple[TaskData, dict[str, Any], Sizing]:
    """Read the images as a search will, with the first split that leaves objects in both parts."""
    tiles = [sizing.input_size]
    if table.get("split") == "areas":
        least = max(SMALLEST_TILE, sizing.longest)
        tiles += [side for side in range(tiles[0] - MULTIPLE, 0, -MULTIPLE) if side >= least]
    first: ValueError | None = None
    for side in tiles:
        for seed in range(_SEEDS):
            tried = table | {"image_size": side, "seed": seed}
            config = parse(ExperimentConfig, {"space": "toy", "data": tried}, "[data]")
            try:
                return config.data.load(stage), tried, replace(sizing, input_size=side)
            except ValueError as error:
                first = first or error
    assert first is not None
    raise first


def _decide(
    found: Found,
    measured: Survey,
    sizing: Sizing,
    table: dict[str, Any],
    loaded: TaskData,
    seconds: float,
    device: str | None,
) -> Plan:
    # Where a threshold finds all pixels of objects, no network needs to see a whole one.
    relaxed = found.kind == "segmentation" and measured.contrast.is_enough
    bounds: dict[str, Any] = {}
    if relaxed:
        highest = round(ERF_PER_OBJECT[1] * sizing.target.max_size, 1)
        bounds = {"theoretical": "off", "effective": [0, highest]}
    counted, per_second, sizing = _space(found, sizing, loaded, bounds, device)
    has_baseline = found.kind == "classification"
    time = _schedule.schedule(seconds, has_baseline, not relaxed)
    images = len(loaded.train_images)
    counted, operations = _widest(sizing, counted, time, images, per_second)
    baselines = _baselines(counted, operations) if has_baseline else {}
    is_pyramid = "neck" in counted.values
    experiment = {
        "question": f"Which networks see the objects of {found.name}, {sizing.target.in_words}?",
        "space": "space.toml",
        "baselines": list(baselines),
        "target": _target(sizing, is_pyramid) | bounds,
        "data": table,
        "training": {
            "epochs": _schedule.MOST_EPOCHS,
            "seconds": time.seconds,
            "batch_size": max(1, min(32 if has_baseline else 8, images // 4)),
        },
        "search": {"trained_trials": time.trials, "controls": time.controls, "seed": 0},
    }
    parse(ExperimentConfig, experiment, "experiment.toml")
    decisions = Decisions(
        found=found,
        survey=measured,
        sizing=sizing,
        table=table,
        relaxed=relaxed,
        counted=counted,
        schedule=time,
        train_images=images,
        valid_images=len(loaded.valid_images),
        copies=copies(found.files),
        operations=operations,
        per_second=per_second,
        baselines=baselines,
        budget=seconds,
    )
    files = {
        "experiment.toml": to_toml(experiment) + "\n",
        "space.toml": to_toml(counted.values) + "\n",
        "README.md": read_me(decisions),
    }
    return Plan(files, decisions)


def _space(
    found: Found, sizing: Sizing, loaded: TaskData, bounds: dict[str, Any], device: str | None
) -> tuple[Counted, float, Sizing]:
    """The first space of a kind that is diverse enough, and what the device does with it.

    Raises:
        ValueError: If none is.
    """
    ways = [(sizing, False)]
    if sizing.needs_levels and found.kind == "detection":
        ways.insert(0, (sizing, True))
    if sizing.target.axes:  # Networks that are square fit the scales of elongated objects.
        whole = type(sizing.target)(sizing.target.min_size, sizing.target.max_size, quiet=True)
        ways.append((replace(sizing, target=whole), False))
    for tried, levels in ways:
        counted = _count(tried, loaded, bounds, _schedule.WIDTHS[-1], levels)
        if counted is not None:
            return counted, _schedule.throughput(counted, device), tried
    raise ValueError(
        f"{found.source}: no space that is known here holds {_spaces.DIVERSITY[0]} or more "
        f"networks that fit objects of {sizing.target.in_words}: resize the images, or write a "
        "space of your own."
    )


def _count(
    sizing: Sizing, loaded: TaskData, bounds: dict[str, Any], width: int, levels: bool
) -> Counted | None:
    constraint = RFConstraint(
        sizing.target,
        theoretical=None if bounds else "rule",
        effective=tuple(bounds["effective"]) if bounds else "rule",
    )
    budget = Budget(
        max_output_stride=None if levels else sizing.max_output_stride,
        input_size=loaded.image_size,
        in_chans=loaded.in_chans,
        num_classes=len(loaded.class_names),
    )
    return _spaces.find_space(sizing, constraint, budget, width, levels)


def _widest(
    sizing: Sizing, narrow: Counted, time: Schedule, images: int, per_second: float
) -> tuple[Counted, float]:
    """The widest networks that have time for `EPOCHS` passes over the images, and their FLOPs."""
    for width in _schedule.WIDTHS:
        # Fields do not depend on widths, so what fits stays the same.
        values = _spaces.widened(narrow.values, width)
        one = narrow._replace(values=values, space=_spaces.as_space(values))
        operations = _schedule.flops(_schedule.typical(one), one)
        if _schedule.epochs_in(time.seconds, images, operations, per_second) >= _schedule.EPOCHS:
            break
    return one, operations


def _baselines(counted: Counted, operations: float) -> dict[str, float]:
    """The network of timm whose FLOPs are closest to a typical candidate's, if it is close."""
    from rfsearch.training.traced_network import timm_network

    budget = counted.constraint.budget
    assert budget is not None
    costs = {
        name: timm_network(name, budget.in_chans, budget.num_classes).cost(
            budget.input_size, budget.in_chans
        )[1]
        for name in _BASELINES
    }
    closest = min(costs, key=lambda name: abs(costs[name] - operations))
    ratio = costs[closest] / operations
    return {closest: ratio} if 1 / _SAME_COST <= ratio <= _SAME_COST else {}


def _target(sizing: Sizing, is_pyramid: bool) -> dict[str, Any]:
    target = sizing.target
    if target.height is not None and target.width is not None:
        values: dict[str, Any] = {"height": list(target.height), "width": list(target.width)}
    else:
        values = {"min_size": target.min_size, "max_size": target.max_size}
    return values if is_pyramid else values | {"max_output_stride": sizing.max_output_stride}
