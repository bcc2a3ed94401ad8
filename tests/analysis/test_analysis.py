from __future__ import annotations

import subprocess
import sys
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import Trial, TrialState

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.space.trial_gates import CONSTRAINT_KEYS

#: Every column beside the parameters, in order, with its type.
DTYPES = {
    "number": "int64",
    "state": "string",
    "value": "Float64",
    "metric": "string",
    "score_small": "Float64",
    "score_medium": "Float64",
    "score_large": "Float64",
    "ap50": "Float64",
    "trf_size": "Int64",
    "erf_expected": "Float64",
    "erf_init": "Float64",
    "erf_trained": "Float64",
    "erf_ratio": "Float64",
    "erf_ratio_expected": "Float64",
    "erf_ratio_trained": "Float64",
    "erf_sigma_expected": "Float64",
    "erf_sigma_init": "Float64",
    "erf_sigma_trained": "Float64",
    "erf_half_expected": "Float64",
    "erf_half_init": "Float64",
    "erf_half_trained": "Float64",
    "erf_clipped": "Float64",
    "skipped": "Float64",
    "output_stride": "Float64",
    "params_m": "Float64",
    "flops_g": "Float64",
    "training_memory_mb": "Float64",
    "latency_ms": "Float64",
    "peak_memory_mb": "Float64",
    "erf_misfit": "Float64",
    "train_seconds": "Float64",
    "seed": "Int64",
    "device": "string",
    "batch_halved": "boolean",
    "baseline": "string",
    "control": "bool",
    "duplicate_of": "Int64",
    "levels": "string",
    "retry_of": "Int64",
    "promoted_from": "Int64",
    "promoted_to": "Int64",
    "findings": "string",
    "global_layers": "string",
    "rejected_by": "string",
    "reason": "string",
    "trf_octaves": "Float64",
    "output_stride_octaves": "Float64",
    "params_octaves": "Float64",
    "flops_octaves": "Float64",
    "training_memory_octaves": "Float64",
    "finest_stride_octaves": "Float64",
    "gridding_octaves": "Float64",
    "skipped_octaves": "Float64",
    "erf_expected_octaves": "Float64",
    "erf_measured_octaves": "Float64",
    "latency_octaves": "Float64",
    "peak_memory_octaves": "Float64",
    "feasible": "boolean",
    "pareto": "boolean",
    "duration_seconds": "Float64",
}
#: Columns in front of the parameters.
FRONT = 8
PARAMETERS = {"stage1_depth": "Int64", "stage1_block": "string"}
CHECKED = {"trf_size": 20, "output_stride": 2, "erf_expected": 10, "params_m": 0.5, "flops_g": 2.0}
TRAINED = CHECKED | {
    "erf_init": 12.0,
    "erf_trained": 15.0,
    "erf_clipped": 0.0,
    "train_seconds": 3.5,
    "seed": 0,
    "architecture": "{}",
    "environment": '{"device": "NVIDIA H100", "threads": 1}',
}


def ask(study: optuna.Study, attributes: dict[str, Any], octaves: float | None = None) -> Trial:
    """A running trial with parameters, attributes and, unless None, equal constraints."""
    trial = study.ask()
    trial.suggest_int("stage1_depth", 1, 3)
    trial.suggest_categorical("stage1_block", ["plain", "basic"])
    for name, value in attributes.items():
        trial.set_user_attr(name, value)
    if octaves is not None:
        for key in CONSTRAINT_KEYS.values():
            trial.set_constraint(key, octaves)
    return trial


def new_study() -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))


def add_complete(study: optuna.Study) -> None:
    study.tell(ask(study, TRAINED, -0.5), 0.75)


def add_pruned(study: optuna.Study) -> None:
    rejected = {"rejected_by": "theoretical", "reason": "too small"}
    study.tell(ask(study, CHECKED | rejected, 1.5), state=TrialState.PRUNED)


def add_failed(study: optuna.Study) -> None:
    failed = {"rejected_by": "training", "reason": "nan", "train_seconds": 1}
    study.tell(ask(study, CHECKED | failed, 0.0), state=TrialState.FAIL)


def add_running(study: optuna.Study) -> None:
    ask(study, {})


def add_waiting(study: optuna.Study) -> None:
    study.enqueue_trial({"stage1_depth": 2})


def mixed_study() -> optuna.Study:
    study = new_study()
    for add in (add_complete, add_pruned, add_failed, add_running, add_waiting):
        add(study)
    return study


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(dtype) for name, dtype in frame.dtypes.items()}


def with_parameters() -> list[tuple[str, str]]:
    columns = list(DTYPES.items())
    return [*columns[:FRONT], *PARAMETERS.items(), *columns[FRONT:]]


def test_an_empty_study_has_all_columns_but_the_parameters() -> None:
    frame = trials_dataframe(new_study())
    assert len(frame) == 0
    assert list(dtypes(frame).items()) == list(DTYPES.items())


@pytest.mark.parametrize("add", [add_complete, add_pruned, add_failed, add_running])
def test_columns_and_types_do_not_depend_on_the_kind_of_trials(add: Any) -> None:
    study = new_study()
    add(study)
    add(study)
    frame = trials_dataframe(study)
    assert len(frame) == 2
    assert list(dtypes(frame).items()) == with_parameters()


def test_columns_and_types_of_all_kinds_of_trials_together() -> None:
    frame = trials_dataframe(mixed_study())
    assert list(dtypes(frame).items()) == with_parameters()
    assert frame["number"].tolist() == [0, 1, 2, 3, 4]
    assert frame["state"].tolist() == ["COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"]


def test_only_waiting_trials_have_all_columns_but_the_parameters() -> None:
    study = new_study()
    add_waiting(study)
    assert list(dtypes(trials_dataframe(study)).items()) == list(DTYPES.items())


def test_values_of_a_trained_trial() -> None:
    study = mixed_study()
    row = trials_dataframe(study).iloc[0]
    params = study.trials[0].params
    assert row["value"] == 0.75
    assert (row["stage1_depth"], row["stage1_block"]) == tuple(params.values())
    for name in set(TRAINED) - {"architecture", "environment"}:
        assert row[name] == TRAINED[name], name
    assert row["device"] == "NVIDIA H100"
    assert row["erf_ratio_expected"] == 10 / 20
    assert row["erf_ratio"] == 12 / 20
    assert row["erf_ratio_trained"] == 15 / 20
    assert row["trf_octaves"] == row["erf_measured_octaves"] == -0.5
    assert row["duration_seconds"] >= 0
    assert row[["duplicate_of", "rejected_by", "reason"]].isna().all()


def test_what_a_trial_has_not_is_missing() -> None:
    frame = trials_dataframe(mixed_study())
    pruned, failed, running = frame.iloc[1], frame.iloc[2], frame.iloc[3]
    assert (pruned["rejected_by"], pruned["reason"]) == ("theoretical", "too small")
    assert pruned["erf_ratio_expected"] == 10 / 20
    missing = ["value", "erf_init", "erf_ratio", "erf_trained", "erf_ratio_trained", "seed"]
    assert pruned[missing].isna().all()
    assert failed[["value", "erf_ratio"]].isna().all()
    assert failed["train_seconds"] == 1
    assert running[["value", "trf_size", "duration_seconds", "feasible"]].isna().all()


def test_feasible_is_what_the_constraints_say() -> None:
    feasible = trials_dataframe(mixed_study())["feasible"]
    assert feasible[:3].tolist() == [True, False, True]
    assert feasible[3:].isna().all()


def test_a_repeated_trial_names_the_first() -> None:
    study = new_study()
    add_complete(study)
    study.tell(ask(study, CHECKED | {"duplicate_of": 0}, -0.5), 0.75)
    repeated = trials_dataframe(study)["duplicate_of"]
    assert repeated.isna().tolist() == [True, False]
    assert repeated[1] == 0


def test_one_violated_constraint_is_enough() -> None:
    study = new_study()
    trial = ask(study, {})
    trial.set_constraint("trf_octaves", -1.0)
    trial.set_constraint("erf_measured_octaves", 0.01)
    study.tell(trial, state=TrialState.PRUNED)
    row = trials_dataframe(study).iloc[0]
    assert not row["feasible"]
    assert (row["trf_octaves"], row["erf_measured_octaves"]) == (-1.0, 0.01)
    assert pd.isna(row["erf_expected_octaves"])


def test_columns_have_no_prefixes() -> None:
    names = list(trials_dataframe(mixed_study()).columns)
    assert len(set(names)) == len(names)
    prefixes = ("params_stage", "user_attrs_", "system_attrs_", "constraints")
    assert [name for name in names if name.startswith(prefixes)] == []


def test_parameters_of_later_trials_are_missing_in_earlier_ones() -> None:
    study = new_study()
    for names in (("a",), ("a", "b")):
        trial = study.ask()
        for name in names:
            trial.suggest_int(name, 1, 1)
        study.tell(trial, 1.0)
    frame = trials_dataframe(study)
    assert str(frame["b"].dtype) == "Int64"
    assert frame["b"].isna().tolist() == [True, False]
    assert frame["b"][1] == 1


def test_the_study_of_somebody_else_works() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, n_trials=3)
    frame = trials_dataframe(study)
    columns = list(DTYPES.items())
    expected = [*columns[:FRONT], ("x", "Float64"), *columns[FRONT:]]
    assert list(dtypes(frame).items()) == expected
    assert (frame["x"] ** 2).tolist() == frame["value"].tolist()
    assert frame[["trf_size", "erf_ratio", "rejected_by", "feasible"]].isna().all(axis=None)


@pytest.mark.parametrize("value", ["production", "[1]", 3, {"device": "x"}])
def test_an_environment_of_somebody_else_is_no_device(value: Any) -> None:
    study = optuna.create_study()
    study.optimize(lambda trial: trial.set_user_attr("environment", value) or 0.0, n_trials=1)
    assert trials_dataframe(study)["device"].isna().all()


def test_no_trial_is_changed() -> None:
    study = mixed_study()
    before = study.trials
    trials_dataframe(study)
    assert study.trials == before


def test_analysis_does_not_import_torch() -> None:
    code = "import sys, rfsearch; rfsearch.trials_dataframe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
