"""Spaces of changes: what is offered of networks of many kinds, and which of it fits."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import optuna
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.retrofit.changes import retrofit
from rfsearch.retrofit.space import RetrofitSpace
from rfsearch.search.sampler import RFSampler
from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.target.target import ScaleTarget
from rfsearch.trace.probe import probe_receptive_field
from rfsearch.trace.trace import expected_erf, trace_receptive_field

GIVEN, OPEN, DILATED, OFF = "as given", "stride 1", "stride 1, dilated", "off"
POOLING = (GIVEN, OPEN, DILATED, OFF)


def conv(channels: int, width: int, kernel: Any = 3, **options: Any) -> nn.Conv2d:
    taps = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    return nn.Conv2d(channels, width, taps, padding=tuple(k // 2 for k in taps), **options)


class Residual(nn.Module):
    """A depthwise or grouped block with a shortcut."""

    def __init__(self, channels: int, width: int, stride: Any, groups: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv(channels, width, 1), conv(width, width, stride=stride, groups=groups)
        )
        self.shortcut = conv(channels, width, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + self.shortcut(x))


def residual(groups: int = 1, stride: Any = 2) -> nn.Sequential:
    return nn.Sequential(
        conv(3, 4, stride=2),
        nn.MaxPool2d(3, 2, 1),
        Residual(4, 4, 1, groups),
        Residual(4, 8, stride, groups),
    )


class UNet(nn.Module):
    """Two levels down and up; the decoder meets the skips by size or by a factor."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.top, self.low, self.pool = conv(3, 2), conv(2, 2), nn.MaxPool2d(2)
        self.out, self.by = conv(4, 2), by

    def forward(self, x: Tensor) -> Tensor:
        top = self.top(x)
        low = self.low(self.pool(top) if self.by != "functional" else F.max_pool2d(top, 2))
        if self.by == "factor":
            up = F.interpolate(low, scale_factor=2)
        else:
            up = F.interpolate(low, size=top.shape[-2:])
        return self.out(torch.cat([top, up], dim=1))


def pyramid() -> nn.Module:
    body = nn.Sequential(conv(3, 2, stride=2), conv(2, 4, stride=2), conv(4, 8, stride=2))
    return BackboneWithFPN(body, {"1": "fine", "2": "coarse"}, [4, 8], 4)


def check(model: nn.Module, space: RetrofitSpace, **params: Any) -> None:
    """Choices, against a trace of the changed copy and what NaNs reach in it."""
    chosen = {name.replace("_", "."): value for name, value in params.items()}
    changed = retrofit(model, space.changes(space.given | chosen), space.model.input_size)
    traced = space.candidate(space.given | chosen)
    assert traced is not None
    assert trace_receptive_field(changed, space.model.input_size).layers.equals(traced.layers)
    probed = probe_receptive_field(changed)
    assert (traced.output.height, traced.output.width) == (probed.height, probed.width)


def run_all(model: nn.Module, space: RetrofitSpace) -> None:
    """Whatever is offered alone leaves a network that runs."""
    images = torch.zeros(1, 3, *space.model.input_size)
    for name, values in space.choices().items():
        for value in values[1:]:
            changes = space.changes(space.given | {name: value})
            assert changes
            assert retrofit(model, changes, space.model.input_size)(images) is not None


@pytest.mark.parametrize("groups", [1, 4])
def test_residual_networks(groups: int) -> None:
    model = residual(groups)
    space = RetrofitSpace(model, 64)
    assert space.choices() == {
        "0.stride": (GIVEN, OPEN, DILATED),
        "1.stride": POOLING,
        "3.conv.1.stride": (GIVEN, OPEN),
        "2.conv.1.dilation": (1, 2, 3),
        "3.skip": (False, True),
        "0.scale": (1.0, 1.5, 2.0, 3.0),
    }
    assert space.size == 3 * 4 * 2 * 3 * 2 * 4
    assert space.fixed == {}
    run_all(model, space)
    chosen = {"0_stride": DILATED, "1_stride": DILATED, "2_conv_1_dilation": 3}
    check(model, space, **chosen)
    both = {name.replace("_", "."): value for name, value in chosen.items()}
    assert space.changes(space.given | both) == {
        "0": {"stride": 1},
        "1": {"stride": 1},  # Torch pads a pooling by half a window at most.
        "2.conv.1": {"dilation": 12, "padding": 12},
        "3.conv.1": {"dilation": 4, "padding": 4},
    }
    assert list(space.changes(space.given | {"3.conv.1.stride": OPEN})) == [
        "3.conv.1", "3.shortcut",
    ]  # fmt: skip


def test_asymmetric_networks() -> None:
    model = nn.Sequential(
        conv(3, 2, (1, 7), stride=(1, 4)), conv(2, 2, (3, 1)), conv(2, 2, stride=(2, 1)),
        conv(2, 2, (1, 3)),
    )  # fmt: skip
    space = RetrofitSpace(model, (32, 64))
    assert space.choices()["0.stride"] == (
        GIVEN, "stride 1x2", "stride 1x2, dilated", OPEN, DILATED,
    )  # fmt: skip
    run_all(model, space)
    check(model, space, **{"0_stride": "stride 1x2, dilated", "1_dilation": 2})
    params = space.given | {"0.stride": "stride 1x2, dilated"}
    assert space.changes(params) == {
        "0": {"stride": [1, 2]},
        "2": {"dilation": [1, 2], "padding": [1, 2]},
        "3": {"dilation": [1, 2], "padding": [0, 2]},
    }


@pytest.mark.parametrize(
    ("by", "strides", "fixed"),
    [
        ("size", POOLING, {}),
        ("factor", None, {"pool": "stride 1: Sizes of tensors must match"}),
        (
            "functional",
            None,
            {"low": "what reduces the resolution to 2 px before it has no stride"},
        ),
    ],
)
def test_decoders_must_meet_their_skips(by: str, strides: Any, fixed: dict[str, str]) -> None:
    model = UNet(by)
    space = RetrofitSpace(model, 64)
    assert space.choices().get("pool.stride") == strides
    assert list(space.fixed) == list(fixed)
    assert all(space.fixed[name].startswith(why) for name, why in fixed.items())
    run_all(model, space)
    check(model, space, **({"pool_stride": OFF} if strides else {"low_dilation": 2}))


def test_levels_of_a_pyramid_say_their_strides() -> None:
    model = pyramid()
    space = RetrofitSpace(model, 64)
    run_all(model, space)
    traced = space.candidate(space.given | {"body.2.stride": OPEN, "body.0.scale": 1.5})
    assert traced is not None
    strides = {level: field.stride for level, field in traced.receptive_fields().items()}
    assert list(strides) == ["fine", "coarse", "pool"]
    assert [stride * 3 for stride in strides.values()] == [8, 8, 16]
    assert list(space.fixed) == ["fpn.extra_blocks[0.2]"]
    assert "(LastLevelMaxPool)" in space.fixed["fpn.extra_blocks[0.2]"]


@pytest.mark.parametrize(
    ("layer", "sides"), [(nn.Conv1d, (256,)), (nn.Conv3d, (16, 16, 32))], ids=["1", "3"]
)
def test_sequences_and_volumes(layer: Any, sides: tuple[int, ...]) -> None:
    model = nn.Sequential(layer(1, 2, 3, stride=2, padding=1), layer(2, 2, 3, padding=1))
    space = RetrofitSpace(model, sides)
    params = {"0.stride": DILATED, "1.dilation": 2, "0.scale": 2.0}
    traced = space.candidate(params)
    assert traced is not None
    axes = {(axis.size, axis.stride * 2) for axis in traced.output.axes.values()}
    assert axes == {(7, 1)}
    assert retrofit(model, space.changes(params), sides)(torch.zeros(1, 1, *sides)).shape[2:] == (
        torch.Size(2 * side for side in sides)
    )


@pytest.mark.parametrize(
    ("name", "stage", "last"),
    [
        ("test_efficientnet", "blocks.4.skip", "blocks.3"),
        ("test_convnext", "stages.3.skip", "stages.2"),
        ("test_resnet", "layer4.skip", "layer3"),
    ],
)
def test_last_stages_are_left_out_with_what_is_as_wide(name: str, stage: str, last: str) -> None:
    """The last convolution and its normalisation, too: what is left is the map before them."""
    model = timm.create_model(name, num_classes=0, global_pool="").eval()
    space = RetrofitSpace(model, 96)
    assert space.choices()[stage] == (False, True)
    changed = retrofit(model, space.changes(space.given | {stage: True}), 96)
    images, seen = torch.randn(2, 3, 96, 96), []
    hook = model.get_submodule(last).register_forward_hook(lambda *given: seen.append(given[-1]))
    with torch.no_grad():
        model(images)
        assert torch.equal(changed(images), seen[0])
    hook.remove()


def test_layers_that_run_at_several_resolutions_are_left_alone() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.down, self.head = conv(3, 2), conv(2, 2, stride=2), conv(2, 2)

        def forward(self, x: Tensor) -> list[Tensor]:
            fine = self.first(x)
            return [self.head(fine), self.head(self.down(fine))]

    space = RetrofitSpace(Shared(), 32)
    assert list(space.choices()) == ["down.stride", "first.dilation", "first.scale"]


def test_each_layer_has_a_dilation_of_its_own_if_asked() -> None:
    model = nn.Sequential(conv(3, 2), conv(2, 2), conv(2, 2, stride=2), conv(2, 2))
    of_stages = RetrofitSpace(model, 32).choices()
    of_layers = RetrofitSpace(model, 32, granularity="layer").choices()
    assert [name for name in of_stages if "dilation" in name] == ["0.dilation", "3.dilation"]
    assert [name for name in of_layers if "dilation" in name] == [
        "0.dilation", "1.dilation", "3.dilation",
    ]  # fmt: skip


def test_poolings_whose_places_count_are_left_alone() -> None:
    class Places(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv(3, 2)
            self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            pooled, places = self.pool(self.conv(x))
            unpooled: Tensor = self.unpool(pooled, places)
            return unpooled

    assert "pool.stride" not in RetrofitSpace(Places(), 32).choices()


# What fits.


@pytest.fixture(scope="module")
def small() -> RetrofitSpace:
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 4, stride=2), nn.ReLU(), conv(4, 4))
    return RetrofitSpace(model, 32, initialisation="module")


@pytest.fixture(scope="module")
def sizes(small: RetrofitSpace) -> dict[tuple[Any, ...], dict[str, float]]:
    """What gates judge of each member, from a changed copy."""
    found = {}
    for values in product(*small.choices().values()):
        params = dict(zip(small.choices(), values, strict=True))
        changed = retrofit(small.model.module, small.changes(params), 32)
        found[values] = {
            "theoretical": trace_receptive_field(changed, 32).output.height.size,
            "expected": expected_erf(changed, 32, initialisation="module").size,
            "flops": trace_receptive_field(changed, 32).cost().flops / 1e9,
        }
    return found


@pytest.mark.parametrize(
    "constraint",
    [
        RFConstraint(ScaleTarget(4, 4), theoretical=(5, 9), max_gridding=None),
        RFConstraint(theoretical=(6, 12), effective=None, budget=Budget(max_flops_g=0.0005)),
    ],
)
def test_the_feasible_set_is_that_of_all_changed_copies(
    small: RetrofitSpace,
    sizes: dict[tuple[Any, ...], dict[str, float]],
    constraint: RFConstraint,
) -> None:
    ranges = constraint.ranges()
    members = {
        values
        for values, judged in sizes.items()
        if all(ranges[gate].violation(judged[gate]) <= 0 for gate in judged if gate in ranges)
    }
    feasible = small.feasible(constraint)
    assert feasible.size == 3 * 3 * 4
    assert 2 < len(members) < 30
    assert feasible.count == len(members)
    drawn = [feasible.sample_params(np.random.default_rng(seed)) for seed in range(20)]
    assert {tuple(params.values()) for params in drawn} <= members


def test_the_sampler_proposes_only_what_fits(small: RetrofitSpace) -> None:
    constraint = RFConstraint(theoretical=(6, 12), effective=None)
    study = optuna.create_study(sampler=RFSampler(small, constraint, seed=0, n_startup_trials=2))
    weights = small.model.module.state_dict()

    def objective(trial: optuna.Trial) -> float:
        module = small.suggest(trial)
        assert isinstance(module, nn.Module)
        constraint.check(trial, module, input_size=32)
        found = module.state_dict()
        assert all(torch.equal(found[name], value) for name, value in weights.items())
        return float(trial.number)

    study.optimize(objective, n_trials=5)
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}


def test_strides_that_are_no_whole_numbers_are_logged(small: RetrofitSpace) -> None:
    study = optuna.create_study()
    study.enqueue_trial(small.given | {"0.scale": 1.5})

    def objective(trial: optuna.Trial) -> float:
        RFConstraint(theoretical=(1, 99), effective=None).check(trial, small.suggest(trial), 32)
        return 0.0

    study.optimize(objective, n_trials=1)
    (stride,) = trials_dataframe(study)["output_stride"]
    assert stride == pytest.approx(4 / 3)


def test_combinations_that_do_not_run_do_not_fit() -> None:
    class Cropped(nn.Module):
        """Two halvings; of both made one, what is left has another size."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = conv(3, 2, stride=2), conv(2, 2, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.two(self.one(x))
            if out.shape[-1] == x.shape[-1]:
                raise ValueError("There must be fewer units than pixels.")
            return out

    space = RetrofitSpace(Cropped(), 32)
    both = space.given | {"one.stride": OPEN, "two.stride": OPEN}
    assert space.candidate(both) is None
    anything = RFConstraint(theoretical=None, effective=None)
    assert not space.feasible(anything).contains(both)
    assert space.feasible(anything).contains(both | {"two.stride": GIVEN})


# Bad input.


def test_a_network_that_cannot_be_changed() -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=1)
    with pytest.raises(
        ValueError,
        match=r"Nothing of VisionTransformer can .* \(`patch_embed.proj`: stride 8: .*1, 197",
    ) as caught:
        RetrofitSpace(model, 224)
    assert "\n" not in str(caught.value)


def test_unknown_granularity() -> None:
    with pytest.raises(ValueError, match=r"`granularity` must be one of stage, layer, but got 'b"):
        RetrofitSpace(residual(), 64, granularity="block")  # type: ignore[arg-type]


def test_unknown_model() -> None:
    with pytest.raises(ValueError, match=r"timm knows, but got 'resnet5O'"):
        RetrofitSpace("resnet5O", 64)
