"""What the modules of a model return while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rfsearch.trace.call import Dependence, dependence_of


class LayerRow(NamedTuple):
    """Output of one module; `step` is the number of the step on the tape that made it."""

    name: str
    type: str
    shape: tuple[int, ...]
    dependence: Dependence
    step: int | None


class Layers:
    """Which modules are running, what they returned and which of them mixed everything.

    Attributes:
        rows: Outputs of the modules in the order in which they finished.
        causes: Names of the modules that mixed the whole extent of an axis; an ordered set.

    Args:
        module: What runs.
        step_of: The number of the step on the tape that made a tensor.
    """

    def __init__(self, module: nn.Module, step_of: Callable[[Tensor], int | None]) -> None:
        self._step_of = step_of
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
                kind, shape = type(module).__name__, tuple(tensor.shape)
                row = LayerRow(label, kind, shape, dependence, self._step_of(tensor))
                self.rows.append(row)


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of nested mappings, sequences and dataclasses, with the keys that lead there."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, tuple | list):
        items = enumerate(value)
    elif is_dataclass(value) or isinstance(value, SimpleNamespace):
        items = vars(value).items()
    for key, item in items:
        yield from named_tensors(item, f"{name}.{key}" if name else str(key))
