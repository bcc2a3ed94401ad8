from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from optuna.pruners import BasePruner, NopPruner
from optuna.trial import FrozenTrial
from rich.console import Console

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.basics.ranges import Range
from rfsearch.data.config import DigitsConfig
from rfsearch.data.datasets import ImageData
from rfsearch.network.model import SearchedNetwork
from rfsearch.report.terminal import gate_summary, trained_table, write_report
from rfsearch.search.config import ExperimentConfig
from rfsearch.search.experiment import Experiment
from rfsearch.search.objective import Objective
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.space.trial_gates import CONSTRAINT_KEYS
from rfsearch.training.checkpoints import Checkpoint
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.loop import TrainingResult

SPACE = SearchSpace(
    stem={"kernel_size": 3, "stride": 1, "width": 4},
    stages=[{"block": "plain", "depth": [1, 2, 3, 4], "width": 4}],
)
#: Theoretical receptive fields of 7 px or more fit: 5 px does not, 7, 9 and 11 px do.
CONSTRAINT = RFConstraint(theoretical=(7, None), effective=(2, 30))
ACCURACIES = {7: 0.25, 9: 0.75, 11: 0.5}


class StubERF(NamedTuple):
    size: float
    clipped: float = 0.0


@dataclass(frozen=True)
class StubTask(ClassificationTask):
    """Accuracies that depend on the receptive field alone, and ERFs as large as it."""

    def measure_erf(self, model: SearchedNetwork, level: str | None = None) -> Any:
        return StubERF(float(model.architecture.receptive_field().size))

    def train(
        self,
        model: SearchedNetwork,
        report: Callable[[int, float], None] | None = None,
        checkpoint: Checkpoint | None = None,
        after_batch: Callable[[], None] | None = None,
    ) -> TrainingResult:
        accuracy = ACCURACIES[model.architecture.receptive_field().size]
        assert report is not None
        report(1, accuracy)
        return TrainingResult(accuracy, 1, 0.0)


class PrunesAll(BasePruner):
    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return True


def data() -> ImageData:
    images = torch.zeros((8, 1, 16, 16), dtype=torch.uint8)
    labels = torch.from_numpy(np.arange(8) % 2)
    return ImageData(images, labels, images, labels, ("a", "b"))


def study_of(*depths: int, pruner: BasePruner | None = None) -> optuna.Study:
    """A study of candidates with these depths."""
    study = optuna.create_study(direction="maximize", pruner=pruner or NopPruner())
    for depth in depths:
        study.enqueue_trial({"stage1_depth": depth})
    if depths:
        study.optimize(Objective(SPACE, CONSTRAINT, StubTask(data())), n_trials=len(depths))
    return study


def rows(study: optuna.Study, width: int = 80) -> list[list[str]]:
    """Cells of the printed table."""
    console = Console(file=io.StringIO(), width=width)
    console.print(trained_table(trials_dataframe(study)))
    text = console.file
    assert isinstance(text, io.StringIO)
    lines = [line.split() for line in text.getvalue().splitlines()]
    return [cells for cells in lines if cells and cells[0].isdigit()]


def experiment(folder: Path) -> Experiment:
    return Experiment(
        folder=folder,
        config=ExperimentConfig(space="tiny", data=DigitsConfig(source="digits")),
        space=SPACE,
        constraint=CONSTRAINT,
        task=StubTask(data()),
    )


# -- the table --------------------------------------------------------------------------------


def test_trained_candidates_are_listed_best_first() -> None:
    listed = rows(study_of(1, 2, 3, 4))
    assert [row[:3] for row in listed] == [
        ["2", "0.750", "9"],
        ["3", "0.500", "11"],
        ["1", "0.250", "7"],
    ]


def test_a_row_has_every_number() -> None:
    study = study_of(3)
    (row,) = rows(study)
    attrs = study.trials[0].user_attrs
    assert row == [
        "0",
        "0.750",
        "9",
        f"{attrs['erf_expected']:.0f}",
        "9",
        "9",
        "1.00",
        "1",
        f"{attrs['params_m']:.3f}",
        f"{attrs['train_seconds']:.1f}",
    ]


def test_a_repeated_candidate_is_listed_once() -> None:
    assert [row[0] for row in rows(study_of(3, 3, 2, 3))] == ["0", "2"]


def test_a_study_without_trained_candidates_has_an_empty_table() -> None:
    assert rows(study_of(1)) == []
    assert rows(study_of()) == []


def test_the_table_fits_80_columns() -> None:
    console = Console(file=io.StringIO(), width=80)
    frame = trials_dataframe(study_of(2, 3, 4))
    # As wide as the numbers of the quickstart get.
    frame["number"], frame["output_stride"] = 299, 16
    frame["trf_size"], frame["erf_expected"] = 223, 123.0
    frame["params_m"], frame["train_seconds"] = 11.255, 112.3
    frame.loc[0, "baseline"], frame.loc[1, "control"] = "resnet10t", True
    console.print(trained_table(frame))
    text = console.file
    assert isinstance(text, io.StringIO)
    assert "…" not in text.getvalue()
    assert " 112.3 " in text.getvalue()
    assert "resnet10t" in text.getvalue()
    assert "control 299" in text.getvalue()


def test_missing_numbers_are_dashes() -> None:
    frame = trials_dataframe(study_of(3))
    frame["erf_trained"] = pd.Series([None], dtype="Float64")
    console = Console(file=io.StringIO(), width=80)
    console.print(trained_table(frame))
    text = console.file
    assert isinstance(text, io.StringIO)
    assert " - " in text.getvalue()


# -- the summary ------------------------------------------------------------------------------


def test_the_summary_counts_what_each_gate_stopped() -> None:
    summary = gate_summary(trials_dataframe(study_of(1, 2, 1, 3)))
    assert summary == "4 trials: 2 trained to the end, 2 stopped by the theoretical RF"


def test_the_summary_tells_repeated_candidates_apart() -> None:
    summary = gate_summary(trials_dataframe(study_of(2, 2, 3)))
    assert summary == "3 trials: 2 trained to the end, 1 that had been trained before"


def test_a_candidate_that_a_pruner_stopped_was_not_trained_to_the_end() -> None:
    summary = gate_summary(trials_dataframe(study_of(2, 3, pruner=PrunesAll())))
    assert summary == "2 trials: 0 trained to the end, 2 stopped by the pruner"


def test_the_summary_of_no_trials() -> None:
    assert gate_summary(trials_dataframe(study_of())) == "0 trials: 0 trained to the end"


# -- the files --------------------------------------------------------------------------------


def test_the_report_writes_all_trials_and_a_figure(tmp_path: Path) -> None:
    study = study_of(1, 2, 3)
    paths = write_report(study, experiment(tmp_path))
    assert paths == (tmp_path / "trials.csv", tmp_path / "score_vs_erf.png", None)
    frame = trials_dataframe(study)
    stored = pd.read_csv(paths.trials)
    assert list(stored.columns) == list(frame.columns)
    assert stored["number"].tolist() == [0, 1, 2]
    assert stored["trf_size"].tolist() == [5, 7, 9]
    assert stored["value"][1:].tolist() == [0.25, 0.75]
    assert stored["rejected_by"].fillna("").tolist() == ["theoretical", "", ""]
    assert paths.figure.read_bytes().startswith(b"\x89PNG")


def test_the_report_of_a_study_without_trials(tmp_path: Path) -> None:
    paths = write_report(study_of(), experiment(tmp_path))
    assert pd.read_csv(paths.trials).empty
    assert paths.figure.stat().st_size > 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"effective": (2, 30)}, Range(2, 30)),
        ({"effective": (2, 30), "expected": False}, Range(2, 30)),
        ({"effective": (2, 30), "measured": False}, Range(2, 30)),
        ({"effective": None}, None),
    ],
)
def test_the_figure_shows_the_erf_gate_that_is_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    expected: tuple[float, float] | None,
) -> None:
    from rfsearch.report import terminal as report

    drawn: list[Any] = []
    draw = report.score_against_erf

    def watched(frame: pd.DataFrame, effective: Any) -> Any:
        drawn.append(effective)
        return draw(frame, effective)

    monkeypatch.setattr(report, "score_against_erf", watched)
    constraint = RFConstraint(theoretical=(7, None), **options)
    write_report(study_of(), replace(experiment(tmp_path), constraint=constraint))
    assert drawn == [expected]


@pytest.mark.parametrize("gate", CONSTRAINT_KEYS)
def test_every_gate_is_in_the_summary(gate: str) -> None:
    columns = {"value": [0.5, None], "rejected_by": [None, gate], "duplicate_of": None}
    summary = gate_summary(pd.DataFrame(columns | {"baseline": None, "control": False}))
    assert summary.startswith("2 trials: 1 trained to the end, 1 stopped by ")
