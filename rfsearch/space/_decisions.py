"""A search space as a sequence of decisions, each with the network parts that it adds.

The stem is one decision. A stage is one where its blocks are alike; where they choose on their
own, its entry is one and each block another. The neck comes last. Every distinct architecture is
exactly one way through the sequence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from rfsearch.basics.sides import Sides, most
from rfsearch.network.block_parts import BlockShape, downsampling
from rfsearch.network.block_registry import kind_of

if TYPE_CHECKING:
    from rfsearch.feasible.choices import Params
    from rfsearch.field.expression import Node
    from rfsearch.network.stages import Block, Stage
    from rfsearch.network.stems import Stem
    from rfsearch.space._candidates import Candidates
    from rfsearch.space._stage_parts import BlockGroup, Head
    from rfsearch.space.choices import StageChoices
    from rfsearch.space.neck_choices import NeckChoices
    from rfsearch.space.stem_choices import StemChoices


class OpenStage(NamedTuple):
    """A stage whose blocks are being decided.

    Attributes:
        head: How it began, and what all of its blocks have.
        stride: Of the next block.
        remaining: For each block still to come, those to choose from.
    """

    head: Head
    stride: Sides
    remaining: BlockGroup


class Move(NamedTuple):
    """One way to decide.

    Attributes:
        option: Its number in the decision's `options`.
        nodes: Network parts that it adds.
        channels: Output channels behind them.
        stage: The stage that is open behind it.
    """

    option: int
    nodes: tuple[Node, ...]
    channels: int
    stage: OpenStage | None


class Decision(ABC):
    """One step of the sequence.

    Attributes:
        options: Active parameters that each way to decide sets, under their names in the space.
    """

    options: list[Params]

    @property
    def growths(self) -> list[int]:
        """For each way, how much larger an output's field may be than `moves` say, in strides.

        Where that is above 0, a neck upsamples, and what else `moves` say is a part of it.
        """
        return [0] * len(self.options)

    @abstractmethod
    def moves(self, channels: int, stage: OpenStage | None) -> list[Move]:
        """The ways to decide behind so many channels and in an open stage."""


def decisions(space: Candidates) -> list[Decision]:
    """The sequence for a space; its parameters come in the order of `space.choices()`."""
    sequence: list[Decision] = [StemDecision(space.stem)]
    for number, choices in enumerate(space.stages, start=1):
        prefix = f"stage{number}_"
        if choices.per_block:
            sequence.append(EntryDecision(choices, prefix))
            sequence += [
                BlockDecision(choices, prefix, block + 1) for block in range(max(choices.depth))
            ]
        else:
            sequence.append(StageDecision(choices, prefix))
    if space.neck:
        sequence.append(NeckDecision(space.neck))
    return sequence


class StemDecision(Decision):
    """All of the stem."""

    def __init__(self, choices: StemChoices) -> None:
        self._stems: list[Stem] = choices.outcomes
        self.options = [_prefixed("stem_", choices.active_params(stem)) for stem in self._stems]

    def moves(self, channels: int, stage: OpenStage | None) -> list[Move]:
        """Any stem."""
        return [
            Move(number, stem.lower(channels).nodes, stem.width, None)
            for number, stem in enumerate(self._stems)
        ]


class StageDecision(Decision):
    """All of a stage whose blocks are alike."""

    def __init__(self, choices: StageChoices, prefix: str) -> None:
        self._stages: list[Stage] = [choices.unrank(index) for index in range(choices.size)]
        self.options = [_prefixed(prefix, choices.active_params(s)) for s in self._stages]
        self._moves: dict[int, list[Move]] = {}

    def moves(self, channels: int, stage: OpenStage | None) -> list[Move]:
        """Any stage."""
        if channels not in self._moves:
            self._moves[channels] = [
                Move(number, each.lower(channels).nodes, each.width, None)
                for number, each in enumerate(self._stages)
            ]
        return self._moves[channels]


class EntryDecision(Decision):
    """How a stage begins, how deep it is, and what its blocks share."""

    def __init__(self, choices: StageChoices, prefix: str) -> None:
        self.options = []
        self._stages: list[OpenStage] = []
        for block in choices.block:
            groups = [group for depth in choices.depth for group in choices.groups(block, depth)]
            for head in choices.heads(block):
                stride: Sides = head.stride if head.downsample == "conv" else 1
                for group in groups:
                    params = head.params() | {"depth": len(group)}
                    if kind_of(block).has_window:
                        # A dilation makes a difference if one of the blocks may have a window.
                        params |= choices.shared_params(tuple(max(g, key=_size) for g in group))
                    self.options.append(_prefixed(prefix, params))
                    self._stages.append(OpenStage(head, stride, group))

    def moves(self, channels: int, stage: OpenStage | None) -> list[Move]:
        """Any entry."""
        return [
            Move(
                number,
                downsampling(opened.head.downsample, opened.head.stride, channels),
                channels,
                opened,
            )
            for number, opened in enumerate(self._stages)
        ]


def _size(block: Block) -> int:
    return most(block.kernel_size)


class BlockDecision(Decision):
    """One block of a stage.

    There is nothing to decide where the stage is not that deep, or its blocks have no window.
    """

    def __init__(self, choices: StageChoices, prefix: str, number: int) -> None:
        groups = (choices.groups(b, d) for b in choices.block for d in choices.depth)
        at_place = (group[number - 1] for each in groups for group in each if number <= len(group))
        self._blocks: list[Block] = list(dict.fromkeys(b for group in at_place for b in group))
        self.options = [_prefixed(prefix, choices.own_params(b, number)) for b in self._blocks]
        self.options.append({})

    def moves(self, channels: int, stage: OpenStage | None) -> list[Move]:
        """Any block of those that the open stage can have here."""
        nothing = len(self._blocks)
        if stage is None:
            return [Move(nothing, (), channels, None)]
        head, (blocks, *following) = stage.head, stage.remaining
        behind = OpenStage(head, 1, tuple(following)) if following else None
        kind = kind_of(head.block)
        moves = []
        for block in blocks:
            option = self._blocks.index(block) if kind.has_window else nothing
            node = kind.lower(_shape(channels, stage, block))
            moves.append(Move(option, (node,), head.width, behind))
        return moves


class NeckDecision(Decision):
    """The neck."""

    def __init__(self, choices: NeckChoices) -> None:
        self._necks = choices.outcomes
        self.options = [_prefixed("neck_", choices.active_params(neck)) for neck in self._necks]

    @property
    def growths(self) -> list[int]:
        """Bounds, since the strides of finer maps are forgotten."""
        return [neck.most_growth if neck else 0 for neck in self._necks]

    def moves(self, channels: int, stage: OpenStage | None) -> list[Move]:
        """Any neck, by what of it follows the last stage alone."""
        return [
            Move(number, neck.follow(channels), neck.num_features, None)
            if neck
            else Move(number, (), channels, None)
            for number, neck in enumerate(self._necks)
        ]


def _shape(channels: int, stage: OpenStage, block: Block) -> BlockShape:
    head = stage.head
    size = (block.kernel_size, stage.stride, block.dilation)
    inside = (head.context, head.expansion, head.options)
    return BlockShape(channels, head.width, *size, *inside, causal=head.padding == "causal")


def _prefixed(prefix: str, params: Params) -> Params:
    return {prefix + name: value for name, value in params.items()}
