"""Writing a tape while a module runs on tensors without data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from rfsearch.tape import _rules as rules
from rfsearch.tape._axes import moved
from rfsearch.tape._handlers import HANDLERS
from rfsearch.tape._values import pointwise
from rfsearch.tape.operation import Located, Operation, number_of, set_number
from rfsearch.tape.tape import NoRuleError, Step, Tape, Weights

#: Name of the attribute that holds the step that a view's base was made by when it was made.
_BASE = "_rfsearch_base_step"


#: Operations whose outputs hold nothing until they are written to.
_EMPTY = ("empty_like", "new_empty", "new_empty_strided")


class Recorder:
    """Writes each operation that depends on the images onto a tape.

    What has no rule is written too, and refused where something is asked of it.

    Args:
        module: What runs: a copy without data.
        images: The input, `(1, channels, *input_size)`.
        located: Along which dimensions of a tensor units lie.
        base: The tensor that another one is a view of, if it is one.
        unknown_is_pointwise: Whether operations without a rule count as pointwise.
    """

    def __init__(
        self,
        module: nn.Module,
        images: Tensor,
        located: Callable[[Tensor], Located],
        base: Callable[[Tensor], Tensor | None],
        unknown_is_pointwise: bool,
    ) -> None:
        self.tape = Tape(tuple(images.shape[2:]))
        self._names = {id(each): name for name, each in module.named_parameters()}
        self._buffers = {id(each): name for name, each in module.named_buffers()}
        self._located = located
        self._base = base
        self._unknown_is_pointwise = unknown_is_pointwise
        set_number(images, 0)

    def record(
        self,
        name: str,
        arguments: Mapping[str, Any],
        outputs: list[Tensor],
        *,
        layer: str,
        mixes_all: bool,
        is_pointwise: bool,
        in_place: bool,
        is_view: bool,
    ) -> None:
        """Write one operation.

        Args:
            name: Name of the ATen operation, without `aten::` and without a final underscore.
            arguments: All arguments by name.
            outputs: What it returned.
            layer: The layer that is running.
            mixes_all: Whether it mixed the whole extent of an axis.
            is_pointwise: Whether it computes each element from those at the same place.
            in_place: Whether the first argument was written to.
            is_view: Whether the outputs are views of the first argument.
        """
        operation = self._operation(name, arguments, outputs, mixes_all, layer)
        given = operation.given
        if not given or name in _EMPTY:
            return
        number = self._written(operation, is_pointwise, given)
        first, *others = outputs
        set_number(first, number)
        is_one_of_many = HANDLERS.get(name) is HANDLERS["split"]
        for other in others:
            again = self._written(operation, is_pointwise, given) if is_one_of_many else None
            set_number(other, self._refused(operation) if again is None else again)
        if is_view:
            for output in outputs:
                setattr(output, _BASE, number_of(self._base(output)))
        if in_place:
            self._write_through(first, operation)

    def _operation(
        self,
        name: str,
        arguments: Mapping[str, Any],
        outputs: list[Tensor],
        mixes_all: bool,
        layer: str,
    ) -> Operation:
        return Operation(
            name,
            arguments,
            outputs,
            mixes_all,
            f"the operation `{name}` ({f'layer `{layer}`' if layer else 'the model itself'})",
            self.tape,
            self._located,
            self._weights_of,
            self._buffer_of,
        )

    def settled(self, tensor: Tensor) -> int | None:
        """The step whose units are the positions of a tensor; None of a constant."""
        number = number_of(tensor)
        if number is None or self.tape.steps[number].is_refused:
            return number
        output = self._operation("output", {"self": tensor}, [tensor], False, "")
        try:
            return output.settled(tensor)
        except NoRuleError as reason:
            return self.tape.append(Step((), str(reason), output.place))

    def refuse(self, outputs: Iterable[Tensor], reason: str) -> None:
        """Write what could not be followed."""
        for output in outputs:
            set_number(output, self.tape.append(Step((), reason, "")))

    def _written(self, operation: Operation, is_pointwise: bool, given: list[Tensor]) -> int:
        handler = HANDLERS.get(operation.name, pointwise if is_pointwise else None)
        numbers = [number for each in given if (number := number_of(each)) is not None]
        refused = next((n for n in numbers if self.tape.steps[n].is_refused), None)
        if refused is not None:
            return refused
        try:
            if any(self._is_stale(each) for each in given):
                raise operation.refusal("a view is used after its base was written to")
            if handler is None:
                raise operation.refusal()
            return handler(operation)
        except NoRuleError as reason:
            if self._unknown_is_pointwise:
                return operation.step(rules.kept if len(numbers) == 1 else rules.add, *numbers)
            return self.tape.append(Step((), str(reason), operation.place))

    def _refused(self, operation: Operation) -> int:
        reason = str(operation.refusal("one of its outputs has no rule"))
        return self.tape.append(Step((), reason, operation.place))

    def _is_stale(self, tensor: Tensor) -> bool:
        base = self._base(tensor)
        return base is not None and getattr(tensor, _BASE, None) != number_of(base)

    def _write_through(self, tensor: Tensor, operation: Operation) -> None:
        """What a written view is a view of changes with it."""
        base = self._base(tensor)
        if base is None:
            return
        try:
            number = self._beneath(base, tensor, operation)
        except NoRuleError as reason:
            number = self.tape.append(Step((), str(reason), operation.place))
        if number is not None:
            set_number(base, number)
        setattr(tensor, _BASE, number_of(base))
        self._write_through(base, operation)

    def _beneath(self, base: Tensor, tensor: Tensor, operation: Operation) -> int | None:
        """The step that a tensor is made by once a view of it was written to."""
        if tuple(base.shape) == tuple(tensor.shape):
            return number_of(tensor)
        if not self._located(tensor):
            return number_of(base)  # What comes round the border is not followed.
        if number_of(base) is not None:
            return self._refused(operation)
        # A part of what was empty: circular padding.
        offset, starts = int(tensor.storage_offset() - base.storage_offset()), {}
        for dim, stride in enumerate(base.stride()):
            start, offset = divmod(offset, int(stride))
            starts[dim] = moved(-start)
        placed = replace(operation, arguments={"self": tensor}, output=[base])
        return placed.slid(rules.kept, tensor, starts)

    def _root(self, tensor: Tensor) -> Tensor:
        base = self._base(tensor)
        return tensor if base is None else self._root(base)

    def _weights_of(self, tensor: Any) -> Weights | None:
        name = self._names.get(id(self._root(tensor))) if isinstance(tensor, Tensor) else None
        return None if name is None else Weights(name)

    def _buffer_of(self, tensor: Tensor) -> str | None:
        return self._buffers.get(id(self._root(tensor)))
