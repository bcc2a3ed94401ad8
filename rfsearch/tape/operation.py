"""One operation, as the handlers see it that write it onto a tape."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from rfsearch.field.windows import Window
from rfsearch.tape import _rules as rules
from rfsearch.tape._axes import STAY, AxisWindow, even
from rfsearch.tape._rules import Rule
from rfsearch.tape.invocation import Invocation
from rfsearch.tape.tape import NoRuleError, Step, Tape, Weights

Value = TypeVar("Value")
#: Name of the attribute that holds the number of the step that a tensor was made by.
_NUMBER = "_rfsearch_step"


class Located(tuple[frozenset[int], ...]):
    """Dimensions of a tensor along which units of each axis of the input lie."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return bool(len(self)) and all(self)

    @property
    def dims(self) -> frozenset[int]:
        """Dimensions along which units of any axis lie."""
        return frozenset().union(*self)

    @property
    def shared(self) -> frozenset[int]:
        """Dimensions that hold several axes: rows of units one after another."""
        return frozenset(dim for dim in self.dims if sum(dim in dims for dims in self) > 1)

    def without(self, dim: int) -> Located:
        """All but one dimension, where an axis lies along others too."""
        return Located(dims - {dim} or dims for dims in self)


def number_of(tensor: Any) -> int | None:
    """The step that a tensor was made by; None for constants and for anything else."""
    return getattr(tensor, _NUMBER, None)


def set_number(tensor: Tensor, number: int) -> None:
    """Remember the step that a tensor was made by."""
    setattr(tensor, _NUMBER, number)


@dataclass
class Operation(Invocation):
    """One operation.

    Attributes:
        mixes_all: Whether it mixed the whole extent of an axis.
        place: The operation and its layer, for messages.
        tape: Where it is written.
        locate: Along which dimensions of a tensor units lie.
        weights_of: The weights that a constant is, or None for other constants.
        buffer_of: Name of the buffer that a constant is, or None.
    """

    mixes_all: bool
    place: str
    tape: Tape
    locate: Callable[[Tensor], Located]
    weights_of: Callable[[Tensor], Weights | None]
    buffer_of: Callable[[Tensor], str | None]

    @property
    def result(self) -> Tensor:
        """The output, the first of several."""
        found: Tensor = self.output if isinstance(self.output, Tensor) else self.output[0]
        return found

    @property
    def given(self) -> list[Tensor]:
        """The tensors that depend on the images, in the order of the arguments."""
        values: list[Any] = []
        for value in self.arguments.values():
            values += value if isinstance(value, list | tuple) else [value]
        return [value for value in values if number_of(value) is not None]

    def refusal(self, reason: str = "") -> NoRuleError:
        """What to say of an operation that has no rule."""
        why = f": {reason}" if reason else ""
        return NoRuleError(
            f"The expected squared gradient cannot be carried back through {self.place}{why}; "
            '`unknown="pointwise"` counts what has no rule as pointwise.'
        )

    def number(self, tensor: Tensor) -> int:
        """The step that a tensor was made by."""
        number = number_of(tensor)
        if number is None:
            raise self.refusal("it takes a constant in the place of a map")
        return number

    def settled(self, tensor: Tensor, channels: int = 1) -> int:
        """The step of a tensor whose units lie along one dimension for each axis.

        Pixels that were moved into channels, or channels into pixels, become a step of their own.

        Args:
            tensor: Any tensor that depends on the images.
            channels: Its dimension that may hold pixels beside channels.
        """
        number, located = self.number(tensor), self.locate(tensor)
        lattice = self.tape.steps[number].lattice
        if not located:
            return number
        places = located.without(channels % tensor.ndim)
        if places.shared:
            (dim, *others) = located.dims
            if others or tensor.shape[dim] != math.prod(lattice):
                raise self.refusal("rows and columns are rearranged")
            return number
        windows, new_lattice = [], []
        for dims, along, length in zip(located, places, lattice, strict=True):
            if len(along) != 1:
                raise self.refusal("rows and columns are rearranged")
            (dim,) = along
            new_length = tensor.shape[dim]
            if new_length == length and dims == along:
                windows.append(STAY)
            elif dims != along and not length % new_length:
                step = length // new_length
                windows.append(even(Window((tuple(range(step)),), step)))
            elif dims == along and not new_length % length:
                windows.append(even(Window(((0,),) * (new_length // length), 1)))
            else:
                raise self.refusal("rows and columns are rearranged")
            new_lattice.append(new_length)
        if all(window is STAY for window in windows):
            return number
        return self.step(rules.kept, number, windows=tuple(windows), lattice=tuple(new_lattice))

    def aligned(self, tensors: Sequence[Tensor]) -> list[int]:
        """The steps of tensors that meet place by place."""
        numbers = [self.number(tensor) for tensor in tensors]
        local = [
            number for number, tensor in zip(numbers, tensors, strict=True) if self.locate(tensor)
        ]
        if len({self.tape.steps[number].lattice for number in local}) < 2:
            return numbers
        return [self.settled(tensor) for tensor in tensors]

    def independent(self, tensors: Sequence[Tensor]) -> list[int]:
        """The steps of tensors that meet place by place, and share nothing but through weights."""
        numbers = self.aligned(tensors)
        if not self.tape.are_independent(numbers):
            raise self.refusal(
                "it joins tensors that are made of the same units without weights in between"
            )
        return numbers

    def per_axis(
        self, tensor: Tensor, values: Mapping[int, Value], usual: Value
    ) -> tuple[Value, ...]:
        """A value for each axis of the input, of those for the dimensions of a tensor."""
        nowhere = Located(frozenset() for _ in self.tape.steps[0].lattice)
        located = self.locate(tensor) if len(self.locate(tensor)) else nowhere
        return tuple(
            next((values[dim] for dim in dims if dim in values), usual) for dims in located
        )

    def along(self, tensor: Tensor, windows: Mapping[int, AxisWindow]) -> tuple[AxisWindow, ...]:
        """Windows along each axis, of those along the dimensions of a tensor."""
        shared = self.locate(tensor).shared
        if any(window != STAY and dim in shared for dim, window in windows.items()):
            raise self.refusal("a window slides over rows of tokens")
        return self.per_axis(tensor, windows, STAY)

    def slid(
        self,
        rule: Rule,
        tensor: Tensor,
        windows: Mapping[int, AxisWindow],
        weights: Weights | None = None,
        channels: int = 1,
    ) -> int:
        """A step that slides windows along the dimensions of a tensor."""
        number = self.settled(tensor, channels)
        places = self.locate(tensor).without(channels % tensor.ndim)
        lattice = self.tape.steps[number].lattice
        if places and not places.shared:
            lattice = tuple(self.result.shape[dim] for (dim,) in places)
        return self.step(
            rule,
            number,
            windows=self.along(tensor, windows),
            lattice=lattice,
            weights=weights,
        )

    def step(
        self,
        rule: Rule,
        *parents: int,
        windows: tuple[AxisWindow, ...] | None = None,
        lattice: tuple[int, ...] | None = None,
        weights: Weights | None = None,
    ) -> int:
        """Write a step that takes the outputs of others onto the tape."""
        lattice = lattice or self.tape.steps[parents[0]].lattice
        windows = windows or (STAY,) * len(lattice)
        located = bool(self.locate(self.result))
        return self.tape.append(
            Step(parents, rule, self.place, lattice, windows, located, weights)
        )
