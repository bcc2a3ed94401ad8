"""Handlers of linear layers, attention and normalisations."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from torch import Tensor

from rfsearch.tape import _rules as rules
from rfsearch.tape._seams import joined
from rfsearch.tape.operation import Operation, number_of
from rfsearch.tape.tape import Weights

Handler = Callable[[Operation], int]


def product(one: str, two: str) -> Handler:
    """A matrix product: a linear layer, or attention."""

    def handler(operation: Operation) -> int:
        left, right = operation[one], operation[two]
        given = [each for each in (left, right) if number_of(each) is not None]
        if len(given) == 2:
            return _attend(operation, given)
        (source,) = given
        weight, dim = (right, -1) if source is left else (left, -2)
        weights = operation.weights_of(weight)
        if weights is None:
            raise operation.refusal("it multiplies by a matrix that is not known")
        weights = weights._replace(fan_in=source.shape[dim])
        rule = partial(rules.weighted, strides=operation.per_axis(source, {}, 1))
        if operation.mixes_all:
            return operation.step(rule, operation.number(source), weights=weights)
        located = operation.locate(source)
        if located and dim % source.ndim in located.dims:
            return operation.slid(rule, source, {}, weights, channels=dim)
        return operation.step(rule, operation.number(source), weights=weights)

    return handler


def _attend(operation: Operation, given: list[Tensor]) -> int:
    """A product of two maps: scores of attention, or the mean that they weigh."""
    numbers = [operation.number(each) for each in given]
    weighing = [number for number in numbers if operation.tape.steps[number].rule is rules.scores]
    if len(weighing) == 1:
        (values,) = (number for number in numbers if number not in weighing)
        return operation.step(rules.average, values)
    return operation.step(rules.scores, *numbers)


def attention(operation: Operation) -> int:
    """Scaled dot-product attention: a mean over all positions."""
    return operation.step(rules.average, operation.number(operation["value"]))


def softmax(operation: Operation) -> int:
    """Weights that sum to one: of positions, or of channels of what the whole map holds."""
    (dim,) = operation.dims()
    number = operation.number(operation.first)
    located = operation.locate(operation.first)
    if operation.mixes_all or operation.tape.steps[number].rule is rules.scores or located:
        return operation.step(rules.scores, number)
    count = operation.first.shape[dim]
    return operation.step(partial(rules.softmax, count=count), number)


def normalisation(operation: Operation) -> int:
    """Batch normalisation, with the statistics of each channel, of what was joined apart."""
    parts = joined(operation.tape, operation.number(operation.first))
    rule = partial(rules.batch_normalised, shares=tuple(parts.values()))
    return operation.step(rule, *parts, weights=_factor(operation))


def joint_normalisation(operation: Operation) -> int:
    """Normalisation of all channels, or of groups of them, together."""
    channels = math.inf
    if operation.name == "native_group_norm":
        channels = operation.first.shape[1] // operation["group"]
        if channels == 1:
            return normalisation(operation)
    number = operation.number(operation.first)
    rule = partial(rules.channels_normalised, channels=channels)
    return operation.step(rule, number, weights=_factor(operation))


def _factor(operation: Operation) -> Weights | None:
    """The learned factors behind a normalisation."""
    weight = operation.arguments.get("weight")
    return None if weight is None else operation.weights_of(weight)
