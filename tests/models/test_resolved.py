"""One model at the door: what it is made of, what it takes in, and what it must not be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from helpers import architecture
from torch import Tensor, nn

from rfsearch.models.resolve import resolve_model
from rfsearch.network.network_folder import load_network
from rfsearch.trace.trace import trace_receptive_field


class Run(nn.Module):
    """Layers that are registered in one order and used by a function in its own."""

    def __init__(self, run: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Any:
        return self.run(x, *self.layers)


def with_coordinates(x: Tensor) -> Tensor:
    return torch.cat([x, torch.zeros_like(x[:, :1]), torch.zeros_like(x[:, :1])], dim=1)


def head(wanted: int = 8) -> nn.Conv2d:
    return nn.Conv2d(wanted, 10, 1)


CHANNELS: dict[str, tuple[nn.Module, int]] = {
    "convolution": (nn.Conv2d(5, 2, 3), 5),
    "an activation before it": (nn.Sequential(nn.ReLU(), nn.Conv2d(1, 2, 3)), 1),
    "no layer": (nn.ReLU(), 3),
    "six bands": (nn.Sequential(nn.Conv2d(6, 4, 3), nn.Conv2d(4, 4, 3)), 6),
    "the head is registered first": (
        Run(lambda x, last, first: last(first(x)), head(), nn.Conv2d(3, 8, 3)),
        3,
    ),
    "the head of a grey model": (
        Run(lambda x, last, first: last(first(x)), head(), nn.Conv2d(1, 8, 3)),
        1,
    ),
    "coordinates are added": (
        Run(lambda x, first: first(with_coordinates(x)), nn.Conv2d(5, 8, 3)),
        3,
    ),
    "coordinates, and the head first": (
        Run(lambda x, last, first: last(first(with_coordinates(x))), head(), nn.Conv2d(6, 8, 3)),
        4,
    ),
    "pixels are moved into channels": (
        Run(lambda x, first: first(F.pixel_unshuffle(x, 4)), nn.Conv2d(48, 8, 1)),
        3,
    ),
    "linear, channels last": (
        Run(lambda x, first: first(x.permute(0, 2, 3, 1)), nn.Linear(6, 8)),
        6,
    ),
    "linear over patches": (
        Run(lambda x, first: first(F.unfold(x, 8, stride=8).mT), nn.Linear(64 * 4, 8)),
        4,
    ),
    "channels that are picked": (
        Run(lambda x, first: first(x[:, 3:6]), nn.Conv2d(3, 8, 3)),
        6,
    ),
    "timm, focus": (timm.create_model("cs3darknet_focus_s"), 3),
    "timm, grey": (timm.create_model("test_resnet", in_chans=1), 1),
    "timm, a transformer": (timm.create_model("test_vit", in_chans=2), 2),
    "a sequence inside": (
        Run(lambda x, a, b: b(a(x).flatten(2)), nn.Conv2d(2, 4, 3), nn.Conv1d(4, 4, 1)),
        2,
    ),
}


@pytest.mark.parametrize("case", CHANNELS)
def test_channels_are_those_that_the_first_layer_takes(case: str) -> None:
    model, channels = CHANNELS[case]
    size = 160 if case == "timm, a transformer" else 64
    resolved = resolve_model(model, size)
    assert (resolved.in_chans, resolved.num_axes) == (channels, 2)
    with torch.no_grad():
        resolved.copy()(torch.zeros(1, channels, size, size))  # It does run.


def test_channels_that_are_given_are_believed() -> None:
    assert resolve_model(nn.ReLU(), 8, in_chans=7).in_chans == 7
    weights = next(resolve_model("test_resnet", 64, in_chans=7).module.parameters())
    assert weights.shape[1] == 7


@pytest.mark.parametrize(
    ("model", "in_chans", "num_axes"),
    [
        (nn.Conv1d(3, 4, 3), 3, 1),
        (nn.Conv1d(1, 4, 3), 1, 1),
        (nn.Sequential(nn.Conv3d(1, 4, 3), nn.Conv3d(4, 4, 3)), 1, 3),
        (nn.Sequential(nn.ReLU(), nn.Conv3d(3, 4, 3)), 3, 3),
        (nn.ConvTranspose1d(3, 4, 3), 3, 1),
        (Run(lambda x, c: c(x.unsqueeze(2)), nn.Conv2d(5, 4, (1, 3))), 5, 1),
        (Run(lambda x, a, b: a(b(x)), nn.Conv1d(4, 4, 1), nn.Conv2d(2, 4, 3)), 2, 2),
        (nn.ReLU(), 3, 2),
    ],
)
def test_the_number_of_axes_is_that_of_the_first_convolution(
    model: nn.Module, in_chans: int, num_axes: int
) -> None:
    resolved = resolve_model(model, 32)
    assert (resolved.in_chans, resolved.input_size) == (in_chans, (32,) * num_axes)
    assert resolve_model(model, (32,) * num_axes).input_size == resolved.input_size


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        (nn.Conv1d(3, 4, 3), (9, 9), r"one side \(time\) for Conv1d, but got 9x9\."),
        (nn.Conv2d(3, 4, 3), (9,), r"2 sides \(height, width\) for Conv2d, but got 9\."),
        (nn.Conv2d(3, 4, 3), (9, 9, 9), "2 sides .* for Conv2d, but got 9x9x9"),
        (nn.Conv3d(3, 4, 3), (9, 9), r"3 sides \(depth, height, width\) for Conv3d, but got 9x9"),
        ("test_resnet", (8, 9, 9), "2 sides .* for test_resnet, but got 8x9x9"),
        (architecture(), (8, 9, 9), "2 sides .* for architecture, but got 8x9x9"),
    ],
)
def test_a_size_of_other_axes_is_refused(model: Any, size: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"`input_size` must have {message}") as caught:
        resolve_model(model, size)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="`input_size` must have 2 sides"):
        resolve_model(resolve_model(nn.ReLU(), 32), size if len(size) != 2 else (9,))


def test_a_model_that_takes_no_channels() -> None:
    class Samples(nn.Module):
        """As models of speech: `(batch, time)`."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv1d(1, 4, 10, 5)

        def forward(self, samples: Tensor) -> Tensor:
            return self.first(samples[:, None])

    with pytest.raises(ValueError, match=r"\(batch, channels, time\).* with `forward` how to run"):
        resolve_model(Samples(), 160)
    told = resolve_model(Samples(), 160, forward=lambda model, images: model(images[:, 0]))
    assert (told.in_chans, told.input_size) == (1, (160,))


def test_a_timm_model_is_made_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def create(name: str, **options: Any) -> nn.Module:
        made.append(str(torch.get_default_device()))
        return timm.create_model(name, **options)

    monkeypatch.setattr("rfsearch.models.timm_models.create_model", create)
    resolved = resolve_model("test_resnet", 64)
    trace_receptive_field(resolved, 64)
    assert made == ["meta"]
    assert resolved.module is resolved.at((96, 96)).module
    assert made == ["meta", "cpu"]


@pytest.mark.parametrize(
    ("name", "weights"), [("test_resnet", "random initialisation, seed 3"), ("folder", "from ")]
)
def test_it_is_known_which_weights_there_are(
    name: str, weights: str, network_folder: Path
) -> None:
    model = network_folder if name == "folder" else name
    assert resolve_model(model, 64, seed=3).weights.startswith(weights)
    assert resolve_model(nn.ReLU(), 8).weights == "the module's own"


def test_a_folder_has_its_own_weights_size_and_channels(network_folder: Path) -> None:
    resolved = resolve_model(network_folder)
    saved, form = load_network(network_folder)
    assert (resolved.input_size, resolved.in_chans) == (form.input_size, form.in_chans)
    found = resolved.module.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in saved.state_dict().items())
    with pytest.raises(ValueError, match="has an input of 2 channels, but got 3"):
        resolve_model(network_folder, in_chans=3)


def test_an_architecture_and_its_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(architecture().to_dict()))
    given, read = (resolve_model(one, 32, in_chans=4) for one in (architecture(), file))
    assert given.architecture == read.architecture == architecture()
    assert (read.name, read.in_chans) == (str(file), 4)
    weights = (one.module.state_dict()["stem.0.conv.weight"] for one in (given, read))
    assert torch.equal(*weights)


def test_a_resolved_model_stays_what_it_is() -> None:
    resolved = resolve_model("test_resnet", 64)
    assert resolve_model(resolved) is resolve_model(resolved, 64) is resolved
    assert resolve_model(resolved, (32, 64)).input_size == (32, 64)
    with pytest.raises(ValueError, match="the 3 channels that it was resolved with, but got 4"):
        resolve_model(resolved, in_chans=4)


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        ("test_vit", 100, "test_vit must run at an input of 100x100 px, but it does not; it does"),
        ("test_vit", 100, "it does at 160x160 px.$"),
        (nn.Conv2d(3, 4, 9), 4, "Conv2d must run at an input of 4x4 px.*at 224x224 px.$"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3)), 32, "3 channels, but it fails in"),
    ],
)
def test_models_that_do_not_run_are_refused_in_one_line(
    model: nn.Module | str, size: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        trace_receptive_field(model, size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 10**7, (3, 4, 5, 6), (64, 10**7), (), "big", 2.5])
def test_impossible_sizes(size: Any) -> None:
    with pytest.raises(ValueError, match=r"`input_size` must be a side or .* 1 to 1,000,000 px"):
        resolve_model(nn.ReLU(), size)
