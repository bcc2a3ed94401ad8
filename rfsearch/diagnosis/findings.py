"""What may be wrong with a network, and the facts by which `_rules` judges it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rfsearch.diagnosis.layer_field import LayerField
from rfsearch.target.target import ScaleTarget


class UncheckedWarning(UserWarning):
    """Something that a rule needs could not be found out, so the rule was silent."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that may be wrong.

    Attributes:
        kind: Name of the rule.
        place: The layer or output.
        value: What was found: px, or a share or ratio, or a number of layers, as `message` says.
        limit: The nearest value that would be right.
        message: What is wrong.
        remedy: What would help.
    """

    kind: str
    place: str
    value: float
    limit: float
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Effective:
    """An effective receptive field.

    Attributes:
        size: ERF size in px.
        theoretical: The theoretical receptive field's side in px; NaN of a map that cannot be
            traced.
        origin: How it was found.
        place: The output that it is of.
        part: The objects that this output serves, where they are split among several.
        is_cut: Whether the measured images cut the field, so that the size may be too small.
    """

    size: float
    theoretical: float
    origin: str
    place: str = "output"
    part: ScaleTarget | None = None
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Gaps:
    """Pixels of a theoretical receptive field that are never touched, along its worst axis.

    Attributes:
        missing: Number of these pixels.
        size: Size of the theoretical receptive field, in px.
        place: First layer whose units have such gaps.
    """

    missing: int
    size: int
    place: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """Units of a map that nothing behind it reads, where their share along an axis is largest.

    Attributes:
        share: Of the units.
        place: A layer that reads the others.
    """

    share: float
    place: str


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What the rules look at.

    Attributes:
        input_size: Sides of the input in px.
        layers: The layers in order.
        outputs: The output maps that could be followed: their fields, before any global pooling.
        effective: An output's effective receptive field, if known: the last one's, or that of
            the level of a pyramid that is furthest from what its objects need.
        gaps: Gaps in the last output's receptive field; None where there are none or they are
            not known.
        skipped: Units that are skipped; None where none are or it is not known.
        attends: Whether positions of the whole image attend to each other, so that units see
            more than their windows.
    """

    input_size: tuple[int, ...]
    layers: tuple[LayerField, ...]
    outputs: tuple[LayerField, ...]
    effective: Effective | None = None
    gaps: Gaps | None = None
    skipped: Skipped | None = None
    attends: bool = False

    def along(self, axis: int) -> NetworkFacts:
        """What is seen along one axis alone."""
        layers, outputs = (
            tuple(layer.along(axis) for layer in of) for of in (self.layers, self.outputs)
        )
        return replace(self, layers=layers, outputs=outputs)
