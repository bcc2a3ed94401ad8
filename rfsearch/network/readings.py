"""What can be read off an architecture: by level, receptive fields; costs; its JSON form."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, Self, TypeVar

from rfsearch.basics.axes import AXIS_NAMES, Alike, by_x, on_axis
from rfsearch.basics.validation import FrozenData, checked_size, parse
from rfsearch.field.cost import Cost, FeatureMap
from rfsearch.field.coverage import Coverage, coverage
from rfsearch.field.expected_erf import ExpectedERF, squared_gradient
from rfsearch.field.expression import Chain, Node, alike, along
from rfsearch.field.node_fields import is_global, receptive_field
from rfsearch.field.receptive_field import ReceptiveField
from rfsearch.field.skipping import skipped_units

#: A weight, its gradient and the two averages of Adam, in float32.
BYTES_PER_PARAMETER = 16


#: What is read along an axis.
Read = TypeVar("Read")


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
                by_x(getattr(one, name) for one in fields) for name in ("size", "stride")
            )
            raise ValueError(
                f"`axis` must be one of {', '.join(self.axes)} where they differ: `{level}` sees "
                f"{sizes} px at a stride of {strides} px."
            )
        return first

    @abstractmethod
    def sees_everything(self, level: str | None = None) -> bool:
        """Whether a part before an output map mixes the whole image, beside the local field.

        Such parts are attention, squeeze-and-excite, global context and pooled image levels; in a
        traced model also whatever else mixes the whole extent of an axis, such as normalisation
        over space. The pooling of a classifier's head, behind which there is no map, is none.

        Args:
            level: Name of the map. `None` means the last.

        Raises:
            ValueError: If there is no such level.
        """

    @property
    def axes_differ(self) -> bool:
        """Whether units of a map see another extent, or are another distance apart, along some
        axis.
        """
        every = (self._axis_fields(level) for level in self.levels)
        return any(len({(one.size, one.stride) for one in fields}) > 1 for fields in every)

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

    num_axes: Literal[1, 2, 3] = 2

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
        return AXIS_NAMES[self.num_axes]

    @property
    def axes_differ(self) -> bool:
        """Whether a map sees along one axis what it does not see along another."""
        return any(len(apart) > 1 for apart in self._alike.values())

    @cached_property
    def _alike(self) -> dict[str, Alike]:
        return {level: alike(node, self.num_axes) for level, node in self._expressions.items()}

    def _axis_fields(self, level: str) -> tuple[ReceptiveField, ...]:
        return self._fields[level]

    @cached_property
    def _fields(self) -> dict[str, tuple[ReceptiveField, ...]]:
        return {
            level: self._on_axes(node, self._alike[level], receptive_field)
            for level, node in self._expressions.items()
        }

    @staticmethod
    def _on_axes(node: Node, apart: Alike, read: Callable[[Node], Read]) -> tuple[Read, ...]:
        """What is read along each axis; axes that are alike share one reading."""
        found: list[Read] = []
        for axis, number in enumerate(apart):
            found += [read(along(node, axis))] * number
        return tuple(found)

    def sees_everything(self, level: str | None = None) -> bool:
        """As `Levelled.sees_everything` says."""
        return is_global(self._expressions[self._checked(level)])

    def expected_erf(self, level: str | None = None, axis: str | None = None) -> ExpectedERF:
        """Effective receptive field to expect of a random initialisation, in closed form.

        Args:
            level: The output map, by default the last.
            axis: One of `axes`, along which its numbers are then. `None` means whichever: all of
                them must be alike.

        Raises:
            ValueError: If there is no such level or axis, or the axes differ and none is named.
        """
        level = self._checked(level)
        erfs = self._expected[level]
        if axis is not None:
            found: ExpectedERF = on_axis(dict(zip(self.axes, erfs, strict=True)), axis)
            return found
        if len(self._alike[level]) > 1:
            raise ValueError(
                f"`axis` must be one of {', '.join(self.axes)} where they differ: `{level}` has "
                "windows that are not square."
            )
        return erfs[0]

    @cached_property
    def _expected(self) -> dict[str, tuple[ExpectedERF, ...]]:
        return {level: self._erfs(level) for level in self._expressions}

    def _erfs(self, level: str) -> tuple[ExpectedERF, ...]:
        """One for each axis; axes that are alike have the one of all of them."""
        apart = self._alike[level]
        gradient = squared_gradient(self._expressions[level], apart)
        if len(apart) == 1:
            return (ExpectedERF(gradient),) * self.num_axes
        return tuple(ExpectedERF(gradient, axis) for axis in range(self.num_axes))

    @abstractmethod
    def _covering(self) -> Node:
        """The expression whose coverage is asked for."""

    def coverage(self, axis: str | None = None) -> Coverage:
        """The pixels that a unit of the last map touches along an axis.

        Behind an upsampling units touch different pixels, and each of several units of the last
        stage: then it is those of the last stage, whose gaps are what is wrong with them.

        Args:
            axis: One of `axes`. `None` means the one along which most pixels are left out.

        Raises:
            ValueError: If there is no such axis.
        """
        every = self._coverages
        if axis is None:
            return max(every, key=lambda seen: seen.gridding)
        found: Coverage = on_axis(dict(zip(self.axes, every, strict=True)), axis)
        return found

    @cached_property
    def _coverages(self) -> tuple[Coverage, ...]:
        node = self._covering()
        return self._on_axes(node, alike(node, self.num_axes), coverage)

    @cached_property
    def _skipped_units(self) -> float:
        node = self._covering()
        return max(self._on_axes(node, alike(node, self.num_axes), skipped_units))

    def skipped_units(self) -> float:
        """Share of a map's units along an axis that nothing behind it reads, where it is largest.

        The image is one of the maps. Of several output maps, and behind an upsampling, it is that
        of the way to the last stage. See `rfsearch.field.skipping`.
        """
        return self._skipped_units

    # -- costs -----------------------------------------------------------------------------

    def cost(
        self, input_size: int | tuple[int, ...], in_chans: int = 3, num_classes: int = 0
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
        size = checked_size(input_size, self.num_axes)
        self.check_input_size(size)
        body = self._body_cost(FeatureMap(*size), in_chans)
        weights = self.num_features * num_classes
        return Cost(body.parameters + weights + num_classes, body.flops + 2 * weights, body.output)

    def training_memory(
        self,
        input_size: int | tuple[int, ...],
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
        size = FeatureMap(*checked_size(input_size, self.num_axes))
        kept = batch_size * self._saved_values(size, in_chans)
        return (BYTES_PER_PARAMETER * parameters + bytes_per_activation * kept) / 2**20

    def takes(self, input_size: tuple[int, ...]) -> bool:
        """Whether the sides of images are multiples of `input_multiple`.

        Raises:
            ValueError: If there is not one for each axis.
        """
        if self.input_multiple == 1:
            return True
        sides = checked_size(input_size, self.num_axes)
        return all(side % self.input_multiple == 0 for side in sides)

    def check_input_size(self, input_size: tuple[int, ...]) -> None:
        """Refuse images whose maps do not meet where a neck joins them.

        Raises:
            ValueError: If height or width is no multiple of `input_multiple`.
        """
        if not self.takes(input_size):
            raise ValueError(
                f"Images must be a multiple of {self.input_multiple} px high and wide, the last "
                "stride of a network whose neck upsamples, but got "
                f"{'x'.join(map(str, input_size))} px."
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
