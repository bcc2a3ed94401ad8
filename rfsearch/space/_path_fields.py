"""The expected ERF and the gaps of a candidate, composed of those of its parts.

On the way back through a network, the expected squared gradient of each part is spread by a kernel
that depends on the part and on the moments of its inputs alone, of which there are few. So the
kernels are computed once, and a candidate's map is their convolution, each spaced by the stride
in front of it: a product of Fourier transforms. Kernels are symmetric, so cosines are enough, and
one half of an axis. Each is a sum of a few products of one factor for each axis, so that most is
computed along an axis. It is the map of the whole expression but for rounding. What a unit touches
is composed in the same way.
"""

from __future__ import annotations

import math
from collections import defaultdict
from functools import lru_cache, reduce
from itertools import product, starmap
from operator import mul
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from rfsearch.basics.cosines import (
    NOTHING,
    counted,
    each_with_each,
    from_middle,
    on_each_axis,
    products,
    summed,
    waves,
    waves_back,
)
from rfsearch.field.coverage import PIXEL, coverage
from rfsearch.field.erf_map import ERF_SHARE, SLACK, ErfMap
from rfsearch.field.expression import Chain, Node, along
from rfsearch.field.gradients import read
from rfsearch.field.moments import INPUT, Units
from rfsearch.field.node_fields import is_global
from rfsearch.field.profiles import unit
from rfsearch.space._decisions import decisions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from rfsearch.feasible.paths import Path
    from rfsearch.space._candidates import Candidates
    from rfsearch.space._decisions import Move, OpenStage
    from rfsearch.space._limits import Bounds

    Array = NDArray[np.float64]

#: Maps of more pixels are left to the check of the whole expression.
_MOST_PIXELS = 512**2
#: Periods are multiples of that, so that candidates of similar fields share transforms.
_PERIODS = 16
#: Decimal places to which moments and factors are alike: far below what can be seen in a map.
_PLACES = 9
#: Terms that the kernels of a part are multiplied out to.
_MOST_TERMS = 64
#: Number of the factor that is a single place, and its own spacing.
_POINT = 0

Value = TypeVar("Value")
#: A product: for each of its kernels, and each axis, the number of a factor and its spacing.
Term = tuple[tuple[tuple[int, int], ...], ...]


class _Part(NamedTuple):
    """What one decision of a path adds, and what comes behind.

    Attributes:
        nodes: Numbers of the network parts.
        touched: The input units that unit 0 touches, along each axis that is told apart.
        strides: Along each of these.
        sees_everything: Whether they mix the whole image.
        channels: Behind it.
        stage: The stage that is open behind it.
    """

    nodes: tuple[int, ...]
    touched: tuple[tuple[int, ...], ...]
    strides: tuple[int, ...]
    sees_everything: bool
    channels: int
    stage: OpenStage | None


class _Spread(NamedTuple):
    """What a node does to the squared gradient.

    Attributes:
        sides: Of its kernel, along each axis.
        terms: For each term of its kernel a weight, and the number of a factor along each axis.
            None where it is not symmetric.
        strides: Along each axis.
        units: Number of the moments behind it.
    """

    sides: tuple[int, ...]
    terms: list[tuple[float, tuple[int, ...]]] | None
    strides: tuple[int, ...]
    units: int


class _Kernel(NamedTuple):
    """A sum of products.

    Attributes:
        weights: Of each.
        factors: For each axis the number of what they are along it.
    """

    weights: Array
    factors: tuple[int, ...]


class _Spreads(NamedTuple):
    """What nodes in a row do to the squared gradient.

    Attributes:
        sides: Of the map that they make, along each axis.
        kernels: Whose convolution that is. None where one is not symmetric.
        strides: Along each axis.
        units: Number of the moments behind them.
    """

    sides: tuple[int, ...]
    kernels: list[_Kernel] | None
    strides: tuple[int, ...]
    units: int


class PathFields:
    """Looks up parts of candidates, computing each once.

    Args:
        candidates: Those whose paths are asked for; their necks do not upsample.
    """

    def __init__(self, candidates: Candidates) -> None:
        self._sequence = decisions(candidates)
        self._alike = candidates.alike
        self._tells_erfs = not candidates.has_own_blocks
        self._parts: dict[tuple[int, int, int, OpenStage | None], _Part] = {}
        self._nodes = _Numbered[Node]()
        self._units = _Numbered[Units](_rounded)
        self._start = self._units.number(INPUT)
        self._spreads: dict[tuple[int, int], _Spread] = {}
        self._chains: dict[tuple[tuple[int, ...], int], _Spreads] = {}
        # Whether there is a place in the middle, and the values from there on.
        self._factors: _Numbered[tuple[bool, Array]] = _Numbered(_rounded)
        self._factors.number((True, np.ones(1)))
        self._rows = _Numbered[tuple[tuple[tuple[int, int], ...], ...]]()
        self._transform = lru_cache(maxsize=4096)(self._transformed)
        self._transforms = lru_cache(maxsize=1024)(self._all_transformed)

    def fits_erf(self, path: Path, bounds: Sequence[Bounds]) -> bool | None:
        """Whether the expected ERF size lies within bounds along each axis that is told apart.

        Args:
            path: The option taken in each decision.
            bounds: The lowest and the highest size in px along each.

        Returns:
            None if the map is large or not symmetric, or blocks of users' own meet, of which more
            is known together than of each.
        """
        if not self._tells_erfs:
            return None
        units = self._start
        sides = spacing = (1,) * sum(self._alike)
        placed: list[tuple[_Kernel, tuple[int, ...]]] = []
        for part in self._along(path):
            found = self._chain(part.nodes, units)
            if found.kernels is None:
                return None
            placed += [(kernel, spacing) for kernel in found.kernels]
            sides = _grown(sides, found.sides, spacing)
            spacing = tuple(map(mul, spacing, found.strides))
            units = found.units
        if math.prod(sides) > _MOST_PIXELS:
            return None
        return self._lies_within(bounds, self._map(placed, sides), sides)

    def _map(self, placed: list[tuple[_Kernel, tuple[int, ...]]], sides: tuple[int, ...]) -> Array:
        """The |gradient| that kernels make, each with its spacing.

        It is a map from the middle on, where what lies beside it counts for both sides.
        """
        periods = tuple(-(-side // _PERIODS) * _PERIODS for side in sides)
        back = list(map(_magnitudes_back, sides, periods))
        sums = [self._multiplied(run, periods) for run in _runs(placed, periods[0] // 2)]
        if len(sums) == 1:
            weights, factors = sums[0]
            power = summed(weights, list(map(np.matmul, factors, back)))
        else:
            power = on_each_axis(reduce(mul, starmap(summed, sums)), back)
        return np.sqrt(np.maximum(power, 0))

    def _lies_within(
        self, bounds: Sequence[Bounds], magnitude: Array, sides: tuple[int, ...]
    ) -> bool:
        if len(self._alike) > 1:
            middle = tuple((side % 2 - 1) / 2 for side in sides)
            sizes = ErfMap(magnitude, magnitude, middle, theoretical_size=max(sides)).sizes
            return all(
                low <= size <= high for size, (low, high) in zip(sizes, bounds, strict=True)
            )
        ((low, high),) = bounds
        enough = (ERF_SHARE - SLACK) * magnitude.sum()

        def holds(size: float) -> bool:
            """Whether the largest square of at most a size holds enough."""
            places = max(0, int(min(size, sides[0]) + sides[0] % 2) // 2)
            return bool(magnitude[(slice(places),) * len(sides)].sum() >= enough)

        return holds(high) and not holds(math.ceil(low) - 1)

    def _multiplied(
        self, run: list[tuple[_Kernel, tuple[int, ...]]], periods: tuple[int, ...]
    ) -> tuple[Array, list[Array]]:
        """The terms of spaced kernels' convolution: weights, and transforms along each axis."""
        weights = reduce(np.multiply.outer, (kernel.weights for kernel, _ in run)).ravel()
        factors: dict[object, Array] = {}
        axes = []
        for axis, period in enumerate(periods):
            rows = tuple((kernel.factors[axis], spacing[axis], period) for kernel, spacing in run)
            if rows not in factors:
                factors[rows] = reduce(each_with_each, starmap(self._transforms, rows))
            axes.append(factors[rows])
        return weights, axes

    def gridding(self, path: Path) -> float:
        """Largest share along an axis of a path's receptive field that no unit touches."""
        seen = [PIXEL] * len(self._alike)
        for part in self._along(path):
            steps = zip(seen, part.touched, part.strides, strict=True)
            seen = [before.looked_at(taps, stride) for before, taps, stride in steps]
        return max(each.gridding for each in seen)

    def sees_everything(self, path: Path) -> bool:
        """Whether a part of a path mixes the whole image."""
        return any(part.sees_everything for part in self._along(path))

    def _along(self, path: Path) -> Iterator[_Part]:
        """The parts of a path."""
        channels, stage = 3, None
        for number, option in enumerate(path):
            key = (number, option, channels, stage)
            part = self._parts.get(key)
            if part is None:
                moves = self._sequence[number].moves(channels, stage)
                part = self._part(next(move for move in moves if move.option == option))
                self._parts[key] = part
            yield part
            channels, stage = part.channels, part.stage

    def _part(self, move: Move) -> _Part:
        whole = Chain(move.nodes)
        seen = [coverage(along(whole, axis)) for axis in range(len(self._alike))]
        return _Part(
            tuple(map(self._nodes.number, move.nodes)),
            tuple(each.pixels for each in seen),
            tuple(each.stride for each in seen),
            is_global(whole),
            move.channels,
            move.stage,
        )

    def _chain(self, nodes: tuple[int, ...], units: int) -> _Spreads:
        key = (nodes, units)
        if key not in self._chains:
            self._chains[key] = self._chained(nodes, units)
        return self._chains[key]

    def _chained(self, nodes: tuple[int, ...], units: int) -> _Spreads:
        sides = spacing = (1,) * sum(self._alike)
        sums: list[dict[Term, float]] = [{(): 1.0}]
        for node in nodes:
            found = self._spread(node, units)
            if found.terms is None:
                return _Spreads(sides, None, spacing, units)
            own = {
                tuple(zip(numbers, spacing, strict=True)): weight
                for weight, numbers in found.terms
            }
            longer = _expanded(sums[-1], own)
            if len(longer) > _MOST_TERMS:
                sums.append({(): 1.0})
                longer = _expanded(sums[-1], own)
            sums[-1] = longer
            sides = _grown(sides, found.sides, spacing)
            spacing = tuple(map(mul, spacing, found.strides))
            units = found.units
        return _Spreads(sides, list(map(self._kernel, sums)), spacing, units)

    def _kernel(self, terms: dict[Term, float]) -> _Kernel:
        axes = range(sum(self._alike))
        along = [tuple(tuple(one[axis] for one in term) for term in terms) for axis in axes]
        return _Kernel(np.array(list(terms.values())), tuple(map(self._rows.number, along)))

    def _spread(self, node: int, units: int) -> _Spread:
        key = (node, units)
        if key not in self._spreads:
            reading = read(self._nodes.values[node], self._units.values[units], self._alike)
            # For each axis the one that is told apart.
            every = [n for n, number in enumerate(self._alike) for _ in range(number)]
            kernel = reading.pull(unit(every)).values
            half = from_middle(kernel / kernel.sum())
            self._spreads[key] = _Spread(
                kernel.shape,
                None if half is None else self._terms(half, kernel.shape),
                tuple(round(reading.places[axis].stride) for axis in every),
                self._units.number(reading.units),
            )
        return self._spreads[key]

    def _terms(self, half: Array, sides: tuple[int, ...]) -> list[tuple[float, tuple[int, ...]]]:
        """The terms of a kernel, given from the middle on."""
        found = []
        for term in products(half):
            factors = [self._factor(*each) for each in zip(term, sides, strict=True)]
            weights, numbers = zip(*factors, strict=True)
            found.append((math.prod(weights), numbers))
        return found

    def _factor(self, values: Array, side: int) -> tuple[float, int]:
        """A weight and the number of a factor, which has a one at its rim."""
        (places,) = np.nonzero(np.abs(values) > NOTHING)
        rim = places[-1]
        return values[rim], self._factors.number((side % 2 == 1, values[: rim + 1] / values[rim]))

    def _all_transformed(self, rows: int, spacing: int, period: int) -> Array:
        """Transforms along an axis of spaced terms, `(terms, frequencies)`."""
        found = np.ones((len(self._rows.values[rows]), period // 2 + 1))
        for transform, row in zip(found, self._rows.values[rows], strict=True):
            for number, step in row:
                transform *= self._transform(number, step * spacing, period)
        return found

    def _transformed(self, number: int, spacing: int, period: int) -> Array:
        """Cosine transform of a spaced factor."""
        is_odd, values = self._factors.values[number]
        return values @ waves(len(values), is_odd, spacing, period)


def _grown(
    sides: tuple[int, ...], more: tuple[int, ...], spacing: tuple[int, ...]
) -> tuple[int, ...]:
    """Sides of a map that is convolved with one of other sides, spaced."""
    steps = zip(sides, more, spacing, strict=True)
    return tuple(side + (pixels - 1) * step for side, pixels, step in steps)


def _expanded(
    terms: dict[Term, float], own: dict[tuple[tuple[int, int], ...], float]
) -> dict[Term, float]:
    """A sum of products times one of single factors; equal products are one."""
    longer: dict[Term, float] = defaultdict(float)
    for (term, weight), (factors, share) in product(terms.items(), own.items()):
        is_point = all(number == _POINT for number, _ in factors)
        longer[term if is_point else tuple(sorted((*term, factors)))] += weight * share
    return longer


def _runs(
    placed: list[tuple[_Kernel, tuple[int, ...]]], most: int
) -> list[list[tuple[_Kernel, tuple[int, ...]]]]:
    """Kernels in rows whose product has few terms: more are no shorter than what they sum to."""
    runs: list[list[tuple[_Kernel, tuple[int, ...]]]] = [[]]
    number = 1
    for kernel, spacing in placed:
        number *= len(kernel.weights)
        if number > most and runs[-1]:
            runs.append([])
            number = len(kernel.weights)
        runs[-1].append((kernel, spacing))
    return runs


@lru_cache(maxsize=512)
def _magnitudes_back(side: int, period: int) -> Array:
    """`waves_back` to places whose root counts as often as they do."""
    return waves_back(side, period) * counted(side) ** 2


class _Numbered(Generic[Value]):
    """Values, each with a number that equal ones share.

    Args:
        key: Of a value, what is equal for equal ones.
    """

    def __init__(self, key: Callable[[Value], object] = lambda value: value) -> None:
        self.values: list[Value] = []
        self._key = key
        self._numbers: dict[object, int] = {}

    def number(self, value: Value) -> int:
        """Of a value, which may be new."""
        found = self._numbers.setdefault(self._key(value), len(self.values))
        if found == len(self.values):
            self.values.append(value)
        return found


def _rounded(value: Any) -> object:
    """Something that is equal for equal numbers, whatever they are in."""
    if isinstance(value, float):
        return round(float(value), _PLACES)
    if isinstance(value, np.ndarray):
        return np.round(value, _PLACES).tobytes()
    if isinstance(value, tuple):
        return tuple(map(_rounded, value))
    fields = getattr(value, "__dataclass_fields__", None)
    return value if fields is None else tuple(_rounded(getattr(value, name)) for name in fields)
