"""An experiment, loaded: what to search, for which objects, on which images, for how long."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rfsearch.basics.files import real_path
from rfsearch.basics.validation import parse, placed, read_toml
from rfsearch.models.timm_models import check_name
from rfsearch.search._baseline_names import baseline_names
from rfsearch.search.config import ExperimentConfig
from rfsearch.search.controls import check_controls
from rfsearch.search.objectives import check_objectives
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.remedies import require_feasible
from rfsearch.space.space import SearchSpace
from rfsearch.training.task import Task
from rfsearch.training.tasks import task_for


@dataclass(frozen=True)
class Experiment:
    """An experiment with everything it needs loaded.

    Attributes:
        folder: Where the experiment's file lies and its results go.
        config: The file's contents.
        space: What may be proposed.
        constraint: Which receptive fields fit.
        task: What to train for.
        baselines: Names in timm of what is trained beside the candidates.
    """

    folder: Path
    config: ExperimentConfig
    space: SearchSpace
    constraint: RFConstraint
    task: Task
    baselines: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> Self:
        """Read an experiment's folder or file, its space and its images.

        Raises:
            ValueError: One line that says which file and key is wrong, or that no candidate of
                the space can meet the target.
        """
        file = Path(path)
        if file.is_dir():
            file /= "experiment.toml"
        config = parse(ExperimentConfig, read_toml(file), str(file))
        baselines = _baselines(config, file)
        named = config.space
        with placed(f"{file}: space"):
            space = SearchSpace.load(file.parent / named if named.endswith(".toml") else named)
        with placed(file):
            data = config.data.load(file.parent)
            task = task_for(data, config.training, device)
            constraint = config.target.constraint(task)
            require_feasible(space, constraint)
        with placed(f"{file}: search"):
            check_objectives(config.search.objectives, constraint)
            if config.search.controls:
                check_controls(constraint)
        if constraint.target and (remark := constraint.target.beyond(data.image_size)):
            warnings.warn(f"{file}: target: {remark}", stacklevel=2)
        return cls(
            folder=real_path(file.parent),
            config=config,
            space=space,
            constraint=constraint,
            task=task,
            baselines=baselines,
        )

    @property
    def checkpoints(self) -> Path:
        """Folder for the state of trainings, unless workers are given another one."""
        return self.folder / "checkpoints"

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change between the runs of one study, fit for JSON."""
        without: dict[str, Any] = dict.fromkeys(("question", "search", "baselines"), True)
        # These do not change any score.
        without |= {"data": {"in_memory"}, "training": {"loader_workers"}}
        config = self.config.model_dump(mode="json", exclude=without)
        return config | {"space": self.space.model_dump(mode="json")}


def _baselines(config: ExperimentConfig, file: Path) -> tuple[str, ...]:
    with placed(f"{file}: baselines"):
        names = baseline_names(config.baselines, file.parent)
        for name in names:
            check_name(name)
    return names
