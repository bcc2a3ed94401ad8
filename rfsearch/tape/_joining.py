"""Handlers of operations that join branches."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from rfsearch.tape import _rules as rules
from rfsearch.tape._functions import TorchFunction
from rfsearch.tape._values import pointwise
from rfsearch.tape.operation import Operation


def concatenation(operation: Operation) -> int:
    """Tensors joined along the channels."""
    result = operation.result
    new = operation.name == "stack"
    dim = operation["dim"] % result.ndim
    located = operation.locate(result)
    given = operation.given
    if located and dim in located.dims:
        raise operation.refusal("maps are joined side by side")
    # What the whole image gives to every unit is no part of the local field.
    local = [each for each in given if operation.locate(each)] or given
    total = result.shape[dim]
    shares = tuple((1 if new else each.shape[dim]) / total for each in local)
    if len(local) == 1 and shares == (1.0,):
        return operation.number(local[0])
    numbers = operation.aligned(local)
    return operation.step(partial(rules.concatenate, shares=shares), *numbers)


def addition(operation: Operation) -> int:
    """A sum or difference of two tensors, or of one and a number."""
    given, factor = operation.given, float(operation.arguments.get("alpha") or 1)
    names = ("self", "other")
    if len(given) == 2:
        if given[0] is given[1]:
            return _affine(operation, given[0], 1 + factor, 0.0)
        numbers = operation.independent(given)
        if factor != 1:
            numbers[1] = operation.step(
                partial(rules.affine, factor=factor, shift=0.0), numbers[1]
            )
        return operation.step(rules.add, *numbers)
    others = [operation[name] for name in names if operation[name] is not given[0]]
    sign = -1.0 if operation.name in ("sub", "rsub") else 1.0
    shift = _constant(others[0])
    return _affine(operation, given[0], 1.0, sign * factor * (shift or 0.0))


def multiplication(operation: Operation) -> int:
    """A product of two tensors, or of one with a number or a learned factor."""
    given = operation.given
    if len(given) == 2:
        if given[0] is given[1]:
            return pointwise(operation)
        return operation.step(rules.multiply, *operation.independent(given))
    other = operation["other"] if operation["self"] is given[0] else operation["self"]
    factor = _constant(other)
    if factor is not None:
        return _affine(operation, given[0], factor, 0.0)
    weights = operation.weights_of(other)
    if weights is None:
        raise operation.refusal("it multiplies by a constant that is not known")
    # A learned factor, such as that of layer scale, counts as one at a random initialisation.
    return operation.step(rules.scaled, operation.number(given[0]), weights=weights)


def gated(operation: Operation) -> int:
    """One half of the channels as a gate of the other half."""
    (dim,) = operation.dims()
    if dim in operation.locate(operation.first).dims:
        raise operation.refusal("maps are cut into parts")
    number = operation.number(operation.first)
    halves = [operation.step(rules.sliced, number) for _ in range(2)]
    gate = partial(rules.transform, function=TorchFunction("sigmoid"))
    return operation.step(rules.multiply, halves[0], operation.step(gate, halves[1]))


def division(operation: Operation) -> int:
    """A quotient: by a number, or by something else that depends on the images."""
    given, divisor = operation.given, _constant(operation["other"])
    if divisor is not None:
        return _affine(operation, operation["self"], 1 / divisor, 0.0)
    if len(given) < 2:
        raise operation.refusal("it divides by a constant that is not known")
    numbers = operation.independent(given)
    inverse = TorchFunction("reciprocal")
    numbers[1] = operation.step(partial(rules.transform, function=inverse), numbers[1])
    return operation.step(rules.multiply, *numbers)


def _affine(operation: Operation, tensor: Tensor, factor: float, shift: float) -> int:
    number = operation.number(tensor)
    if (factor, shift) == (1, 0):
        return number
    return operation.step(partial(rules.affine, factor=factor, shift=shift), number)


def _constant(value: Any) -> float | None:
    """A number, where it is known."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_meta:
        return float(value)
    return None
