"""One call of an operation: its arguments, and what it returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class Invocation:
    """One call of an operation.

    Attributes:
        name: Name of the ATen operation, without `aten::` and without a final underscore.
        arguments: All arguments by their names, defaults filled in.
        output: What it returned.
    """

    name: str
    arguments: Mapping[str, Any]
    output: Any

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def first(self) -> Any:
        """The first argument."""
        return next(iter(self.arguments.values()))

    def dims(self, name: str = "dim") -> list[int]:
        """Dimensions of the first argument named by an argument: non-negative; None is all."""
        value, ndim = self.arguments.get(name), self.first.ndim
        if value is None or value == []:
            return list(range(ndim))
        return [dim % ndim for dim in (value if isinstance(value, Sequence) else [value])]
