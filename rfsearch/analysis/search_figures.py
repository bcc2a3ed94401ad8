"""Figures of a search: what the gates stopped, what was sampled, how candidates learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from optuna.trial import TrialState

from rfsearch.analysis.erf_effect import (
    candidates,
    metric_label,
    trained_candidates,
    whole_candidates,
)
from rfsearch.analysis.savings import STOPS
from rfsearch.basics.palette import GREY, LIGHT_GREY, STOPPED, TARGET, TRAINED, VERMILLION
from rfsearch.search.curves import curve_of
from rfsearch.space.trial_attributes import reference_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    import optuna
    import pandas as pd
    from matplotlib.axes import Axes

#: Bins of receptive-field sizes per octave.
_PER_OCTAVE = 4


def funnel_steps(frame: pd.DataFrame) -> list[tuple[str, int]]:
    """How many trials were left after each gate that stopped some, from all to trained."""
    frame = candidates(whole_candidates(frame))
    stopped_by = frame["rejected_by"].where(frame["duplicate_of"].isna(), "repeated")
    counts = stopped_by.value_counts()
    left = len(frame)
    steps = [("proposed", left)]
    for gate, what in STOPS.items():
        if gate in counts:
            left -= int(counts[gate])
            steps.append(("not trained before" if gate == "repeated" else f"after {what}", left))
    steps.append(("trained to the end", len(trained_candidates(frame))))
    return steps


def funnel(frame: pd.DataFrame) -> Figure:
    """How many candidates each gate let through.

    Args:
        frame: From `rfsearch.trials_dataframe`.
    """
    steps = funnel_steps(frame)
    figure = Figure(figsize=(8, 0.8 + 0.45 * len(steps)), layout="constrained")
    axes = figure.subplots()
    names, counts = zip(*steps, strict=True)
    colors = [*[GREY] * (len(steps) - 1), TRAINED]
    bars = axes.barh(range(len(steps)), counts, color=colors, height=0.7)
    total = max(1, counts[0])
    axes.bar_label(bars, [f"{n:,}  ({n / total:.0%})" for n in counts], padding=4)
    axes.set_yticks(range(len(steps)), names)
    axes.set(xlabel="candidates left", xlim=(0, 1.18 * total))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def feasible_histogram(
    space_sizes: Mapping[int, int],
    feasible_sizes: Mapping[int, int],
    frame: pd.DataFrame,
    *,
    maximize: bool = True,
) -> Figure:
    """Theoretical receptive fields of all candidates, of those that fit, and of the sampled ones.

    The upper panel has the search space, from `FeasibleSet.histogram`; the lower one the trials.

    Args:
        space_sizes: Candidates of the space at each size in px; numbers may exceed 2^63.
        feasible_sizes: The same for the candidates that fit.
        frame: From `rfsearch.trials_dataframe`.
        maximize: Whether larger values are better.
    """
    frame = whole_candidates(frame)
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    tried = candidates(frame)["trf_size"].dropna()
    edges = _edges([*space_sizes, *tried.astype(int)])
    total = sum(space_sizes.values()) or 1
    for sizes, color, label in (
        (space_sizes, LIGHT_GREY, "all candidates of the space"),
        (feasible_sizes, TARGET, "those that fit the theoretical gates"),
    ):
        shares = [100 * (count / total) for count in sizes.values()]
        upper.hist(list(sizes), edges, weights=shares, color=color, label=label, edgecolor="white")
    upper.set(ylabel="% of the space")
    _draw_tried(lower, frame, edges, maximize)
    lower.set(xlabel="theoretical receptive field (px)", ylabel="trials", xscale="log")
    lower.yaxis.set_major_locator(MaxNLocator(integer=True))
    ticks = [2**power for power in range(13) if edges[0] <= 2**power <= edges[-1]]
    lower.set_xticks(ticks, [f"{tick}" for tick in ticks])
    lower.minorticks_off()
    for axes in (upper, lower):
        axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _edges(sizes: list[int]) -> list[float]:
    """Bin edges in px that are even in octaves and, where bins are narrow, between pixels."""
    low, high = np.log2(min(sizes, default=1)), np.log2(max(sizes, default=2))
    first, last = np.floor(low * _PER_OCTAVE), np.floor(high * _PER_OCTAVE) + 1
    edges = np.ceil(2 ** (np.arange(first, last + 1) / _PER_OCTAVE)) - 0.5
    return [float(edge) for edge in np.unique(edges)]


def _draw_tried(axes: Axes, frame: pd.DataFrame, edges: list[float], maximize: bool) -> None:
    """Trials by receptive field, and the best one."""
    known = candidates(frame).dropna(subset=["trf_size"])
    trained = trained_candidates(known)
    rest = known.drop(trained.index)
    axes.hist(
        [trained["trf_size"].astype(float), rest["trf_size"].astype(float)],
        edges,
        stacked=True,
        color=[TRAINED, STOPPED],
        label=["trained", "stopped, or trained before"],
        edgecolor="white",
    )
    if len(trained):
        values = trained["value"].to_numpy(dtype=float)
        best = trained.iloc[int(values.argmax() if maximize else values.argmin())]
        axes.plot(
            [float(best["trf_size"])],
            [0],
            marker="*",
            markersize=16,
            color=VERMILLION,
            markeredgecolor="white",
            linestyle="none",
            clip_on=False,
            zorder=5,
            label=f"best (trial {best['number']})",
        )


def learning_curves(study: optuna.Study, frame: pd.DataFrame) -> Figure:
    """The value of each trained candidate after each epoch, the best one drawn thick.

    Args:
        study: Where the intermediate values are.
        frame: Its `rfsearch.trials_dataframe`.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    maximize = study.directions[0].name == "MAXIMIZE"
    values = trained_candidates(frame).set_index("number")["value"].astype(float)
    best = (values.idxmax() if maximize else values.idxmin()) if len(values) else None
    numbers = set(whole_candidates(frame)["number"])
    for trial in study.get_trials(deepcopy=False):
        curve = curve_of(trial)
        epochs = sorted(curve)
        is_apart = reference_kind(trial) or "duplicate_of" in trial.user_attrs
        if not epochs or is_apart or trial.number not in numbers:
            continue
        stopped = trial.state != TrialState.COMPLETE
        heights = [curve[epoch] for epoch in epochs]
        is_best = trial.number == best
        axes.plot(
            epochs,
            heights,
            color=VERMILLION if is_best else STOPPED if stopped else TRAINED,
            linestyle="dashed" if stopped else "solid",
            linewidth=2.8 if is_best else 1,
            alpha=1 if is_best else 0.55,
            marker="o" if is_best or len(epochs) == 1 else None,
            zorder=3 if is_best else 2,
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric_label(frame), parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    keys = [
        Line2D([], [], color=VERMILLION, linewidth=2.8, marker="o", label=f"best (trial {best})"),
        Line2D([], [], color=TRAINED, label="trained to the end"),
        Line2D([], [], color=STOPPED, linestyle="dashed", label="stopped while training"),
    ]
    axes.legend(handles=keys if best is not None else keys[1:], frameon=False)
    return figure
