"""All that a report tells of a study, gathered in one place."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.analysis.erf_effect import (
    metric_label,
    trained_baselines,
    trained_candidates,
    trained_controls,
)
from rfsearch.analysis.field_figures import ObjectSizes
from rfsearch.analysis.front import front_rows
from rfsearch.analysis.objective_columns import objectives_of
from rfsearch.network.architecture import Architecture
from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.space.trial_attributes import CONTROL
from rfsearch.target.target import ScaleTarget

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import optuna
    import pandas as pd
    from numpy.typing import NDArray

    from rfsearch.analysis.pareto import Direction
    from rfsearch.basics.ranges import Range
    from rfsearch.field.erf_map import ErfMap

#: Attribute of a study that holds what its experiment is, as JSON.
_IDENTITY = "rfsearch_experiment"


@dataclass(frozen=True, eq=False)
class StudySummary:
    """A study with what is known of its experiment.

    Attributes:
        study: Of several objectives the first one is the score.
        frame: Its `rfsearch.trials_dataframe`, with a column for each objective.
        question: What the search was to answer; may be empty.
        constraint: What fits; None if it is not known.
        space: What was searched; None if it is not known.
        settings: The experiment's file as nested plain data; empty if it is not known.
        images: Images of the data, `(height, width)` or `(height, width, 3)`, uint8.
        num_valid: Images that each value was measured on; None if it is not known.
        maps: ERF maps of `examples` by trial number. Where one is missing, the expected one is
            shown.
    """

    study: optuna.Study
    frame: pd.DataFrame
    question: str = ""
    constraint: RFConstraint | None = None
    space: SearchSpace | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    images: tuple[NDArray[np.uint8], ...] = ()
    num_valid: int | None = None
    maps: Mapping[int, ErfMap] = field(default_factory=dict)

    @classmethod
    def of_study(cls, study: optuna.Study) -> Self:
        """What the storage alone can tell: no question, and no images.

        Raises:
            ValueError: If what the study says of its experiment cannot be read.
        """
        summary = cls(study, trials_dataframe(study))
        text = study.user_attrs.get(_IDENTITY)
        if text is None:
            return summary
        try:
            settings = json.loads(text)
            given = settings["space"]
            # What a trained network is changed to be is known where it is.
            space = None if "retrofit" in given else SearchSpace.model_validate(given)
            constraint = _constraint(settings["target"])
        except (ValueError, TypeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"`{_IDENTITY}` of the study {study.study_name!r} must be an experiment of this "
                f"version of rfsearch, but reading it failed: {reason}."
            ) from None
        return replace(summary, settings=settings, space=space, constraint=constraint)

    @property
    def metric(self) -> str:
        """What the values are."""
        return metric_label(self.frame)

    @property
    def maximizes(self) -> bool:
        """Whether larger scores are better."""
        return self.study.directions[0].name == "MAXIMIZE"

    @cached_property
    def objectives(self) -> dict[str, Direction]:
        """Columns of all objectives, that of the score first, with their directions."""
        return objectives_of(self.study)

    @property
    def costs(self) -> list[str]:
        """Columns of the objectives beside the score."""
        return list(self.objectives)[1:]

    @property
    def objects(self) -> ObjectSizes | None:
        """The objects to see, if they are known."""
        target = self.constraint.target if self.constraint else None
        return ObjectSizes(target.min_size, target.max_size) if target else None

    @property
    def effective(self) -> Range | None:
        """ERF sizes that fit, in px; None where there is a range for each axis."""
        every = list(self.constraint.ranges_by_axis().values()) if self.constraint else []
        ranges = every[0] if len(every) == 1 else {}
        return ranges.get("expected") or ranges.get("measured")

    @cached_property
    def trained(self) -> pd.DataFrame:
        """Candidates that were trained to the end, each once, the best first."""
        trained = trained_candidates(self.frame)
        return trained.sort_values("value", ascending=not self.maximizes, kind="stable")

    @cached_property
    def baselines(self) -> pd.DataFrame:
        """Trials of known networks, the best first."""
        known = trained_baselines(self.frame)
        return known.sort_values("value", ascending=not self.maximizes, kind="stable")

    @cached_property
    def controls(self) -> pd.DataFrame:
        """Candidates that do not fit and were trained to show it, the best first."""
        known = trained_controls(self.frame)
        return known.sort_values("value", ascending=not self.maximizes, kind="stable")

    def control_side(self, number: int) -> str:
        """On which side of the range the control of a trial lies."""
        return str(self._attributes[number][CONTROL]["side"])

    @cached_property
    def front(self) -> pd.DataFrame:
        """Trials that no other beats in all objectives, the best score first."""
        front = front_rows(self.frame)
        return front.sort_values("value", ascending=not self.maximizes, kind="stable")

    @cached_property
    def examples(self) -> dict[str, int]:
        """Numbers of the best, the median and a rejected trial, as far as there are any.

        The rejected one is that whose expected ERF is farthest from fitting.
        """
        found = {}
        described = self.trained[[self._is_described(n) for n in self.trained["number"]]]
        if len(described):
            found["best"] = int(described["number"].iloc[0])
        if len(described) > 2:
            found["median"] = int(described["number"].iloc[len(described) // 2])
        octaves = self.frame[["trf_octaves", "erf_expected_octaves"]].max(axis=1)
        stopped = octaves[self.frame["rejected_by"].isin(["theoretical", "expected", "measured"])]
        for place in stopped.dropna().sort_values(ascending=False).index:
            number = int(self.frame.loc[place, "number"])
            if self._is_described(number):
                found["rejected"] = number
                break
        return found

    def architecture(self, number: int) -> Architecture:
        """The candidate of a trial.

        Raises:
            KeyError: If the trial does not say.
        """
        return Architecture.from_dict(json.loads(self._attributes[number]["architecture"]))

    def parameters(self, number: int) -> str:
        """What a trial chose, as `depth=3, kernel_size=5`."""
        params = self.study.get_trials(deepcopy=False)[number].params
        return ", ".join(f"{name}={value}" for name, value in params.items())

    @cached_property
    def _attributes(self) -> dict[int, dict[str, Any]]:
        return {t.number: t.user_attrs for t in self.study.get_trials(deepcopy=False)}

    def _is_described(self, number: int) -> bool:
        if "architecture" not in self._attributes[number]:
            return False
        try:
            self.architecture(number)
        except ValueError as error:
            warnings.warn(f"Trial {number}: the architecture is none ({error}).", stacklevel=2)
            return False
        return True


def _constraint(target: dict[str, Any]) -> RFConstraint | None:
    """The constraint of an experiment's table `target`; None where it hangs on the data.

    Bounds on parameters and FLOPs hang on the images, so they are left out.
    """
    theoretical, effective = (_bounds(target[name]) for name in ("theoretical", "effective"))
    objects = None
    if target.get("height") is not None:
        objects = ScaleTarget.apart(tuple(target["height"]), tuple(target["width"]))
    elif target["min_size"] is not None:
        objects = ScaleTarget(float(target["min_size"]), float(target["max_size"]))
    elif "rule" in (theoretical, effective):
        return None
    return RFConstraint(
        objects,
        theoretical,
        effective,
        max_gridding=_on(target.get("max_gridding")),
        min_units=_on(target.get("min_units", "rule")),
        max_skipped=_on(target.get("max_skipped")),
        global_context=target.get("global_context", False),
        budget=Budget(max_output_stride=target.get("max_output_stride")),
        expected=target["expected"],
        measured=target["measured"],
    )


def _on(given: Any) -> Any:
    """What a gate asks as a constraint takes it."""
    return None if given == "off" else given


def _bounds(given: str | list[float]) -> tuple[float, float] | str | None:
    """Bounds as a constraint takes them."""
    if isinstance(given, str):
        return None if given == "off" else given
    low, high = given
    return low, high
