"""The expected ERF and the gaps of a candidate, composed of those of its parts.

On the way back through a network, the expected squared gradient of each part is spread by a kernel
that depends on the part and on the moments of its inputs alone, of which there are few. So the
kernels are computed once, and a candidate's map is their convolution, each spaced by the stride
in front of it: a product of Fourier transforms. Kernels are symmetric, so cosines are enough, and
one half of an axis. It is the map of the whole expression but for rounding. What a unit touches
is composed in the same way.
"""

from __future__ import annotations

import math
from functools import lru_cache
from operator import mul
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from rfsearch.field.coverage import PIXEL, coverage
from rfsearch.field.erf_map import ErfMap
from rfsearch.field.expression import Chain, Node, along
from rfsearch.field.gradients import read
from rfsearch.field.moments import INPUT, Units
from rfsearch.field.node_fields import is_global
from rfsearch.field.profiles import unit
from rfsearch.space._decisions import decisions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from rfsearch.feasible.paths import Path
    from rfsearch.space._candidates import Candidates
    from rfsearch.space._decisions import Move, OpenStage

    Array = NDArray[np.float64]

#: Maps of more pixels are left to the check of the whole expression.
_MOST_PIXELS = 512**2
#: Periods are multiples of that, so that candidates of similar fields share transforms.
_PERIODS = 16
#: Decimal places to which moments are alike: far below what can be seen in a map.
_PLACES = 9

Value = TypeVar("Value")


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
        kernel: Shares of the squared gradient, from the middle on along each axis; those beside
            it count for both sides. None where it is not symmetric.
        strides: Along each axis.
        units: Number of the moments behind it.
    """

    sides: tuple[int, ...]
    kernel: Array | None
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
        self._parts: dict[tuple[int, int, OpenStage | None], dict[int, _Part]] = {}
        self._nodes = _Numbered[Node]()
        self._units = _Numbered[Units](_rounded)
        self._start = self._units.number(INPUT)
        self._spreads: dict[tuple[int, int], _Spread] = {}
        self._transform = lru_cache(maxsize=128)(self._transformed)

    def erf_sizes(self, path: Path) -> tuple[int, ...] | None:
        """Expected ERF size in px along each axis that is told apart.

        Args:
            path: The option taken in each decision.

        Returns:
            The sizes; None if the map is large or not symmetric, or blocks of users' own meet, of
            which more is known together than of each.
        """
        if not self._tells_erfs:
            return None
        units = self._start
        sides = spacing = (1,) * sum(self._alike)
        placed = []
        for node in (node for part in self._along(path) for node in part.nodes):
            found = self._spread(node, units)
            if found.kernel is None:
                return None
            if max(found.sides) > 1:
                placed.append((node, units, spacing))
                steps = zip(sides, found.sides, spacing, strict=True)
                sides = tuple(side + (pixels - 1) * step for side, pixels, step in steps)
            spacing = tuple(map(mul, spacing, found.strides))
            units = found.units
        if math.prod(sides) > _MOST_PIXELS:
            return None
        return self._sizes(placed, sides)

    def _sizes(
        self, placed: list[tuple[int, int, tuple[int, ...]]], sides: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Sizes of the map that kernels make, each of a node, its units and a spacing."""
        periods = tuple(-(-side // _PERIODS) * _PERIODS for side in sides)
        power = np.ones([period // 2 + 1 for period in periods])
        for each in placed:
            power *= self._transform(*each, periods)
        power = _on_each_axis(power, map(_waves_back, sides, periods)).clip(min=0)
        # A map from the middle on says the same, where what lies beside it counts twice.
        magnitude = _weighted(np.sqrt(power), sides)
        middle = tuple((side % 2 - 1) / 2 for side in sides)
        found = ErfMap(magnitude, power, middle, theoretical_size=max(sides))
        return (found.size,) if len(self._alike) == 1 else found.sizes

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
            key = (number, channels, stage)
            if key not in self._parts:
                moves = self._sequence[number].moves(channels, stage)
                self._parts[key] = {move.option: self._part(move) for move in moves}
            part = self._parts[key][option]
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

    def _spread(self, node: int, units: int) -> _Spread:
        key = (node, units)
        if key not in self._spreads:
            reading = read(self._nodes.values[node], self._units.values[units], self._alike)
            # For each axis the one that is told apart.
            every = [n for n, number in enumerate(self._alike) for _ in range(number)]
            kernel = reading.pull(unit(every)).values
            self._spreads[key] = _Spread(
                kernel.shape,
                _half(kernel / kernel.sum()),
                tuple(round(reading.places[axis].stride) for axis in every),
                self._units.number(reading.units),
            )
        return self._spreads[key]

    def _transformed(
        self, node: int, units: int, spacing: tuple[int, ...], periods: tuple[int, ...]
    ) -> Array:
        """Cosine transform of a node's kernel, spaced."""
        found = self._spreads[node, units]
        assert found.kernel is not None
        return _on_each_axis(found.kernel, map(_waves, found.sides, spacing, periods))


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


def _half(kernel: Array) -> Array | None:
    """From the middle on along each axis, where what lies beside it counts twice.

    None if it is not symmetric along all of them.
    """
    for axis in range(kernel.ndim):
        if not np.allclose(kernel, np.flip(kernel, axis), rtol=0, atol=1e-12):
            return None
    half = kernel[tuple(slice(side // 2, None) for side in kernel.shape)]
    return _weighted(half, kernel.shape)


def _weighted(half: Array, sides: tuple[int, ...]) -> Array:
    """Values from the middle of these sides on, times two along each axis beside it."""
    weighted = 2.0**half.ndim * half
    for axis, side in enumerate(sides):
        if side % 2:
            weighted[(slice(None),) * axis + (0,)] /= 2
    return weighted


@lru_cache(maxsize=512)
def _waves(side: int, spacing: int, period: int) -> Array:
    """Cosines of all frequencies at places from the middle on, `(places, frequencies)`."""
    places = spacing * (np.arange(side // 2, side) - (side - 1) / 2)
    return np.cos(2 * math.pi / period * np.outer(places, np.arange(period // 2 + 1)))


@lru_cache(maxsize=512)
def _waves_back(side: int, period: int) -> Array:
    """What takes a transform back to places, `(frequencies, places)`."""
    waves = _waves(side, 1, period).T * (2 / period)
    waves[[0, -1]] /= 2
    return waves


def _on_each_axis(values: Array, matrices: Iterable[Array]) -> Array:
    """Multiply each axis by the matrix in its place."""
    for matrix in matrices:  # The new axis is the last.
        first, *others = values.shape
        values = (values.reshape(first, -1).T @ matrix).reshape(*others, -1)
    return values


def _rounded(value: Any) -> object:
    """Something that is equal for equal numbers, whatever they are in."""
    if isinstance(value, float | np.ndarray):
        rounded = np.round(value, _PLACES)
        return rounded.tobytes() if isinstance(rounded, np.ndarray) else float(rounded)
    if isinstance(value, tuple):
        return tuple(map(_rounded, value))
    fields = getattr(value, "__dataclass_fields__", None)
    return value if fields is None else tuple(_rounded(getattr(value, name)) for name in fields)
