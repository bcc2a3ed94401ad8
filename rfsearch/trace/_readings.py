"""What can be read off a traced model as off an architecture: fields by level, costs, identity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rfsearch.basics.axes import AXIS_NAMES
from rfsearch.field.cost import Cost, FeatureMap
from rfsearch.field.receptive_field import ReceptiveField
from rfsearch.network.readings import BYTES_PER_PARAMETER, Levelled

if TYPE_CHECKING:
    from rfsearch.trace.costs import DatalessRun
    from rfsearch.trace.layers import LayerRow
    from rfsearch.trace.traced_map import TracedMap


class TracedReadings(Levelled):
    """The same questions as of an `Architecture`, with the same names.

    Levels are the outputs' names, by ascending stride. Costs are those of the whole model, its
    head included, for images of the size that was traced.
    """

    outputs: Mapping[str, TracedMap]
    input_size: tuple[int, ...]
    unfollowed: Mapping[str, str]
    _rows: tuple[LayerRow, ...]
    _run: DatalessRun

    # -- receptive fields ------------------------------------------------------------------

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the outputs, the finest first.

        Raises:
            ValueError: If an output could not be followed.
        """
        for reason in self.unfollowed.values():
            raise ValueError(reason)
        return tuple(sorted(self.outputs, key=lambda name: max(self.outputs[name].stride)))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the input's axes."""
        return AXIS_NAMES[len(self.input_size)]

    def _axis_fields(self, level: str) -> tuple[ReceptiveField, ...]:
        return tuple(self.outputs[level].axes.values())

    # -- costs -----------------------------------------------------------------------------

    def cost(self) -> Cost:
        """Parameters and FLOPs for one image of `input_size`, and the size of the coarsest map."""
        output = self.outputs[self._checked(None)]
        return Cost(self._run.parameters, self._run.flops, FeatureMap(*output.units))

    def training_memory(self, batch_size: int, bytes_per_activation: int = 4) -> float:
        """Estimated memory of an update, in MiB, as `Architecture.training_memory` estimates it.

        Args:
            batch_size: Images of an update.
            bytes_per_activation: 4 for float32, 2 for bfloat16.

        Raises:
            ValueError: If the model cannot be trained on tensors without data.
        """
        kept = batch_size * self._run.saved_bytes * bytes_per_activation / 4
        return (BYTES_PER_PARAMETER * self._run.parameters + kept) / 2**20

    # -- identity --------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and integers, fit for JSON: layers and their maps."""
        parameters = self._run.twin.named_parameters()
        return {
            "input_size": list(self.input_size),
            "in_chans": self._run.image.shape[1],
            "parameters": [[name, list(one.shape)] for name, one in parameters],
            "layers": [[row.name, row.type, list(row.shape), *_sizes(row)] for row in self._rows],
            "outputs": list(self.outputs),
        }


def _sizes(row: LayerRow) -> Iterator[list[int]]:
    """How far units of a layer see along each axis, by phase; nothing if that is not known."""
    for axis in row.dependence.axes:
        yield [size for source in axis.sources for size in source.grid.sizes]
