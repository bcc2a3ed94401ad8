"""An experiment, loaded: what to search, for which objects, on which images, for how long."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rfsearch.basics.files import real_path
from rfsearch.basics.validation import parse, placed, read_toml
from rfsearch.models.timm_models import check_name
from rfsearch.retrofit.pretrained import PretrainedConfig, PretrainedSpace
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
        space: What may be proposed: architectures, or changes of a trained network.
        constraint: Which receptive fields fit.
        task: What to train for.
        baselines: What is trained beside the candidates: names in timm, and of a trained network
            its presets.
    """

    folder: Path
    config: ExperimentConfig
    space: SearchSpace | PretrainedSpace
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
        with placed(f"{file}: space"):
            # What is wrong with a file is known before any image is read.
            named = _read_space(config.space, file.parent)
        with placed(file):
            data = config.data.load(file.parent)
            task = task_for(data, config.training, device)
            constraint = config.target.constraint(task)
        with placed(f"{file}: space"):
            space = named or _trained_network(config, file.parent, task)
        with placed(file):
            _require_feasible(space, constraint)
        if isinstance(space, PretrainedSpace):
            baselines = (*space.presets, *baselines)
        with placed(f"{file}: search"):
            check_objectives(config.search.objectives, constraint)
            if config.search.controls:
                check_controls(constraint, space)
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
        if isinstance(self.space, PretrainedSpace):
            return config | {"weights": self.space.digest}
        return config | {"space": self.space.model_dump(mode="json")}


def _read_space(given: str | PretrainedConfig, folder: Path) -> SearchSpace | None:
    """The space of a file; None of a trained network, which needs the images' size."""
    if isinstance(given, PretrainedConfig):
        return None
    return SearchSpace.load(folder / given if given.endswith(".toml") else given)


def _trained_network(config: ExperimentConfig, folder: Path, task: Task) -> PretrainedSpace:
    assert isinstance(config.space, PretrainedConfig)
    return config.space.load(folder, task.input_size, task.in_chans)


def _require_feasible(space: SearchSpace | PretrainedSpace, constraint: RFConstraint) -> None:
    if isinstance(space, SearchSpace):
        require_feasible(space, constraint)
    elif space.feasible(constraint).is_empty():
        asked = ", ".join(f"{gate} {allowed}" for gate, allowed in constraint.described().items())
        raise ValueError(f"No change of the network that was tried passes all gates ({asked}).")


def _baselines(config: ExperimentConfig, file: Path) -> tuple[str, ...]:
    with placed(f"{file}: baselines"):
        names = baseline_names(config.baselines, file.parent)
        for name in names:
            check_name(name)
    return names
