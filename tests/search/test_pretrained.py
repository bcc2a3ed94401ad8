"""Searches among changes of a trained network, from its weights to the export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers import refusal, rfsearch
from safetensors.torch import load_file, save_file
from studies import stored_study
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.models.timm_models import seeded
from rfsearch.retrofit.changes import retrofit
from rfsearch.search.experiment import Experiment
from rfsearch.training._optimizers import make_optimizer

EXPERIMENT = """
[space]
retrofit = "test_efficientnet"
checkpoint = "weights.safetensors"
[target]
min_size = 8
max_size = 16
theoretical = [10, 70]
effective = "off"
max_output_stride = 16
[data]
source = "digits"
object_size = 8
canvas_size = 24
num_train = 32
num_valid = 16
[training]
epochs = 1
batch_size = 16
learned_rate = 0.25
[search]
trained_trials = 1
"""


def write(folder: Path, text: str = EXPERIMENT) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "experiment.toml").write_text(text)
    model = seeded(lambda: timm.create_model("test_efficientnet"), 1)
    save_file(model.state_dict(), folder / "weights.safetensors")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment that was run."""
    folder = write(tmp_path_factory.mktemp("changes") / "changes")
    result = rfsearch("run", folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def experiment(folder: Path) -> Experiment:
    return Experiment.load(folder, "cpu")


def test_the_network_as_it_is_given_and_the_presets_are_baselines(folder: Path) -> None:
    frame = trials_dataframe(stored_study(folder)).set_index("baseline")
    strides = {"as given": 32, "output_stride 16": 16, "output_stride 8": 8}
    assert frame.loc[list(strides), "output_stride"].to_dict() == strides
    assert frame.loc[list(strides), "value"].notna().all()
    assert (frame.loc[list(strides), "trf_size"] == 67).all()


def test_the_candidate_says_what_was_changed(folder: Path, experiment: Experiment) -> None:
    trial = next(one for one in stored_study(folder).trials if one.params)
    changes = json.loads(trial.user_attrs["changes"])
    network = timm.create_model("test_efficientnet", num_classes=0)  # Any last stage may go.
    field = experiment.space.candidate(trial.params)  # type: ignore[union-attr]
    assert field is not None
    assert trial.user_attrs["trf_size"] == field.receptive_field().size
    assert retrofit(network, changes, 24).state_dict().keys() == network.state_dict().keys()
    assert 10 <= trial.user_attrs["trf_size"] <= 70
    assert trial.user_attrs["output_stride"] <= 16


def test_training_begins_with_the_weights_and_statistics_of_the_images(
    folder: Path, experiment: Experiment
) -> None:
    weights = load_file(folder / "weights.safetensors")
    # Grey is the same in all colours.
    weights["conv_stem.weight"] = weights["conv_stem.weight"].sum(dim=1, keepdim=True)
    for name, params in experiment.space.presets.items():  # type: ignore[union-attr]
        model = experiment.task.build(experiment.space.build(**params))  # type: ignore[union-attr]
        found = {
            name.removeprefix("network.0."): value
            for name, value in model.state_dict().items()
            if name.startswith("network.0.")
        }
        assert found.keys() == {one for one in weights if not one.startswith("classifier")}
        averages = {
            f"{place}.{what}"
            for place, layer in model.named_modules()
            if isinstance(layer, _BatchNorm)
            for what in ("running_mean", "running_var", "num_batches_tracked")
        }
        for key, value in found.items():
            same = torch.equal(value, weights[key])
            assert same == (f"network.0.{key}" not in averages), (name, key)
        assert not model.training
        momenta = {one.momentum for one in model.modules() if isinstance(one, _BatchNorm)}
        assert momenta == {0.1}


def test_what_is_learned_is_trained_at_a_lower_rate(experiment: Experiment) -> None:
    space, task = experiment.space, experiment.task
    model = task.build(space.build(**space.given))  # type: ignore[union-attr]
    optimizer = make_optimizer(model, task.training, torch.device("cpu"))
    head = {id(one) for name, one in model.named_parameters() if name.startswith("head.")}
    rates = {
        (id(one) in head, group["lr"] / task.training.learning_rate, group["lr_scale"])
        for group in optimizer.param_groups
        for one in group["params"]
    }
    assert rates == {(True, 1.0, 1.0), (False, 0.25, 0.25)}
    decayed = {
        one.ndim > 1
        for group in optimizer.param_groups
        if group["weight_decay"]
        for one in group["params"]
    }
    assert decayed == {True}
    numbers = [one for group in optimizer.param_groups for one in group["params"]]
    assert len(numbers) == len({id(one) for one in numbers}) == len(list(model.parameters()))


@pytest.mark.usefixtures("plain_cards")
def test_export_and_report(folder: Path, tmp_path: Path, experiment: Experiment) -> None:
    result = rfsearch("export", folder, "--out", tmp_path / "net", "--no-onnx")
    assert result.exit_code == 0, result.output
    trial = next(one for one in stored_study(folder).trials if one.params)
    changes = json.loads((tmp_path / "net" / "changes.json").read_text())
    assert changes == json.loads(trial.user_attrs["changes"])
    # By hand: the network under its own names, its maps, the average, and the layer on top.
    network = timm.create_model("test_efficientnet", num_classes=0, in_chans=1).eval()
    network.load_state_dict(load_file(tmp_path / "net" / "weights.safetensors"))
    head = load_file(tmp_path / "net" / "head.safetensors")
    images = experiment.task.erf_images
    with torch.no_grad():
        maps = retrofit(network, changes, 24).forward_features(images)  # type: ignore[operator]
        weights = head["head.fc.weight"], head["head.fc.bias"]
        scores = nn.functional.linear(maps.mean((2, 3)), *weights)
        exported = torch.export.load(tmp_path / "net" / "model.pt2").module()(images)
    np.testing.assert_allclose(scores, exported, atol=1e-4)
    result = rfsearch("report", folder, "--out", tmp_path / "report.html")
    assert result.exit_code == 0, result.output
    assert "output_stride 16" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("test_efficientnet", "no_such_net", "`retrofit` must be a timm model's name or a folder"),
        ('checkpoint = "weights.safetensors"', "", "`checkpoint` or `pretrained = true` must say"),
        (
            "checkpoint =",
            "pretrained = true\ncheckpoint =",
            "Only one of `checkpoint` and",
        ),
        ("weights.safetensors", "other.pt", "other.pt: cannot be read (No such file"),
        ("test_efficientnet", "test_convnext", "weights.safetensors: must hold the weights of th"),
        ("trained_trials = 1", "controls = 2", "Controls must come from a search space of archit"),
        pytest.param(
            "[10, 70]",
            "[1000, 2000]",
            "No change of the network that was tried passes all gates",
            marks=pytest.mark.slow,  # Draws until it gives up.
        ),
        ('"test_efficientnet"', '"resnet18"\ngranularity = "block"', "granularity"),
    ],
)
def test_mistakes(old: str, new: str, match: str, tmp_path: Path) -> None:
    assert old in EXPERIMENT
    folder = write(tmp_path / "changes", EXPERIMENT.replace(old, new))
    said = refusal(rfsearch("run", folder))
    assert match in said
    assert str(folder) in said
