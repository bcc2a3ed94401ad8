"""Candidates as data: frozen, hashable, exact JSON round trip."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field

from rfsearch.cost import Cost, FeatureMap, cost
from rfsearch.expected_erf import ExpectedERF
from rfsearch.expression import Chain, Node, receptive_field
from rfsearch.receptive_field import ReceptiveField
from rfsearch.stages import Stage
from rfsearch.stems import Stem
from rfsearch.validation import FrozenData, parse


class Architecture(FrozenData):
    """A convolutional classifier's body: a stem and stages.

    Its one output map is the last stage's, called `C2` for one stage, `C5` for four, as in the
    ResNet literature (the stem is C1).
    """

    stem: Stem
    stages: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1, max_length=16)]

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the output maps."""
        return (f"C{len(self.stages) + 1}",)

    @property
    def num_features(self) -> int:
        """Channels of the last map."""
        return self.stages[-1].width

    def lower(self, in_chans: int = 3) -> Chain:
        """The expression from the input image to the last map."""
        nodes: list[Node] = [self.stem.lower(in_chans)]
        channels = self.stem.width
        for stage in self.stages:
            nodes.append(stage.lower(channels))
            channels = stage.width
        return Chain(tuple(nodes))

    @cached_property
    def _expression(self) -> Chain:
        return self.lower()

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Theoretical receptive field of each output map, in px; height and width are alike."""
        return dict.fromkeys(self.levels, self._field)

    def receptive_field(self, level: str | None = None) -> ReceptiveField:
        """Theoretical receptive field of one output map, by default the last, in px.

        Raises:
            ValueError: If there is no such level.
        """
        self._check_level(level)
        return self._field

    @cached_property
    def _field(self) -> ReceptiveField:
        return receptive_field(self._expression)

    def expected_erf(self, level: str | None = None) -> ExpectedERF:
        """Effective receptive field to expect of a random initialisation, in closed form.

        Raises:
            ValueError: If there is no such level.
        """
        self._check_level(level)
        return self._expected

    @cached_property
    def _expected(self) -> ExpectedERF:
        return ExpectedERF(self._expression)

    def _check_level(self, level: str | None) -> None:
        if level is not None and level not in self.levels:
            raise ValueError(
                f"`level` must be one of {', '.join(self.levels)}, but got {level!r}."
            )

    @property
    def global_layers(self) -> tuple[str, ...]:
        """Stages whose units see the whole image beside their local field, and through what.

        For example `("stage 3 se", "stage 4 attention")`.
        """
        return tuple(
            f"stage {number} {stage.global_part}"
            for number, stage in enumerate(self.stages, 1)
            if stage.global_part is not None
        )

    def cost(self, input_size: tuple[int, int], in_chans: int = 3, num_classes: int = 0) -> Cost:
        """Parameters and FLOPs for one image, the classifier included if there are classes.

        Args:
            input_size: `(height, width)` of the image in px.
            in_chans: Channels of the image.
            num_classes: Outputs of the linear classifier; 0 for none.

        Raises:
            ValueError: If the image is too small for the network.
        """
        body = cost(self.lower(in_chans), FeatureMap(*input_size))
        weights = self.num_features * num_classes
        return Cost(body.parameters + weights + num_classes, body.flops + 2 * weights, body.output)

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

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that are equal for equal architectures, on any machine."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
