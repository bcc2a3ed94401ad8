"""What an `experiment.toml` says: the objects and gates, the images, and how to search."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from rfsearch.basics.limits import Amount, Seed
from rfsearch.basics.validation import FrozenData
from rfsearch.data.config import DataConfig
from rfsearch.data.datasets import TaskData
from rfsearch.data.device_memory import device_memory, fewest_images
from rfsearch.retrofit.pretrained import PretrainedConfig
from rfsearch.search.objectives import ObjectiveName, check_objectives
from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.target.target import ScaleTarget
from rfsearch.training.config import TrainingConfig
from rfsearch.training.task import Task

Positive = Annotated[float, Field(gt=0)]
Pixels = Positive
PixelBounds = Annotated[tuple[Annotated[float, Field(ge=0)], Pixels], Field(strict=False)]
Sides = Annotated[tuple[Pixels, Pixels], Field(strict=False)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class TargetConfig(FrozenData):
    """The objects to see, and the gates.

    Attributes:
        min_size: Smallest object in px. None takes the 5 % quantile of the data's boxes.
        max_size: Largest object in px. None takes the 95 % quantile of the data's boxes.
        height: `[low, high]` in px of elongated objects, with `width`, in place of their sizes.
        width: The same.
        theoretical: `[low, high]` in px instead of the default rule, or `"off"`.
        effective: The same for the ERF size.
        max_gridding: Largest share of the receptive field's pixels, along an axis, that nothing
            touches, instead of the default rule, or `"off"`. The rule is off where both ranges
            are given, or off.
        min_units: Fewest units of the finest output map across the smallest object, instead of the
            default rule, or `"off"`. The rule is off likewise.
        max_skipped: Largest share of a map's units, along an axis, that nothing behind it reads;
            `"off"` is no gate.
        global_context: Whether maps behind a part that sees the whole image, such as attention,
            are held to the upper bounds of the field alone.
        expected: Whether the expected ERF is a gate.
        measured: Whether the measured ERF is a gate.
        max_output_stride: Largest stride of the output map, in px.
        max_params_m: Most parameters, in millions.
        max_flops_g: Most floating-point operations for one image, in 10^9.
        max_training_memory_mb: Most memory that an update of the weights is estimated to need, in
            MiB. `"device"` is what the device that trains has, a GPU's or the machine's, for half
            a batch, since batches that do not fit are halved; of several workers each has its
            own. `"off"` is no bound.
        max_latency_ms: Longest median time of a forward pass of one image, in ms on the device.
        max_peak_memory_mb: Most memory during that pass, in MiB.
    """

    min_size: Pixels | None = None
    max_size: Pixels | None = None
    height: Sides | None = None
    width: Sides | None = None
    theoretical: PixelBounds | Literal["rule", "off"] = "rule"
    effective: PixelBounds | Literal["rule", "off"] = "rule"
    max_gridding: Share | Literal["rule", "off"] = "rule"
    min_units: Positive | Literal["rule", "off"] = "rule"
    max_skipped: Share | Literal["off"] = "off"
    global_context: bool = False
    expected: bool = True
    measured: bool = True
    max_output_stride: Count | None = None
    max_params_m: Positive | None = None
    max_flops_g: Positive | None = None
    max_training_memory_mb: Positive | Literal["device", "off"] = "device"
    max_latency_ms: Positive | None = None
    max_peak_memory_mb: Positive | None = None

    @model_validator(mode="after")
    def _has_both_or_none(self) -> Self:
        if (self.min_size is None) != (self.max_size is None):
            raise ValueError("`min_size` and `max_size` must be given together or not at all.")
        if (self.height is None) != (self.width is None):
            raise ValueError("`height` and `width` must be given together or not at all.")
        if self.height is not None and self.min_size is not None:
            raise ValueError("`height` and `width` must not be given beside `min_size`.")
        return self

    def constraint(self, task: Task) -> RFConstraint:
        """The constraint; object sizes that are not given come from the task's data.

        Raises:
            ValueError: If they are not known of the data either.
        """
        theoretical, effective = (
            None if bounds == "off" else bounds for bounds in (self.theoretical, self.effective)
        )
        needs_target = "rule" in (theoretical, effective)
        return RFConstraint(
            self._target(task.data) if needs_target else None,
            theoretical=theoretical,
            effective=effective,
            max_gridding=None if self.max_gridding == "off" else self.max_gridding,
            min_units=None if self.min_units == "off" else self.min_units,
            max_skipped=None if self.max_skipped == "off" else self.max_skipped,
            global_context=self.global_context,
            budget=self._budget(task),
            expected=self.expected,
            measured=self.measured,
        )

    def _budget(self, task: Task) -> Budget:
        memory, batch_size = self.max_training_memory_mb, task.batch_size
        if memory == "device":
            # No candidate is refused that the device could train.
            memory = device_memory(task.training_device)
            batch_size = fewest_images(batch_size)
        return replace(
            task.budget,
            max_output_stride=self.max_output_stride,
            max_params_m=self.max_params_m,
            max_flops_g=self.max_flops_g,
            max_training_memory_mb=None if memory == "off" else memory,
            max_latency_ms=self.max_latency_ms,
            max_peak_memory_mb=self.max_peak_memory_mb,
            batch_size=batch_size,
        )

    def _target(self, data: TaskData) -> ScaleTarget:
        if self.height is not None and self.width is not None:
            return ScaleTarget.apart(self.height, self.width)
        if self.min_size is not None and self.max_size is not None:
            return ScaleTarget(self.min_size, self.max_size)
        if data.object_sizes is None:
            raise ValueError(
                "target: `min_size` and `max_size` must be given, in px, where the data has no "
                "boxes."
            )
        return ScaleTarget.from_sizes(data.object_sizes)


#: Most trainings for which descriptors are chosen: nothing was tried with more.
_FEW = 200


class SearchConfig(FrozenData):
    """How to search and when to stop.

    Attributes:
        trained_trials: Stop after so many candidates were trained.
        max_trials: Stop after so many trials of any kind.
        sampler: Optuna's sampler, or `"descriptors"`, which learns from what closed forms tell of
            candidates beside their parameters. `"auto"` is that where at most 200 candidates are
            trained, all fit, and there is one objective and no pruner, else `"tpe"`.
        earlier: Folders of experiments, from this one's, whose trained candidates say what to
            expect of this one's, for `"descriptors"`: of other objects, images or spaces.
        controls: Train so many candidates beside those that a closed-form gate of receptive fields
            rejects, to see whether the range is right; see `rfsearch.search.controls`.
        feasible_only: Whether only candidates that pass the closed-form gates are proposed; else
            the sampler has to learn from those that fail.
        pruner: Optuna's pruner of trials that train badly; it has none for several objectives.
        objectives: What is optimised, the score first. It is maximised, the others minimised.
        startup_trials: Random trials before the sampler takes over; at least 10 for `"nsgaii"`.
            With `"descriptors"` they are spread out, or one alone where maps differ in stride.
        measure_latency: Whether candidates and baselines are timed before training; other work
            on the device makes them look slower.
        keep_weights: Keep the weights of so many of the best trained candidates.
        keep_checkpoints: Most trainings stopped by `"hyperband"` or `"successive_halving"` whose
            state is kept while the search runs, to go on with those that are among the best third
            when more have been compared. 0: none goes on.
        seed: Of the sampler.
    """

    trained_trials: Amount = 20
    max_trials: Amount = 1000
    sampler: Literal["auto", "descriptors", "gp", "tpe", "nsgaii", "random"] = "auto"
    earlier: Annotated[tuple[str, ...], Field(strict=False)] = ()
    controls: Annotated[int, Field(ge=0, le=1000)] = 0
    feasible_only: bool = True
    pruner: Literal["none", "median", "hyperband", "successive_halving"] = "none"
    objectives: Annotated[tuple[ObjectiveName, ...], Field(strict=False)] = ("score",)
    startup_trials: Amount = 5
    measure_latency: bool = False
    keep_weights: Annotated[int, Field(ge=0, le=10_000)] = 3
    keep_checkpoints: Annotated[int, Field(ge=0, le=10_000)] = 20
    seed: Seed = 0

    @property
    def chosen_sampler(self) -> str:
        """The sampler's name; of `"auto"` the one that finds most with the fewest trainings.

        Those are descriptors (`experiments/public_table`, `experiments/search_cost`), where they
        were tried: few candidates, all of which fit, one objective. They learn nothing from
        trainings that a pruner stops but that these are bad.
        """
        if self.sampler != "auto":
            return self.sampler
        alone = self.feasible_only and len(self.objectives) == 1 and self.pruner == "none"
        return "descriptors" if alone and self.trained_trials <= _FEW else "tpe"

    @model_validator(mode="after")
    def _learns_from_earlier(self) -> Self:
        if self.earlier and self.chosen_sampler != "descriptors":
            raise ValueError(
                "`earlier` needs the sampler 'descriptors', but the one of these settings is "
                f"{self.chosen_sampler!r}."
            )
        return self

    @model_validator(mode="after")
    def _has_no_pruner_of_several(self) -> Self:
        check_objectives(self.objectives)
        if len(self.objectives) > 1 and self.pruner != "none":
            raise ValueError(
                "`pruner` must be 'none' where there are several objectives, but got "
                f"{self.pruner!r}."
            )
        return self


def _kind(value: Any) -> str:
    return "as a table" if isinstance(value, dict | PretrainedConfig) else "as a name"


#: The name of a space, or what is changed of a trained network.
SpaceConfig = Annotated[
    Annotated[str, Tag("as a name")] | Annotated[PretrainedConfig, Tag("as a table")],
    Discriminator(_kind),
]


class ExperimentConfig(FrozenData):
    """The contents of an `experiment.toml`.

    Attributes:
        question: What the experiment is to answer.
        space: A TOML file beside the experiment, or the name of a shipped space; or a table
            `[space]`: what is changed of a trained network.
        target: The objects to see.
        data: The images; they say what is to be learned of them.
        training: Budget and optimiser of each candidate.
        search: How to search.
        baselines: Names of models in timm that are trained beside the candidates, or a TOML file
            that lists them (see `rfsearch.search._baseline_names`).
    """

    question: str = ""
    space: SpaceConfig
    baselines: str | Annotated[tuple[str, ...], Field(strict=False)] = ()
    target: TargetConfig = TargetConfig()
    data: DataConfig
    training: TrainingConfig = TrainingConfig()
    search: SearchConfig = SearchConfig()
