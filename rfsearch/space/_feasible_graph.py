"""The graph whose paths from the root to the end are the candidates that may fit.

Its layers are the decisions of a space; a node is all that the rest of a candidate needs to know
of its beginning. Quantities are carried exactly where they are small integers (theoretical
receptive field, stride) and in bins where exact values would explode: the variance of the
expected ERF in logarithmic bins, each along every axis that the space tells apart; parameters,
operations and the memory of an update in linear ones. Rounding and bounds are outward, so no
candidate that fits is lost; one that is found has to be checked.

Behind a neck that upsamples the graph knows the last stage, whose field every output's contains
and exceeds by a bounded number of strides. It has no bounds of their expected ERF.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rfsearch.feasible.layered_graph import Graph, Layer, pruned, unique_rows
from rfsearch.field.expected_erf import sigmas_per_size
from rfsearch.field.expression import Chain, along
from rfsearch.field.skipping import skipped_units
from rfsearch.network.readings import BYTES_PER_PARAMETER
from rfsearch.space._decisions import decisions
from rfsearch.space._effects import Effect, Effects, Situation
from rfsearch.space._limits import binding, limits_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.feasible.layered_graph import Integers
    from rfsearch.space._candidates import Candidates
    from rfsearch.space._decisions import Decision, Move, OpenStage
    from rfsearch.space.constraint import RFConstraint


#: Width of a bin of the variance, and of sizes that need not be exact: of their logarithm.
_VARIANCE_STEP, _SIZE_STEP = 0.12, 0.08
#: Linear bins up to an upper bound. More enlarge the graph, and hardly fewer paths fail the check.
_LINEAR_BINS = 64
_NO_VARIANCE = -(2**20)


class _Nodes(NamedTuple):
    """Columns of a layer's nodes; of sizes, strides and variances one for each axis."""

    situation: Integers
    sizes: Sequence[Integers]
    strides: Sequence[Integers]
    variances: Sequence[Integers]
    parameters: Integers
    flops: Integers
    memory: Integers

    def columns(self) -> list[Integers]:
        """All columns in a row."""
        first, *along, parameters, flops, memory = self
        return [first, *(column for three in along for column in three), parameters, flops, memory]

    @classmethod
    def of(cls, columns: list[Integers]) -> _Nodes:
        """The nodes of such a row."""
        axes = (len(columns) - 4) // 3
        sizes, strides, variances = (columns[1 + axes * n : 1 + axes * (n + 1)] for n in range(3))
        return cls(columns[0], sizes, strides, variances, *columns[-3:])


class _Builder:
    def __init__(self, space: Candidates, constraint: RFConstraint, kept_axis: int | None) -> None:
        self.sequence = decisions(space)
        self.growths = np.array(self.sequence[-1].growths)
        limits = binding(limits_of(constraint, space), space, constraint)
        # Of a neck that upsamples, variance and stride say nothing: nothing is lost for them.
        self.limits = limits.without_erf() if self.growths.all() else limits
        self.on_the_way = self.limits
        if self.growths.any():
            self.on_the_way = limits.without_erf()._replace(stride=math.inf)
        budget = constraint.budget
        self.effects = Effects(
            erf=self.limits.need_erf,
            cost=self.limits.need_cost,
            saved=self.limits.memory < math.inf,
            context=constraint.global_context,
            channels=space.has_own_blocks,
            axes=space.alike,
        )
        self.axes = range(len(space.alike))
        self.shrinking = _shrinking(space.axes)
        self.end_axis = kept_axis or 0
        self.bytes_per_value = budget.batch_size * budget.bytes_per_activation if budget else 0
        self.in_chans = budget.in_chans if budget else 3
        self.num_classes = budget.num_classes if budget else 0
        self.start = self.effects.start(self.in_chans, budget.input_size if budget else ())
        # Whether sizes are carried exactly, and until where they are if not.
        self.exact = [
            axis == kept_axis or self.limits.size[axis][1] < math.inf for axis in self.axes
        ]
        self.exact_until = [max(1.0, low) for low, _ in self.limits.size]
        self.situations: list[tuple[Situation, OpenStage | None]] = [(self.start, None)]
        self.numbers = {self.situations[0]: 0}

    def build(self) -> Graph:
        ones = [1 for _ in self.axes]
        root = (0, *ones, *ones, *(_NO_VARIANCE for _ in self.axes), 0, 0, 0)
        nodes = _Nodes.of([np.array([value]) for value in root])
        layers = []
        for decision in self.sequence:
            layer, nodes = self._layer(decision, nodes, last=decision is self.sequence[-1])
            layers.append(layer)
        return pruned(layers, nodes.sizes[self.end_axis])

    def _layer(self, decision: Decision, nodes: _Nodes, *, last: bool) -> tuple[Layer, _Nodes]:
        columns: list[list[Integers]] = [[] for _ in range(2 + len(nodes.columns()))]
        for number in np.unique(nodes.situation):
            situation, stage = self.situations[number]
            members = np.flatnonzero(nodes.situation == number)
            options, numbers, effects = [], [], []
            for move in decision.moves(situation.channels, stage):
                effect = self.effects.of(move.nodes, situation, move.channels)
                if effect is not None and self._reads_enough(decision, move):
                    options.append(move.option)
                    numbers.append(self._number(effect.after, move.stage))
                    effects.append(effect)
            if options:
                found = self._extend(nodes, members, options, numbers, effects)
                for column, values in zip(columns, found, strict=True):
                    column.append(values)
        source, option, *after = (
            np.concatenate(column) if column else np.empty(0, np.int64) for column in columns
        )
        if last:
            ends = _Nodes.of(after)
            kept = self._accepted(ends, self.growths[option])
            source, option = source[kept], option[kept]
            # Of the ends nothing but their sizes is asked for.
            after = [column[kept] * (column is ends.sizes[self.end_axis]) for column in after]
        unique, target = unique_rows(after)
        # Nodes are in the order of their situations, so edges are in the order of their sources.
        first = np.searchsorted(source, np.arange(len(nodes.situation) + 1))
        return Layer(decision.options, source, option, target, first), _Nodes.of(unique)

    def _reads_enough(self, decision: Decision, move: Move) -> bool:
        """Whether no map that a part adds, or that it is given, is skipped by too much."""
        if not self.limits.read or decision.growths[move.option]:
            return True
        whole = Chain(move.nodes)
        skipped = max(skipped_units(along(whole, axis)) for axis in self.axes)
        return 1 - skipped >= self.limits.read

    def _number(self, situation: Situation, stage: OpenStage | None) -> int:
        key = (situation, stage)
        if key not in self.numbers:
            self.numbers[key] = len(self.situations)
            self.situations.append(key)
        return self.numbers[key]

    def _extend(
        self,
        nodes: _Nodes,
        members: Integers,
        options: list[int],
        numbers: list[int],
        effects: list[Effect],
    ) -> list[Integers]:
        """Edges from some nodes by some effects: source, option, and the columns behind them."""
        growths, factors, added, *costs = (
            np.array(column) for column in list(zip(*effects, strict=True))[:6]
        )
        parameters, flops, saved = (column[None, :] for column in costs)
        memory = BYTES_PER_PARAMETER * parameters + self.bytes_per_value * saved
        limits = self.on_the_way
        spent = (
            nodes.parameters[members][:, None] + _linear_bin(parameters, limits.parameters),
            nodes.flops[members][:, None] + _linear_bin(flops, limits.flops),
            nodes.memory[members][:, None] + _linear_bin(memory, limits.memory),
        )
        kept = np.ones((len(members), len(options)), bool)
        for column in spent:
            kept &= column <= _LINEAR_BINS
        sizes, strides, variances = [], [], []
        for axis in self.axes:
            stride = nodes.strides[axis][members][:, None]
            size = nodes.sizes[axis][members][:, None] + stride * growths[None, :, axis]
            before = _variance(nodes.variances[axis][members])[:, None]
            power = before + stride**2 * added[None, :, axis]
            lowest, _ = self._erf_range(np.sqrt(power), size)
            sizes.append(size if self.exact[axis] else self._coarse(size, axis))
            strides.append(stride * factors[None, :, axis])
            variances.append(self._variance_bin(power))
            kept &= (sizes[-1] <= limits.size[axis][1]) & (strides[-1] <= limits.stride)
            kept &= lowest <= limits.erf[axis][1]
        rows, chosen = np.nonzero(kept)
        situations = np.broadcast_to(np.array(numbers)[None, :], kept.shape)
        columns = _Nodes(situations, sizes, strides, variances, *spent).columns()
        behind = [column[kept].astype(np.int64) for column in columns]
        return [members[rows], np.array(options)[chosen], *behind]

    def _erf_range(
        self, sigma: NDArray[np.float64], size: Integers
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`erf_range` for the axes of the space."""
        return erf_range(sigma, size, self.shrinking)

    def _variance_bin(self, power: NDArray[np.float64]) -> Integers:
        if not self.limits.need_erf:
            return np.full(power.shape, _NO_VARIANCE)
        with np.errstate(divide="ignore"):
            bins = np.rint(np.log(power) / _VARIANCE_STEP)
        return np.where(power > 0, bins, _NO_VARIANCE).astype(np.int64)

    def _coarse(self, size: Integers, axis: int) -> Integers:
        """Sizes above an open lower bound: all alike, or in bins where their ERF matters."""
        until = self.exact_until[axis]
        if not self.limits.need_erf:
            return np.minimum(size, math.ceil(until))
        above = np.maximum(size / until, 1.0)
        binned = until * np.exp(np.rint(np.log(above) / _SIZE_STEP) * _SIZE_STEP)
        return np.where(size > until, np.ceil(binned), size).astype(np.int64)

    def _accepted(self, nodes: _Nodes, growths: Integers) -> NDArray[np.bool_]:
        """Which nodes behind the last decision may fit.

        Args:
            nodes: The nodes.
            growths: Of the last decision's way to each (`Decision.growths`).
        """
        limits = self.limits
        is_known = growths == 0
        channels = np.array([situation.channels for situation, _ in self.situations])
        width = channels[nodes.situation]
        head_parameters = (width + 1) * self.num_classes
        head_flops = 2 * width * self.num_classes
        spent = nodes.parameters + _linear_bin(head_parameters, limits.parameters)
        computed = nodes.flops + _linear_bin(head_flops, limits.flops)
        filled = nodes.memory + _linear_bin(BYTES_PER_PARAMETER * head_parameters, limits.memory)
        every = np.array([situation.sees_everything for situation, _ in self.situations])
        is_free = every[nodes.situation]  # From lower bounds.
        accepted: NDArray[np.bool_] = (
            (spent <= _LINEAR_BINS) & (computed <= _LINEAR_BINS) & (filled <= _LINEAR_BINS)
        )
        along = zip(nodes.sizes, nodes.strides, nodes.variances, strict=True)
        for (size, stride, variance), (low, high), bounds in zip(
            along, limits.size, limits.erf, strict=True
        ):
            erf = self._erf_range(np.sqrt(_variance(variance)), size)
            # Without such necks the upper bounds were checked on the way.
            highest = bounds[1] if self.growths.any() else math.inf
            fits_erf = ((erf[1] >= bounds[0]) | is_free) & (erf[0] <= highest)
            accepted &= ((size + growths * stride >= low) | is_free) & (size <= high)
            accepted &= ~is_known | (stride <= limits.stride)
            accepted &= ~is_known | fits_erf | (not limits.need_erf)
        return accepted


def build_graph(
    space: Candidates, constraint: RFConstraint, kept_axis: int | None = None
) -> Graph:
    """The graph of the candidates that may pass a constraint's closed-form gates.

    Args:
        space: What may be proposed.
        constraint: Which receptive fields fit.
        kept_axis: Number of the axis whose sizes are told apart above an open lower bound too, of
            those that the space tells apart.
    """
    return _Builder(space, constraint, kept_axis).build()


def _shrinking(axes: int) -> float:
    """ERF size of a normal profile of so many axes, over that of an image's."""
    return sigmas_per_size(axes) / sigmas_per_size(2)


def erf_range(
    sigma: NDArray[np.float64], size: NDArray[np.float64] | Integers, shrinking: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest ERF size to reckon with, in px.

    ERF size over sigma falls with sigma over the size of the theoretical receptive field, from 7
    for a profile with long tails to 3.4 for a uniform one and 2 for two taps. The line below met
    7,600 random networks within a factor of 0.82 to 1.2, half of them within 0.95 to 1.05; the
    bounds leave room for that, for the rounding of sigma, and for more.

    Args:
        sigma: Of the expected ERF, in px.
        size: Of the theoretical receptive field, in px.
        shrinking: By how much smaller than an image's an ERF with this sigma is.
    """
    middle = sigma * np.maximum(7.6 - 14.2 * sigma / size, 2.6)
    return 0.76 * min(1.0, shrinking) * middle, np.minimum(
        1.28 * max(1.0, shrinking) * middle + 1, size
    )


def _variance(bins: Integers) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.exp(bins * _VARIANCE_STEP)  # 0 where there is none
    return values


def _linear_bin(values: Any, bound: float) -> Any:
    """Rounded down, so that a sum of bins never exceeds the bin of a sum that fits."""
    if bound == math.inf:
        return np.zeros_like(values, dtype=np.int64)
    return np.floor(values * (_LINEAR_BINS / bound)).astype(np.int64)
