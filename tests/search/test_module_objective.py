"""The funnel over modules that a function of the user's own builds."""

from __future__ import annotations

import re
from typing import Any

import optuna
import pytest
import timm
import torch
from optuna.trial import FrozenTrial, TrialState
from squares import boxed, masked
from test_tasks import task
from torch import Tensor, nn

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.data.tile_data import detection_data, segmentation_data
from rfsearch.data.tiles import AreaTiling
from rfsearch.report.dashboard import MemoryArtifacts, dashboard_study
from rfsearch.report.html import render_report
from rfsearch.report.summary import StudySummary
from rfsearch.search.controls import enqueue_controls
from rfsearch.search.objective import Objective
from rfsearch.search.sampler import RFSampler
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.module_space import ModuleSpace
from rfsearch.target.target import ScaleTarget
from rfsearch.training.config import TrainingConfig
from rfsearch.training.detection import DetectionTask
from rfsearch.training.segmentation import SegmentationTask
from rfsearch.training.task import Task

#: A map of 9 px or more, of which an ERF of 6 to 18 px.
CONSTRAINT = RFConstraint(ScaleTarget(5, 6))
CHOICES = {"depth": [1, 2, 3], "kernel_size": [3, 5]}


def build(depth: int, kernel_size: int) -> nn.Module:
    layers: list[nn.Module] = []
    for number in range(depth):
        channels = 4 if number else 1
        layers += [nn.Conv2d(channels, 4, kernel_size, padding=kernel_size // 2), nn.ReLU()]
    return nn.Sequential(*layers)


class Pyramid(nn.Module):
    """The coarse map first, as tasks do not expect it."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(1, 4, 5, padding=2), nn.Conv2d(4, 4, 5, 2, padding=2)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        fine = self.fine(images).relu()
        return {"coarse": self.coarse(fine), "fine": fine}


def space(input_size: tuple[int, int] = (12, 16)) -> ModuleSpace:
    return ModuleSpace(build, CHOICES, input_size)


def search(objective: Objective, *, num_trials: int) -> optuna.Study:
    study = optuna.create_study(
        direction="maximize", sampler=RFSampler(objective.space, objective.constraint, seed=0)
    )
    study.optimize(objective, n_trials=num_trials)
    return study


@pytest.fixture(scope="module")
def study() -> optuna.Study:
    objective = Objective(space(), CONSTRAINT, task())
    study = optuna.create_study(direction="maximize")
    for params in ({"depth": 3, "kernel_size": 5}, {"depth": 1, "kernel_size": 3}):
        study.enqueue_trial(params)
    study.enqueue_trial({"depth": 3, "kernel_size": 5})
    study.optimize(objective, n_trials=3)
    return study


def test_what_fits_is_trained_and_what_does_not_never(study: optuna.Study) -> None:
    trained, rejected, _ = study.trials
    assert trained.state == TrialState.COMPLETE
    assert trained.user_attrs["trf_size"] == 13
    assert 6 <= trained.user_attrs["erf_trained"] <= 18
    assert trained.user_attrs["params_m"] * 1e6 == sum(p.numel() for p in build(3, 5).parameters())
    assert rejected.state == TrialState.PRUNED
    assert rejected.user_attrs["rejected_by"] == "theoretical"
    assert "train_seconds" not in rejected.user_attrs


def test_equal_parameters_are_trained_once(study: optuna.Study) -> None:
    trained, _, again = study.trials
    assert again.user_attrs["duplicate_of"] == 0
    assert again.values == trained.values


def test_weights_depend_on_the_seed_alone(study: optuna.Study) -> None:
    torch.rand(3)
    again = optuna.create_study(direction="maximize")
    again.enqueue_trial({"depth": 3, "kernel_size": 5})
    again.optimize(Objective(space(), CONSTRAINT, task()), n_trials=1)
    assert again.trials[0].user_attrs["erf_init"] == study.trials[0].user_attrs["erf_init"]
    assert again.trials[0].values == study.trials[0].values


def test_the_table_the_report_and_the_dashboard_show_them(study: optuna.Study) -> None:
    frame = trials_dataframe(study)
    assert list(frame["depth"]) == [3, 1, 3]
    assert frame["erf_trained"].notna().tolist() == [True, False, True]
    text = render_report(StudySummary.of_study(study))
    assert "depth=3, kernel_size=5" in text
    shown = dashboard_study(StudySummary.of_study(study), MemoryArtifacts())
    assert len(shown.trials) == 3


def dense_task(kind: type[Task]) -> Task:
    options: dict[str, Any] = {"training": TrainingConfig(epochs=1, batch_size=8), "device": "cpu"}
    tiling = AreaTiling(image_size=32)
    if kind is SegmentationTask:
        return kind(
            segmentation_data([masked()], ("none", "dim", "bright"), tiling, "x"), **options
        )
    return kind(detection_data([boxed()], ("dim", "bright"), tiling, "x"), **options)


@pytest.mark.parametrize("kind", [SegmentationTask, DetectionTask])
def test_tasks_with_heads_of_their_own_take_several_maps(kind: type[Task]) -> None:
    dense = dense_task(kind)
    objective = Objective(
        ModuleSpace(lambda width: Pyramid(), {"width": [4]}, dense.input_size),
        RFConstraint(theoretical=None, effective=None),
        dense,
    )
    (trial,) = search(objective, num_trials=1).trials
    assert trial.state == TrialState.COMPLETE, trial.user_attrs
    assert trial.user_attrs["output_stride"] == 2
    assert trial.user_attrs["trf_size"] == 9


def one(make: Any, **options: Any) -> FrozenTrial:
    objective = Objective(
        ModuleSpace(lambda n: make(), {"n": [1]}, (12, 16)),
        RFConstraint(theoretical=None, effective=None),
        task(**options),
    )
    return search(objective, num_trials=1).trials[0]


def test_networks_of_timm_are_candidates_too() -> None:
    trial = one(lambda: "test_resnet")
    assert trial.state == TrialState.COMPLETE
    trial = one(lambda: timm.create_model("test_resnet", in_chans=1, num_classes=7))
    assert trial.state == TrialState.COMPLETE


def flat() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Uneven(Pyramid):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        fine = self.fine(images)
        return {"fine": fine, "few": fine[:, :2]}


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (flat, "Sequential must give maps (batch, channels, height, width)"),
        (lambda: nn.Conv2d(1, 4, (3, 5)), "with equal receptive fields along both axes"),
        (Uneven, "the same number of channels, but they have 2 and 4"),
        (lambda: nn.Conv2d(3, 4, 3), "at an input of 12x16 px and 1 channel"),
        (lambda: 7, "int: 7"),
    ],
)
def test_what_cannot_be_trained_is_a_failed_trial_that_says_why(make: Any, line: str) -> None:
    trial = one(make)
    assert trial.state == TrialState.FAIL
    assert line in trial.user_attrs["reason"]
    assert "\n" not in trial.user_attrs["reason"]


def test_a_space_for_other_images_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("(12, 16), but is (32, 32)")):
        Objective(space((32, 32)), CONSTRAINT, task())


def test_controls_are_refused() -> None:
    with pytest.raises(ValueError, match="but got ModuleSpace"):
        enqueue_controls(optuna.create_study(), space(), CONSTRAINT, 3)


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({"kernel_size": 99}, "`kernel_size` must be one of 3, 5, but got '99'."),
        ({"depth": 9}, "`depth` must be one of 1, 2, 3, but got 9."),
        ({"kernel": 3}, "no parameter `kernel`, which was enqueued; it has depth, kernel_size."),
    ],
)
def test_what_is_enqueued_and_not_offered_is_never_replaced_by_something_else(
    params: dict[str, int], line: str
) -> None:
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({"depth": 3, "kernel_size": 5} | params)
    choices = {"depth": optuna.distributions.IntDistribution(1, 3), "kernel_size": [3, 5]}
    study.optimize(
        Objective(ModuleSpace(build, choices, (12, 16)), CONSTRAINT, task()), n_trials=1
    )
    assert study.trials[0].state == TrialState.FAIL
    assert line in study.trials[0].user_attrs["reason"]


@pytest.mark.parametrize("given", ["deep", 3, [], None])
def test_choices_that_are_no_list_are_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="`choices` of 'kind' must be a list of values"):
        ModuleSpace(build, {"kind": given}, 32)
