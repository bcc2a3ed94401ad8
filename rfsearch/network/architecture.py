"""Candidates as data: frozen, hashable, exact JSON round trip."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from rfsearch.basics.notebook import Part, strip
from rfsearch.basics.sides import Sides, number
from rfsearch.field.cost import Cost, FeatureMap, cost
from rfsearch.field.expression import Chain, Node, alike
from rfsearch.field.node_fields import receptive_field
from rfsearch.field.saved_activations import saved_values
from rfsearch.network.axes import check_neck, check_stage, check_stem
from rfsearch.network.neck import Body
from rfsearch.network.necks import AnyNeck
from rfsearch.network.readings import Readings
from rfsearch.network.stages import Stage
from rfsearch.network.stems import Stem


class Architecture(Readings):
    """A convolutional network's body: a stem, stages and perhaps a neck.

    Without a neck its one output map is the last stage's, called `C2` for one stage, `C5` for
    four, as in the ResNet literature (the stem is C1). A neck makes output maps of its own
    (`rfsearch.network.necks`). One that upsamples needs parts that divide sizes exactly: strides
    of 1 or 2, or poolings.

    Its input has two axes, height and width; or, with `num_axes` of 1, the one axis of a sequence,
    or three. Windows may differ between axes. There are no necks but for images.
    """

    stem: Stem
    stages: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1, max_length=16)]
    neck: AnyNeck | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_stem(self.stem, self.num_axes)
        for place, stage in enumerate(self.stages, start=1):
            check_stage(stage, place, self.num_axes)
        if self.neck is not None:
            check_neck(self.neck.kind, self.num_axes)
            self.neck.check(self.body())
        return self

    @model_serializer(mode="wrap")
    def _without_the_common_axes(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that an architecture is written as it was before there were other axes.
        values: dict[str, Any] = handler(self)
        common = {"num_axes"} if self.num_axes == 2 else set()
        return {name: value for name, value in values.items() if name not in common}

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the output maps, the finest first."""
        last = len(self.stages) + 1
        return self.neck.levels(last) if self.neck is not None else (f"C{last}",)

    @property
    def num_features(self) -> int:
        """Channels of each output map."""
        return self.neck.num_features if self.neck is not None else self.stages[-1].width

    @property
    def global_layers(self) -> tuple[str, ...]:
        """Parts whose units see the whole image beside their local field, and through what.

        For example `("stage 3 se", "stage 4 attention")`.
        """
        before = (self.stem.width, *(stage.width for stage in self.stages))
        parts = [
            (f"stage {number}", stage.global_part(channels))
            for number, (stage, channels) in enumerate(zip(self.stages, before, strict=False), 1)
        ]
        if self.neck is not None:
            parts.append(("neck", self.neck.global_part))
        return tuple(f"{place} {part}" for place, part in parts if part is not None)

    @property
    def own_blocks(self) -> tuple[str, ...]:
        """Names of the blocks that are not built in."""
        return tuple(dict.fromkeys(one.block for one in self.stages if one.kind.build))

    @property
    def input_multiple(self) -> int:
        """What height and width of an image must be a multiple of, in px."""
        if self.neck is None or not self.neck.upsamples:
            return 1
        # Such necks have equal strides along all axes.
        return math.prod(number(stride, None) for stride in self._strides)

    @property
    def _strides(self) -> tuple[Sides, ...]:
        return (self.stem.reduction, *(stage.stride for stage in self.stages))

    def body(self, in_chans: int = 3) -> Body:
        """The stem and the stages, without the neck."""
        channels = (in_chans, self.stem.width, *(stage.width for stage in self.stages))
        pairs = zip(self.stages, channels[1:-1], strict=True)
        return Body(
            parts=(self.stem.lower(in_chans), *(stage.lower(before) for stage, before in pairs)),
            channels=channels[1:],
            strides=self._strides,
        )

    def _covering(self) -> Node:
        if self.neck is not None and self.neck.upsamples:
            return Chain(self.body().parts)
        return self.lower()

    def expressions(self, in_chans: int = 3) -> dict[str, Chain]:
        """The expression from the input image to each output map, by level."""
        body = self.body(in_chans)
        if self.neck is not None:
            return self.neck.lower(body)
        return {self.levels[0]: Chain(body.parts)}

    def _body_cost(self, size: FeatureMap, in_chans: int) -> Cost:
        body = self.body(in_chans)
        return (
            self.neck.cost(body, size) if self.neck is not None else cost(Chain(body.parts), size)
        )

    def _saved_values(self, size: FeatureMap, in_chans: int) -> float:
        body = self.body(in_chans)
        if self.neck is not None:
            return self.neck.saved_values(body, size, in_chans)
        return saved_values(Chain(body.parts), size, in_chans)

    def _repr_svg_(self) -> str:
        """A row of boxes for notebooks: stem, stages and neck, with strides and fields."""
        nodes, named = self.body().parts, [("stem", self.stem.summary)]
        named += [(f"stage {n}", stage.summary) for n, stage in enumerate(self.stages, 1)]
        parts = []
        for end, (name, lines) in enumerate(named, start=1):
            node = Chain(nodes[:end])
            seen = self._on_axes(node, alike(node, self.num_axes), receptive_field)
            parts.append(Part.of(name, lines, seen))
        if self.neck is not None:
            for level in self.levels:
                seen = self._axis_fields(level)
                parts.append(Part.of(level, (f"{self.neck.kind} neck",), seen))
        return strip(parts)
