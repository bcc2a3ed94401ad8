"""A copy of a model without data, and what its modules return while it runs."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rfsearch.trace.call import Dependence, dependence_of

#: Types of the tables that every module holds.
_TABLES = (dict, OrderedDict, set)


class LayerRow(NamedTuple):
    """Output of one module."""

    name: str
    type: str
    shape: tuple[int, ...]
    dependence: Dependence


class Layers:
    """Which modules are running, what they returned and which of them mixed everything.

    Attributes:
        rows: Outputs of the modules in the order in which they finished.
        causes: Names of the modules that mixed the whole extent of an axis; an ordered set.
    """

    def __init__(self, module: nn.Module) -> None:
        self.rows: list[LayerRow] = []
        self.causes: dict[str, None] = {}
        self._running: list[str] = [""]
        for name, child in module.named_modules():
            if not isinstance(child, torch.jit.ScriptModule):
                child.register_forward_pre_hook(partial(self._enter, name))
                child.register_forward_hook(partial(self._leave, name))

    @property
    def current(self) -> str:
        """Name of the innermost running module; empty for the model itself."""
        return self._running[-1]

    def _enter(self, name: str, module: nn.Module, inputs: Any) -> None:
        self._running.append(name)

    def _leave(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        self._running.pop()
        for key, tensor in named_tensors(output):
            dependence = dependence_of(tensor)
            if dependence is not None:
                label = f"{name}[{key}]" if key else name
                row = LayerRow(label, type(module).__name__, tuple(tensor.shape), dependence)
                self.rows.append(row)


def meta_twin(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose parameters have no data; small buffers keep theirs."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        data = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(data, requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = _buffer_twin(buffer)
    for module in model.modules():
        # A dozen empty tables of hooks per module would take most of the copy's time.
        tables = (value for value in vars(module).values() if type(value) in _TABLES)
        memo.update((id(table), type(table)()) for table in tables if not table)
    return copy.deepcopy(model, memo).eval()


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of nested mappings and sequences, with the keys that lead to them."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from named_tensors(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, tuple | list):
        for number, item in enumerate(value):
            yield from named_tensors(item, f"{name}.{number}" if name else str(number))


def _buffer_twin(buffer: Tensor) -> Tensor:
    # Indices have to be known; statistics and filters do not.
    if buffer.is_floating_point() or buffer.is_meta:
        return torch.empty_like(buffer, device="meta")
    return buffer.detach().cpu().clone()
