"""What a search space offers for a stage, counted and numbered exactly.

Each kind of choice knows how many distinct outcomes it has and can make the outcome with a given
number. Outcomes that no network would tell apart (a dilation where the kernel has one tap, a way
of downsampling where the stride is 1, a block beyond the depth, a context where blocks take none)
are counted once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import PlainValidator, model_validator

from rfsearch.basics.limits import check_combinations
from rfsearch.basics.sides import Sides, as_sides, as_text, sides
from rfsearch.basics.validation import FrozenData
from rfsearch.feasible.choices import Params
from rfsearch.network.block_registry import check_offered, kind_of
from rfsearch.network.dilations import Choice, check_dilation, dilations, where_taps_are
from rfsearch.network.stages import (
    AS_PAIRS,
    NO_EXPANSION,
    Block,
    BlockKind,
    Context,
    Depth,
    Downsampling,
    Expansion,
    Stage,
    check_width,
)
from rfsearch.network.stems import Padding
from rfsearch.space._stage_parts import (
    BlockGroup,
    Head,
    StageKind,
    active_head_names,
    distinct_blocks,
    option_names,
)
from rfsearch.space.stem_choices import (
    ANY_NUMBER,
    ONE_OR_MORE,
    SIDED,
    KernelSizes,
    Strides,
    Widths,
)

#: Parameters of a block, and of how a stage begins.
_BLOCK_FIELDS = ("kernel_size", "dilation")
_HEAD_FIELDS = ("block", "depth", "width", "stride", "downsample", "context", "expansion")
BlockField = Literal["kernel_size", "dilation"]

DilationChoices = Annotated[tuple[Annotated[Choice, PlainValidator(check_dilation)], ...], *SIDED]
Depths = Annotated[tuple[Depth, ...], *ONE_OR_MORE]
BlockKinds = Annotated[tuple[BlockKind, ...], *ONE_OR_MORE]
Downsamplings = Annotated[tuple[Downsampling, ...], *ONE_OR_MORE]
Contexts = Annotated[tuple[Context, ...], *ONE_OR_MORE]
Expansions = Annotated[tuple[Expansion, ...], *ONE_OR_MORE]
#: Choices of each option that are left, by name.
OptionChoices = Annotated[
    tuple[tuple[str, Annotated[tuple[Any, ...], *ONE_OR_MORE]], ...], *AS_PAIRS
]
BlockFields = Annotated[tuple[BlockField, ...], *ANY_NUMBER]


class StageChoices(FrozenData):
    """Choices for a stage; each field may be one value or a list of them.

    In a list of strides, kernel sizes or dilations `[1, 7]` is one choice, `(height, width)`; the
    parameter's value is text then, `"1x7"`.

    Attributes:
        block: Kinds of block.
        depth: Numbers of blocks.
        width: Output channels.
        stride: Reductions of the resolution.
        downsample: Ways to reduce it, where the stride is above 1.
        context: What weighs the channels by the whole map, in blocks that can have it.
        expansion: Inner channels over outer ones, in blocks that are wider inside.
        kernel_size: Kernel sizes.
        dilation: Dilations, where the kernel size is above 1: numbers, or patterns such as
            `"1-2-5"`, which the blocks go through in turn.
        padding: `"centred"`, or `"causal"` where the one axis is time. It is no choice.
        per_block: Which of `kernel_size` and `dilation` each block of the stage chooses on its
            own; the others are the same for all blocks of the stage.
        options: What is left of the choices of options, in blocks of the user's own that have
            them. As parameters they are named `ghost.ratio`.
    """

    block: BlockKinds
    depth: Depths
    width: Widths
    stride: Strides = (1,)
    downsample: Downsamplings = ("conv",)
    context: Contexts = ("none",)
    expansion: Expansions = (NO_EXPANSION,)
    kernel_size: KernelSizes = (3,)
    dilation: DilationChoices = (1,)
    padding: Padding = "centred"
    per_block: BlockFields = ()
    options: OptionChoices = ()

    @model_validator(mode="after")
    def _can_be_counted(self) -> Self:
        heads = [getattr(self, name) for name in _HEAD_FIELDS if name != "depth"]
        self._check_options()
        heads += [values for block in self.block for _, values in self._offered(block)]
        check_combinations("how the stage begins", *heads)
        check_combinations("its blocks", *(getattr(self, f) for f in ("depth", *_BLOCK_FIELDS)))
        shares_dilation = self.per_block == ("kernel_size",) and len(self.dilation) > 1
        if shares_dilation and any(1 in sides(taps, 1) for taps in self.kernel_size):
            raise ValueError(
                "`kernel_size` must not offer 1 where each block chooses it but all blocks share "
                f"one of several dilations, but got kernel_size={_listed(self.kernel_size)} and "
                f"dilation={_listed(self.dilation)}."
            )
        patterns = [each for each in self.dilation if isinstance(each, str)]
        if "dilation" in self.per_block and patterns:
            raise ValueError(
                "`dilation` must offer numbers only where each block chooses it, but got "
                f"{patterns[0]!r}."
            )
        for block, width in product(self.block, self.width):
            check_width(block, width)
        return self

    def _check_options(self) -> None:
        for name, values in self.options:
            having = [block for block in self.block if name in kind_of(block).options]
            if not having:
                known = ", ".join(n for block in self.block for n in kind_of(block).options)
                raise ValueError(
                    f"`options` must be those of the stage's blocks ({known or 'none'}), but got "
                    f"{name!r}."
                )
            for block, value in product(having, values):
                check_offered(block, name, value, kind_of(block).options[name])

    def _offered(self, block: BlockKind) -> list[tuple[str, tuple[Any, ...]]]:
        """The options of a kind of block, each with its choices."""
        left = dict(self.options)
        return [(name, left.get(name, every)) for name, every in kind_of(block).options.items()]

    # -- parameters ------------------------------------------------------------------------

    def values(self) -> dict[str, tuple[Any, ...]]:
        """The choices by parameter name, inactive ones included."""
        values = {name: self._texts(name) for name in _HEAD_FIELDS}
        for block in self.block:
            names = option_names(block)
            values |= {names[option]: left for option, left in self._offered(block)}
        for field in _BLOCK_FIELDS:
            if field not in self.per_block:
                values[field] = self._texts(field)
        for number in range(1, max(self.depth) + 1):
            for field in self.per_block:
                values[f"block{number}_{field}"] = self._texts(field)
        return values

    def _texts(self, name: str) -> tuple[Any, ...]:
        """Values of a parameter for the choices of a field: a study stores no tuples."""
        return tuple(map(as_text, getattr(self, name)))

    def from_params(self, params: Params) -> Stage:
        """The stage with these parameters; inactive ones are ignored."""
        active = {name: params[name] for name in active_head_names(params)}
        told = option_names(params["block"])
        options = tuple((option, active.pop(name)) for option, name in told.items())
        blocks = tuple(self._block(params, i + 1) for i in range(params["depth"]))
        return Stage(**active, options=options, padding=self.padding, blocks=blocks)

    def _block(self, params: Params, number: int) -> Block:
        if not kind_of(params["block"]).has_window:
            return Block(kernel_size=1)
        names = self._field_names(number)
        kernel_size = as_sides(params[names["kernel_size"]])
        dilation = dilations(as_sides(params[names["dilation"]]), number)[-1]
        return Block(kernel_size=kernel_size, dilation=where_taps_are(dilation, kernel_size))

    def _field_names(self, number: int) -> dict[str, str]:
        """Parameters of a block: its own, or those that it shares."""
        own = self.per_block
        return {f: f"block{number}_{f}" if f in own else f for f in _BLOCK_FIELDS}

    def to_params(self, stage: Stage) -> Params:
        """Parameters of a stage; inactive ones get their first choice."""
        firsts = {name: options[0] for name, options in self.values().items()}
        return firsts | self.active_params(stage)

    def active_params(self, stage: Stage) -> Params:
        """The parameters that make a difference to a stage."""
        fields = {name: getattr(stage, name) for name in Head._fields}
        params = Head(**fields).params() | {"depth": stage.depth}
        if not stage.kind.has_window:
            return params
        for number, block in enumerate(stage.blocks, start=1):
            params |= self.own_params(block, number)
        return params | self.shared_params(stage.blocks)

    def active_names(self, params: Params) -> list[str]:
        """Names of the parameters that make a difference, given all of them."""
        names = [*active_head_names(params), "depth"]
        if not kind_of(params["block"]).has_window:
            return names
        for number in range(1, params["depth"] + 1):
            fields = self._field_names(number)
            names.append(fields["kernel_size"])
            names += [fields["dilation"]] if params[fields["kernel_size"]] != 1 else []
        return list(dict.fromkeys(names))

    def own_params(self, block: Block, number: int) -> Params:
        """Active parameters of one block that it has for itself."""
        own = {"kernel_size": as_text(block.kernel_size)}
        if block.kernel_size != 1 and "dilation" in self.per_block:
            own["dilation"] = self._dilation_of((block,))
        return {f"block{number}_{field}": own[field] for field in own if field in self.per_block}

    def shared_params(self, blocks: tuple[Block, ...]) -> Params:
        """Active parameters that the blocks of a stage share."""
        params: Params = {}
        if "kernel_size" not in self.per_block:
            params["kernel_size"] = as_text(blocks[0].kernel_size)
        if "dilation" not in self.per_block and any(block.kernel_size != 1 for block in blocks):
            params["dilation"] = self._dilation_of(blocks)
        return params

    def _dilation_of(self, blocks: tuple[Block, ...]) -> Any:
        """Of several dilations that blocks cannot tell apart, the first on offer, as text."""
        for option in self.dilation:
            in_turn = zip(blocks, dilations(option, len(blocks)), strict=True)
            if all(where_taps_are(d, block.kernel_size) == block.dilation for block, d in in_turn):
                return as_text(option)
        found = (block.dilation for block in blocks if block.dilation != 1)
        return as_text(next(found, 1))  # Not one that this space offers.

    # -- counting --------------------------------------------------------------------------

    def entries(self) -> list[tuple[Sides, Downsampling]]:
        """Distinct ways to enter the stage: stride and downsampling."""
        return [
            (stride, downsample)
            for stride in self.stride
            for downsample in (self.downsample if stride != 1 else ("conv",))
        ]

    def beginnings(self) -> list[Stage]:
        """A stage for each distinct beginning, with the first of the blocks on offer."""
        return [
            Stage(**head._asdict(), blocks=kind.unrank_blocks(0))
            for kind in self._kinds
            for head in kind.heads
        ]

    def examples(self) -> Iterator[Stage]:
        """Stages with each way to enter: built-in blocks all divide sizes alike."""
        own = [block for block in self.block if kind_of(block).build]
        for block in own or self.block[:1]:
            blocks = self.groups(block, 1)[0][0][:1]
            for head in self.heads(block):
                if head.width == self.width[0]:
                    yield Stage(**head._asdict(), blocks=blocks)

    def heads(self, block: BlockKind) -> list[Head]:
        """Distinct beginnings of a stage with this kind of block."""
        kind = kind_of(block)
        contexts: tuple[Context, ...] = self.context if kind.has_context else ("none",)
        expansions = self.expansion if kind.has_expansion else (NO_EXPANSION,)
        told = [[(name, value) for value in values] for name, values in self._offered(block)]
        combinations = product(self.width, self.entries(), contexts, expansions, product(*told))
        return [
            Head(block, width, stride, downsample, context, expansion, options, self.padding)
            for width, (stride, downsample), context, expansion, options in combinations
        ]

    def groups(self, block: BlockKind, depth: int) -> list[BlockGroup]:
        """For each distinct choice that the blocks share, the blocks to choose from in turn."""
        if not kind_of(block).has_window:
            return [((Block(kernel_size=1),),) * depth]
        shared = [
            getattr(self, field) if field not in self.per_block else (None,)
            for field in _BLOCK_FIELDS
        ]
        groups = []
        for kernel_size, dilation in product(*shared):
            kernel_sizes = self.kernel_size if kernel_size is None else (kernel_size,)
            offered = self.dilation if dilation is None else (dilation,)
            in_turn = zip(*(dilations(each, depth) for each in offered), strict=True)
            groups.append(tuple(distinct_blocks(kernel_sizes, here) for here in in_turn))
        return list(dict.fromkeys(groups))

    @cached_property
    def _kinds(self) -> list[StageKind]:
        return [
            StageKind(
                self.heads(block),
                [group for depth in self.depth for group in self.groups(block, depth)],
            )
            for block in self.block
        ]

    @property
    def size(self) -> int:
        """How many distinct stages there are."""
        return sum(kind.size for kind in self._kinds)

    def unrank(self, index: int) -> Stage:
        """The stage with this number, from 0."""
        for kind in self._kinds:
            if index < kind.size:
                index, head = divmod(index, len(kind.heads))
                return Stage(**kind.heads[head]._asdict(), blocks=kind.unrank_blocks(index))
            index -= kind.size
        raise IndexError("The number of a stage must be below `size`.")


def _listed(options: tuple[Any, ...]) -> str:
    return f"[{', '.join(map(str, map(as_text, options)))}]"
