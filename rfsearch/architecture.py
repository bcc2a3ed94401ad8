"""Candidates as data: frozen, hashable, exact JSON round trip."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self, get_args

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
from rfsearch.expression import Chain, Relu
from rfsearch.neck import Body
from rfsearch.necks import AnyNeck
from rfsearch.readings import Readings
from rfsearch.validation import FrozenData

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

    @property
    def reduction(self) -> int:
        """By how much it reduces the resolution, the pooling included."""
        return self.stride * (STEM_POOL.stride if self.pool == "max" else 1)

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

    def lower(self, in_channels: int) -> Chain:
        """The stage's expression."""
        pools = () if self.downsample == "conv" else (pooling(self.downsample, self.stride),)
        lowering = LOWERINGS[self.block]
        return Chain((*pools, *(lowering(shape) for shape in self.shapes(in_channels))))


class Architecture(Readings):
    """A convolutional network's body: a stem, stages and perhaps a neck.

    Without a neck its one output map is the last stage's, called `C2` for one stage, `C5` for
    four, as in the ResNet literature (the stem is C1). A neck makes output maps of its own
    (`rfsearch.necks`). One that upsamples needs parts that divide sizes exactly: strides of 1 or
    2, or poolings.
    """

    stem: Stem
    stages: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1, max_length=16)]
    neck: AnyNeck | None = None

    @model_validator(mode="after")
    def _fits_its_neck(self) -> Self:
        if self.neck is not None:
            self.neck.check(self.body())
        return self

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the output maps, the finest first."""
        last = len(self.stages) + 1
        return self.neck.levels(last) if self.neck is not None else (f"C{last}",)

    @property
    def num_features(self) -> int:
        """Channels of each output map."""
        return self.neck.num_features if self.neck is not None else self.stages[-1].width

    @property
    def input_multiple(self) -> int:
        """What height and width of an image must be a multiple of, in px."""
        if self.neck is None or not self.neck.upsamples:
            return 1
        return math.prod(self._strides)

    @property
    def _strides(self) -> tuple[int, ...]:
        return (self.stem.reduction, *(stage.stride for stage in self.stages))

    def body(self, in_chans: int = 3) -> Body:
        """The stem and the stages, without the neck."""
        channels = (in_chans, self.stem.width, *(stage.width for stage in self.stages))
        pairs = zip(self.stages, channels[1:-1], strict=True)
        return Body(
            parts=(self.stem.lower(in_chans), *(stage.lower(before) for stage, before in pairs)),
            channels=channels[1:],
            strides=self._strides,
        )

    def expressions(self, in_chans: int = 3) -> dict[str, Chain]:
        """The expression from the input image to each output map, by level."""
        body = self.body(in_chans)
        if self.neck is not None:
            return self.neck.lower(body)
        return {self.levels[0]: Chain(body.parts)}

    def _body_cost(self, size: FeatureMap, in_chans: int) -> Cost:
        body = self.body(in_chans)
        return (
            self.neck.cost(body, size) if self.neck is not None else cost(Chain(body.parts), size)
        )
