"""A part of a network that is no expression: what else can say the same of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rfsearch.field.moments import Units
    from rfsearch.field.receptive_field import ReceptiveField
    from rfsearch.field.squared_gradient import Reading, SquaredGradient
    from rfsearch.field.windows import Read


class Kept(NamedTuple):
    """What autograd keeps of one image inside a part.

    Attributes:
        keeps_input: Whether the part's input is among it.
        keeps_output: Whether the part's output is.
        others: Values of the activations' type beside these.
    """

    keeps_input: bool
    keeps_output: bool
    others: float


class Part(ABC):
    """A part that answers what is asked of a node; its units all see alike, in squares.

    It is equal to what answers alike, and hashable.
    """

    @property
    @abstractmethod
    def receptive_field(self) -> ReceptiveField:
        """Theoretical receptive field in px of its input; the same along both axes."""

    @property
    @abstractmethod
    def touched(self) -> tuple[int, ...]:
        """The input units that output unit 0 touches along an axis, in ascending order."""

    @property
    @abstractmethod
    def read_units(self) -> tuple[Read, float]:
        """The input units that it reads, and the largest share of a map inside that it skips."""

    @property
    @abstractmethod
    def global_layers(self) -> tuple[str, ...]:
        """Names of its layers whose units see the whole map beside their receptive field."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Output channels."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Number of trainable values."""

    @abstractmethod
    def read(self, units: Units, axes: tuple[int, ...]) -> Reading:
        """Expected squared gradient.

        Args:
            units: Moments of the inputs.
            axes: How many axes each number of the reading stands for.
        """

    @abstractmethod
    def gradient_of(self, whole: Any) -> SquaredGradient:
        """That of an expression that holds such parts.

        What meets where parts follow one another, such as a sum and a rectifier, is one thing to
        it, which `read` of each cannot know.
        """

    @abstractmethod
    def run(self, size: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """FLOPs, and the sides of the output, for an input of such sides in px.

        Raises:
            ValueError: If it does not run at that size.
        """

    @abstractmethod
    def kept(self, size: tuple[int, ...]) -> Kept:
        """What autograd keeps of an input of such sides in px.

        Raises:
            ValueError: If it cannot be trained at that size.
        """
