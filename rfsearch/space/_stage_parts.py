"""How a stage begins, and the distinct stages with blocks of one kind, counted and numbered.

Any beginning of a stage goes with any sequence of blocks.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from rfsearch.basics.sides import Sides, as_text
from rfsearch.network.block_registry import Option, kind_of
from rfsearch.network.dilations import where_taps_are
from rfsearch.network.stages import Block

if TYPE_CHECKING:
    from rfsearch.feasible.choices import Params
    from rfsearch.network.stages import BlockKind, Context, Downsampling
    from rfsearch.network.stems import Padding

#: For each position, the blocks to choose from.
BlockGroup = tuple[tuple[Block, ...], ...]


class Head(NamedTuple):
    """How a stage begins, and what all of its blocks have."""

    block: BlockKind
    width: int
    stride: Sides
    downsample: Downsampling
    context: Context
    expansion: int
    options: tuple[Option, ...] = ()
    padding: Padding = "centred"

    def params(self) -> Params:
        """Active parameters."""
        names = option_names(self.block)
        params = self._asdict() | {names[option]: value for option, value in self.options}
        return {name: as_text(params[name]) for name in active_head_names(params)}


def option_names(block: str) -> dict[str, str]:
    """The options of a block, and their names as parameters; no other has a dot in it."""
    return {option: f"{block}.{option}" for option in kind_of(block).options}


def active_head_names(params: Params) -> list[str]:
    """Names of the parameters of `Head` that make a difference, given all of them."""
    kind = kind_of(params["block"])
    return [
        "block",
        "width",
        "stride",
        *(["downsample"] if params["stride"] != 1 else []),
        *(["context"] if kind.has_context else []),
        *(["expansion"] if kind.has_expansion else []),
        *option_names(params["block"]).values(),
    ]


class StageKind(NamedTuple):
    """What there is of stages with one kind of block.

    Attributes:
        heads: How they may begin.
        groups: For each choice that the blocks share, what each block is chosen from.
    """

    heads: list[Head]
    groups: list[BlockGroup]

    @property
    def size(self) -> int:
        """How many distinct stages there are."""
        return len(self.heads) * sum(map(_ways, self.groups))

    def unrank_blocks(self, index: int) -> tuple[Block, ...]:
        """The sequence of blocks with this number, from 0."""
        for group in self.groups:
            if index < _ways(group):
                blocks = []
                for options in group:
                    index, digit = divmod(index, len(options))
                    blocks.append(options[digit])
                return tuple(blocks)
            index -= _ways(group)
        raise AssertionError("`index` is below the number of sequences.")


def _ways(group: BlockGroup) -> int:
    return prod(len(options) for options in group)


def distinct_blocks(
    kernel_sizes: tuple[Sides, ...], offered: tuple[Sides, ...]
) -> tuple[Block, ...]:
    """Blocks with these choices; a dilation makes no difference to one tap."""
    blocks = (
        Block(kernel_size=k, dilation=where_taps_are(d, k))
        for k, d in product(kernel_sizes, offered)
    )
    return tuple(dict.fromkeys(blocks))
