"""What a finished search suggests to do next: rules over its results, each with its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rfsearch.analysis.erf_effect import candidates, erf_correlations
from rfsearch.analysis.statistics import RankCorrelation, trend
from rfsearch.report._text import about_controls
from rfsearch.search.curves import curve_of
from rfsearch.space.trial_attributes import CONTROLS

if TYPE_CHECKING:
    from rfsearch.report.summary import StudySummary

#: Fewer trained candidates than this leave most questions open.
ENOUGH_CANDIDATES = 20
#: An ERF this near to a bound of the target, in octaves, may want to be beyond it.
_NEAR = 0.2
#: Gain of the last epoch over the value from which on training was too short.
_RISING = 0.02
#: Share of trials that closed-form gates stop from which on they should not be proposed.
_MANY = 0.3


def erf_verdict(summary: StudySummary) -> list[str]:
    """Whether the receptive field has to do with the value, in sentences."""
    effect = erf_correlations(summary.frame, summary.effective).set_index("predictor")
    points = int(effect["points"].max()) if len(effect) else 0
    if points < ENOUGH_CANDIDATES // 2:
        return [f"{points} trained candidates are too few to say.", *about_controls(summary)]
    row = effect.loc[["erf_trained"], ["rho", "low", "high"]].to_numpy(dtype=float)
    rho, low, high = row[0].tolist()
    found = RankCorrelation(rho, low, high, points)
    sentences = [
        f"The rank correlation of ERF size after training and {summary.metric} is {found}."
        + ("" if found.is_clear else " The interval includes zero: no direction is shown.")
    ]
    sentences += _best_size(summary)
    costs = effect.loc[effect.index.intersection(["params_m", "flops_g"]), ["what", "rho"]]
    stronger = costs[costs["rho"].abs() > abs(found.rho)]
    if len(stronger):
        parts = [f"{row['what']} ({row['rho']:+.2f})" for _, row in stronger.iterrows()]
        sentences.append(
            f"Stronger correlated with it: {' and '.join(parts)}. What larger networks gain and "
            "what larger fields gain cannot be told apart here."
        )
    stopped = candidates(summary.frame)["rejected_by"]
    if stopped.isin(["theoretical", "expected", "measured"]).any():
        sentences.append(
            "Only candidates that passed the gates were trained, so this says whether the ERF "
            "matters inside the target, not whether the target itself does."
        )
    return sentences + about_controls(summary)


def _best_size(summary: StudySummary) -> list[str]:
    """Where the smooth mean is best, if it is more than noise."""
    smooth = trend(summary.trained["erf_trained"], summary.trained["value"])
    if smooth.empty:
        return []
    if not summary.maximizes:
        smooth[["mean", "low", "high"]] = -smooth[["mean", "high", "low"]].to_numpy()
    best = smooth.iloc[int(smooth["mean"].to_numpy().argmax())]
    if best["low"] <= smooth["mean"].min():
        return ["The smooth mean is level within its band: no ERF size is shown to be best."]
    size = f"{best['x']:.0f} px"
    if summary.objects is not None:
        size += f", {best['x'] / summary.objects.high:.1f} times the largest object"
    return [f"The smooth mean is best at an ERF size of {size}."]


def next_steps(summary: StudySummary) -> list[str]:
    """What to do next, the most urgent first."""
    return list(_steps(summary))


def _steps(summary: StudySummary) -> Iterator[str]:
    trained = summary.trained
    if trained.empty:
        yield (
            "No candidate was trained to the end. See what stopped them, and widen the target or "
            "the space."
        )
        return
    if len(trained) < ENOUGH_CANDIDATES:
        yield (
            f"Train more candidates: {len(trained)} leave wide intervals. Raise "
            "trained_trials in the experiment's file and run it again; it goes on from here."
        )
    if summary.baselines.empty:
        yield (
            "Name well-known networks as baselines in the experiment's file, such as "
            'baselines = ["resnet18"]: without one, nothing says what is good.'
        )
    if summary.controls.empty and not summary.study.user_attrs.get(CONTROLS):
        yield (
            "Train some candidates that do not fit, too (controls = 3 in [search]): without them, "
            "nothing says whether the range is right."
        )
    yield from _about_training(summary)
    yield from _about_bounds(summary)
    yield from _about_choices(summary)
    yield from _about_proposals(summary)
    yield (
        "Train the best three again with other seeds before relying on their order: each value "
        "comes from one training."
    )


def _about_training(summary: StudySummary) -> Iterator[str]:
    number = int(summary.trained["number"].iloc[0])
    values = curve_of(summary.study.get_trials(deepcopy=False)[number])
    last = [values[epoch] for epoch in sorted(values)[-2:]]
    if len(last) == 2 and last[1]:
        gain = (last[1] - last[0]) * (1 if summary.maximizes else -1)
        if gain / abs(last[1]) > _RISING:
            yield (
                f"Train longer: the best candidate's {summary.metric} still went from "
                f"{last[0]:.3f} to {last[1]:.3f} in its last epoch, so the order may yet change."
            )


def _about_bounds(summary: StudySummary) -> Iterator[str]:
    allowed, size = summary.effective, summary.trained["erf_expected"].iloc[0]
    if allowed is None or not size > 0:
        return
    for bound, way in ((allowed.low, "smaller"), (allowed.high, "larger")):
        if 0 < bound < math.inf and abs(math.log2(size / bound)) < _NEAR:
            yield (
                f"Allow {way} ERFs: the best candidate's expected ERF of {size:.0f} px is close "
                f"to the bound of {bound:.0f} px. Set effective in [target]."
            )


def _about_choices(summary: StudySummary) -> Iterator[str]:
    if summary.space is None:
        return
    best = summary.study.get_trials(deepcopy=False)[int(summary.trained["number"].iloc[0])]
    edges = []
    for name, options in summary.space.choices().items():
        value = best.params.get(name)
        numbers = [option for option in options if not isinstance(option, str)]
        if isinstance(value, int) and len(numbers) > 2 and value == max(numbers):
            edges.append(f"{name} = {value}")
    if edges:
        yield (
            "Extend the space where the best candidate took the largest choice: "
            f"{', '.join(edges)}."
        )


def _about_proposals(summary: StudySummary) -> Iterator[str]:
    frame = candidates(summary.frame)
    stopped = float(frame["rejected_by"].isin(["theoretical", "gridding", "expected"]).mean())
    if stopped > _MANY:
        yield (
            f"Let the sampler propose only what fits (feasible_only = true, the default): the "
            f"closed-form gates stopped {stopped:.0%} of the trials."
        )
    repeated = float(frame["duplicate_of"].notna().mean())
    if repeated > _MANY:
        yield (
            f"Enlarge the space or stop: {repeated:.0%} of the trials proposed a candidate that "
            "had been trained before."
        )
