from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import optuna
import pytest
import torch
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from squares import boxed

from rfsearch.data.datasets import ImageData
from rfsearch.data.tile_data import detection_data
from rfsearch.data.tiles import AreaTiling
from rfsearch.diagnosis.diagnosis import diagnose
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import SearchedNetwork
from rfsearch.search.objective import Objective
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.space.trial_gates import CONSTRAINT_KEYS
from rfsearch.target.target import ScaleTarget
from rfsearch.training.checkpoints import Checkpoint
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.config import TrainingConfig
from rfsearch.training.detection import DetectionTask
from rfsearch.training.loop import TrainingResult
from rfsearch.training.scores import ScaleScores

SPACE = SearchSpace(
    stem={"kernel_size": 3, "stride": 1, "width": 4},
    stages=[
        {
            "block": "plain",
            "depth": [1, 2, 3],
            "width": 4,
            "stride": [1, 2],
            "downsample": ["conv", "max_pool"],
            "kernel_size": [3, 5],
        }
    ],
)
#: A theoretical receptive field of 9 px or more, an ERF of 6 to 18 px.
CONSTRAINT = RFConstraint(ScaleTarget(5, 6))
#: Theoretical receptive fields of 5, 11, 9, 15 and 13 px.
TOO_SMALL = {"stage1_depth": 1, "stage1_kernel_size": 3, "stage1_stride": 1}
FITS = {"stage1_depth": 2, "stage1_kernel_size": 5, "stage1_stride": 1}
DEEP = FITS | {"stage1_depth": 3, "stage1_kernel_size": 3}
WIDE = FITS | {"stage1_stride": 2, "stage1_downsample": "conv"}
LONG = WIDE | {"stage1_depth": 3, "stage1_kernel_size": 3}


def tiny_data(image_size: int = 16, seed: int = 0) -> ImageData:
    """Noise, with classes that differ in brightness."""
    rng = np.random.default_rng(seed)
    labels = np.arange(96) % 2
    images = rng.integers(0, 100, size=(96, 1, image_size, image_size))
    images += 100 * labels[:, None, None, None]
    pixels, classes = torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels)
    return ImageData(pixels[:64], classes[:64], pixels[64:], classes[64:], ("dark", "bright"))


@dataclass(frozen=True)
class WatchedTask(ClassificationTask):
    """A real task that notes what it trained."""

    trained: list[Architecture] = field(default_factory=list)

    def train(
        self,
        model: SearchedNetwork,
        report: Callable[[int, float], None] | None = None,
        checkpoint: Checkpoint | None = None,
        after_batch: Callable[[], None] | None = None,
    ) -> TrainingResult:
        self.trained.append(model.architecture)
        return super().train(model, report, after_batch=after_batch)


class StubERF(NamedTuple):
    size: float
    clipped: float = 0.0


@dataclass(frozen=True)
class StubTask(WatchedTask):
    """A task whose ERF and accuracies are known, without any computing."""

    erf_size: float = 10.0
    curves: tuple[tuple[float, ...], ...] = ((0.5,),)

    def measure_erf(self, model: SearchedNetwork, level: str | None = None) -> Any:
        return StubERF(self.erf_size)

    def train(
        self,
        model: SearchedNetwork,
        report: Callable[[int, float], None] | None = None,
        checkpoint: Checkpoint | None = None,
        after_batch: Callable[[], None] | None = None,
    ) -> TrainingResult:
        curve = self.curves[len(self.trained) % len(self.curves)]
        self.trained.append(model.architecture)
        assert report is not None
        for epoch, accuracy in enumerate(curve, start=1):
            report(epoch, accuracy)
        return TrainingResult(curve[-1], len(curve), 0.0)


class PrunesAll(BasePruner):
    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return True


def real_task(**training: Any) -> WatchedTask:
    return WatchedTask(
        tiny_data(),
        TrainingConfig(**{"epochs": 1, "batch_size": 32, **training}),
        device="cpu",
        num_erf_images=2,
    )


def stub_task(**options: Any) -> StubTask:
    return StubTask(tiny_data(), TrainingConfig(epochs=1), device="cpu", **options)


def search(
    task: ClassificationTask,
    *enqueued: dict[str, Any],
    constraint: RFConstraint = CONSTRAINT,
    pruner: BasePruner | None = None,
    sampler: BaseSampler | None = None,
    num_trials: int | None = None,
    space: SearchSpace = SPACE,
) -> list[FrozenTrial]:
    """Trials of a study that starts with the enqueued candidates."""
    study = optuna.create_study(
        direction="maximize",
        sampler=sampler or RandomSampler(seed=0),
        pruner=pruner or NopPruner(),
    )
    for params in enqueued:
        study.enqueue_trial(params)
    objective = Objective(space, constraint, task)
    study.optimize(objective, n_trials=num_trials or len(enqueued))
    return study.trials


def states(trials: list[FrozenTrial]) -> list[str]:
    return [trial.state.name for trial in trials]


def architecture_of(trial: FrozenTrial) -> Architecture:
    return Architecture.from_dict(json.loads(trial.user_attrs["architecture"]))


def test_a_trained_trial_has_every_number_as_a_flat_attribute() -> None:
    task = real_task()
    (trial,) = search(task, FITS)
    arch = SPACE.from_params(trial.params)
    attrs = trial.user_attrs
    assert set(attrs) == {
        "architecture",
        "environment",
        "erf_clipped",
        "erf_expected",
        *(f"erf_half_{when}" for when in ("expected", "init", "trained")),
        "erf_init",
        *(f"erf_sigma_{when}" for when in ("expected", "init", "trained")),
        "erf_trained",
        "findings",
        "flops_g",
        "global_layers",
        "metric",
        "output_stride",
        "params_m",
        "seed",
        "skipped",
        "train_seconds",
        "training_memory_mb",
        "trf_size",
    }
    assert {type(value) for value in attrs.values()} == {str, int, float}
    assert architecture_of(trial) == arch
    assert (attrs["trf_size"], attrs["output_stride"], attrs["seed"]) == (11, 1, 0)
    assert attrs["erf_expected"] == arch.expected_erf().size
    model = task.build(arch)
    assert attrs["params_m"] == sum(p.numel() for p in model.parameters()) / 1e6
    assert attrs["flops_g"] == arch.cost((16, 16), 1, 2).flops / 1e9
    assert attrs["training_memory_mb"] == arch.training_memory((16, 16), 32, 1, 2)
    assert attrs["erf_init"] == task.measure_erf(model).size
    assert attrs["erf_sigma_init"] == task.measure_erf(model).sigma
    assert attrs["erf_clipped"] == 0
    assert 0 < attrs["erf_trained"] <= 11
    assert attrs["train_seconds"] > 0
    assert trial.state == TrialState.COMPLETE
    assert trial.values == [trial.intermediate_values[1]]
    assert (trial.value * 32).is_integer()


def test_parts_that_see_the_whole_image_are_named() -> None:
    stage = {"block": "basic", "depth": 1, "width": 8, "context": "gc"}
    space = SearchSpace(stem={"kernel_size": 3, "stride": 1, "width": 8}, stages=[stage, stage])
    constraint = RFConstraint(theoretical=(9, None), effective=(1, None))
    (trial,) = search(stub_task(), {}, space=space, constraint=constraint)
    assert trial.user_attrs["global_layers"] == "stage 1 gc,stage 2 gc"


def test_scores_by_scale_are_attributes_where_they_are_known() -> None:
    @dataclass(frozen=True)
    class Scored(StubTask):
        def train(self, *arguments: Any) -> TrainingResult:
            return TrainingResult(0.5, 1, 0.0, ScaleScores(small=0.25, large=0.75), ap50=0.875)

    task = Scored(tiny_data(), TrainingConfig(epochs=1), device="cpu")
    first, again = search(task, FITS, FITS)
    for trial in (first, again):
        known = {k: v for k, v in trial.user_attrs.items() if k.startswith(("score_", "ap50"))}
        assert known == {"score_small": 0.25, "score_large": 0.75, "ap50": 0.875}
        assert trial.user_attrs["metric"] == "accuracy"
    assert again.user_attrs["duplicate_of"] == 0


def test_of_a_pyramid_each_judged_level_is_measured_before_and_after_training() -> None:
    space = SearchSpace(
        stem={"kernel_size": 3, "stride": 2, "width": 8},
        stages=[
            {"block": "plain", "depth": 1, "width": 8},
            {"block": "plain", "depth": 1, "width": 8, "stride": 2, "kernel_size": [3, 5]},
        ],
        neck={"kind": "fpn", "width": 8, "num_levels": 2},
    )
    data = detection_data([boxed()], ("dim", "bright"), AreaTiling(image_size=32), "x")
    task = DetectionTask(data, TrainingConfig(epochs=1), device="cpu", num_erf_images=2)
    study = optuna.create_study(direction="maximize")
    constraint = RFConstraint(theoretical=(3, None), effective=(2, None))
    study.optimize(Objective(space, constraint, task), n_trials=1)
    (trial,) = study.trials
    assert trial.state == TrialState.COMPLETE, trial.user_attrs
    arch = architecture_of(trial)
    known = json.loads(trial.user_attrs["levels"])
    assert tuple(known) == arch.levels == ("P2", "P3")
    for level, numbers in known.items():
        assert numbers["trf_size"] == arch.receptive_field(level).size
        assert numbers["erf_expected"] == arch.expected_erf(level).size
        for key in ("erf_init", "erf_trained"):
            assert 2 <= numbers[key] <= numbers["trf_size"]
    last = known["P3"]
    attrs = trial.user_attrs
    assert [attrs[k] for k in ("trf_size", "erf_init", "erf_trained")] == [
        last[k] for k in ("trf_size", "erf_init", "erf_trained")
    ]
    assert known["P2"]["erf_init"] != last["erf_init"]


def test_the_same_candidate_gets_the_same_numbers_in_every_study() -> None:
    tasks = (real_task(epochs=3, batch_size=16) for _ in range(2))
    (first,), (second,) = (search(task, FITS) for task in tasks)
    assert first.values == second.values
    assert first.intermediate_values == second.intermediate_values
    assert len(set(first.intermediate_values.values())) > 1
    changing = {"train_seconds"}
    for name in set(first.user_attrs) - changing:
        assert first.user_attrs[name] == second.user_attrs[name], name


def test_a_trained_candidate_is_not_trained_again() -> None:
    task = stub_task(curves=((0.25,), (0.75,)))
    trials = search(task, FITS, FITS, DEEP, FITS)
    assert [trial.value for trial in trials] == [0.25, 0.25, 0.75, 0.25]
    assert [trial.user_attrs.get("duplicate_of") for trial in trials] == [None, 0, None, 0]
    assert len(task.trained) == 2
    assert trials[1].constraints == trials[0].constraints
    assert "train_seconds" not in trials[1].user_attrs
    others = set(trials[0].user_attrs) - {"train_seconds"}
    for name in others:
        assert trials[1].user_attrs[name] == trials[0].user_attrs[name], name


def test_a_choice_without_effect_does_not_make_another_candidate() -> None:
    # Nothing is downsampled at a stride of 1.
    trials = search(
        stub_task(),
        FITS | {"stage1_downsample": "conv"},
        FITS | {"stage1_downsample": "max_pool"},
    )
    assert trials[1].user_attrs["duplicate_of"] == 0


def test_a_candidate_that_was_not_trained_to_the_end_is_tried_again() -> None:
    task = stub_task()
    trials = search(task, FITS, FITS, pruner=PrunesAll())
    assert states(trials) == ["PRUNED", "PRUNED"]
    assert len(task.trained) == 2


def test_another_seed_trains_a_candidate_again() -> None:
    study = optuna.create_study(direction="maximize")
    for seed in (0, 1):
        task = StubTask(tiny_data(), TrainingConfig(epochs=1, seed=seed), device="cpu")
        study.enqueue_trial(FITS)
        study.optimize(Objective(SPACE, CONSTRAINT, task), n_trials=1)
        assert len(task.trained) == 1
    assert [trial.user_attrs["seed"] for trial in study.trials] == [0, 1]


def test_candidates_that_do_not_fit_are_never_trained() -> None:
    task = stub_task()
    trials = search(task, num_trials=30)
    assert set(states(trials)) == {"COMPLETE", "PRUNED"}
    complete = [architecture_of(trial) for trial in trials if trial.state == TrialState.COMPLETE]
    assert task.trained == list(dict.fromkeys(complete))
    assert all(CONSTRAINT.is_feasible(arch) for arch in complete)
    pruned = [architecture_of(trial) for trial in trials if trial.state == TrialState.PRUNED]
    assert not any(CONSTRAINT.is_feasible(arch) for arch in pruned)


def test_an_enqueued_candidate_outside_the_target_is_rejected() -> None:
    task = stub_task()
    (trial,) = search(task, TOO_SMALL)
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["rejected_by"] == "theoretical"
    assert trial.user_attrs["reason"] == (
        "theoretical RF of 5 px is 4 px below the lower bound of 9 px"
    )
    assert trial.constraints["trf_octaves"] == pytest.approx(math.log2(9 / 5))
    assert trial.user_attrs["trf_size"] == 5
    assert not trial.intermediate_values
    assert task.trained == []


def test_the_expected_erf_rejects_before_a_network_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("built")

    monkeypatch.setattr("rfsearch.training.task.build_model", no_network)
    too_wide = RFConstraint(theoretical=(1, None), effective=(1, 2))
    (trial,) = search(stub_task(), FITS, constraint=too_wide)
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["rejected_by"] == "expected"
    assert "above the upper bound of 2 px" in trial.user_attrs["reason"]


def test_the_measured_erf_rejects_before_training() -> None:
    task = real_task()
    hard = RFConstraint(theoretical=(1, None), effective=(100, None), expected=False)
    (trial,) = search(task, FITS, constraint=hard)
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["rejected_by"] == "measured"
    assert 0 < trial.user_attrs["erf_init"] <= 11
    assert trial.constraints["erf_measured_octaves"] == pytest.approx(
        math.log2(100 / trial.user_attrs["erf_init"])
    )
    assert set(trial.constraints) == {"trf_octaves", "erf_measured_octaves"}
    assert task.trained == []


# -- failures that do not end the study -------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), [("stage1_depth", 9), ("stage1_kernel_size", 4)])
def test_an_enqueued_value_outside_the_space_fails_and_the_study_goes_on(
    name: str, value: int
) -> None:
    task = stub_task()
    with pytest.warns(UserWarning, match="out of range"):
        trials = search(task, FITS | {name: value}, FITS)
    assert states(trials) == ["FAIL", "COMPLETE"]
    assert trials[0].user_attrs["rejected_by"] == "space"
    assert f"`{name}` must be one of" in trials[0].user_attrs["reason"]
    assert f"but got {value}." in trials[0].user_attrs["reason"]
    assert len(task.trained) == 1


def test_an_enqueued_name_of_a_choice_fails_and_the_study_goes_on() -> None:
    trials = search(stub_task(), FITS | {"stage1_downsample": "melt"}, FITS)
    assert states(trials) == ["FAIL", "COMPLETE"]
    assert trials[0].user_attrs["rejected_by"] == "space"
    assert "melt" in trials[0].user_attrs["reason"]


@pytest.mark.parametrize("name", ["stage1_colour", "kernel_size", "stage_1_depth"])
def test_an_enqueued_name_that_is_no_parameter_fails_and_the_study_goes_on(name: str) -> None:
    trials = search(stub_task(), FITS | {name: 3}, FITS)
    assert states(trials) == ["FAIL", "COMPLETE"]
    assert f"no parameter `{name}`, which was enqueued" in trials[0].user_attrs["reason"]


def test_an_image_too_small_for_a_candidate_fails_and_the_study_goes_on() -> None:
    stage = {"block": "plain", "depth": 1, "width": 4}
    stage |= {"stride": [1, 8], "downsample": "max_pool"}
    space = SearchSpace(stem={"kernel_size": 3, "stride": 1, "width": 4}, stages=[stage])
    task = StubTask(tiny_data(image_size=4), TrainingConfig(epochs=1), device="cpu")
    study = optuna.create_study(direction="maximize")
    for stride in (8, 1):
        study.enqueue_trial({"stage1_stride": stride})
    constraint = RFConstraint(theoretical=(1, None), effective=(1, None))
    study.optimize(Objective(space, constraint, task), n_trials=2)
    assert states(study.trials) == ["FAIL", "COMPLETE"]
    assert "must fit into its padded input" in study.trials[0].user_attrs["reason"]


def test_a_loss_that_is_not_finite_fails_and_the_study_goes_on() -> None:
    task = real_task(optimizer="sgd", learning_rate=1e30, warmup=0.0, epochs=2)
    trials = search(task, FITS, TOO_SMALL)
    assert states(trials) == ["FAIL", "PRUNED"]
    attrs = trials[0].user_attrs
    assert attrs["rejected_by"] == "training"
    assert attrs["reason"].startswith("The training loss is nan in epoch")
    assert attrs["train_seconds"] > 0
    assert "erf_trained" not in attrs


def test_a_network_that_training_has_killed_fails_and_the_study_goes_on() -> None:
    # The loss of the only update is finite; the weights after it are not.
    task = real_task(optimizer="sgd", learning_rate=1e30, warmup=0.0, batch_size=64)
    trials = search(task, FITS, TOO_SMALL)
    assert states(trials) == ["FAIL", "PRUNED"]
    attrs = trials[0].user_attrs
    assert attrs["rejected_by"] == "training"
    assert attrs["reason"].startswith("After training: No gradient reaches the input")


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_a_bug_in_training_ends_the_study(kind: type[Exception]) -> None:
    @dataclass(frozen=True)
    class BrokenTask(StubTask):
        def train(
            self,
            model: SearchedNetwork,
            report: object = None,
            checkpoint: object = None,
            after_batch: object = None,
        ) -> TrainingResult:
            raise kind("broken")

    task = BrokenTask(tiny_data(), TrainingConfig(epochs=1), device="cpu")
    with pytest.raises(kind, match=r"^broken$"):
        search(task, FITS, FITS)


# -- constraints, pruners, samplers -----------------------------------------------------------


def test_every_trial_that_has_not_failed_has_the_same_constraints() -> None:
    narrow = RFConstraint(theoretical=(7, None), effective=(6, 12))
    too_wide = FITS | {"stage1_depth": 3, "stage1_stride": 2, "stage1_downsample": "conv"}
    trials = search(stub_task(), TOO_SMALL, FITS, too_wide, FITS, constraint=narrow)
    trials += search(stub_task(erf_size=50.0), FITS, constraint=narrow)
    trials += search(stub_task(), FITS, constraint=narrow, pruner=PrunesAll())
    ended_by = [trial.user_attrs.get("rejected_by") for trial in trials]
    assert ended_by == ["theoretical", None, "expected", None, "measured", "pruner"]
    assert trials[3].user_attrs["duplicate_of"] == 1
    for trial in trials:
        assert set(trial.constraints) == {CONSTRAINT_KEYS[gate] for gate in narrow.ranges()}
    feasible = [all(v <= 0 for v in trial.constraints.values()) for trial in trials]
    assert feasible == [False, True, False, True, False, True]


def test_a_pruner_stops_training() -> None:
    task = stub_task(curves=((0.25, 0.75),))
    (trial,) = search(task, FITS, pruner=PrunesAll())
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {1: 0.25}
    assert trial.user_attrs["rejected_by"] == "pruner"
    assert trial.user_attrs["train_seconds"] >= 0
    assert "erf_trained" not in trial.user_attrs


def test_a_pruner_stops_real_training_after_the_first_epoch() -> None:
    (trial,) = search(real_task(epochs=3), FITS, pruner=PrunesAll())
    assert trial.state == TrialState.PRUNED
    assert list(trial.intermediate_values) == [1]
    assert trial.user_attrs["rejected_by"] == "pruner"


def test_the_median_pruner_compares_intermediate_accuracies() -> None:
    curves = ((0.5, 0.9), (0.6, 0.8), (0.1, 0.9), (0.7, 0.7))
    task = stub_task(curves=curves)
    pruner = MedianPruner(n_startup_trials=2, n_warmup_steps=0)
    trials = search(task, FITS, DEEP, WIDE, LONG, pruner=pruner)
    assert states(trials) == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    # The third is worse in its first epoch, the fourth in its second.
    assert [len(trial.intermediate_values) for trial in trials] == [2, 2, 1, 2]
    assert [trial.value for trial in trials[:2]] == [0.9, 0.8]


@pytest.mark.parametrize(
    "sampler",
    [
        TPESampler(seed=0, n_startup_trials=4),
        RandomSampler(seed=0),
        NSGAIISampler(seed=0, population_size=4),
    ],
    ids=["tpe", "random", "nsgaii"],
)
def test_samplers_of_optuna_search_the_space(sampler: BaseSampler) -> None:
    task = stub_task()
    trials = search(task, sampler=sampler, num_trials=12)
    rejected = [trial for trial in trials if "rejected_by" in trial.user_attrs]
    assert {"COMPLETE"} <= set(states(trials)) <= {"COMPLETE", "PRUNED"}
    assert all(not CONSTRAINT.is_feasible(architecture_of(trial)) for trial in rejected)
    for trial in trials:
        assert trial.distributions == SPACE.distributions()
        assert architecture_of(trial) in SPACE
    complete = {architecture_of(trial) for trial in trials if trial not in rejected}
    assert set(task.trained) == complete
    assert len(task.trained) == len(complete)


def test_what_the_diagnosis_finds_is_part_of_the_log() -> None:
    trials = search(stub_task(), FITS, TOO_SMALL, DEEP)
    for trial in trials:
        found = diagnose(architecture_of(trial), CONSTRAINT.target, 16)
        assert trial.user_attrs["findings"] == ",".join(one.kind for one in found)
    assert "rf_too_small" in trials[1].user_attrs["findings"].split(",")
    assert trials[0].user_attrs["findings"] == ""


def test_a_pyramid_logs_its_levels() -> None:
    space = SearchSpace(
        stem={"kernel_size": 3, "stride": 1, "width": 8},
        stages=[{"block": "plain", "depth": [1, 2], "width": 8, "stride": 2}] * 2,
        neck={"kind": "fpn", "width": 8, "num_levels": 2},
    )
    task = real_task()
    constraint = RFConstraint(theoretical=(5, 99), effective=(5, 99))
    study = optuna.create_study(direction="maximize")
    study.optimize(Objective(space, constraint, task), n_trials=1)
    (trial,) = study.trials
    assert trial.state == TrialState.COMPLETE
    arch = architecture_of(trial)
    levels = json.loads(trial.user_attrs["levels"])
    assert list(levels) == ["P2", "P3"]
    for level, known in levels.items():
        assert known["trf_size"] == arch.receptive_field(level).size
        assert known["erf_init"] == task.measure_erf(task.build(arch), level).size
    assert trial.user_attrs["erf_init"] == levels["P3"]["erf_init"]
    assert trial.user_attrs["output_stride"] == 4


def test_images_that_do_not_fit_a_neck_are_a_failed_trial() -> None:
    space = SearchSpace(
        stem={"kernel_size": 3, "stride": [1, 2], "width": 8},
        stages=[{"block": "plain", "depth": 1, "width": 8, "stride": 4, "downsample": "max_pool"}]
        * 2,
        neck={"kind": "merge", "width": 8},
    )
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({"stem_stride": 2})
    study.optimize(
        Objective(space, RFConstraint(theoretical=None, effective=None), real_task()), 1
    )
    (trial,) = study.trials
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["rejected_by"] == "space"
    assert trial.user_attrs["reason"].startswith("Images must be a multiple of 32 px")


def test_a_network_through_which_no_gradient_comes_does_not_end_the_study() -> None:
    @dataclass(frozen=True)
    class Dead(StubTask):
        from_measurement: int = 1
        measured: list[int] = field(default_factory=list)

        def measure_erf(self, model: SearchedNetwork, level: str | None = None) -> Any:
            self.measured.append(1)
            if len(self.measured) >= self.from_measurement:
                raise ValueError("No gradient reaches the input.")
            return super().measure_erf(model, level)

    options = (tiny_data(), TrainingConfig(epochs=1))
    (at_once,) = search(Dead(*options, device="cpu"), FITS)
    assert at_once.state == TrialState.FAIL
    assert at_once.user_attrs["rejected_by"] == "measured"
    assert at_once.user_attrs["reason"] == "No gradient reaches the input."
    (trained,) = search(Dead(*options, device="cpu", from_measurement=2), FITS)
    assert trained.state == TrialState.FAIL
    assert trained.user_attrs["reason"] == "After training: No gradient reaches the input."


def test_a_network_larger_than_the_memory_is_not_built() -> None:
    block = {"block": "plain", "depth": [63, 64], "width": 8192, "kernel_size": 101}
    space = SearchSpace(stem={"kernel_size": 3, "stride": 1, "width": 4}, stages=[block])
    (trial,) = search(
        stub_task(),
        constraint=RFConstraint(theoretical=None, effective=None),
        space=space,
        num_trials=1,
    )
    assert trial.user_attrs["rejected_by"] == "space"
    assert "The weights of this network must fit into the memory" in trial.user_attrs["reason"]
