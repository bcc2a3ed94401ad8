"""Running a module on tensors without data, operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rfsearch.tape.recorder import Recorder
from rfsearch.trace._mixing import elementwise, recurrent
from rfsearch.trace._operations import OPERATIONS, Handler
from rfsearch.trace._shapes import SHAPES, without_masks
from rfsearch.trace._slicing import write_back
from rfsearch.trace.call import (
    NOTHING,
    Call,
    Dependence,
    Record,
    attach,
    dependence_of,
    record_of,
    set_value,
    value_of,
)
from rfsearch.trace.layers import Layers

#: Constants with more elements than this are not computed, only their shapes.
_MAX_COMPUTED = 2**14
_META = torch.device("meta")
#: Functions that make tensors of numbers.
_MAKERS = (torch.tensor, torch.as_tensor)
#: Operations that return numbers.
_ASKING = ("_local_scalar_dense", "equal")
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


class _Given(TorchFunctionMode):
    """Remembers the data that tensors are made of on the device of an input without data."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch's."""
        kwargs = kwargs or {}
        if func not in _MAKERS or torch.device(kwargs.get("device") or "cpu") != _META:
            return func(*args, **kwargs)
        value = func(*args, **{**kwargs, "device": "cpu"})
        made = value.to(_META)
        set_value(made, value)
        return made


class DatalessMode(TorchDispatchMode):
    """Runs operations on shapes alone, the commonest ones faster than torch does."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shapes: dict[int, tuple[Tensor, Tensor]] = {}
        self._given = _Given()

    def __enter__(self) -> Self:
        """Switch it on."""
        self._given.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *reason: Any) -> None:
        """Switch it off."""
        super().__exit__(*reason)  # type: ignore[no-untyped-call]
        self._given.__exit__(*reason)  # type: ignore[no-untyped-call]

    def run(self, func: Any, operation: Operation, arguments: Any, args: Any, kwargs: Any) -> Any:
        """What an operation returns."""
        if operation.in_place and operation.name not in _RESHAPING:
            set_value(args[0], None)
            shapes = {tensor.shape for tensor in tensors_in(args)}
            if len(shapes) > 1 and args[0].is_meta and operation.handler is elementwise:
                return func(*self._shapes_only(args), **kwargs)  # Torch refuses what does not fit.
            return args[0]
        if operation.name == "index":
            return func(args[0], without_masks(args[1]))
        if operation.name == "index_select":
            return func(*args, **kwargs)
        shape = SHAPES.get(operation.name)
        output = None if shape is None else shape(arguments)
        if output is not None:
            return output
        return func(*self._shapes_only(args), **self._shapes_only(kwargs))

    def constant(self, func: Any, operation: Operation, args: Any, kwargs: Any) -> Any:
        """What an operation returns that depends on nothing: with data, where it is small.

        What a model makes on the device of its input has its data beside it: indices have to be
        known, and what a model checks or counts.
        """
        tensors = list(tensors_in((args, kwargs)))
        value = None
        if is_known(func, tensors):
            value = func(*_values(args), **_values(kwargs))
            found = list(tensors_in([value]))
            on_meta = kwargs.get("device") == _META or any(tensor.is_meta for tensor in tensors)
            if not (found and on_meta):
                return value
        elif operation.name in _ASKING:
            return func(*args, **kwargs)  # torch says that there are no data.
        shapes = self._shapes_only(args), self._shapes_only(kwargs)
        arguments = named_arguments(operation, *shapes)
        output = self.run(func, operation, arguments, *shapes)
        for tensor, known in zip(tensors_in([output]), tensors_in([value]), strict=False):
            set_value(tensor, known if _is_small(known) else None)
        return output

    def _shapes_only(self, value: Any) -> Any:
        """The same arguments with tensors that have no data."""
        return _mapped(
            value, lambda tensor: tensor if tensor.is_meta else self._shape_only(tensor), _META
        )

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
        self._was_told = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation on shapes alone and record what its output depends on."""
        kwargs = kwargs or {}
        operation = operation_of(func)
        tensors = list(tensors_in((args, kwargs)))
        if not any(dependence_of(tensor) is not None for tensor in tensors):
            return self._constant(func, operation, tensors, args, kwargs)
        arguments = named_arguments(operation, args, kwargs)
        output = self.run(func, operation, arguments, args, kwargs)
        if not list(tensors_in([output])):
            self._tell(output)
            return output
        self._follow(operation, Call(operation.name, arguments, output), tensors)
        return output

    def run_recurrent(self, layer: nn.RNNBase, given: Any, states: Any = None) -> Any:
        """Run a recurrent layer as a single operation."""
        if not isinstance(given, Tensor):  # Sequences of several lengths, packed.
            return type(layer).forward(layer, given, states)
        directions, size = 1 + layer.bidirectional, layer.proj_size or layer.hidden_size
        time = int(layer.batch_first and given.ndim == 3)
        batch = tuple(n for dim, n in enumerate(given.shape[:-1]) if dim != time)
        shapes = [(*given.shape[:-1], directions * size)]
        cells = (size, layer.hidden_size)[: 1 + (layer.mode == "LSTM")]
        shapes += [(directions * layer.num_layers, *batch, cell) for cell in cells]
        output, *last = (torch.empty(shape, dtype=given.dtype, device="meta") for shape in shapes)
        arguments = {"input": given, "time": time, "states": list(tensors_in([states]))}
        tensors = list(tensors_in(arguments.values()))
        if any(dependence_of(tensor) is not None for tensor in tensors):
            operation = Operation(layer.mode.lower(), {}, recurrent, False, False)
            self._follow(operation, Call(operation.name, arguments, [output, *last]), tensors)
        return output, tuple(last) if layer.mode == "LSTM" else last[0]

    def _follow(self, operation: Operation, call: Call, tensors: list[Tensor]) -> None:
        try:
            for tensor in tensors:
                refresh(tensor)
            refuse_unfollowed(tensors)
            self._record(operation, call, self._handler(operation)(call))
            self._tape(operation, call)
        except UnfollowedError as reason:
            self._record_refusal(operation, call, str(reason))
        except ValueError as reason:
            refusal = f"{reason} (operation `{operation.name}`, {self._place()})."
            self.refusal = self.refusal or refusal
            self._record_refusal(operation, call, refusal)

    def _tell(self, value: Any) -> None:
        """The module is told a number, which may be any pixel's: it may hand it on to all units.

        What is true or false decides what runs at most.
        """
        if not isinstance(value, bool):
            self._was_told = True
            self._layers.causes[self._layers.current] = None

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
        output = self.constant(func, operation, args, kwargs)
        if operation.is_view and tensors:  # It may be written to.
            arguments = named_arguments(operation, args, kwargs)
            for number, view in enumerate(tensors_in([output])):
                if view is tensors[0]:
                    continue
                call = Call(operation.name, arguments, output)
                attach(view, Record(parent=tensors[0], call=call, number=number))
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
        was_global = self._was_told or any(
            d.is_global for t in tensors_in(call.arguments.values()) if (d := dependence_of(t))
        )
        is_global = was_global or call.mixes_all
        if call.mixes_all or (not was_global and any(d.is_global for d in dependences)):
            self._layers.causes[self._layers.current] = None
        pairs = zip(outputs, dependences, strict=False)
        for number, (output, dependence) in enumerate(pairs):
            if not dependence.fits(output.shape):
                raise ValueError("The positions of the output are not those of the input")
            if is_global and dependence is not NOTHING:
                dependence = dependence._replace(is_global=True)
            if operation.in_place:
                self._write(output, dependence)
            elif operation.is_view:
                parent = call.first
                record = Record(dependence, parent, dependence_of(parent), call, number)
                attach(output, record)
            else:
                attach(output, Record(dependence))

    def _write(self, tensor: Tensor, dependence: Dependence) -> None:
        """Set what a tensor depends on after it was written to, and what its base does."""
        record = record_of(tensor) or Record()
        changed = record.dependence != dependence
        record.dependence = dependence
        attach(tensor, record)
        if changed and record.parent is not None and record.call is not None:
            before = dependence_of(record.parent)
            whole = dependence
            if not dependence.refusal:
                whole = write_back(record.call, record.number, dependence, before)
            self._write(record.parent, whole)
            record.seen = whole

    def _place(self) -> str:
        return f"layer `{self._layers.current}`" if self._layers.current else "the model itself"


def refresh(tensor: Tensor) -> None:
    """Let a view see what was written to its base since it was made.

    Raises:
        ValueError: If that cannot be followed.
    """
    record = record_of(tensor)
    if record is None or record.parent is None or record.call is None:
        return
    refresh(record.parent)
    now = dependence_of(record.parent)
    if now == record.seen:
        return
    handler = OPERATIONS[record.call.name]
    found = NOTHING if now is None or now.refusal else handler(record.call)
    dependence = found if isinstance(found, Dependence) else found[record.number]
    if now is not None:
        dependence = dependence._replace(is_global=now.is_global, refusal=now.refusal)
    record.dependence, record.seen = dependence, now


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
def tracing(mode: TracingMode, module: nn.Module) -> Iterator[None]:
    """Switch the mode on, without gradients, for a module that is run."""
    layers = [child for child in module.modules() if isinstance(child, nn.RNNBase)]
    try:
        for layer in layers:
            layer.forward = partial(mode.run_recurrent, layer)
        with torch.no_grad(), mode:
            yield
    finally:
        for layer in layers:
            del layer.forward


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


def is_known(func: Any, tensors: Iterable[Tensor]) -> bool:
    """Whether an operation on constants is computed."""
    return torch.Tag.nondeterministic_seeded not in func.tags and all(
        (value := value_of(tensor)) is not None and _is_small(value) for tensor in tensors
    )


def _is_small(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() and tensor.numel() > _MAX_COMPUTED)


def _values(arguments: Any) -> Any:
    """Arguments with the data of constants."""
    return _mapped(arguments, value_of, torch.device("cpu"))


def _mapped(value: Any, change: Callable[[Tensor], Any], device: torch.device) -> Any:
    """Arguments with other tensors, and on another device."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        return type(value)(_mapped(item, change, device) for item in value)
    if isinstance(value, dict):
        return {key: _mapped(item, change, device) for key, item in value.items()}
    return device if isinstance(value, torch.device) else value


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
