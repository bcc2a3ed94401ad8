"""What a search space offers for a stem and for a stage, counted and numbered exactly.

Each kind of choice knows how many distinct outcomes it has and can make the outcome with a given
number. Outcomes that no network would tell apart (a dilation where the kernel has one tap, a way
of downsampling where the stride is 1, a block beyond the depth) are counted once.
"""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from rfsearch.architecture import (
    Block,
    BlockKind,
    Depth,
    Dilation,
    Downsampling,
    KernelSize,
    Stage,
    Stem,
    StemPool,
    Stride,
    Width,
)
from rfsearch.validation import FrozenData

Params = dict[str, Any]
_BLOCK_FIELDS = ("kernel_size", "dilation")
BlockField = Literal["kernel_size", "dilation"]


def _as_tuple(value: Any) -> Any:
    """One value is short for a list of one."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    repeated = [item for i, item in enumerate(values) if item in values[:i]]
    if repeated:
        raise ValueError(f"choices must differ, but got {repeated[0]!r} twice.")
    return values


CHOICES = (Field(strict=False, min_length=1), BeforeValidator(_as_tuple))
KernelSizes = Annotated[tuple[KernelSize, ...], *CHOICES]
Dilations = Annotated[tuple[Dilation, ...], *CHOICES]
Strides = Annotated[tuple[Stride, ...], *CHOICES]
Widths = Annotated[tuple[Width, ...], *CHOICES]
Depths = Annotated[tuple[Depth, ...], *CHOICES]
BlockKinds = Annotated[tuple[BlockKind, ...], *CHOICES]
Downsamplings = Annotated[tuple[Downsampling, ...], *CHOICES]
StemPools = Annotated[tuple[StemPool, ...], *CHOICES]
BlockFields = Annotated[tuple[BlockField, ...], Field(strict=False), BeforeValidator(_as_tuple)]


class StemChoices(FrozenData):
    """Choices for the stem; each field of `Stem` may be one value or a list of them."""

    kernel_size: KernelSizes
    stride: Strides
    width: Widths
    pool: StemPools = ("none",)

    def values(self) -> dict[str, tuple[Any, ...]]:
        """The choices by parameter name."""
        return {name: getattr(self, name) for name in Stem.model_fields}

    def outcomes(self) -> list[Stem]:
        """All distinct stems."""
        values = self.values()
        return [
            Stem(**dict(zip(values, combo, strict=True))) for combo in product(*values.values())
        ]

    @property
    def size(self) -> int:
        """How many distinct stems there are."""
        count = 1
        for options in self.values().values():
            count *= len(options)
        return count

    def unrank(self, index: int) -> Stem:
        """The stem with this number, from 0."""
        chosen = {}
        for name, options in self.values().items():
            index, digit = divmod(index, len(options))
            chosen[name] = options[digit]
        return Stem(**chosen)

    def from_params(self, params: Params) -> Stem:
        """The stem with these parameters."""
        return Stem(**params)

    def to_params(self, stem: Stem) -> Params:
        """The parameters of a stem."""
        return stem.model_dump()


class StageChoices(FrozenData):
    """Choices for a stage; each field may be one value or a list of them.

    Attributes:
        block: Kinds of block.
        depth: Numbers of blocks.
        width: Output channels.
        stride: Reductions of the resolution.
        downsample: Ways to reduce it, where the stride is above 1.
        kernel_size: Kernel sizes.
        dilation: Dilations, where the kernel size is above 1.
        per_block: Which of `kernel_size` and `dilation` each block of the stage chooses on its
            own; the others are the same for all blocks of the stage.
    """

    block: BlockKinds
    depth: Depths
    width: Widths
    stride: Strides = (1,)
    downsample: Downsamplings = ("conv",)
    kernel_size: KernelSizes = (3,)
    dilation: Dilations = (1,)
    per_block: BlockFields = ()

    @model_validator(mode="after")
    def _can_be_counted(self) -> Self:
        shares_dilation = self.per_block == ("kernel_size",) and len(self.dilation) > 1
        if shares_dilation and 1 in self.kernel_size:
            raise ValueError(
                "`kernel_size` must not offer 1 where each block chooses it but all blocks share "
                f"one of several dilations, but got kernel_size={list(self.kernel_size)} and "
                f"dilation={list(self.dilation)}."
            )
        if "bottleneck" in self.block:
            self._check_bottleneck_widths()
        return self

    def _check_bottleneck_widths(self) -> None:
        for width in self.width:
            Stage(block="bottleneck", width=width, stride=1, blocks=(Block(kernel_size=1),))

    # -- parameters ------------------------------------------------------------------------

    def values(self) -> dict[str, tuple[Any, ...]]:
        """The choices by parameter name, inactive ones included."""
        names = ("block", "depth", "width", "stride", "downsample")
        values: dict[str, tuple[Any, ...]] = {name: getattr(self, name) for name in names}
        for field in ("kernel_size", "dilation"):
            if field not in self.per_block:
                values[field] = getattr(self, field)
        for block in range(1, max(self.depth) + 1):
            for field in self.per_block:
                values[f"block{block}_{field}"] = getattr(self, field)
        return values

    def from_params(self, params: Params) -> Stage:
        """The stage with these parameters; inactive ones are ignored."""
        stride = params["stride"]
        return Stage(
            block=params["block"],
            width=params["width"],
            stride=stride,
            downsample=params["downsample"] if stride > 1 else "conv",
            blocks=tuple(self._block(params, i + 1) for i in range(params["depth"])),
        )

    def _block(self, params: Params, number: int) -> Block:
        chosen = {
            field: params[f"block{number}_{field}" if field in self.per_block else field]
            for field in ("kernel_size", "dilation")
        }
        if chosen["kernel_size"] == 1:
            chosen["dilation"] = 1
        return Block(**chosen)

    def to_params(self, stage: Stage) -> Params:
        """Parameters of a stage; inactive ones get their first choice."""
        firsts = {name: options[0] for name, options in self.values().items()}
        return firsts | self.active_params(stage)

    def active_params(self, stage: Stage) -> Params:
        """The parameters that make a difference to a stage."""
        params = self.head_params(stage.block, stage.width, stage.stride, stage.downsample)
        params["depth"] = stage.depth
        for number, block in enumerate(stage.blocks, start=1):
            params |= self.block_params(block, number)
        return params

    def active_names(self, params: Params) -> list[str]:
        """Names of the parameters that make a difference, given all of them."""
        names = ["block", "depth", "width", "stride"]
        names += ["downsample"] if params["stride"] > 1 else []
        for number in range(1, params["depth"] + 1):
            own = {f: f"block{number}_{f}" if f in self.per_block else f for f in _BLOCK_FIELDS}
            names.append(own["kernel_size"])
            names += [own["dilation"]] if params[own["kernel_size"]] > 1 else []
        return list(dict.fromkeys(names))

    def head_params(self, block: str, width: int, stride: int, downsample: str) -> Params:
        """Active parameters of how a stage begins."""
        params = {"block": block, "width": width, "stride": stride}
        return params | ({"downsample": downsample} if stride > 1 else {})

    def block_params(self, block: Block, number: int) -> Params:
        """Active parameters of a block, those that it shares with the others included."""
        fields = ("kernel_size", "dilation") if block.kernel_size > 1 else ("kernel_size",)
        return {
            f"block{number}_{field}" if field in self.per_block else field: getattr(block, field)
            for field in fields
        }

    # -- counting --------------------------------------------------------------------------

    def entries(self) -> list[tuple[int, Downsampling]]:
        """Distinct ways to enter the stage: stride and downsampling."""
        return [
            (stride, downsample)
            for stride in self.stride
            for downsample in (self.downsample if stride > 1 else ("conv",))
        ]

    def block_groups(self) -> list[tuple[Block, ...]]:
        """For each choice that the blocks share, the blocks to choose from at each position."""
        shared = [
            options if field not in self.per_block else (None,)
            for field, options in (("kernel_size", self.kernel_size), ("dilation", self.dilation))
        ]
        groups = []
        for kernel_size, dilation in product(*shared):
            kernel_sizes = self.kernel_size if kernel_size is None else (kernel_size,)
            dilations = self.dilation if dilation is None else (dilation,)
            blocks = {
                Block(kernel_size=k, dilation=d if k > 1 else 1): None
                for k, d in product(kernel_sizes, dilations)
            }
            groups.append(tuple(blocks))
        return list(dict.fromkeys(groups))

    @property
    def size(self) -> int:
        """How many distinct stages there are."""
        return len(self._heads()) * self._num_sequences()

    def _heads(self) -> list[tuple[BlockKind, int, tuple[int, Downsampling]]]:
        return list(product(self.block, self.width, self.entries()))

    def _num_sequences(self) -> int:
        return sum(len(group) ** depth for depth in self.depth for group in self.block_groups())

    def unrank(self, index: int) -> Stage:
        """The stage with this number, from 0."""
        heads = self._heads()
        index, head = divmod(index, len(heads))
        block, width, (stride, downsample) = heads[head]
        blocks = self._unrank_blocks(index)
        return Stage(block=block, width=width, stride=stride, downsample=downsample, blocks=blocks)

    def _unrank_blocks(self, index: int) -> tuple[Block, ...]:
        for depth, group in product(self.depth, self.block_groups()):
            if index < len(group) ** depth:
                blocks = []
                for _ in range(depth):
                    index, digit = divmod(index, len(group))
                    blocks.append(group[digit])
                return tuple(blocks)
            index -= len(group) ** depth
        raise IndexError("The number of a stage must be below `size`.")
