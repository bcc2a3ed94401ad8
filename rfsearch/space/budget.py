"""What a candidate may cost, beside the receptive field that it must have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rfsearch.basics.ranges import Range
from rfsearch.basics.validation import checked_size
from rfsearch.network.architecture import Architecture

if TYPE_CHECKING:
    from rfsearch.field.cost import Cost
    from rfsearch.space.candidate import Candidate

_POSITIVE = (
    "max_output_stride",
    "max_params_m",
    "max_flops_g",
    "max_training_memory_mb",
    "max_latency_ms",
    "max_peak_memory_mb",
    "batch_size",
    "bytes_per_activation",
)
#: Gates whose values depend on the images.
_COSTS = {"parameters", "flops", "training_memory"}


@dataclass(frozen=True)
class Budget:
    """Upper bounds; None is no bound.

    Attributes:
        max_output_stride: Largest stride of the output map in px, along any axis; of several, the
            coarsest's.
        max_params_m: Most parameters, in millions, the classifier included.
        max_flops_g: Most floating-point operations for one image, in 10^9; a multiply-add is two.
        max_training_memory_mb: Most memory that an update of the weights is estimated to need, in
            MiB; see `Architecture.training_memory`.
        max_latency_ms: Longest median time of a forward pass of one image, in ms on the device.
        max_peak_memory_mb: Most memory during that pass, in MiB; see `measure_latency`.
        input_size: `(height, width)` of an image in px; of a sequence `(time,)`.
        in_chans: Channels of an image.
        num_classes: Outputs of the classifier; 0 for none.
        batch_size: Images of an update.
        bytes_per_activation: Of the training: 4 for float32, 2 for bfloat16.

    Raises:
        ValueError: If a bound, `batch_size` or `bytes_per_activation` is not positive.
    """

    max_output_stride: int | None = None
    max_params_m: float | None = None
    max_flops_g: float | None = None
    max_training_memory_mb: float | None = None
    max_latency_ms: float | None = None
    max_peak_memory_mb: float | None = None
    input_size: tuple[int, ...] = (224, 224)
    in_chans: int = 3
    num_classes: int = 0
    batch_size: int = 64
    bytes_per_activation: int = 4

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"`{name} > 0` must hold, but got {value}.")

    def ranges(self) -> dict[str, Range]:
        """What is allowed, by gate, for the bounds in closed form that are on."""
        return _ranges(
            output_stride=(self.max_output_stride, "px"),
            parameters=(self.max_params_m, "M parameters"),
            flops=(self.max_flops_g, "GFLOPs"),
            training_memory=(self.max_training_memory_mb, "MiB"),
        )

    def measured_ranges(self) -> dict[str, Range]:
        """What is allowed, by gate, for the bounds on what is measured that are on."""
        return _ranges(
            latency=(self.max_latency_ms, "ms"), memory=(self.max_peak_memory_mb, "MiB")
        )

    def takes(self, candidate: Candidate) -> bool:
        """Whether its images have a size that the network can take, as far as bounds ask for it.

        Without bounds on what depends on the images, those too small for a window are not told.

        Raises:
            ValueError: If they have another number of axes.
        """
        if not isinstance(candidate, Architecture):
            return True  # It was traced with such an image.
        if not candidate.takes(self.input_size):
            return False
        if not _COSTS & self.ranges().keys():
            return True
        checked_size(self.input_size, len(candidate.axes))
        try:
            candidate.cost(self.input_size, self.in_chans)
        except ValueError:
            return False
        return True

    def cost(self, candidate: Candidate) -> Cost:
        """Parameters and FLOPs for one image; of a traced model those that it has with its head.

        Raises:
            ValueError: If the images are too small for the network.
        """
        if isinstance(candidate, Architecture):
            return candidate.cost(self.input_size, self.in_chans, self.num_classes)
        return candidate.cost()

    def values(self, candidate: Candidate) -> dict[str, float]:
        """What a candidate needs, by gate, for the bounds that are on.

        Raises:
            ValueError: If the images are too small for the network.
        """
        needs: dict[str, float] = {}
        if self.max_output_stride is not None:
            fields = (candidate.receptive_field(axis=axis) for axis in candidate.axes)
            needs["output_stride"] = max(field.stride for field in fields)
        if self.max_params_m is not None or self.max_flops_g is not None:
            cost = self.cost(candidate)
            needs |= {"parameters": cost.parameters / 1e6, "flops": cost.flops / 1e9}
        if self.max_training_memory_mb is not None:
            needs["training_memory"] = self.training_memory(candidate)
        return {gate: needs[gate] for gate in self.ranges()}

    def training_memory(self, candidate: Candidate) -> float:
        """Memory that an update of the weights is estimated to need, in MiB.

        Raises:
            ValueError: If the images are too small for the network.
        """
        if not isinstance(candidate, Architecture):
            return candidate.training_memory(self.batch_size, self.bytes_per_activation)
        return candidate.training_memory(
            self.input_size,
            self.batch_size,
            self.in_chans,
            self.num_classes,
            self.bytes_per_activation,
        )


def _ranges(**bounds: tuple[float | None, str]) -> dict[str, Range]:
    return {
        gate: Range(0, high, unit) for gate, (high, unit) in bounds.items() if high is not None
    }
