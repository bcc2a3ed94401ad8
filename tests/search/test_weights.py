from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import FrozenTrial, TrialState
from studies import stored_study
from torch import nn

from rfsearch.search.weights import WEIGHTS, WeightStore


def model_of(number: float) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    nn.init.constant_(model[0].weight, number)
    nn.init.zeros_(model[0].bias)
    return model.to(memory_format=torch.channels_last)


def train(
    store: WeightStore,
    study: optuna.Study,
    *values: float,
    state: TrialState = TrialState.COMPLETE,
) -> list[FrozenTrial]:
    for value in values:
        trial = study.ask()
        store.add(trial, model_of(value), value)
        study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)
    return study.trials


def new_study(direction: str = "maximize", **options: object) -> optuna.Study:
    return optuna.create_study(direction=direction, **options)  # type: ignore[arg-type]


def loadable(store: WeightStore, trials: list[FrozenTrial]) -> list[float]:
    """Values of the trials whose weights are there and theirs."""
    found = []
    for trial in trials:
        try:
            state = store.load(trial)
        except ValueError:
            continue
        assert bool((state["0.weight"] == trial.values[0]).all())
        found.append(trial.values[0])
    return found


def files(store: WeightStore) -> set[str]:
    return {path.name for path in store.folder.iterdir()}


@pytest.mark.parametrize(
    ("direction", "best"), [("maximize", [3.0, 9.0, 4.0]), ("minimize", [3.0, 1.0, 2.0])]
)
def test_only_the_best_are_kept(tmp_path: Path, direction: str, best: list[float]) -> None:
    store = WeightStore(tmp_path / "weights", 3)
    trials = train(store, new_study(direction), 3, 1, 9, 2, 4)
    assert loadable(store, trials) == best
    assert len(files(store)) == 3


def test_everything_that_a_network_has_comes_back(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "weights")
    (trial,) = train(store, new_study(), 0.5)
    expected = model_of(0.5).state_dict()
    state = store.load(trial)
    assert state.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


def test_equal_values_keep_the_earlier(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "weights", 1)
    first, second = train(store, new_study(), 1, 1)
    assert WEIGHTS in first.user_attrs
    assert WEIGHTS not in second.user_attrs


@pytest.mark.parametrize(("keep", "value"), [(0, 1.0), (3, math.nan)])
def test_nothing_to_keep(tmp_path: Path, keep: int, value: float) -> None:
    store = WeightStore(tmp_path / "weights", keep)
    trial = new_study().ask()
    store.add(trial, model_of(1), value)
    assert not store.folder.exists()
    assert WEIGHTS not in trial.user_attrs


@pytest.mark.parametrize("step", ["safetensors.torch.save_file", "shutil.copyfileobj"])
def test_a_full_disk_keeps_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    store, study = WeightStore(tmp_path / "weights", 1), new_study()
    train(store, study, 1)
    before = files(store)
    monkeypatch.setattr(step, full)
    with pytest.warns(UserWarning, match=r"the weights of trial 1 cannot be kept \(.*No space"):
        _, trial = train(store, study, 2)
    assert WEIGHTS not in trial.user_attrs
    assert trial.value == 2
    monkeypatch.undo()
    assert before <= files(store)


def test_trials_that_failed_afterwards_make_room_first(tmp_path: Path) -> None:
    store, study = WeightStore(tmp_path / "weights", 2), new_study()
    train(store, study, 9, state=TrialState.FAIL)
    trials = train(store, study, 1, 2)
    assert loadable(store, trials[1:]) == [1, 2]
    assert len(files(store)) == 2


def test_the_folder_is_never_named_by_a_study(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "inside" / "weights")
    store.folder.parent.mkdir()
    study = new_study(study_name="../../outside")
    (trial,) = train(store, study, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"inside"}
    assert files(store) == {trial.user_attrs[WEIGHTS]}


@pytest.mark.parametrize("artifact", ["../secret", "/etc/passwd", ""])
def test_an_artifact_outside_of_the_folder_is_not_read(tmp_path: Path, artifact: str) -> None:
    store, study = WeightStore(tmp_path / "weights"), new_study()
    (tmp_path / "secret").write_text("secret")
    (trial,) = train(store, study, 1)
    trial.set_user_attr(WEIGHTS, artifact)
    with pytest.raises((ValueError, OSError), match=r"Invalid artifact_id|Is a directory"):
        store.load(trial)


def test_weights_that_are_damaged(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "weights")
    (trial,) = train(store, new_study(), 1)
    (store.folder / trial.user_attrs[WEIGHTS]).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ValueError, match="the weights of trial 0 cannot be read"):
        store.load(trial)


def test_a_search_keeps_the_weights_of_its_best(searched: Path) -> None:
    trials = stored_study(searched).trials
    trained = [t for t in trials if "train_seconds" in t.user_attrs]
    assert len(trained) == 4
    store = WeightStore(searched / "weights", 2)
    assert len(files(store)) == 2
    kept = [t for t in trained if t.user_attrs.get(WEIGHTS) in files(store)]
    lost = [t for t in trained if t not in kept]
    assert min(t.values[0] for t in kept) >= max(t.values[0] for t in lost)
