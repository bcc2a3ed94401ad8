"""The networks that nnU-Net plans, built from the numbers in its file of plans alone.

Both forms of its second version are read: plans that name an architecture with its arguments, and
those of before, with `conv_kernel_sizes` and `pool_op_kernel_sizes`. Modules have the names that
they have in `dynamic_network_architectures`; no code of the file or of that package runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from rfsearch.basics.files import read_json

#: Which networks are known, by whether their encoders are residual.
_NETWORKS = {"PlainConvUNet": False, "ResidualEncoderUNet": True}
#: What a plan may name, by the last part of its name.
_NORMS = ("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "BatchNorm2d", "BatchNorm3d")
_RECTIFIERS = ("LeakyReLU", "ReLU", "ELU", "GELU", "SiLU", "PReLU")
#: What plans of before do not say.
_USUAL_NORM, _USUAL_RECTIFIER = {"eps": 1e-5, "affine": True}, "LeakyReLU"
_MAX_STAGES, _MAX_LAYERS, _MAX_WIDTH, _MAX_SIDE = 12, 16, 4096, 2**14


@dataclass(frozen=True)
class UNetPlan:
    """One configuration of a plan.

    Attributes:
        name: Of the configuration.
        patch_size: Sides of the input in px.
        spacing: Sides of a pixel along each axis of the input, to which images are resampled, and
            of a volume's slices before them, where it is looked at slice by slice.
        axes: Which axis of a volume, as it is stored, each of `spacing` is.
        residual: Whether the encoder is.
        features: Channels of each stage.
        kernel_sizes: Of each stage, along each axis in px.
        strides: Of each stage's first layer, along each axis.
        convs: Layers, or residual blocks, of each stage.
        decoder_convs: Layers of each stage of the decoder, the coarsest first.
        norm: Kind and options of the normalisations; None if there are none.
        rectifier: Kind of the rectifiers.
        conv_bias: Whether convolutions have biases.
        in_chans: Channels of the images.
        num_classes: Of the segmentation.
    """

    name: str
    patch_size: tuple[int, ...]
    spacing: tuple[float, ...]
    axes: tuple[int, ...]
    residual: bool
    features: tuple[int, ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    convs: tuple[int, ...]
    decoder_convs: tuple[int, ...]
    norm: tuple[str, Mapping[str, Any]] | None
    rectifier: str
    conv_bias: bool
    in_chans: int = 1
    num_classes: int = 2

    @property
    def num_axes(self) -> int:
        """Axes of the input: 2 of slices, 3 of volumes."""
        return len(self.patch_size)

    @property
    def multiples(self) -> tuple[int, ...]:
        """What the sides of a patch are multiples of, in px."""
        return tuple(_product(along) for along in zip(*self.strides, strict=True))

    def with_strides(self, stage: int, strides: tuple[int, ...]) -> Self:
        """The plan with other strides of one stage."""
        every = list(self.strides)
        every[stage] = strides
        return replace(self, strides=tuple(every))

    def deeper(self, strides: tuple[int, ...]) -> Self:
        """The plan with one more stage, as wide as nnU-Net would make it."""
        limit = max(max(self.features), 320 if self.num_axes == 3 else 512)
        return replace(
            self,
            features=(*self.features, min(limit, 2 * self.features[-1])),
            kernel_sizes=(*self.kernel_sizes, self.kernel_sizes[-1]),
            strides=(*self.strides, strides),
            convs=(*self.convs, self.convs[-1]),
            decoder_convs=(self.decoder_convs[0], *self.decoder_convs),
        )

    def shallower(self) -> Self:
        """The plan without its last stage."""
        return replace(
            self,
            features=self.features[:-1],
            kernel_sizes=self.kernel_sizes[:-1],
            strides=self.strides[:-1],
            convs=self.convs[:-1],
            decoder_convs=self.decoder_convs[1:],
        )

    def build(self) -> nn.Module:
        """The network, with the weights that torch gives it."""
        return _UNet(self)


def _product(numbers: Sequence[int]) -> int:
    found = 1
    for number in numbers:
        found *= number
    return found


def is_plan(path: Path) -> bool:
    """Whether a JSON file is one of nnU-Net's plans."""
    content = read_json(path)
    return isinstance(content, dict) and isinstance(content.get("configurations"), dict)


def read_plan(path: Path, configuration: str | None = None) -> UNetPlan:
    """One configuration of a file of plans.

    Args:
        path: The file, such as `nnUNetPlans.json`.
        configuration: Its name; None means `3d_fullres`, or `2d` where there is none.

    Raises:
        ValueError: If it is no such file, has no such configuration, or one that cannot be built:
            one line that names the file and the place.
    """
    content = read_json(path)
    every = content.get("configurations") if isinstance(content, dict) else None
    if not isinstance(every, dict) or not every:
        raise ValueError(f"{path}: not a plan of nnU-Net: it has no `configurations`.")
    name = configuration or ("3d_fullres" if "3d_fullres" in every else "2d")
    if name not in every:
        raise ValueError(f"{path}: has no configuration {name!r}, but {', '.join(every)}.")
    stated = dict(every[name]) if isinstance(every[name], dict) else {}
    heirs = {name}
    while isinstance(parent := stated.pop("inherits_from", None), str):
        if parent in heirs or not isinstance(every.get(parent), dict):
            raise ValueError(f"{path}: configurations.{name} cannot inherit from {parent!r}.")
        heirs.add(parent)
        stated = {**every[parent], **stated}
    place = f"{path}: configurations.{name}"
    named, values, convs = _arguments(stated, place)
    network = named.rpartition(".")[2]
    if network not in _NETWORKS:
        raise ValueError(
            f"{place}: the network must be {' or '.join(_NETWORKS)}, but is {named or 'none'}."
        )
    patch = _numbers(stated.get("patch_size"), None, f"{place}.patch_size", _MAX_SIDE)
    axes, stages = len(patch), _stages(values.get("strides"), f"{place}: strides")
    if axes not in (2, 3):
        raise ValueError(f"{place}.patch_size must have 2 or 3 sides, but has {axes}.")
    channels = content.get("foreground_intensity_properties_per_channel")
    return UNetPlan(
        name,
        patch,
        _spacing(stated.get("spacing"), axes, place),
        _axes(content.get("transpose_forward"), axes),
        _NETWORKS[network],
        _numbers(values.get("features_per_stage"), stages, f"{place}: features", _MAX_WIDTH),
        _windows(values.get("kernel_sizes"), stages, axes, f"{place}: kernel_sizes"),
        _windows(values.get("strides"), stages, axes, f"{place}: strides"),
        _numbers(values.get(convs), stages, f"{place}: {convs}", _MAX_LAYERS),
        _numbers(
            values.get("n_conv_per_stage_decoder"),
            stages - 1,
            f"{place}: n_conv_per_stage_decoder",
            _MAX_LAYERS,
        ),
        _norm(values.get("norm_op"), values.get("norm_op_kwargs"), place),
        _known(values.get("nonlin") or _USUAL_RECTIFIER, _RECTIFIERS, f"{place}: nonlin"),
        bool(values.get("conv_bias", True)),
        len(channels) if isinstance(channels, dict) and channels else 1,
    )


def _arguments(stated: dict[str, Any], place: str) -> tuple[str, dict[str, Any], str]:
    """The network's name and arguments, and which of these says how many layers stages have."""
    architecture = stated.get("architecture")
    if isinstance(architecture, dict):
        values = architecture.get("arch_kwargs")
        if not isinstance(values, dict):
            raise ValueError(f"{place}.architecture must have `arch_kwargs`.")
        named = str(architecture.get("network_class_name", ""))
        convs = "n_blocks_per_stage" if "n_blocks_per_stage" in values else "n_conv_per_stage"
        return named, values, convs
    base = _numbers(stated.get("UNet_base_num_features"), None, f"{place}: features", _MAX_WIDTH)
    most = _numbers(stated.get("unet_max_num_features", 512), None, f"{place}: features", 2**14)
    strides = stated.get("pool_op_kernel_sizes")
    sides = _numbers(stated.get("patch_size"), None, f"{place}.patch_size", _MAX_SIDE)
    stages = _stages(strides, f"{place}: pool_op_kernel_sizes")
    values = {
        "features_per_stage": [min(base[0] * 2**stage, most[0]) for stage in range(stages)],
        "kernel_sizes": stated.get("conv_kernel_sizes"),
        "strides": strides,
        "n_conv_per_stage": stated.get("n_conv_per_stage_encoder"),
        "n_conv_per_stage_decoder": stated.get("n_conv_per_stage_decoder"),
        "norm_op": f"InstanceNorm{len(sides)}d",
        "norm_op_kwargs": _USUAL_NORM,
    }
    return str(stated.get("UNet_class_name", "")), values, "n_conv_per_stage"


def _stages(strides: Any, place: str) -> int:
    if not isinstance(strides, list) or not 2 <= len(strides) <= _MAX_STAGES:
        raise ValueError(f"{place} must be of 2 to {_MAX_STAGES} stages, but is {strides!r:.60}.")
    return len(strides)


def _numbers(value: Any, count: int | None, place: str, most: int) -> tuple[int, ...]:
    """Whole numbers from 1 on; one that is alone is that of all."""
    found = value if isinstance(value, list) else [value] * (count or 1)
    are_whole = all(
        isinstance(one, int | float) and float(one).is_integer() and 1 <= one <= most
        for one in found
    )
    if not are_whole or (count is not None and len(found) != count):
        raise ValueError(
            f"{place} must be {'' if count is None else f'{count} '}whole numbers from 1 to "
            f"{most:,}, but is {value!r:.60}."
        )
    return tuple(map(int, found))


def _windows(value: Any, stages: int, axes: int, place: str) -> tuple[tuple[int, ...], ...]:
    found = value if isinstance(value, list) else [value] * stages
    if len(found) != stages:
        raise ValueError(f"{place} must be of {stages} stages, but is of {len(found)}.")
    return tuple(
        _numbers(one, axes, f"{place}, stage {number}", 99) for number, one in enumerate(found)
    )


def _spacing(value: Any, axes: int, place: str) -> tuple[float, ...]:
    found = value if isinstance(value, list) else [1.0] * axes
    if len(found) != axes or not all(isinstance(one, int | float) and one > 0 for one in found):
        raise ValueError(f"{place}.spacing must be {axes} positive numbers, but is {value!r:.60}.")
    return tuple(map(float, found))


def _axes(transpose: Any, axes: int) -> tuple[int, ...]:
    """Axes of a stored volume, in the network's order; of slices, those within a slice."""
    order = transpose if isinstance(transpose, list) else [0, 1, 2]
    found = tuple(order) if sorted(map(str, order)) == ["0", "1", "2"] else (0, 1, 2)
    return found[-axes:]


def _norm(name: Any, options: Any, place: str) -> tuple[str, Mapping[str, Any]] | None:
    if name is None:
        return None
    given = options if isinstance(options, dict) else {}
    kept = {key: one for key, one in given.items() if key in ("eps", "affine", "momentum")}
    if not all(isinstance(one, int | float) for one in kept.values()):
        raise ValueError(f"{place}: norm_op_kwargs must be numbers, but is {options!r:.60}.")
    return _known(name, _NORMS, f"{place}: norm_op"), kept


def _known(name: Any, known: Sequence[str], place: str) -> str:
    last = str(name).rpartition(".")[2]
    if last not in known:
        raise ValueError(f"{place} must be one of {', '.join(known)}, but is {name!r:.60}.")
    return last


# -- the network ---------------------------------------------------------------------------


class _Layer(nn.Sequential):
    """A convolution with its normalisation and, if `rectified`, its rectifier."""

    def __init__(
        self,
        plan: UNetPlan,
        channels: tuple[int, int],
        kernel_size: tuple[int, ...],
        stride: tuple[int, ...] | int = 1,
        *,
        rectified: bool = True,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        convolution = getattr(nn, f"Conv{plan.num_axes}d")
        padding = [(side - 1) // 2 for side in kernel_size]
        bias = plan.conv_bias if bias is None else bias
        self.conv = convolution(*channels, kernel_size, stride, padding, bias=bias)
        if plan.norm is not None:
            self.norm = getattr(nn, plan.norm[0])(channels[1], **plan.norm[1])
        if rectified:
            self.nonlin = getattr(nn, plan.rectifier)()


class _Block(nn.Module):
    """A residual block, whose shortcut takes means where it is strided (ResNet-D)."""

    def __init__(
        self,
        plan: UNetPlan,
        channels: tuple[int, int],
        kernel_size: tuple[int, ...],
        stride: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.conv1 = _Layer(plan, channels, kernel_size, stride)
        self.conv2 = _Layer(plan, (channels[1], channels[1]), kernel_size, rectified=False)
        self.nonlin2 = getattr(nn, plan.rectifier)()
        self.skip = nn.Sequential()
        if max(stride) > 1:
            self.skip.append(getattr(nn, f"AvgPool{plan.num_axes}d")(stride, stride))
        if channels[0] != channels[1]:
            one = (1,) * plan.num_axes
            self.skip.append(_Layer(plan, channels, one, rectified=False, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))
        return out


class _Encoder(nn.Module):
    def __init__(self, plan: UNetPlan) -> None:
        super().__init__()
        width, ones = plan.in_chans, (1,) * plan.num_axes
        self.stem = nn.Sequential()
        if plan.residual:
            self.stem.append(_Layer(plan, (width, plan.features[0]), plan.kernel_sizes[0]))
            width = plan.features[0]
        self.stages = nn.ModuleList()
        kind = _Block if plan.residual else _Layer
        for number, features in enumerate(plan.features):
            layers = nn.Sequential()
            for layer in range(plan.convs[number]):
                stride = ones if layer else plan.strides[number]
                layers.append(kind(plan, (width, features), plan.kernel_sizes[number], stride))
                width = features
            self.stages.append(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps, x = [], self.stem(x)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class _Decoder(nn.Module):
    """From the coarsest map up; every stage has an output, of which the finest is given."""

    def __init__(self, plan: UNetPlan) -> None:
        super().__init__()
        transposed = getattr(nn, f"ConvTranspose{plan.num_axes}d")
        convolution = getattr(nn, f"Conv{plan.num_axes}d")
        self.transpconvs, self.stages = nn.ModuleList(), nn.ModuleList()
        self.seg_layers = nn.ModuleList()
        coarse_to_fine = pairwise(reversed(range(len(plan.features))))
        for (below, here), convs in zip(coarse_to_fine, plan.decoder_convs, strict=True):
            width, stride = plan.features[here], plan.strides[below]
            self.transpconvs.append(
                transposed(plan.features[below], width, stride, stride, bias=plan.conv_bias)
            )
            kernel_size = plan.kernel_sizes[here]
            widths = [2 * width, *[width] * convs]
            self.stages.append(
                nn.Sequential(*(_Layer(plan, pair, kernel_size) for pair in pairwise(widths)))
            )
            self.seg_layers.append(convolution(width, plan.num_classes, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        x, *finer = reversed(maps)
        for up, stage, skip in zip(self.transpconvs, self.stages, finer, strict=True):
            x = stage(torch.cat([up(x), skip], dim=1))
        segmented: Tensor = self.seg_layers[-1](x)
        return segmented


class _UNet(nn.Module):
    def __init__(self, plan: UNetPlan) -> None:
        super().__init__()
        self.encoder, self.decoder = _Encoder(plan), _Decoder(plan)

    def forward(self, x: Tensor) -> Tensor:
        segmented: Tensor = self.decoder(self.encoder(x))
        return segmented
