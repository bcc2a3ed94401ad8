from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import torch
from helpers import architecture, refusal, rfsearch
from optuna.samplers import GPSampler, NSGAIISampler
from optuna.trial import FrozenTrial, TrialState
from studies import open_study
from test_study import StubERF, with_search, write_experiment
from test_tasks import task
from torch.utils.flop_counter import FlopCounterMode

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.search._baseline_names import baseline_names
from rfsearch.search.baselines import enqueue_baselines
from rfsearch.search.experiment import Experiment
from rfsearch.search.objective import Objective
from rfsearch.search.stopping import is_finished, num_trained
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace, shipped_spaces
from rfsearch.storage.recovery import end_lost
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.traced_network import timm_network
from rfsearch.workers.worker import Worker

#: Small ones of timm.
SMALL, TINY = "test_resnet", "test_efficientnet"


def nothing() -> None:
    pass


def objective(after_batch: Callable[[], None] = nothing) -> Objective:
    constraint = RFConstraint(theoretical=None, effective=None)
    return Objective(SearchSpace.load("toy"), constraint, task(), after_batch)


def with_baselines(study: optuna.Study, *names: str) -> list[FrozenTrial]:
    enqueue_baselines(study, names)
    waiting = study.get_trials(states=(TrialState.WAITING,))
    study.optimize(objective(), n_trials=len(waiting))
    return study.get_trials()


@pytest.fixture(scope="module")
def trained() -> FrozenTrial:
    """A baseline that was trained."""
    (trial,) = with_baselines(optuna.create_study(), SMALL)
    return trial


@pytest.fixture
def stub_erf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures nothing, of networks that are far larger than the candidates."""
    monkeypatch.setattr(ClassificationTask, "measure_erf", lambda *_: StubERF())


def test_a_network_of_timm_is_measured_like_a_candidate() -> None:
    network = timm_network("resnet18", 1, 5)
    assert network.receptive_fields()["output"].size == 435
    assert network.receptive_fields()["output"].stride == 32
    assert network(torch.zeros(2, 1, 64, 64)).shape == (2, 5)
    assert network.forward_features(torch.zeros(2, 1, 64, 64)).shape == (2, 512, 2, 2)


def test_costs_are_those_of_the_module() -> None:
    network = timm_network(SMALL, 1, 5).train()
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, 1, 64, 48))
    network.train()
    parameters, flops = network.cost((64, 48), 1)
    assert flops == counter.get_total_flops()
    assert parameters == sum(p.numel() for p in network.parameters())
    assert network.training


def test_squeeze_and_excite_is_named() -> None:
    assert any("se" in name for name in timm_network(TINY, 3, 0).traced.global_layers)


@pytest.mark.parametrize("name", ["test_vit", "mixer_s32_224"])
def test_a_network_without_a_map_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"must give maps|must run at"):
        timm_network(name, 3, 2)


def test_a_trial_without_parameters_in_the_same_study(trained: FrozenTrial) -> None:
    assert trained.state == TrialState.PRUNED
    assert trained.params == {}
    attributes = trained.user_attrs
    assert attributes["baseline"] == SMALL
    assert 0 <= attributes["reference_score"] <= 1
    assert attributes["erf_init"] > 0
    assert list(trained.intermediate_values.values()) == [attributes["reference_score"]]


@pytest.mark.usefixtures("stub_erf")
def test_none_is_trained_twice(trained: FrozenTrial) -> None:
    study = optuna.create_study()
    study.add_trial(trained)
    assert len(with_baselines(study, SMALL)) == 1
    assert len(with_baselines(study, SMALL, TINY)) == 2


def test_one_that_cannot_be_trained_says_why() -> None:
    (trial,) = with_baselines(optuna.create_study(), "test_vit")
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["rejected_by"] == "baseline"
    assert trial.user_attrs["reason"]


def test_the_frame_has_its_row(trained: FrozenTrial) -> None:
    study = optuna.create_study()
    study.add_trial(trained)
    (row,) = trials_dataframe(study).to_dict("records")
    assert row["baseline"] == SMALL
    assert row["value"] == study.trials[0].user_attrs["reference_score"]
    assert row["trf_size"] == timm_network(SMALL, 1, 3).receptive_fields()["output"].size
    assert row["erf_ratio"] == row["erf_init"] / row["trf_size"]
    assert row["params_m"] > 0 < row["flops_g"]


@pytest.mark.parametrize(
    "sampler",
    [
        GPSampler(seed=0, n_startup_trials=3),
        NSGAIISampler(seed=0, population_size=3),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_samplers_pass_over_it(sampler: optuna.samplers.BaseSampler, trained: FrozenTrial) -> None:
    """They still model all parameters jointly."""
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=4)
    study.add_trial(trained)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=4)
    trial = study.ask()
    assert "x" in sampler.infer_relative_search_space(study, study.trials[trial.number])
    assert study.best_trial.params


@pytest.mark.usefixtures("stub_erf")
def test_they_stand_beside_the_search_and_do_not_use_up_its_budget(tmp_path: Path) -> None:
    text = f'baselines = ["{SMALL}", "{TINY}"]\n' + with_search()
    experiment = Experiment.load(write_experiment(tmp_path / "tiny", text), device="cpu")
    study = open_study(experiment)
    Worker(study, experiment).work()
    trials = study.get_trials()
    assert num_trained(trials) == experiment.config.search.trained_trials
    assert [t.user_attrs.get("baseline") for t in trials[:2]] == [SMALL, TINY]
    assert is_finished(trials, experiment)
    frame = trials_dataframe(study)
    assert (frame["value"].notna() & frame["baseline"].isna()).sum() == 2
    assert not math.isnan(study.best_value)


def test_an_unknown_name_is_one_line(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "tiny", 'baselines = ["resnet19"]\n' + with_search())
    line = refusal(rfsearch("run", folder))
    assert "experiment.toml: baselines: " in line
    assert "resnet18" in line


@pytest.mark.usefixtures("stub_erf")
@pytest.mark.parametrize("timed", [True, False])
def test_they_are_timed_where_the_candidates_are(tmp_path: Path, timed: bool) -> None:
    text = f'baselines = ["{SMALL}"]\n' + with_search(measure_latency=timed)
    experiment = Experiment.load(write_experiment(tmp_path / "tiny", text), device="cpu")
    study = open_study(experiment)
    Worker(study, experiment).work()
    frame = trials_dataframe(study)
    seen = frame[frame["baseline"].notna() | frame["value"].notna()]
    assert seen["baseline"].notna().sum() == 1
    for column in ("latency_ms", "peak_memory_mb"):
        assert (seen[column].notna() == timed).all()


def test_architectures_are_built_as_before() -> None:
    assert task().build(architecture()).architecture == architecture()


@pytest.mark.usefixtures("stub_erf")
def test_baselines_that_are_added_later_are_trained_when_the_search_is_over(
    tmp_path: Path,
) -> None:
    folder = write_experiment(tmp_path / "tiny")
    for text in (with_search(), f'baselines = ["{SMALL}"]\n' + with_search()):
        (folder / "experiment.toml").write_text(text)
        experiment = Experiment.load(folder, device="cpu")
        study = open_study(experiment)
        Worker(study, experiment).work()
    trials = study.get_trials()
    assert num_trained(trials) == experiment.config.search.trained_trials
    assert trials[-1].user_attrs.get("baseline") == SMALL
    assert trials[-1].user_attrs["reference_score"] >= 0


@pytest.mark.usefixtures("stub_erf")
def test_one_that_was_interrupted_is_tried_again() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    study = optuna.create_study()
    enqueue_baselines(study, [SMALL])
    with pytest.raises(KeyboardInterrupt):
        study.optimize(objective(interrupt), n_trials=1)
    _, again = with_baselines(study, SMALL)
    assert again.user_attrs["reference_score"] >= 0


def test_the_shipped_list_names_networks_of_which_each_is_a_baseline() -> None:
    names = baseline_names("baselines", Path())
    assert len(names) > 3
    for name in names:
        (field,) = timm_network(name, 3, 0).receptive_fields().values()
        assert field.stride == 32
    assert "baselines" not in shipped_spaces()


def test_lists_in_files(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'models = ["{SMALL}"]')
    assert baseline_names("mine.toml", tmp_path) == (SMALL,)
    with pytest.raises(
        ValueError, match=r"must be a list of names in timm, .* but got 'resnet18'"
    ):
        baseline_names("resnet18", tmp_path)
    (tmp_path / "mine.toml").write_text("models = []")
    with pytest.raises(ValueError, match=r"mine.toml: models: "):
        baseline_names("mine.toml", tmp_path)


@pytest.mark.usefixtures("stub_erf")
def test_one_whose_worker_died_is_put_back_as_a_baseline() -> None:
    study = optuna.create_study()
    enqueue_baselines(study, [SMALL])
    study.ask()
    end_lost(study, study.trials[0])
    lost, again = study.trials
    assert lost.state == TrialState.FAIL
    assert (again.state, again.params) == (TrialState.WAITING, {})
    assert again.user_attrs["baseline"] == SMALL
    assert with_baselines(study, SMALL)[-1].user_attrs["reference_score"] >= 0
    assert len(study.trials) == 2
