"""What a run leaves behind: a table on the terminal, a CSV file and a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.analysis.erf_effect import (
    metric_label,
    trained_candidates,
    trained_controls,
    whole_candidates,
)
from rfsearch.analysis.front import front_figure
from rfsearch.analysis.plots import score_against_erf
from rfsearch.analysis.savings import STOPS
from rfsearch.basics.atomic import atomic_file
from rfsearch.report._tables import cell
from rfsearch.report._text import about_controls
from rfsearch.report.summary import StudySummary

if TYPE_CHECKING:
    import optuna

    from rfsearch.search.experiment import Experiment

#: Heading, column of the frame, and how to print a value, behind the trial and its score.
_COLUMNS = (
    ("TRF", "trf_size", "{:d}"),
    ("ERF\nexp", "erf_expected", "{:.0f}"),
    ("ERF\ninit", "erf_init", "{:.0f}"),
    ("ERF\ntrain", "erf_trained", "{:.0f}"),
    ("ERF\nratio", "erf_ratio_trained", "{:.2f}"),
    ("stride", "output_stride", "{:.3g}"),
    ("M\nparams", "params_m", "{:.3f}"),
    ("s", "train_seconds", "{:.1f}"),
)


class ReportFiles(NamedTuple):
    """Where the results are."""

    trials: Path
    figure: Path
    front: Path | None = None


def write_report(study: optuna.Study, experiment: Experiment) -> ReportFiles:
    """Write all trials as CSV and the figures as PNG into the experiment's folder.

    The Pareto front is a figure of a search for several objectives only.

    Raises:
        rfsearch.basics.atomic.NotWrittenError: If one cannot be written.
    """
    frame = trials_dataframe(study)
    folder = experiment.folder
    paths = ReportFiles(folder / "trials.csv", folder / "score_vs_erf.png")
    with atomic_file(paths.trials) as new:
        frame.to_csv(new, index=False)
    (ranges, *others) = experiment.constraint.ranges_by_axis().values()
    # A range for each axis is none that one figure could show.
    effective = None if others else ranges.get("expected") or ranges.get("measured")
    with atomic_file(paths.figure) as new:
        score_against_erf(frame, effective).savefig(new, dpi=150)
    objectives = experiment.config.search.objectives
    if len(objectives) > 1:
        paths = paths._replace(front=folder / "pareto_front.png")
        with atomic_file(folder / "pareto_front.png") as new:
            front_figure(frame, objectives).savefig(new, dpi=150)
    return paths


def trained_table(frame: pd.DataFrame) -> Table:
    """The trained candidates, baselines by their names, and controls so marked, best first."""
    table = Table(
        title="Trained candidates, best first; sizes in px, ratio after training",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    score = (metric_label(frame), "value", "{:.3f}")
    columns = (("trial", "name", "{}"), score, *_COLUMNS)
    for heading, *_ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    frame = whole_candidates(frame)
    trained = frame[frame["value"].notna() & frame["duplicate_of"].isna()]
    trained = trained.sort_values("value", ascending=False)
    number = trained["number"].astype("string")
    number = number.mask(trained["control"], "control " + number)
    trained = trained.assign(name=trained["baseline"].fillna(number))
    for row in trained.to_dict(orient="records"):
        table.add_row(*(cell(row, column, form) for _, column, form in columns))
    return table


def gate_summary(frame: pd.DataFrame) -> str:
    """How many trials there were, and how many each gate stopped.

    >>> gates = {"value": [0.5, None], "rejected_by": [None, "expected"]}
    >>> others = {"duplicate_of": None, "baseline": None, "control": False}
    >>> gate_summary(pd.DataFrame(gates | others))
    '2 trials: 1 trained to the end, 1 stopped by the expected ERF'
    """
    names = {gate: f"the {what}" for gate, what in STOPS.items()} | {
        "space": "values outside the space",
        "training": "failed training",
        "baseline": "failed baselines",
        "control": "failed controls",
    }
    num_trials, frame = len(frame), whole_candidates(frame)
    controls = trained_controls(frame)
    # The gate that a control fails has not stopped it.
    gates = frame["rejected_by"].where(~frame["control"] | (frame["rejected_by"] == "control"))
    counts = gates.value_counts()
    again = int(frame["duplicate_of"].notna().sum())
    baselines = int((frame["baseline"].notna() & frame["value"].notna()).sum())
    parts = [f"{len(trained_candidates(frame))} trained to the end"]
    if baselines:
        parts.append(f"{baselines} trained as baselines")
    if len(controls):
        parts.append(f"{len(controls)} trained as controls")
    if again:
        parts.append(f"{again} that had been trained before")
    parts += [
        f"{counts[gate]} stopped by {what}" for gate, what in names.items() if gate in counts
    ]
    if num_trials > len(frame):
        parts.append(f"{num_trials - len(frame)} stopped and later gone on with")
    return f"{num_trials} trials: {', '.join(parts)}"


def control_lines(study: optuna.Study, frame: pd.DataFrame) -> list[str]:
    """What candidates that do not fit say about the range, if some were trained to show it."""
    return about_controls(StudySummary(study, frame))
