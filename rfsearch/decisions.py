"""A search space as a sequence of decisions, each with the network parts that it adds.

The stem is one decision. A stage is one where its blocks are alike; where they choose on their
own, its entry is one and each block another. The neck comes last. Every distinct architecture is
exactly one way through the sequence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from rfsearch.blocks import LOWERINGS, BlockShape, pooling

if TYPE_CHECKING:
    from rfsearch.architecture import Block, Stage, Stem
    from rfsearch.candidates import Candidates
    from rfsearch.choices import Params, StageChoices, StemChoices
    from rfsearch.expression import Node
    from rfsearch.neck_choices import NeckChoices


class OpenStage(NamedTuple):
    """A stage whose blocks are being decided.

    Attributes:
        kind: Of the blocks.
        width: Their output channels.
        stride: Of the next block.
        remaining: Blocks still to come.
        group: Number of the set of blocks to choose from.
    """

    kind: str
    width: int
    stride: int
    remaining: int
    group: int


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
        self._stems: list[Stem] = choices.outcomes()
        self.options = [_prefixed("stem_", choices.to_params(stem)) for stem in self._stems]

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
        self._entries: list[tuple[tuple[Node, ...], OpenStage]] = []
        groups = choices.block_groups()
        heads = product(choices.block, choices.width, choices.entries())
        for (kind, width, (stride, downsample)), depth, (number, group) in product(
            heads, choices.depth, enumerate(groups)
        ):
            head = choices.head_params(kind, width, stride, downsample) | {"depth": depth}
            self.options.append(_prefixed(prefix, head | _shared(choices, group)))
            pools = downsample != "conv"
            nodes = (pooling(downsample, stride),) if pools else ()
            stage = OpenStage(kind, width, 1 if pools else stride, depth, number)
            self._entries.append((nodes, stage))

    def moves(self, channels: int, stage: OpenStage | None) -> list[Move]:
        """Any entry."""
        return [
            Move(number, nodes, channels, opened)
            for number, (nodes, opened) in enumerate(self._entries)
        ]


class BlockDecision(Decision):
    """One block of a stage; there is nothing to decide where the stage is not that deep."""

    def __init__(self, choices: StageChoices, prefix: str, number: int) -> None:
        self._groups = choices.block_groups()
        self._blocks: list[Block] = list(dict.fromkeys(b for group in self._groups for b in group))
        own = {f"block{number}_{field}" for field in choices.per_block}
        self.options = [
            _prefixed(
                prefix,
                {k: v for k, v in choices.block_params(block, number).items() if k in own},
            )
            for block in self._blocks
        ]
        self.options.append({})

    def moves(self, channels: int, stage: OpenStage | None) -> list[Move]:
        """Any block of the open stage's group."""
        if stage is None:
            return [Move(len(self._blocks), (), channels, None)]
        left = stage.remaining - 1
        following = stage._replace(stride=1, remaining=left) if left else None
        lowering = LOWERINGS[stage.kind]
        return [
            Move(
                self._blocks.index(block),
                (lowering(_shape(channels, stage, block)),),
                stage.width,
                following,
            )
            for block in self._groups[stage.group]
        ]


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
    return BlockShape(channels, stage.width, block.kernel_size, stage.stride, block.dilation)


def _shared(choices: StageChoices, group: tuple[Block, ...]) -> Params:
    """Active parameters that all blocks of a group have in common."""
    largest = max(group, key=lambda block: block.kernel_size)
    params = choices.block_params(largest, 1)
    return {name: value for name, value in params.items() if not name.startswith("block1_")}


def _prefixed(prefix: str, params: Params) -> Params:
    return {prefix + name: value for name, value in params.items()}
