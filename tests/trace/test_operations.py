"""The tables of operations against torch's own schemas and shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision  # noqa: F401 - its operations

from rfsearch.trace._operations import OPERATIONS
from rfsearch.trace._shapes import SHAPES

aten = torch.ops.aten


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() | SHAPES.keys()))
def test_names_are_those_of_torch(name: str) -> None:
    spaces = (aten, torch.ops.torchvision)
    assert any(hasattr(space, name) or hasattr(space, f"{name}_") for space in spaces)


@pytest.mark.parametrize(
    "name", sorted(SHAPES.keys() - OPERATIONS.keys() - {"_local_scalar_dense"})
)
def test_fast_shapes_without_a_handler_are_elementwise(name: str) -> None:
    packet = getattr(aten, name)
    tags = [getattr(packet, overload).tags for overload in packet.overloads()]
    assert any(torch.Tag.pointwise in those for those in tags)


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


CALLS: list[tuple[str, Any, dict[str, Any]]] = [
    ("add", aten.add.Tensor, {"self": meta(2, 3, 4), "other": meta(3, 1)}),
    ("add", aten.add.Tensor, {"self": meta(2, 3), "other": 1.5}),
    ("add", aten.add.Tensor, {"self": meta(2), "other": meta(2, dtype=torch.float64)}),
    ("div", aten.div.Tensor, {"self": meta(2, dtype=torch.int64), "other": meta(2)}),
    ("relu", aten.relu.default, {"self": meta(2, 3, dtype=torch.float16)}),
    ("cat", aten.cat.default, {"tensors": [meta(2, 3), meta(2, 5)], "dim": -1}),
    ("cat", aten.cat.default, {"tensors": [meta(0), meta(2, 5)], "dim": 0}),
    ("mean", aten.mean.dim, {"self": meta(2, 3, 4), "dim": [-1, 1], "keepdim": False}),
    ("mean", aten.mean.dim, {"self": meta(2, 3, 4), "dim": [0], "keepdim": True}),
    ("sum", aten.sum.dim_IntList, {"self": meta(2, 3), "dim": [], "keepdim": False}),
    ("sum", aten.sum.dim_IntList, {"self": meta(2, dtype=torch.bool), "dim": [0]}),
    ("_softmax", aten._softmax.default, {"self": meta(2, 3), "dim": 1, "half_to_float": False}),
]


@pytest.mark.parametrize(("name", "operation", "arguments"), CALLS)
def test_fast_shapes_are_those_of_torch(
    name: str, operation: Any, arguments: dict[str, Any]
) -> None:
    fast, expected = SHAPES[name](arguments), operation(**arguments)
    assert fast is None or (fast.shape, fast.dtype) == (expected.shape, expected.dtype)
    unusual = any(
        isinstance(a, torch.Tensor) and a.dtype != torch.float32 for a in arguments.values()
    )
    assert fast is not None or unusual or arguments.get("dim") in ([], 0)


def test_mismatched_tensors_are_left_to_torch() -> None:
    assert SHAPES["cat"]({"tensors": [meta(2, 3), meta(3, 3)], "dim": 1}) is None
    with pytest.raises(RuntimeError, match="match"):
        SHAPES["add"]({"self": meta(2), "other": meta(3)})
