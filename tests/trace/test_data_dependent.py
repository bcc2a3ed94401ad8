"""Operations whose output, or its shape, the data decide: NaN does not show what they see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision.ops
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator

from rfsearch.field.receptive_field import window
from rfsearch.trace.result import TracedModel
from rfsearch.trace.trace import UntracedError, trace_receptive_field


class Run(nn.Module):
    """A convolution that sees 3 px, and what is done with it."""

    def __init__(self, run: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.run = run
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Any:
        return self.run(self.first(x), *self.layers)


def trace(run: Callable[..., Any], *layers: nn.Module) -> TracedModel:
    return trace_receptive_field(Run(run, *layers), (16, 24))


def rows(x: Tensor) -> Tensor:
    """All positions, one in each row."""
    return x[0].flatten(1).mT


def canvas() -> Tensor:
    return torch.zeros(384, 4)


def turned(x: Tensor) -> Tensor:
    """Places that a transformation is computed of."""
    transformation = x.mean((2, 3))[:, None].expand(1, 2, 4)[..., :3]
    return F.affine_grid(transformation, [1, 4, 8, 8], align_corners=False)


def best(x: Tensor) -> Tensor:
    return rows(x)[rows(x)[:, 0].topk(5).indices]


#: What may be any of the units: it sees what one of them sees, and which one all of them decide.
PICKED: dict[str, Callable[[Tensor], Any]] = {
    "places": lambda x: x.nonzero(),
    "places of a mask": lambda x: torch.where(x[0, 0] > 0)[1],
    "elements of a mask": lambda x: x[x > 0],
    "the best": best,
    "one dimension of the best": lambda x: x.index_select(2, x.mean((0, 1, 3)).argsort()[:3]),
    "all that differ": lambda x: torch.unique(x.argmax(1)),
    "boxes that are kept": lambda x: rows(x)[torchvision.ops.nms(rows(x), rows(x)[:, 0], 0.5)],
    "means of boxes": lambda x: torchvision.ops.roi_align(x, [best(x)], 3),
    "added to computed places": lambda x: canvas().index_add(0, best(x)[:, 0].long(), best(x)),
    "written to computed places": lambda x: canvas().index_put((best(x)[:, 0].long(),), best(x)),
    "sampled": lambda x: F.grid_sample(x, turned(x), align_corners=False),
    "a loss": lambda x: F.mse_loss(x, torch.ones_like(x)),
    "a number": lambda x: x * x.max().item(),
    "a number of many": lambda x: x / float(x.abs().sum() + 1),
}


@pytest.mark.parametrize("name", PICKED)
def test_what_is_picked_is_local_and_global(name: str) -> None:
    traced = trace(PICKED[name])
    assert traced.output.is_global
    assert traced.global_layers
    assert traced.output.height == traced.output.width == window(3)


def on_map(channels: Tensor) -> Tensor:
    """Channels of all positions as a map."""
    return channels.unflatten(1, (16, 24))[None]


def one_hot(x: Tensor) -> Tensor:
    return canvas().scatter(1, rows(x).argmax(1, keepdim=True), 1.0)


def checked(x: Tensor) -> Tensor:
    assert x.isfinite().all()
    assert not torch.equal(x, x + 1)
    return x.clamp(-1, 1) if x.isinf().any() else x


#: What looks at the data, but takes nothing from one unit to another.
IN_PLACE: dict[str, Callable[..., Tensor]] = {
    "checks": checked,
    "zeros where a mask is": lambda x: x.index_put((x < 0,), torch.tensor(0.0)),
    "one hot": lambda x: on_map(one_hot(x).mT),
    "a loss of each": lambda x: F.mse_loss(x, torch.ones_like(x), reduction="none"),
    "a weighted sum": lambda x: (x.permute(0, 2, 3, 1).reshape(-1, 4) @ torch.ones(4)).view(
        1, 1, 16, 24
    ),
    "distances to a table": lambda x, table: on_map(torch.cdist(rows(x), table.weight).mT),
    "distances of a table": lambda x, table: on_map(torch.cdist(table.weight, rows(x))),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_stays_in_its_place_is_not_global(name: str) -> None:
    tables = [nn.Embedding(40, 4)] if "table" in name else []
    traced = trace(IN_PLACE[name], *tables)
    assert not traced.output.is_global
    assert traced.output.height == traced.output.width == window(3)
    assert traced.output.units == (16, 24)


#: Constants that are made where the input is.
CONSTANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "numbers": lambda x: x[:, :, torch.arange(4, 12, device=x.device)],
    "a list": lambda x: x.index_select(2, torch.tensor([*range(4, 12)], device=x.device)),
    "a mask": lambda x: x[:, :, torch.arange(16, device=x.device).sub(7.5).abs() < 4],
    "a count": lambda x: x[..., 4 : int(torch.as_tensor([5, 7], device=x.device).sum()), :],
    "a check": lambda x: x[..., 4:12, :] if torch.ones(2, device=x.device).sum() == 2 else x,
    "written to": lambda x: x[..., torch.arange(8, device=x.device).add_(4), :],
    "gathered": lambda x: x.gather(
        2, torch.arange(4, 12, device=x.device)[:, None].expand(1, 4, 8, 24)
    ),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_known_wherever_they_are_made(name: str) -> None:
    traced = trace(CONSTANTS[name])
    assert traced.output.shape == (1, 4, 8, 24)
    if name != "gathered":
        assert not traced.output.is_global
        assert traced.output.interval((0, 0)) == ((3, 6), (-1, 2))
    assert traced.cost().flops > 0


def test_constants_that_are_not_known_are_no_guess() -> None:
    with pytest.raises(UntracedError, match="asks for the values"):
        trace(lambda x, c: x if c.weight.sum() > 0 else c(x), nn.Conv2d(4, 4, 3))


def test_bilinear_layers() -> None:
    bilinear = nn.Bilinear(4, 4, 3)
    traced = trace(lambda x, b: b(x.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)), bilinear)
    assert traced.output.width == window(3)
    assert not traced.output.is_global


def test_deformed_convolutions_have_the_field_of_those_that_are_not() -> None:
    offset, last = nn.Conv2d(4, 18, 5, padding=2), nn.Conv2d(4, 4, 3, 2, padding=1)
    traced = trace(
        lambda x, o, c: torchvision.ops.deform_conv2d(
            x, o(x)[..., ::2, ::2], c.weight, c.bias, 2, 1
        ),
        offset,
        last,
    )
    assert (traced.output.width.size, traced.output.width.stride) == (7, 2)
    assert traced.output.is_global


@pytest.mark.parametrize(("follow", "size", "is_global"), [(0, 3, True), (1, 10, False)])
def test_templates_are_seen_whole(follow: int, size: int, is_global: bool) -> None:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(2, 4, 3, padding=1)

        def forward(self, template: Tensor, scene: Tensor) -> Tensor:
            return F.conv2d(self.features(scene), self.features(template))

    traced = trace_receptive_field(Siamese(), ((2, 8, 8), (2, 32, 32)), follow=follow)
    assert (traced.output.height.size, traced.output.is_global) == (size, is_global)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_layers_over_columns(layer: type[nn.RNNBase], batch_first: bool) -> None:
    recurrent = layer(4, 5, 2, batch_first=batch_first, bidirectional=batch_first)
    order = (0, 2, 1) if batch_first else (2, 0, 1)

    def run(x: Tensor, r: nn.Module) -> Any:
        out, last = r(x.mean(2).permute(order))
        return {"out": out, "last": last, "step": out.select(1 if batch_first else 0, -1)}

    traced = trace(run, recurrent)
    expected = Run(run, recurrent)(torch.zeros(1, 2, 16, 24))
    assert traced.outputs["out"].shape == expected["out"].shape
    assert "layers.0" in traced.global_layers
    for one in traced.outputs.values():
        assert one.is_global
        assert (one.width.size, one.width.stride) == (3, 1)


def detector() -> nn.Module:
    """A whole detector of two stages, on a backbone of two convolutions."""
    layers = [nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)]
    backbone = nn.Sequential(*layers)
    backbone.out_channels = 4  # type: ignore[assignment]
    pooling = torchvision.ops.MultiScaleRoIAlign(["0"], 2, 0)
    anchors = AnchorGenerator(((16,),), ((1.0,),))
    return FasterRCNN(backbone, 2, 64, 64, rpn_anchor_generator=anchors, box_roi_pool=pooling)


def test_a_whole_detector() -> None:
    traced = trace_receptive_field(detector(), 64)
    assert list(traced.outputs) == ["0.boxes", "0.labels", "0.scores"]
    for one in traced.outputs.values():
        assert one.is_global
        # The proposals come from a convolution of 3x3 behind the two.
        assert (one.width.size, one.width.stride) == (15, 4)
    table = traced.layers.set_index("name")
    assert (table.loc["backbone.1", "width"], table.loc["rpn.head.conv.0.0", "width"]) == (7, 15)


def test_values_that_are_asked_for_are_told_of() -> None:
    with pytest.raises(UntracedError, match="asks for the values") as caught:
        trace(lambda x: torch.from_numpy(x.detach().numpy()))
    assert caught.value.traced.layers["width"][0] == 3
