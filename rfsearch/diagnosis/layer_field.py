"""What one layer of a network sees, whatever the network is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from rfsearch.basics.axes import Alike, ByAxis, by_x
from rfsearch.field.expected_erf import ExpectedERF, squared_gradient
from rfsearch.field.expression import Chain, Node, along
from rfsearch.field.node_fields import is_global, unit_grid
from rfsearch.field.unit_grid import PIXELS, Grid

if TYPE_CHECKING:
    from rfsearch.network.architecture import Architecture


class Extent(ByAxis[float]):
    """A number along each axis of the input, in px; a `Fraction` prints as 1/2."""

    __slots__ = ()

    @property
    def low(self) -> float:
        """The smallest of them, in px."""
        return min(self)

    @property
    def high(self) -> float:
        """The largest of them, in px."""
        return max(self)

    def __str__(self) -> str:
        numbers: list[float | Fraction] = [*self]
        words = [str(n) if isinstance(n, Fraction) else f"{n:g}" for n in numbers]
        return by_x(words if len(set(words)) > 1 else words[:1])


@dataclass(frozen=True, slots=True)
class Reach:
    """What units see, in px.

    Attributes:
        size: Theoretical receptive field.
        smallest: The same over the path that sees least: shortcuts instead of branches. Richter
            et al., "Should You Go Deeper? Optimizing Convolutional Neural Network Architectures
            without Training by Receptive Field Analysis", ICMLA 2021, take it as the measure of
            what a layer has yet to add.
        stride: Input pixels between neighbouring units.
    """

    size: Extent
    smallest: Extent
    stride: Extent

    def along(self, axis: int) -> Reach:
        """The same along one axis alone."""
        return Reach(*(Extent(of[axis]) for of in (self.size, self.smallest, self.stride)))


@dataclass(frozen=True, slots=True)
class LayerField:
    """What the units of a layer's output see.

    Attributes:
        name: Place of the layer in the network.
        kind: Type of the layer.
        reach: What its units see.
        is_global: Whether they see the whole image beside that.
        before: What the units of its input see, if the layer is a window over them, or blocks.
        expected: Gives the ERF to expect of its units, where anything is known of that.
    """

    name: str
    kind: str
    reach: Reach
    is_global: bool = False
    before: Reach | None = None
    expected: Callable[[], ExpectedERF] | None = field(default=None, compare=False, repr=False)

    def along(self, axis: int) -> LayerField:
        """What it sees along one axis alone."""
        before = None if self.before is None else self.before.along(axis)
        return replace(self, reach=self.reach.along(axis), before=before)

    @property
    def expected_size(self) -> int | None:
        """ERF size to expect of a random initialisation, in px; None where no rule gives it."""
        try:
            return None if self.expected is None else self.expected().size
        except ValueError:
            return None

    @property
    def grows(self) -> bool:
        """Whether the layer is known to make the receptive field larger."""
        return self.before is not None and self.reach.size.high > self.before.size.high

    def is_unproductive(self, input_size: tuple[int, ...]) -> bool:
        """Whether it grows where every path into it already sees the whole image.

        Richter et al., "Should You Go Deeper?", ICMLA 2021; the first such layer is their border
        layer. Layers of one tap, which add no receptive field anywhere, are not counted.

        Args:
            input_size: Sides of the input, in px.
        """
        if self.before is None or not self.grows:
            return False
        pairs = zip(self.before.smallest, input_size, strict=True)
        return all(seen >= pixels for seen, pixels in pairs)

    @property
    def downsamples(self) -> bool:
        """Whether the layer is known to reduce the resolution."""
        return self.before is not None and self.reach.stride.high > self.before.stride.high


def architecture_layers(architecture: Architecture) -> tuple[LayerField, ...]:
    """The stem, poolings and blocks of an architecture and the maps of its neck, first to last."""
    layers: list[LayerField] = []
    apart = _apart(architecture)
    grids, sees_all = [PIXELS] * len(apart), False
    before, nodes = _reach(grids, apart), tuple[Node, ...]()
    for name, kind, node in architecture_nodes(architecture):
        nodes = (*nodes, node)
        grids = [unit_grid(along(node, axis), grid) for axis, grid in enumerate(grids)]
        reach = _reach(grids, apart)
        sees_all = sees_all or is_global(node)
        expected = partial(_expected, Chain(nodes), apart)
        layers.append(LayerField(name, kind, reach, sees_all, before, expected))
        before = reach
    neck = architecture.neck
    if neck is not None and neck.upsamples:
        for name, node in neck.steps(architecture.body()).items():
            reach, expected = _seen(node, apart), partial(_expected, node, apart)
            layers.append(
                LayerField(f"neck {name}", neck.kind, reach, is_global(node), expected=expected)
            )
    return tuple(layers)


def architecture_outputs(architecture: Architecture) -> tuple[LayerField, ...]:
    """The output maps of an architecture, by their levels."""
    apart = _apart(architecture)
    return tuple(
        LayerField(
            level,
            "output",
            _seen(node, apart),
            is_global(node),
            expected=partial(_expected, node, apart),
        )
        for level, node in architecture.expressions().items()
    )


def architecture_nodes(architecture: Architecture) -> list[tuple[str, str, Node]]:
    """Name, kind and expression of each layer of an architecture, first to last.

    The layers of a neck that upsamples are left out: they do not follow one another.
    """
    _, *stages = architecture.body().parts
    stem = architecture.stem
    nodes: list[tuple[str, str, Node]] = [("stem", "stem", Chain(stem.convolutions(3)))]
    if stem.pool != "none":
        nodes.append(("stem pool", f"{stem.pool}_pool", Chain(stem.pooling())))
    for number, (stage, lowered) in enumerate(zip(architecture.stages, stages, strict=True), 1):
        children = list(lowered.nodes)  # type: ignore[union-attr]  # A stage lowers to a chain.
        if stage.downsample != "conv":
            nodes.append((f"stage {number} pool", stage.downsample, children.pop(0)))
        nodes += [
            (f"stage {number} block {place}", stage.block, child)
            for place, child in enumerate(children, 1)
        ]
    neck = architecture.neck
    if neck is not None and not neck.upsamples:
        nodes.append(("neck", neck.kind, Chain(neck.follow(architecture.stages[-1].width))))
    return nodes


def _apart(architecture: Architecture) -> Alike:
    """Which axes of an architecture are alike: all of them, or none."""
    number = architecture.num_axes
    return (1,) * number if architecture.axes_differ else (number,)


def _expected(node: Node, apart: Alike) -> ExpectedERF:
    return ExpectedERF(squared_gradient(node, apart))


def _seen(node: Node, apart: Alike) -> Reach:
    return _reach([unit_grid(along(node, axis)) for axis in range(len(apart))], apart)


def _reach(grids: Sequence[Grid], apart: Alike) -> Reach:
    each = [grid for grid, number in zip(grids, apart, strict=True) for _ in range(number)]
    fields = [grid.field() for grid in each]
    return Reach(
        Extent(*(field.size for field in fields)),
        Extent(*(grid.smallest for grid in each)),
        Extent(*(field.stride for field in fields)),
    )
