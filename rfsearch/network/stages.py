"""Stages of a network and their blocks, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from rfsearch.basics.sides import Sides, Whole, as_text, most
from rfsearch.basics.validation import FrozenData
from rfsearch.field.expression import Chain
from rfsearch.field.node_fields import parts_of
from rfsearch.network.block_parts import BlockShape, downsampling, window_text
from rfsearch.network.block_registry import Option, check_block, check_options, kind_of
from rfsearch.network.blocks import Kind
from rfsearch.network.dilations import MAX_DILATION, where_taps_are
from rfsearch.network.stems import MAX_KERNEL_SIZE, Padding, Stride, Width, check_odd

#: Name of a built-in kind of block, or of one of the user's own.
BlockKind = Annotated[str, AfterValidator(check_block)]
Downsampling = Literal["conv", "max_pool", "avg_pool", "blur_pool"]
Context = Literal["none", "se", "gc"]

DOWNSAMPLINGS: tuple[Downsampling, ...] = get_args(Downsampling)
#: Expansion of blocks that have none: it makes no difference there.
NO_EXPANSION = 4


def as_pairs(values: Any) -> Any:
    """A dictionary as pairs in the order of its names."""
    if isinstance(values, Mapping):
        return tuple(sorted(values.items(), key=lambda pair: str(pair[0])))
    return values


KernelSize = Annotated[Sides, Whole(1, MAX_KERNEL_SIZE), AfterValidator(check_odd)]
Dilation = Annotated[Sides, Whole(1, MAX_DILATION)]
Depth = Annotated[int, Field(ge=1, le=64)]
Expansion = Annotated[int, Field(ge=1, le=16)]
#: A dictionary, as pairs in the order of its names: so it is hashable, and equal ones are equal.
AS_PAIRS = (
    Field(strict=False),
    BeforeValidator(as_pairs),
    PlainSerializer(dict, return_type=dict[str, Any]),
)
Options = Annotated[tuple[Option, ...], *AS_PAIRS]


class Block(FrozenData):
    """What may differ between the blocks of a stage: numbers, or one for each axis.

    Attributes:
        kernel_size: Side of the block's spatial convolutions. It must be 1 where it has none.
        dilation: Distance of their taps. It must be 1 along axes where `kernel_size` is 1.
    """

    kernel_size: KernelSize
    dilation: Dilation = 1

    @model_validator(mode="after")
    def _one_tap_has_no_dilation(self) -> Self:
        if where_taps_are(self.dilation, self.kernel_size) != self.dilation:
            raise ValueError(
                f"`dilation` must be 1 where `kernel_size` is 1, but got {as_text(self.dilation)}."
            )
        return self


class Stage(FrozenData):
    """Blocks of one kind and width, the first of which may reduce the resolution.

    Attributes:
        block: Kind of the blocks.
        width: Output channels of each block.
        stride: By how much the stage reduces the resolution.
        downsample: How: by the first block's stride, or by a pooling before it. It must be
            `"conv"` where `stride` is 1.
        context: What weighs the channels by what the whole map holds: nothing,
            squeeze-and-excite, or global context. It must be `"none"` where blocks take none.
        expansion: Inner channels over outer ones, of `mbconv`, `convnext` and `attention` blocks.
            It must be 4 for the others, where it makes no difference.
        options: What else blocks of the user's own are told, by name.
        padding: `"centred"`, or `"causal"` where the one axis is time, as in a temporal
            convolutional network: then a unit sees nothing that comes after it.
        blocks: The blocks, first to last.
    """

    block: BlockKind
    width: Width
    stride: Stride
    downsample: Downsampling = "conv"
    context: Context = "none"
    expansion: Expansion = NO_EXPANSION
    options: Options = ()
    padding: Padding = "centred"
    blocks: Annotated[tuple[Block, ...], Field(strict=False, min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        kind = self.kind
        if self.stride == 1 and self.downsample != "conv":
            raise ValueError(
                f"`downsample` must be 'conv' where `stride` is 1, but got {self.downsample!r}."
            )
        if self.context != "none" and not kind.has_context:
            raise ValueError(
                f"`context` must be 'none' for {self.block} blocks, but got {self.context!r}."
            )
        if self.expansion != NO_EXPANSION and not kind.has_expansion:
            raise ValueError(
                f"`expansion` must be {NO_EXPANSION} for {self.block} blocks, which have none, "
                f"but got {self.expansion}."
            )
        windows = [block.kernel_size for block in self.blocks if block.kernel_size != 1]
        if not kind.has_window and windows:
            raise ValueError(
                f"`kernel_size` must be 1 for {self.block} blocks, which have no window, but got "
                f"{as_text(max(windows, key=most))}."
            )
        if self.padding == "causal" and (self.downsample != "conv" or not kind.takes_any_axes):
            raise ValueError(
                "`downsample` must be 'conv' and `block` one of a single axis where `padding` is "
                f"'causal', but got {self.downsample!r} and {self.block!r}."
            )
        if self.downsample == "blur_pool" and not isinstance(self.stride, int):
            raise ValueError(
                "`stride` must be the same along all axes where `downsample` is 'blur_pool', but "
                f"got {as_text(self.stride)}."
            )
        check_width(self.block, self.width)
        check_options(self.block, self.options)
        return self

    @model_serializer(mode="wrap")
    def _without_what_it_lacks(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that a stage is written as it was before there were all these.
        values: dict[str, Any] = handler(self)
        lacking = {"context"} if self.context == "none" else set()
        lacking |= set() if self.options else {"options"}
        lacking |= set() if self.kind.has_expansion else {"expansion"}
        lacking |= {"padding"} if self.padding == "centred" else set()
        return {name: value for name, value in values.items() if name not in lacking}

    @property
    def kind(self) -> Kind:
        """What its blocks have."""
        return kind_of(self.block)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def summary(self) -> tuple[str, str]:
        """The stage in two short lines."""
        windows = dict.fromkeys(
            window_text(block.kernel_size)
            + (f" dil. {as_text(block.dilation)}" if block.dilation != 1 else "")
            for block in self.blocks
        )
        return f"{self.depth} {self.block}, {self.width} ch", ", ".join(windows)

    def global_part(self, in_channels: int) -> str | None:
        """What mixes the whole image in each block, if anything does."""
        if self.block == "attention":
            return self.block
        parts = parts_of(self.lower(in_channels))
        layers = dict.fromkeys(layer for part in parts for layer in part.global_layers)
        if layers:
            inside = ", ".join(layer for layer in layers if layer != self.block)
            return f"{self.block} ({inside})" if inside else self.block
        return self.context if self.context != "none" else None

    def shapes(self, in_channels: int) -> list[BlockShape]:
        """The blocks' shapes, first to last."""
        stride: Sides = self.stride if self.downsample == "conv" else 1
        shapes = []
        for block in self.blocks:
            size = (block.kernel_size, stride, block.dilation)
            inside = (self.context, self.expansion, self.options)
            causal = self.padding == "causal"
            shapes.append(BlockShape(in_channels, self.width, *size, *inside, causal=causal))
            in_channels, stride = self.width, 1
        return shapes

    def lower(self, in_channels: int) -> Chain:
        """The stage's expression."""
        pools = downsampling(self.downsample, self.stride, in_channels)
        return Chain((*pools, *(self.kind.lower(shape) for shape in self.shapes(in_channels))))


def check_width(block: str, width: int) -> None:
    """Refuse a width that a kind of block cannot have.

    Raises:
        ValueError: If it is not divisible as the block needs it to be.
    """
    step = kind_of(block).width_step
    if width % step:
        raise ValueError(
            f"`width` must be divisible by {step} for {block} blocks, but got {width}."
        )
