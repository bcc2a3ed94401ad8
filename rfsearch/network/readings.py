"""What can be read off an architecture: by level, receptive fields; costs; its JSON form."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, Self

from rfsearch.basics.axes import AXIS_NAMES, on_axis
from rfsearch.basics.validation import FrozenData, checked_size, parse
from rfsearch.field.cost import Cost, FeatureMap
from rfsearch.field.expected_erf import ExpectedERF
from rfsearch.field.expression import Chain
from rfsearch.field.node_fields import receptive_field
from rfsearch.field.receptive_field import ReceptiveField

#: A weight, its gradient and the two averages of Adam, in float32.
BYTES_PER_PARAMETER = 16


class Levelled(ABC):
    """Anything with named output maps and a form in JSON: an architecture, or a traced model."""

    @property
    @abstractmethod
    def levels(self) -> tuple[str, ...]:
        """Names of the output maps, the finest first."""

    @property
    @abstractmethod
    def axes(self) -> tuple[str, ...]:
        """Names of the input's axes: `time`, or `height` and `width`, or `depth` beside them."""

    @abstractmethod
    def _axis_fields(self, level: str) -> tuple[ReceptiveField, ...]:
        """Theoretical receptive field of a level along each axis, in px."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and integers, fit for JSON."""

    def receptive_fields(self, axis: str | None = None) -> dict[str, ReceptiveField]:
        """Theoretical receptive field of each output map, in px, the finest first.

        Args:
            axis: Name of the axis, as for `receptive_field`.

        Raises:
            ValueError: As for `receptive_field`.
        """
        return {level: self.receptive_field(level, axis) for level in self.levels}

    def receptive_field(self, level: str | None = None, axis: str | None = None) -> ReceptiveField:
        """Theoretical receptive field of one output map, by default the last, in px.

        Behind an upsampling, units of a map see intervals of different sizes: it is that of the
        unit that sees most.

        Args:
            level: Name of the map.
            axis: One of `axes`. `None` means whichever: all of them must be alike.

        Raises:
            ValueError: If there is no such level or axis, or the axes differ and none is named.
        """
        level = self._checked(level)
        fields = self._axis_fields(level)
        if axis is not None:
            found: ReceptiveField = on_axis(dict(zip(self.axes, fields, strict=True)), axis)
            return found
        first, *others = fields
        if any((one.size, one.stride) != (first.size, first.stride) for one in others):
            sizes, strides = (
                "x".join(str(getattr(one, name)) for one in fields) for name in ("size", "stride")
            )
            raise ValueError(
                f"`axis` must be one of {', '.join(self.axes)} where they differ: `{level}` sees "
                f"{sizes} px at a stride of {strides} px."
            )
        return first

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that are equal for equal architectures, on any machine."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _checked(self, level: str | None) -> str:
        if level is None:
            return self.levels[-1]
        if level not in self.levels:
            raise ValueError(
                f"`level` must be one of {', '.join(self.levels)}, but got {level!r}."
            )
        return level


class Readings(FrozenData, Levelled):
    """Data that lowers to one expression for each output map."""

    @property
    @abstractmethod
    def num_features(self) -> int:
        """Channels of each output map."""

    @property
    @abstractmethod
    def input_multiple(self) -> int:
        """What height and width of an image must be a multiple of, in px."""

    @abstractmethod
    def expressions(self, in_chans: int = 3) -> dict[str, Chain]:
        """The expression from the input image to each output map, by level."""

    @abstractmethod
    def _body_cost(self, size: FeatureMap, in_chans: int) -> Cost:
        """Cost without a classifier, for one image."""

    @abstractmethod
    def _saved_values(self, size: FeatureMap, in_chans: int) -> float:
        """Values that autograd keeps of one image, without a classifier."""

    # -- receptive fields ------------------------------------------------------------------

    def lower(self, in_chans: int = 3, level: str | None = None) -> Chain:
        """The expression from the input image to one output map, by default the last.

        Raises:
            ValueError: If there is no such level.
        """
        return self.expressions(in_chans)[self._checked(level)]

    @cached_property
    def _expressions(self) -> dict[str, Chain]:
        return self.expressions()

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the input's axes."""
        return AXIS_NAMES[2]

    def _axis_fields(self, level: str) -> tuple[ReceptiveField, ...]:
        return (self._fields[level],) * len(self.axes)

    @cached_property
    def _fields(self) -> dict[str, ReceptiveField]:
        return {level: receptive_field(node) for level, node in self._expressions.items()}

    def expected_erf(self, level: str | None = None) -> ExpectedERF:
        """Effective receptive field to expect of a random initialisation, in closed form.

        Args:
            level: The output map, by default the last.

        Raises:
            ValueError: If there is no such level.
        """
        return self._expected[self._checked(level)]

    @cached_property
    def _expected(self) -> dict[str, ExpectedERF]:
        return {level: ExpectedERF(node) for level, node in self._expressions.items()}

    # -- costs -----------------------------------------------------------------------------

    def cost(
        self, input_size: int | tuple[int, int], in_chans: int = 3, num_classes: int = 0
    ) -> Cost:
        """Parameters and FLOPs for one image, the classifier included if there are classes.

        Args:
            input_size: Side or `(height, width)` of the image in px.
            in_chans: Channels of the image.
            num_classes: Outputs of the linear classifier; 0 for none.

        Returns:
            The costs, and the size of the last output map.

        Raises:
            ValueError: If the image is too small for the network, or its size is no multiple of
                `input_multiple`.
        """
        size = checked_size(input_size)
        self.check_input_size(size)
        body = self._body_cost(FeatureMap(*size), in_chans)
        weights = self.num_features * num_classes
        return Cost(body.parameters + weights + num_classes, body.flops + 2 * weights, body.output)

    def training_memory(
        self,
        input_size: int | tuple[int, int],
        batch_size: int,
        in_chans: int = 3,
        num_classes: int = 0,
        bytes_per_activation: int = 4,
    ) -> float:
        """Estimated memory of an update, in MiB: weights, optimiser, what the backward pass needs.

        Weights, their gradients and the two averages of Adam are float32; activations are what
        autograd keeps between the passes, each tensor once. Not counted are what the kernels need
        while they run, gradients of activations, the images themselves, buffers, and what a task
        puts behind the network; and weights have no gradients yet when most activations are kept.
        Of 18 random networks of nine shipped spaces, the peak of an update (AdamW, 8 images of
        64 px, float32, CPU, as torch's profiler counts tensors) was 0.87 to 1.17 times that, in
        the median 1.01 times.

        Args:
            input_size: Side or `(height, width)` of the images in px.
            batch_size: Images of an update.
            in_chans: Channels of the images.
            num_classes: Outputs of the linear classifier; 0 for none.
            bytes_per_activation: 4 for float32, 2 for bfloat16, which then is too few for layers
                that autocast keeps in float32, such as layer normalisation.

        Raises:
            ValueError: As for `cost`.
        """
        parameters = self.cost(input_size, in_chans, num_classes).parameters
        kept = batch_size * self._saved_values(FeatureMap(*checked_size(input_size)), in_chans)
        return (BYTES_PER_PARAMETER * parameters + bytes_per_activation * kept) / 2**20

    def takes(self, input_size: tuple[int, int]) -> bool:
        """Whether height and width of images are multiples of `input_multiple`."""
        return all(side % self.input_multiple == 0 for side in input_size)

    def check_input_size(self, input_size: tuple[int, int]) -> None:
        """Refuse images whose maps do not meet where a neck joins them.

        Raises:
            ValueError: If height or width is no multiple of `input_multiple`.
        """
        if not self.takes(input_size):
            height, width = input_size
            raise ValueError(
                f"Images must be a multiple of {self.input_multiple} px high and wide, the last "
                f"stride of a network whose neck upsamples, but got {height}x{width} px."
            )

    # -- JSON ------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and integers, fit for JSON."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ValueError: If a value is unknown or impossible, with the place of the value.
        """
        return parse(cls, values, "architecture")
