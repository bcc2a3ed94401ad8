"""Windows that differ between axes, and inputs with one axis or three."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.network.stages import Block
from rfsearch.trace.trace import trace_receptive_field

RECTANGULAR = ("plain", "basic", "bottleneck", "mbconv", "convnext", "inception")
ONE_AXIS = ("plain", "basic", "bottleneck", "mbconv")


def network(axes: int, kind: str, blocks: list[dict[str, Any]], **stage: Any) -> Architecture:
    """A stem and a stage."""
    padding = {"padding": stage["padding"]} if "padding" in stage else {}
    stem = {"kernel_size": 3, "stride": 1, "width": 8, **padding}
    stages = [{"block": kind, "width": 8, "stride": 1, "blocks": blocks, **stage}]
    return Architecture.from_dict({"num_axes": axes, "stem": stem, "stages": stages})


@st.composite
def networks(draw: st.DrawFn, axes: int, kinds: tuple[str, ...]) -> Architecture:
    """A stem and two stages whose numbers may differ between axes."""

    def numbers(values: tuple[int, ...]) -> Any:
        found = [draw(st.sampled_from(values)) for _ in range(axes)]
        return found if axes > 1 else found[0]

    causal = axes == 1 and draw(st.booleans())
    padding = {"padding": "causal"} if causal else {}
    stages = []
    for _ in range(2):
        blocks = []
        for _ in range(draw(st.integers(1, 2))):
            kernel_size = numbers((1, 3, 5))
            taps = kernel_size if isinstance(kernel_size, list) else [kernel_size]
            dilation = [draw(st.integers(1, 3)) if n > 1 else 1 for n in taps]
            blocks.append({"kernel_size": kernel_size, "dilation": dilation})
        stride = numbers((1, 2))
        pools = ("conv",) if causal else ("conv", "max_pool", "avg_pool")
        strides = any(n > 1 for n in (stride if isinstance(stride, list) else [stride]))
        stages.append(
            {
                "block": draw(st.sampled_from(kinds)),
                "width": draw(st.sampled_from((8, 16))),
                "stride": stride,
                "downsample": draw(st.sampled_from(pools)) if strides else "conv",
                "blocks": blocks,
                **padding,
            }
        )
    pool = "none" if causal else draw(st.sampled_from(("none", "max", "avg", "conv")))
    stem = {"kernel_size": numbers((1, 3, 7)), "stride": numbers((1, 2)), "width": 8}
    return Architecture.from_dict(
        {"num_axes": axes, "stem": {**stem, "pool": pool, **padding}, "stages": stages}
    )


def seen_along(model: nn.Module, size: tuple[int, ...], axis: int, stride: int) -> tuple[int, int]:
    """The first pixel that unit 0 sees along an axis, and how many there are to the last.

    A NaN in all pixels at one place along the axis turns every unit NaN that sees it. All units
    do the same, so that a place for each phase of the stride tells all distances.
    """
    places = size[axis] // 2 + torch.arange(stride)
    images = torch.zeros(stride, 3, *size)
    images.movedim(2 + axis, 1)[range(stride), places] = float("nan")
    with (
        torch.inference_mode(),
        torch.backends.mkldnn.flags(enabled=False),
        torch.backends.nnpack.flags(enabled=False),
    ):
        seeing = model.forward_features(images).isnan().any(dim=1)  # type: ignore[operator]
    middle: list[Any] = [units // 2 for units in seeing.shape[1:]]
    middle[axis] = slice(None)
    phases, units = seeing[(slice(None), *middle)].nonzero(as_tuple=True)
    seen = places[phases] - units * stride
    return int(seen.min()), int(seen.max() - seen.min() + 1)


def kept_by_autograd(model: nn.Module, images: Tensor) -> int:
    """Bytes of distinct storages, other than weights and buffers, that a forward pass saves."""
    model = model.train()
    own = {
        tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())
    }
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # The result is alive until here, or its storages could be used again.
        output = model.forward_features(images)  # type: ignore[operator]
    assert len(output) > 0
    return sum(storage.nbytes() for storage in kept.values())


def check_fields(architecture: Architecture) -> None:
    """The theoretical field along every axis, and the costs, are those of the built network."""
    fields = [architecture.receptive_field(axis=axis) for axis in architecture.axes]
    sides = [3 * field.size + 4 * field.stride for field in fields]
    for axis, field in enumerate(fields):
        # Across the probed axis the unit need not see all of its field.
        size = tuple(side if n == axis else min(side, 16) for n, side in enumerate(sides))
        model = build_model(architecture, num_classes=0).eval()
        assert seen_along(model, size, axis, field.stride) == (field.start, field.size)
        images = torch.zeros(2, 3, *size)
        cost = architecture.cost(size)
        with FlopCounterMode(display=False) as counter:
            output = model.forward_features(images)
        assert cost.output == tuple(output.shape[2:])
        assert cost.parameters == sum(weight.numel() for weight in model.parameters())
        assert cost.flops * len(images) == counter.get_total_flops()
        # So large that batch statistics take little.
        size = tuple(max(side, 800 if len(size) == 1 else 40) for side in size)
        images = torch.zeros(2, 3, *size)
        memory = architecture.training_memory(size, len(images)) * 2**20
        kept = memory - 16 * cost.parameters
        assert kept == pytest.approx(kept_by_autograd(model, images), rel=0.02)


@given(networks(2, RECTANGULAR))
@settings(max_examples=8, deadline=None)
def test_fields_of_rectangular_windows(architecture: Architecture) -> None:
    check_fields(architecture)


@given(networks(1, ONE_AXIS))
@settings(max_examples=15, deadline=None)
def test_fields_of_sequences(architecture: Architecture) -> None:
    check_fields(architecture)


def test_fields_of_volumes() -> None:
    block = {"kernel_size": [1, 3, 3], "dilation": [1, 2, 1]}
    check_fields(network(3, "basic", [block, {"kernel_size": 3}], stride=[1, 2, 2]))


def test_a_causal_unit_sees_nothing_that_comes_after_it() -> None:
    """The field of a temporal convolutional network by its published formula."""
    blocks = [{"kernel_size": 3, "dilation": 2**level} for level in range(6)]
    causal = network(1, "basic", blocks, padding="causal")
    field = causal.receptive_field()
    assert field.start + field.size == 1  # Unit 0 sees pixel 0 last.
    stem = 2
    assert field.size == 1 + stem + sum(2 * (3 - 1) * 2**level for level in range(6))
    model = build_model(causal, num_classes=0).eval()
    sequence = torch.randn(1, 3, 64)
    later = sequence.clone()
    later[..., 40:] = 0
    both = (model.forward_features(each)[..., :40] for each in (sequence, later))
    torch.testing.assert_close(*both)


def measured_sigmas(architecture: Architecture, size: tuple[int, ...]) -> list[float]:
    """RMS distance from the field's centre along each axis of the mean squared gradient."""
    power: Any = 0.0
    for seed in range(24):
        torch.manual_seed(seed)
        model = build_model(architecture, num_classes=0).eval()
        calibrate(model, torch.randn(8, 3, *size))
        images = torch.randn(4, 3, *size, requires_grad=True)
        output = model.forward_features(images)
        assert isinstance(output, Tensor)
        middle = tuple(units // 2 for units in output.shape[2:])
        channels = output[(slice(None), slice(None), *middle)]
        signs = torch.randint(0, 2, channels.shape) * 2.0 - 1
        (gradient,) = torch.autograd.grad((channels * signs).sum(), images)
        square = gradient.square().sum(dim=(0, 1)).double().numpy()
        power = power + square / square.sum()
    found = []
    for number, axis in enumerate(architecture.axes):
        field = architecture.receptive_field(axis=axis)
        others = tuple(n for n in range(power.ndim) if n != number)
        along = power.sum(axis=others)
        offsets = np.arange(len(along)) - field.center_of(middle[number])
        found.append(math.sqrt(along @ offsets**2 / along.sum()))
    return found


def calibrate(model: nn.Module, images: Tensor) -> None:
    """Batch statistics of these images."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.train()
    with torch.no_grad():
        model.forward_features(images)  # type: ignore[operator]
    model.eval()


WIDE = {"width": 32}


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        (
            network(2, "plain", [{"kernel_size": [1, 7]}, {"kernel_size": [3, 1]}], **WIDE),
            (24, 40),
        ),
        pytest.param(
            network(2, "basic", [{"kernel_size": [3, 5], "dilation": [1, 2]}] * 2, **WIDE),
            (32, 64),
            marks=pytest.mark.slow,
        ),
        (
            network(
                2,
                "mbconv",
                [{"kernel_size": [1, 5]}, {"kernel_size": [3, 7]}],
                stride=[1, 2],
                downsample="max_pool",
                **WIDE,
            ),
            (24, 64),
        ),
        (network(1, "plain", [{"kernel_size": 7, "dilation": 2}] * 3, **WIDE), (120,)),
        (
            network(1, "basic", [{"kernel_size": 3, "dilation": d} for d in (1, 2, 4)], **WIDE),
            (140,),
        ),
        (
            network(
                1,
                "basic",
                [{"kernel_size": 3, "dilation": d} for d in (1, 2, 4)],
                padding="causal",
                **WIDE,
            ),
            (140,),
        ),
        (network(1, "mbconv", [{"kernel_size": 9}] * 3, stride=2, **WIDE), (160,)),
    ],
)
def test_expected_erfs_are_what_networks_have(
    architecture: Architecture, size: tuple[int, ...]
) -> None:
    expected = [architecture.expected_erf(axis=axis).sigma for axis in architecture.axes]
    assert measured_sigmas(architecture, size) == pytest.approx(expected, rel=0.04)


def test_sizes_are_the_sides_of_a_box_with_95_percent() -> None:
    arch = network(2, "basic", [{"kernel_size": [1, 9]}] * 3)
    height, width = (arch.expected_erf(axis=axis) for axis in arch.axes)
    assert (height.theoretical_size, width.theoretical_size) == (3, 51)
    assert height.size < width.size
    profile = height.profile
    rows, columns = (
        slice(round(middle - size / 2 + 0.5), round(middle + size / 2 + 0.5))
        for middle, size in zip(profile.center, (height.size, width.size), strict=True)
    )
    assert profile.map[rows, columns].sum() >= 0.95
    assert profile.map[rows, columns.start + 1 : columns.stop - 1].sum() < 0.95
    assert profile.map.shape == (3, 51)


def test_square_windows_have_one_answer() -> None:
    arch = network(2, "basic", [{"kernel_size": 3}])
    assert not arch.axes_differ
    assert arch.expected_erf(axis="width").size == arch.expected_erf().size
    assert arch.expected_erf().profile.sizes == (arch.expected_erf().size,) * 2


def test_axes_that_differ_are_asked_for_by_name() -> None:
    arch = network(2, "plain", [{"kernel_size": [1, 7]}])
    assert arch.receptive_field(axis="height").size == 3
    assert arch.receptive_field(axis="width").size == 9
    message = "`axis` must be one of height, width where they differ"
    for ask in (arch.receptive_field, arch.expected_erf):
        with pytest.raises(ValueError, match=message):
            ask()
    with pytest.raises(ValueError, match="`axis` must be one of height, width, but got 'depth'"):
        arch.expected_erf(axis="depth")


def test_coverage_is_that_of_the_axis_with_the_most_gaps() -> None:
    arch = network(2, "plain", [{"kernel_size": [1, 3], "dilation": [1, 4]}])
    assert arch.coverage("height").missing == 0
    assert arch.coverage() == arch.coverage("width")
    assert arch.coverage().missing > 0


def test_a_round_trip_through_json() -> None:
    arch = network(2, "plain", [{"kernel_size": [1, 7], "dilation": [1, 2]}], stride=[1, 2])
    assert Architecture.from_dict(arch.to_dict()) == arch
    assert arch.to_dict()["stages"][0]["blocks"] == [{"kernel_size": [1, 7], "dilation": [1, 2]}]
    sequence = network(1, "plain", [{"kernel_size": 7}], padding="causal")
    assert Architecture.from_dict(sequence.to_dict()) == sequence
    assert sequence.to_dict()["num_axes"] == 1


def test_one_number_for_both_axes_is_that_number() -> None:
    assert Block(kernel_size=(3, 3)) == Block(kernel_size=3)
    assert Block.model_validate({"kernel_size": "1x7"}) == Block(kernel_size=(1, 7))


@pytest.mark.parametrize(
    ("axes", "kind", "changes", "message"),
    [
        (
            1,
            "plain",
            {"blocks": [{"kernel_size": [1, 7]}]},
            "one number where .* got 1x7 in stage 1",
        ),
        (
            2,
            "plain",
            {"blocks": [{"kernel_size": [1, 3, 3]}]},
            "each of height, width where .* 1x3x3",
        ),
        (2, "plain", {"stride": [1, 2, 2]}, "`stride` must be one number or one for .* 1x2x2"),
        (2, "plain", {"blocks": [{"kernel_size": [1, 4]}]}, "must be odd, .* but got 1x4"),
        (2, "attention", {"blocks": [{"kernel_size": [1, 7]}]}, "must be 1 for attention .* 1x7"),
        (2, "plain", {"blocks": [{"kernel_size": [1, 7], "dilation": 2}]}, "`dilation` must be 1"),
        (1, "convnext", {}, "`block` must be one of plain, .* has one axis, but got 'convnext'"),
        (1, "basic", {"context": "gc"}, "`context` must be one of none, se where"),
        (1, "plain", {"stride": 2, "downsample": "blur_pool"}, "`downsample` must be one of conv"),
        (2, "plain", {"stride": [1, 2], "downsample": "blur_pool"}, "`stride` must be the same"),
        (
            2,
            "plain",
            {"padding": "causal"},
            "`padding` must be centred where the input has 2 axes",
        ),
        (1, "plain", {"padding": "causal", "stride": 2, "downsample": "max_pool"}, "'causal'"),
    ],
)
def test_what_there_is_not(axes: int, kind: str, changes: dict[str, Any], message: str) -> None:
    stage = {"blocks": [{"kernel_size": 1}], **changes}
    with pytest.raises(ValueError, match=message) as error:
        network(axes, kind, **stage)
    assert "\n" not in str(error.value)


def test_necks_are_for_images_with_equal_strides() -> None:
    values = network(2, "plain", [{"kernel_size": 3}], stride=[1, 2]).to_dict()
    neck = {"kind": "unet", "widths": [8]}
    with pytest.raises(ValueError, match="strides must be the same along all axes, but got 1x2"):
        Architecture.from_dict({**values, "neck": neck})
    values = network(1, "plain", [{"kernel_size": 3}]).to_dict()
    with pytest.raises(ValueError, match="`kind` must be none where the input has one axis"):
        Architecture.from_dict({**values, "neck": neck})


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        (
            network(2, "basic", [{"kernel_size": [1, 7], "dilation": [1, 2]}], stride=[1, 2]),
            (48, 96),
        ),
        (network(1, "basic", [{"kernel_size": 5, "dilation": d} for d in (1, 2)]), (200,)),
        (network(1, "plain", [{"kernel_size": 3}] * 2, padding="causal"), (200,)),
        (network(1, "mbconv", [{"kernel_size": 7}] * 2, stride=2, downsample="avg_pool"), (200,)),
        (network(3, "plain", [{"kernel_size": [1, 3, 3]}]), (16, 24, 24)),
    ],
)
def test_a_trace_of_the_built_network_is_the_closed_form(
    architecture: Architecture, size: tuple[int, ...]
) -> None:
    model = build_model(architecture, num_classes=0)
    traced = trace_receptive_field(
        model, size, in_chans=3, forward=lambda module, x: module.forward_features(x)
    )
    assert traced.axes == architecture.axes
    for axis in architecture.axes:
        assert traced.receptive_field(axis=axis) == architecture.receptive_field(axis=axis)
        expected = architecture.expected_erf(axis=axis)
        carried = traced.expected_erf(axis=axis)
        assert carried.sigma == pytest.approx(expected.sigma, rel=0.02)
