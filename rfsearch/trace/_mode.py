"""Running a module on tensors without data, operation by operation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rfsearch.tape.recorder import Recorder
from rfsearch.trace._mixing import elementwise
from rfsearch.trace._operations import OPERATIONS, Handler
from rfsearch.trace._shapes import SHAPES
from rfsearch.trace._slicing import write_back
from rfsearch.trace.call import (
    NOTHING,
    Call,
    Dependence,
    Record,
    attach,
    dependence_of,
    record_of,
)
from rfsearch.trace.layers import Layers

#: Constants with more elements than this are not computed, only their shapes.
_MAX_COMPUTED = 2**14
#: In-place operations that change the shape and so have to run.
_RESHAPING = frozenset({"as_strided", "unsqueeze", "squeeze", "t", "transpose", "resize", "set"})


class UnfollowedError(ValueError):
    """An operation is given what could not be followed; the message is why."""


class Operation(NamedTuple):
    """What is needed to call the handler of an ATen operation."""

    name: str
    defaults: dict[str, Any]
    handler: Handler | None
    in_place: bool
    is_view: bool


class DatalessMode(TorchDispatchMode):
    """Runs operations on shapes alone, the commonest ones faster than torch does."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shapes: dict[int, tuple[Tensor, Tensor]] = {}

    def run(self, func: Any, operation: Operation, arguments: Any, args: Any, kwargs: Any) -> Any:
        """What an operation returns."""
        if operation.in_place and operation.name not in _RESHAPING:
            shapes = {tensor.shape for tensor in tensors_in(args)}
            if len(shapes) > 1 and args[0].is_meta and operation.handler is elementwise:
                return func(*self._shapes_only(args), **kwargs)  # Torch refuses what does not fit.
            return args[0]
        if operation.name in ("index", "index_select"):
            return func(*args, **kwargs)
        shape = SHAPES.get(operation.name)
        output = None if shape is None else shape(arguments)
        if output is not None:
            return output
        return func(*self._shapes_only(args), **self._shapes_only(kwargs))

    def _shapes_only(self, value: Any) -> Any:
        """The same arguments with tensors that have no data."""
        if isinstance(value, Tensor):
            return value if value.is_meta else self._shape_only(value)
        if isinstance(value, tuple | list):
            return type(value)(self._shapes_only(item) for item in value)
        if isinstance(value, dict):
            return {key: self._shapes_only(item) for key, item in value.items()}
        return torch.device("meta") if isinstance(value, torch.device) else value

    def _shape_only(self, tensor: Tensor) -> Tensor:
        if id(tensor) not in self._shapes:
            # The tensor is kept so that its id is not given to another one.
            self._shapes[id(tensor)] = (tensor, tensor.to("meta"))
        return self._shapes[id(tensor)][1]


class TracingMode(DatalessMode):
    """Follows what every tensor depends on.

    What comes of an operation that cannot be followed cannot be either; all else goes on.

    Attributes:
        refusal: Why the first operation could not be followed, if one could not.
    """

    def __init__(self, layers: Layers, recorder: Recorder, pointwise_if_unknown: bool) -> None:
        super().__init__()
        self.refusal: str | None = None
        self._layers = layers
        self._recorder = recorder
        self._pointwise_if_unknown = pointwise_if_unknown

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation on shapes alone and record what its output depends on."""
        kwargs = kwargs or {}
        operation = operation_of(func)
        tensors = list(tensors_in((args, kwargs)))
        if not any(dependence_of(tensor) is not None for tensor in tensors):
            return self._constant(func, operation, tensors, args, kwargs)
        arguments = named_arguments(operation, args, kwargs)
        output = self.run(func, operation, arguments, args, kwargs)
        call = Call(operation.name, arguments, output)
        try:
            refuse_stale_views(tensors)
            refuse_unfollowed(tensors)
            self._record(operation, call, self._handler(operation)(call))
            self._tape(operation, call)
        except UnfollowedError as reason:
            self._record_refusal(operation, call, str(reason))
        except ValueError as reason:
            refusal = f"{reason} (operation `{operation.name}`, {self._place()})."
            self.refusal = self.refusal or refusal
            self._record_refusal(operation, call, refusal)
        return output

    def _record_refusal(self, operation: Operation, call: Call, refusal: str) -> None:
        refused = NOTHING._replace(refusal=refusal)
        for output in tensors_in([call.output]):
            if operation.in_place:
                self._write(output, refused)
            elif operation.is_view:
                attach(output, Record(refused, call.first, dependence_of(call.first), call))
            else:
                attach(output, Record(refused))
        self._recorder.refuse(tensors_in([call.output]), refusal)

    def _tape(self, operation: Operation, call: Call) -> None:
        self._recorder.record(
            operation.name,
            call.arguments,
            list(tensors_in([call.output])),
            layer=self._layers.current,
            mixes_all=call.mixes_all,
            is_pointwise=operation.handler is elementwise,
            in_place=operation.in_place,
            is_view=operation.is_view,
        )

    def _constant(
        self, func: Any, operation: Operation, tensors: list[Tensor], args: Any, kwargs: Any
    ) -> Any:
        large = any(t.numel() > _MAX_COMPUTED and t.is_floating_point() for t in tensors)
        if not large and not any(t.is_meta for t in tensors):
            return func(*args, **kwargs)
        args, kwargs = self._shapes_only(args), self._shapes_only(kwargs)
        arguments = named_arguments(operation, args, kwargs)
        output = self.run(func, operation, arguments, args, kwargs)
        if operation.is_view and isinstance(output, Tensor) and tensors:
            record = Record(parent=tensors[0], call=Call(operation.name, arguments, output))
            attach(output, record)
        return output

    def _handler(self, operation: Operation) -> Handler:
        if operation.handler is not None:
            return operation.handler
        if self._pointwise_if_unknown:
            return elementwise
        raise ValueError(
            'The operation is not known; `unknown="pointwise"` treats it as pointwise'
        )

    def _record(self, operation: Operation, call: Call, found: Any) -> None:
        if found is None:
            return
        outputs = [call.output] if isinstance(call.output, Tensor) else list(call.output)
        dependences = [found] if isinstance(found, Dependence) else list(found)
        was_global = any(
            d.is_global for t in tensors_in(call.arguments.values()) if (d := dependence_of(t))
        )
        is_global = was_global or call.mixes_all
        if call.mixes_all or (not was_global and any(d.is_global for d in dependences)):
            self._layers.causes[self._layers.current] = None
        for output, dependence in zip(outputs, dependences, strict=False):
            if not dependence.fits(output.shape):
                raise ValueError("The positions of the output are not those of the input")
            if is_global and dependence is not NOTHING:
                dependence = dependence._replace(is_global=True)
            if operation.in_place:
                self._write(output, dependence)
            elif operation.is_view:
                parent = call.first
                attach(output, Record(dependence, parent, dependence_of(parent), call))
                call = Call(call.name, call.arguments, output)
            else:
                attach(output, Record(dependence))

    def _write(self, tensor: Tensor, dependence: Dependence) -> None:
        """Set what a tensor depends on after it was written to, and what its base does."""
        record = record_of(tensor) or Record()
        changed = record.dependence != dependence
        record.dependence = dependence
        attach(tensor, record)
        if changed and record.parent is not None and record.call is not None:
            record.call.output = tensor
            before = dependence_of(record.parent)
            whole = dependence
            if not dependence.refusal:
                whole = write_back(record.call, dependence, before)
            self._write(record.parent, whole)
            record.seen = whole

    def _place(self) -> str:
        return f"layer `{self._layers.current}`" if self._layers.current else "the model itself"


def refuse_stale_views(tensors: Iterable[Tensor]) -> None:
    """Refuse tensors that changed with their base without being touched themselves.

    Raises:
        ValueError: If a tensor is a view whose base was written to since.
    """
    for tensor in tensors:
        record = record_of(tensor)
        if record is None or record.parent is None:
            continue
        if dependence_of(record.parent) != record.seen:
            raise ValueError("A view is used after its base was written to")


def refuse_unfollowed(tensors: Iterable[Tensor]) -> None:
    """Refuse tensors that could not be followed.

    Raises:
        UnfollowedError: With the reason.
    """
    for tensor in tensors:
        dependence = dependence_of(tensor)
        if dependence is not None and dependence.refusal:
            raise UnfollowedError(dependence.refusal)


@contextmanager
def tracing(mode: TracingMode) -> Iterator[None]:
    """Switch the mode on, without gradients."""
    with torch.no_grad(), mode:
        yield


def named_arguments(operation: Operation, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of a call by their names, defaults filled in."""
    given = dict(zip(operation.defaults, args, strict=False))
    return {**operation.defaults, **given, **kwargs}


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors that arguments or outputs hold."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())


@lru_cache(maxsize=4096)
def operation_of(func: Any) -> Operation:
    """What is known of an ATen operation."""
    schema = func._schema
    full_name = func._schema.name.rpartition("::")[2]
    in_place = full_name.endswith("_") and not full_name.endswith("__")
    name = full_name.removesuffix("_") if in_place else full_name
    handler = OPERATIONS.get(name)
    if handler is None and torch.Tag.pointwise in func.tags:
        handler = elementwise
    aliases = any(returned.alias_info is not None for returned in schema.returns)
    defaults = {
        argument.name: argument.default_value if argument.has_default_value() else None
        for argument in schema.arguments
    }
    return Operation(name, defaults, handler, in_place, aliases and not in_place)
