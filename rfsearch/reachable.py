"""Which theoretical receptive fields a search space can reach, counted exactly.

A receptive field composes stage by stage, so the number of architectures at each field is a fold
over the stages with one small table: field to count.
"""

from __future__ import annotations

from collections import Counter
from itertools import product

from rfsearch.blocks import BOTTLENECK_REDUCTION, LOWERINGS, STEM_POOL, BlockShape, pooling
from rfsearch.choices import StageChoices, StemChoices
from rfsearch.constraint import RFConstraint
from rfsearch.expression import receptive_field
from rfsearch.receptive_field import IDENTITY, ReceptiveField, window
from rfsearch.space import SearchSpace

FieldCounts = Counter[ReceptiveField]


def count_receptive_fields(space: SearchSpace) -> FieldCounts:
    """How many architectures of the space have each theoretical receptive field."""
    counts = _stem_fields(space.stem)
    for stage in space.stages:
        counts = _compose(counts, _stage_fields(stage))
    return counts


def count_sizes(space: SearchSpace) -> dict[int, int]:
    """How many architectures have each theoretical receptive field size in px, by size."""
    sizes: Counter[int] = Counter()
    for field, count in count_receptive_fields(space).items():
        sizes[field.size] += count
    return dict(sorted(sizes.items()))


def require_reachable(space: SearchSpace, constraint: RFConstraint) -> None:
    """Refuse a target that no candidate of the space can meet.

    The theoretical receptive field is checked exactly. Of the expected ERF only what follows from
    that is used: it is never larger than the theoretical receptive field.

    Raises:
        ValueError: If no candidate can pass; it says what the space can reach.
    """
    sizes = list(count_sizes(space))
    ranges = constraint.ranges()
    reach = f"the space reaches {sizes[0]} to {sizes[-1]} px"
    if "theoretical" in ranges:
        allowed = ranges["theoretical"]
        if not any(allowed.low <= size <= allowed.high for size in sizes):
            raise ValueError(
                f"No candidate can have a theoretical receptive field of {allowed}: {reach}."
            )
        sizes = [size for size in sizes if size <= allowed.high]
    for gate in ("expected", "measured"):
        if gate in ranges and ranges[gate].low > sizes[-1]:
            raise ValueError(
                f"No candidate can have an ERF of {ranges[gate]}: an ERF is at most the "
                f"theoretical receptive field, and {reach} of that."
            )


def _compose(before: FieldCounts, after: FieldCounts) -> FieldCounts:
    counts: FieldCounts = Counter()
    for (left, times), (right, ways) in product(before.items(), after.items()):
        counts[left.then(right)] += times * ways
    return counts


def _stem_fields(stem: StemChoices) -> FieldCounts:
    counts: FieldCounts = Counter()
    for kernel_size, stride, pool in product(stem.kernel_size, stem.stride, stem.pool):
        field = window(kernel_size, stride)
        if pool == "max":
            field = field.then(receptive_field(STEM_POOL))
        counts[field] += len(stem.width)
    return counts


def _stage_fields(stage: StageChoices) -> FieldCounts:
    counts: FieldCounts = Counter()
    for kind, (stride, downsample) in product(stage.block, stage.entries()):
        pool = IDENTITY if downsample == "conv" else receptive_field(pooling(downsample, stride))
        first_stride = stride if downsample == "conv" else 1
        for group in stage.block_groups():
            options = [(block.kernel_size, block.dilation) for block in group]
            first = _block_fields(kind, options, first_stride)
            later = _block_fields(kind, options, 1)
            fields = _compose(Counter({pool: len(stage.width)}), first)
            for depth in range(1, max(stage.depth) + 1):
                if depth > 1:
                    fields = _compose(fields, later)
                if depth in stage.depth:
                    counts.update(fields)
    return counts


def _block_fields(kind: str, options: list[tuple[int, int]], stride: int) -> FieldCounts:
    width = BOTTLENECK_REDUCTION  # Channels do not matter to a receptive field.
    return Counter(
        receptive_field(LOWERINGS[kind](BlockShape(width, width, kernel_size, stride, dilation)))
        for kernel_size, dilation in options
    )
