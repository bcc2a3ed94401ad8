"""Candidates as data: frozen, hashable, exact JSON round trip."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from rfsearch.blocks import (
    BOTTLENECK_REDUCTION,
    LOWERINGS,
    STEM_POOL,
    BlockShape,
    conv_norm,
    pooling,
)
from rfsearch.cost import Cost, FeatureMap, cost
from rfsearch.expected_erf import ExpectedERF
from rfsearch.expression import Chain, Node, Relu, receptive_field
from rfsearch.notebook import Part, strip
from rfsearch.receptive_field import ReceptiveField
from rfsearch.validation import FrozenData, parse

BlockKind = Literal["plain", "basic", "bottleneck"]
Downsampling = Literal["conv", "max_pool", "avg_pool"]
StemPool = Literal["none", "max"]

DOWNSAMPLINGS: tuple[Downsampling, ...] = get_args(Downsampling)


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd, so that the window has a middle, but got {value}.")
    return value


KernelSize = Annotated[int, Field(ge=1, le=101), AfterValidator(_odd)]
Dilation = Annotated[int, Field(ge=1, le=64)]
Stride = Annotated[int, Field(ge=1, le=8)]
Width = Annotated[int, Field(ge=1, le=8192)]
Depth = Annotated[int, Field(ge=1, le=64)]


class Block(FrozenData):
    """What may differ between the blocks of a stage.

    Attributes:
        kernel_size: Side of the block's spatial convolutions.
        dilation: Distance of their taps. It must be 1 where `kernel_size` is 1.
    """

    kernel_size: KernelSize
    dilation: Dilation = 1

    @model_validator(mode="after")
    def _one_tap_has_no_dilation(self) -> Self:
        if self.kernel_size == 1 and self.dilation != 1:
            raise ValueError(
                f"`dilation` must be 1 where `kernel_size` is 1, but got {self.dilation}."
            )
        return self


class Stem(FrozenData):
    """First convolution, batch normalisation and rectifier.

    Attributes:
        kernel_size: Side of the convolution.
        stride: Its stride.
        width: Its output channels.
        pool: `"max"` adds the 3x3 max-pooling with stride 2 of ResNet.
    """

    kernel_size: KernelSize
    stride: Stride
    width: Width
    pool: StemPool = "none"

    def lower(self, in_channels: int) -> Chain:
        """The stem's expression."""
        convolution = conv_norm(in_channels, self.width, self.kernel_size, self.stride)
        pools = (STEM_POOL,) if self.pool == "max" else ()
        return Chain((*convolution, Relu(), *pools))


class Stage(FrozenData):
    """Blocks of one kind and width, the first of which may reduce the resolution.

    Attributes:
        block: Kind of the blocks.
        width: Output channels of each block.
        stride: By how much the stage reduces the resolution.
        downsample: How: by the first block's stride, or by a pooling before it. It must be
            `"conv"` where `stride` is 1.
        blocks: The blocks, first to last.
    """

    block: BlockKind
    width: Width
    stride: Stride
    downsample: Downsampling = "conv"
    blocks: Annotated[tuple[Block, ...], Field(strict=False, min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.stride == 1 and self.downsample != "conv":
            raise ValueError(
                f"`downsample` must be 'conv' where `stride` is 1, but got {self.downsample!r}."
            )
        if self.block == "bottleneck" and self.width % BOTTLENECK_REDUCTION:
            raise ValueError(
                f"`width` must be divisible by {BOTTLENECK_REDUCTION} for bottleneck blocks, "
                f"but got {self.width}."
            )
        return self

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def shapes(self, in_channels: int) -> list[BlockShape]:
        """The blocks' shapes, first to last."""
        stride = self.stride if self.downsample == "conv" else 1
        first = BlockShape(
            in_channels,
            self.width,
            self.blocks[0].kernel_size,
            stride,
            self.blocks[0].dilation,
        )
        return [first] + [
            BlockShape(self.width, self.width, block.kernel_size, 1, block.dilation)
            for block in self.blocks[1:]
        ]

    @property
    def summary(self) -> tuple[str, str]:
        """The stage in two short lines."""
        windows = dict.fromkeys(
            f"{block.kernel_size}x{block.kernel_size}"
            + (f" dil. {block.dilation}" if block.dilation > 1 else "")
            for block in self.blocks
        )
        return f"{self.depth} {self.block}, {self.width} ch", ", ".join(windows)

    def lower(self, in_channels: int) -> Chain:
        """The stage's expression."""
        pools = () if self.downsample == "conv" else (pooling(self.downsample, self.stride),)
        lowering = LOWERINGS[self.block]
        return Chain((*pools, *(lowering(shape) for shape in self.shapes(in_channels))))


class Architecture(FrozenData):
    """A convolutional classifier's body: a stem and stages.

    Its one output map is the last stage's, called `C2` for one stage, `C5` for four, as in the
    ResNet literature (the stem is C1).
    """

    stem: Stem
    stages: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1, max_length=16)]

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the output maps."""
        return (f"C{len(self.stages) + 1}",)

    @property
    def num_features(self) -> int:
        """Channels of the last map."""
        return self.stages[-1].width

    def lower(self, in_chans: int = 3) -> Chain:
        """The expression from the input image to the last map."""
        nodes: list[Node] = [self.stem.lower(in_chans)]
        channels = self.stem.width
        for stage in self.stages:
            nodes.append(stage.lower(channels))
            channels = stage.width
        return Chain(tuple(nodes))

    @cached_property
    def _expression(self) -> Chain:
        return self.lower()

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Theoretical receptive field of each output map, in px; height and width are alike."""
        return dict.fromkeys(self.levels, self._field)

    def receptive_field(self, level: str | None = None) -> ReceptiveField:
        """Theoretical receptive field of one output map, by default the last, in px.

        Raises:
            ValueError: If there is no such level.
        """
        self._check_level(level)
        return self._field

    @cached_property
    def _field(self) -> ReceptiveField:
        return receptive_field(self._expression)

    def expected_erf(self, level: str | None = None) -> ExpectedERF:
        """Effective receptive field to expect of a random initialisation, in closed form.

        Raises:
            ValueError: If there is no such level.
        """
        self._check_level(level)
        return self._expected

    @cached_property
    def _expected(self) -> ExpectedERF:
        return ExpectedERF(self._expression)

    def _check_level(self, level: str | None) -> None:
        if level is not None and level not in self.levels:
            raise ValueError(
                f"`level` must be one of {', '.join(self.levels)}, but got {level!r}."
            )

    def cost(self, input_size: tuple[int, int], in_chans: int = 3, num_classes: int = 0) -> Cost:
        """Parameters and FLOPs for one image, the classifier included if there are classes.

        Args:
            input_size: `(height, width)` of the image in px.
            in_chans: Channels of the image.
            num_classes: Outputs of the linear classifier; 0 for none.

        Raises:
            ValueError: If the image is too small for the network.
        """
        body = cost(self.lower(in_chans), FeatureMap(*input_size))
        weights = self.num_features * num_classes
        return Cost(body.parameters + weights + num_classes, body.flops + 2 * weights, body.output)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and integers, fit for JSON."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ValueError: If a value is unknown or impossible, with the place of the value.
        """
        return parse(cls, values, "architecture")

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that are equal for equal architectures, on any machine."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _repr_svg_(self) -> str:
        """A row of boxes for notebooks: stem and stages, with stride and receptive field."""
        nodes = self.lower().nodes
        made_of = [_kernels(self.stem.kernel_size, self.stem.stride, self.stem.pool)]
        made_of += [stage.summary for stage in self.stages]
        names = ["stem", *(f"stage {number}" for number in range(1, len(nodes)))]
        parts = []
        for end, (name, lines) in enumerate(zip(names, made_of, strict=True), start=1):
            field = receptive_field(Chain(nodes[:end]))
            parts.append(Part(name, lines, field.stride, field.size))
        return strip(parts)


def _kernels(kernel_size: int, stride: int, pool: StemPool) -> tuple[str, ...]:
    """The stem in a line or two."""
    line = f"{kernel_size}x{kernel_size}, stride {stride}"
    return (line,) if pool == "none" else (line, f"{pool} pooling")
