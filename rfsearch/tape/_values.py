"""Handlers of functions of single values, and of sums of them along dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from rfsearch.tape import _rules as rules
from rfsearch.tape._functions import TorchFunction
from rfsearch.tape._seams import summands
from rfsearch.tape.operation import Operation, number_of

Handler = Callable[[Operation], int]


def pointwise(operation: Operation) -> int:
    """A function of each value of one tensor."""
    given = operation.given
    if len({number_of(each) for each in given}) != 1:
        raise operation.refusal()
    function = TorchFunction.of(operation.name, operation.arguments)
    if function is None:
        raise operation.refusal("it takes constants that are not known")
    return operation.step(partial(rules.transform, function=function), operation.number(given[0]))


def rectifier(operation: Operation) -> int:
    """A rectifier, which may end at a ceiling; behind a sum it is one step with it."""
    arguments = operation.arguments
    low = arguments.get("min_val", arguments.get("min", 0.0))
    high = arguments.get("max_val", arguments.get("max"))
    if low != 0:
        return pointwise(operation)
    number = operation.number(operation.first)
    function = TorchFunction.of(operation.name, arguments)
    assert function is not None
    ceiling = math.inf if high is None else float(high)
    rule = partial(rules.rectify, function=function, ceiling=ceiling)
    return operation.step(rule, *summands(operation.tape, number))


def learned_slope(operation: Operation) -> int:
    """PReLU, with the slope that it starts with."""
    function = TorchFunction("leaky_relu", (("negative_slope", 0.25),))
    return operation.step(
        partial(rules.transform, function=function), operation.number(operation.first)
    )


def reduction(kind: str) -> Handler:
    """A sum, mean or maximum: over all positions a constant, over channels a sum of them."""

    def handler(operation: Operation) -> int:
        number = operation.number(operation.first)
        dims = operation.dims() if "dim" in operation.arguments else range(operation.first.ndim)
        located = operation.locate(operation.first)
        count = math.prod(operation.first.shape[dim] for dim in dims)
        if operation.mixes_all or (located and set(dims) & located.dims):
            if kind == "max":
                return operation.step(partial(rules.highest, count=count), number)
            if kind == "sum":
                raise operation.refusal("it sums over positions")
            return operation.step(rules.average, number)
        if kind == "max":
            raise operation.refusal("it takes the highest channel")
        divisor = count if kind == "mean" else 1
        rule = partial(rules.over_channels, count=count, divisor=divisor)
        return operation.step(rule, number)

    return handler
