"""A graph in layers: one layer of edges for each decision, without what leads nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.feasible.choices import Params

    Integers = NDArray[np.int64]

#: Longest table that numbers distinct values; more are sorted.
_LONGEST_TABLE = 2**26


@dataclass(frozen=True, eq=False)
class Layer:
    """The edges of one decision, sorted by their source.

    Attributes:
        options: Active parameters of each way to decide.
        source: Node of each edge in this layer.
        option: Its way to decide.
        target: Its node in the next layer.
        first: Where each node's edges begin; one entry more than nodes.
    """

    options: list[Params]
    source: Integers
    option: Integers
    target: Integers
    first: Integers


@dataclass(frozen=True, eq=False)
class Graph:
    """Layers, and a number at each node behind the last one.

    Attributes:
        layers: The decisions.
        ends: What the nodes behind the last decision differ in.
    """

    layers: list[Layer]
    ends: Integers


def unique_rows(columns: list[Integers]) -> tuple[list[Integers], Integers]:
    """Distinct rows in order, and the number of each row among them."""
    key, span = np.zeros(len(columns[0]), np.int64), 1
    for column in columns:
        values, ranks = _ranked(column)
        key, span = key * len(values) + ranks, span * len(values)
        if span >= 2**40:  # Few of these combinations occur.
            values, key = _ranked(key)
            span = len(values)
    values, numbers = _ranked(key)
    example = np.empty(len(values), np.int64)
    example[numbers] = np.arange(len(numbers))
    return [column[example] for column in columns], numbers


def _ranked(values: Integers) -> tuple[Integers, Integers]:
    """Distinct values in order, and the rank of each; by a table where it is not too long."""
    if not len(values):
        return values, values
    low = int(values.min())
    length = int(values.max()) - low + 1
    if length > _LONGEST_TABLE:
        distinct, ranks = np.unique(values, return_inverse=True)
        return distinct, ranks.reshape(-1)
    present = np.zeros(length, bool)
    present[values - low] = True
    return np.flatnonzero(present) + low, (np.cumsum(present) - 1)[values - low]


def pruned(layers: list[Layer], ends: Integers) -> Graph:
    """Without the nodes and edges that lead nowhere; nodes are numbered anew."""
    alive = np.ones(len(ends), bool)
    kept: list[Layer] = []
    for layer in reversed(layers):
        numbers = np.cumsum(alive) - 1
        leads = alive[layer.target]
        source, target = layer.source[leads], numbers[layer.target[leads]]
        alive = np.zeros(len(layer.first) - 1, bool)
        alive[source] = True
        source = (np.cumsum(alive) - 1)[source]
        first = np.searchsorted(source, np.arange(int(alive.sum()) + 1))
        kept.append(Layer(layer.options, source, layer.option[leads], target, first))
    return Graph(kept[::-1], ends)
