from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import architecture, stage_dict
from hypothesis import given, settings
from strategies import architectures

from rfsearch.network.architecture import Architecture
from rfsearch.network.network_folder import InputFormat, create_network, load_network, save_network
from rfsearch.training.whole_network import create_whole

FORM = InputFormat((24, 32), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), ("ä", "b c", "d/e"))


def saved(folder: Path, arch: Architecture | None = None) -> Path:
    torch.manual_seed(0)
    save_network(create_network(arch or architecture(), FORM), FORM, folder)
    return folder


@settings(max_examples=5)
@given(arch=architectures())
def test_round_trip(arch: Architecture, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("network")
    model = create_network(arch, FORM)
    save_network(model, FORM, folder)
    loaded, form = load_network(folder)
    assert form == FORM
    assert loaded.architecture == arch
    assert not loaded.training
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


def test_nothing_in_the_folder_is_pickled(tmp_path: Path) -> None:
    saved(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.safetensors", "config.json", "architecture.json"}


def test_weights_of_another_architecture() -> None:
    wide = create_whole(architecture(stage_dict(width=16)), FORM)
    with pytest.raises(ValueError, match="The weights do not fit the architecture"):
        create_whole(architecture(), FORM, wide.state_dict())


def with_config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"config\.json: cannot be read \(No such file"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json: not a JSON file"),
        (lambda f: (f / "config.json").write_text("[]"), "not the configuration of a network"),
        (with_config(lambda c: c.update(architecture="resnet18")), "not the configuration of a"),
        (with_config(lambda c: c.pop("label_names")), r"config\.json: incomplete \(KeyError"),
        (with_config(lambda c: c["model_args"].pop("architecture")), "the network cannot be read"),
        (
            with_config(lambda c: c["model_args"]["architecture"]["stem"].update(stride=0)),
            r"the network cannot be read \(architecture: stem, stride",
        ),
        (with_config(lambda c: c["model_args"].update(x=1)), "the network cannot be read"),
        (
            with_config(lambda c: c["model_args"]["architecture"]["stem"].update(width=16)),
            r"the network cannot be read \(Error\(s\) in loading state_dict",
        ),
        (
            with_config(lambda c: c["pretrained_cfg"].update(input_size=[1, 16, 10**6])),
            r"config\.json: images must have sides of 1 to 8192 px, but got 1000000\.",
        ),
        (lambda f: (f / "model.safetensors").unlink(), r"there are no weights \(model\.saf"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), "the network cannot be read"),
    ],
)
def test_damaged_folders(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(saved(tmp_path))
    with pytest.raises(ValueError, match=message):
        load_network(tmp_path)
