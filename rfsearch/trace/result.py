"""What a trace gives: the receptive fields of a whole model, and what else can be read off it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import lcm
from typing import TYPE_CHECKING, Self

from rfsearch.basics.axes import by_x, on_axis
from rfsearch.field.coverage import Coverage
from rfsearch.field.expected_erf import ExpectedERF
from rfsearch.tape.tape import Playing, Tape, TapedGradient
from rfsearch.trace._readings import TracedReadings
from rfsearch.trace.costs import DatalessRun
from rfsearch.trace.layers import LayerRow
from rfsearch.trace.traced_map import TracedMap, columns_of, traced_maps

if TYPE_CHECKING:
    import pandas as pd

#: Outputs that are described one by one.
_MOST_OUTPUTS = 4


@dataclass(frozen=True)
class TracedModel(TracedReadings):
    """Receptive fields of a model, and what else can be asked of a candidate.

    Attributes:
        outputs: The model's outputs by name, in order.
        global_layers: Names of the layers that mix the whole extent of an axis: attention,
            squeeze-and-excite, global pooling, normalisation over space. The model itself is
            `"(model)"`.
        input_size: Sides of the input, in px: `(height, width)` of an image.
        unfollowed: Why, for each output whose field could not be followed.
    """

    outputs: Mapping[str, TracedMap]
    global_layers: tuple[str, ...]
    input_size: tuple[int, ...]
    _rows: tuple[LayerRow, ...]
    _run: DatalessRun = field(repr=False, compare=False)
    unfollowed: Mapping[str, str] = field(default_factory=dict)
    _tape: Tape | None = field(default=None, repr=False, compare=False)
    _steps: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)
    _powers: Mapping[str, float] | None = field(default=None, repr=False, compare=False)

    def __deepcopy__(self, memo: object) -> Self:
        """Itself, which never changes: copies of a network that keeps its trace share it."""
        return self

    def __repr__(self) -> str:
        """A line for each of a few outputs."""
        outputs = [f"    {name}: {one!r}" for name, one in self.outputs.items()]
        if len(outputs) > _MOST_OUTPUTS:
            outputs[_MOST_OUTPUTS - 1 :] = [f"    and {len(outputs) - _MOST_OUTPUTS + 1} more"]
        first = f"TracedModel of {by_x(self.input_size)} px, {len(self._rows)} layers"
        mixing = f", {len(self.global_layers)} of them global" if self.global_layers else ""
        lost = f", {len(self.unfollowed)} outputs not followed" if self.unfollowed else ""
        return "\n".join([f"{first}{mixing}{lost}", *outputs])

    @property
    def output(self) -> TracedMap:
        """The only output, or the last of several: the deepest of a pyramid of features.

        Raises:
            ValueError: If an output could not be followed: take one of `outputs` by its name.
        """
        if self.unfollowed:
            raise ValueError(next(iter(self.unfollowed.values())))
        return list(self.outputs.values())[-1]

    def with_weights(self, powers: Mapping[str, float]) -> TracedModel:
        """The same, whose expected ERF is that of weights of these mean squares, by name."""
        return replace(self, _powers=powers)

    def expected_erf(
        self,
        level: str | None = None,
        *,
        axis: str | None = None,
        layer: str | None = None,
        weight_powers: Mapping[str, float] | None = None,
    ) -> ExpectedERF:
        """Effective receptive field to expect of a random initialisation.

        Args:
            level: Name of the output. `None` means the coarsest.
            axis: One of `axes`, along which its numbers are then. `None` means all of them.
            layer: Name of a layer, whose output to look at instead.
            weight_powers: Mean squares of the model's parameters by name. `None` means those of
                `with_weights`, or of a random initialisation, one over the fan-in.

        Raises:
            ValueError: If there is no such output, axis or layer, no rule is known for an
                operation before it, or it has no positions.
        """
        if level is not None and layer is not None:
            raise ValueError("Only one of `level` and `layer` can be given.")
        traced, step = self._output(level) if layer is None else self._layer(layer)
        assert self._tape is not None
        playing = self._played if weight_powers is None else self._tape.play(weight_powers)
        gradient = TapedGradient(
            playing,
            playing.located(step, traced.name),
            tuple(traced.axes.values()),
            traced.periods,
        )
        return ExpectedERF(
            gradient,
            None if axis is None else on_axis({name: n for n, name in enumerate(self.axes)}, axis),
        )

    @cached_property
    def _played(self) -> Playing:
        assert self._tape is not None
        return self._tape.play(self._powers)

    def coverage(self, level: str | None = None) -> Coverage:
        """The pixels that a unit of one output touches, along the axis where most are missing.

        Where units differ, as behind an upsampling, it is the one that misses most.

        Args:
            level: Name of the output. `None` means the coarsest.

        Raises:
            ValueError: As for `expected_erf`.
        """
        traced, step = self._output(level)
        playing = self._played
        number = playing.located(step, traced.name)
        units = (
            playing.coverage(number, axis, unit)
            for axis in range(len(self.input_size))
            for unit in range(traced.periods[axis])
        )
        return max(units, key=lambda seen: seen.gridding)

    def skipped_units(self, level: str | None = None) -> float:
        """Share of a map's units along an axis that nothing behind it reads, where it is largest.

        The images are one of the maps. See `rfsearch.field.skipping`.

        Args:
            level: Name of the output that is made of the maps. `None` means the coarsest.

        Raises:
            ValueError: As for `expected_erf`.
        """
        return self.most_skipped(level)[0]

    def most_skipped(self, level: str | None = None) -> tuple[float, str]:
        """The same share, and the operation that reads the rest of that map."""
        traced, step = self._output(level)
        number = self._played.located(step, traced.name)
        axes = range(len(self.input_size))
        reads = [one for axis in axes for one in self._played.reads(number, axis)]
        return max(((read.skipped, place) for read, place in reads), key=lambda one: one[0])

    def sees_everything(self, level: str | None = None) -> bool:
        """As `Levelled.sees_everything` says."""
        output = self.outputs[self._checked(level)]
        if not output.is_pooled:
            return output.is_global
        return any(one.is_global and not one.is_pooled for one in self._layer_maps())

    def _layer_maps(self) -> Iterator[TracedMap]:
        """The maps that layers give, but for those that could not be followed."""
        for row in self._rows:
            with suppress(ValueError):
                yield from traced_maps(row.name, row.shape, row.dependence, self.input_size)

    def taped(self) -> tuple[Tape, int]:
        """The tape of the operations, and the step on it that made the coarsest output.

        Raises:
            ValueError: As for `expected_erf`.
        """
        _, step = self._output(None)
        assert self._tape is not None
        return self._tape, step

    def _output(self, level: str | None) -> tuple[TracedMap, int]:
        name = self._checked(level)
        if name not in self._steps:
            raise ValueError(f"`{name}` is one of several maps in a tensor: name a layer instead.")
        return self.outputs[name], self._steps[name]

    def _layer(self, layer: str) -> tuple[TracedMap, int]:
        row = next((row for row in self._rows if row.name == layer), None)
        if row is None:
            raise ValueError(
                f"`layer` must be one whose output depends on the input, but got {layer!r}."
            )
        maps = traced_maps(row.name, row.shape, row.dependence, self.input_size)
        if len(maps) != 1 or row.step is None:
            raise ValueError(
                f"The output of layer `{layer}` must be one map, but it is {len(maps)}."
            )
        return maps[0], row.step

    @property
    def period(self) -> tuple[int, ...]:
        """Pixels along each axis after which the units of all layers lie as before.

        An image that is cut by whole periods keeps the place of every unit that is left.

        Raises:
            ValueError: If a layer could not be followed, or its units repeat no pattern.
        """
        maps = [*self.outputs.values()]
        for row in self._rows:
            maps += traced_maps(row.name, row.shape, row.dependence, self.input_size)
        grids = [[pooled.grid for pooled in one._axes] for one in maps]
        if any(grid.first is not None for of_map in grids for grid in of_map):
            raise ValueError("The units of a layer repeat no pattern.")
        return tuple(lcm(*(grid.step for grid in along)) for along in zip(*grids, strict=True))

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row for each output of each module, in the order in which the modules finished.

        Columns: `name`, `type`, `output_size` (a shape), for each axis, as `height`, its name,
        `height_stride`, `height_start` and `height_smallest` (px), and `is_global`. Strides that
        are no whole numbers are `Fraction`s, and so are their starts. A tensor that holds several
        maps side by side has a row for each, and what cannot be followed no numbers.
        """
        import pandas as pd

        rows = []
        for row in self._rows:
            first = {"name": row.name, "type": row.type, "output_size": row.shape}
            maps: list[TracedMap] = []
            with suppress(ValueError):
                maps = traced_maps(row.name, row.shape, row.dependence, self.input_size)
            rows += [first | {"name": one.name} | columns_of(one) for one in maps] or [first]
        return pd.DataFrame(rows)
