"""Readings of a graph: how many paths lead to the end, one at random, the cheapest first."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from rfsearch.feasible.layered_graph import Layer

if TYPE_CHECKING:
    from rfsearch.feasible.layered_graph import Graph, Integers

#: Cost of an option that must not be taken.
FORBIDDEN = 2**40
#: Parts of a graph that are looked at before the whole of it.
_PARTS = 5

#: The option taken in each layer.
Path = tuple[int, ...]


class Paths:
    """The paths from a graph's root to its end.

    Args:
        graph: The graph.
        most: A number that no count of paths exceeds.
    """

    def __init__(self, graph: Graph, most: int) -> None:
        self.layers = graph.layers
        self._ends = graph.ends
        # Python integers where 64 bits may be too few.
        self._counter: Any = object if most >= 2**62 else np.int64

    def _ones(self, length: int) -> Any:
        return np.zeros(length, self._counter) + 1

    @cached_property
    def _numbers(self) -> list[int]:
        """For each layer, and behind the last, the number of nodes."""
        return [*(len(layer.first) - 1 for layer in self.layers), len(self._ends)]

    @cached_property
    def _paths_on(self) -> list[Any]:
        """For each layer, and behind the last, the number of paths to the end from each node."""
        paths = [self._ones(len(self._ends))]
        for layer in reversed(self.layers):
            paths.append(_reduce(np.add, paths[-1][layer.target], layer))
        return paths[::-1]

    @property
    def number(self) -> int:
        """How many there are."""
        return int(self._paths_on[0].sum())

    def by_end(self) -> dict[int, int]:
        """How many there are to each of the graph's `ends`, in order."""
        paths = self._ones(1)
        for layer, number in zip(self.layers, self._numbers[1:], strict=True):
            counts = np.zeros(number, self._counter)
            np.add.at(counts, layer.target, paths[layer.source])
            paths = counts
        ends: Counter[int] = Counter()
        for end, number in zip(self._ends.tolist(), paths.tolist(), strict=True):
            ends[end] += number
        return dict(sorted(ends.items()))

    def draw(self, rng: np.random.Generator) -> Path:
        """One of them, each as likely as any other."""
        node, path = 0, []
        for layer, paths in zip(self.layers, self._paths_on[1:], strict=True):
            first, last = layer.first[node : node + 2].tolist()
            sums = paths[layer.target[first:last]].cumsum()
            edge = first + sums.searchsorted(random_below(int(sums[-1]), rng), side="right")
            path.append(int(layer.option[edge]))
            node = int(layer.target[edge])
        return tuple(path)

    def consistent(self, partial: Mapping[str, Any]) -> list[Integers]:
        """Edges of each layer that lie on a path that agrees with some parameters."""
        layers = self.layers
        agreeing = []
        for layer in layers:
            fits = [
                all(partial.get(name, value) == value for name, value in option.items())
                for option in layer.options
            ]
            agreeing.append(np.array(fits, bool)[layer.option])
        leads = np.ones(len(self._ends), bool)
        for layer, kept in zip(reversed(layers), reversed(agreeing), strict=True):
            kept &= leads[layer.target]
            leads = np.zeros(len(layer.first) - 1, bool)
            leads[layer.source[kept]] = True
        reached, edges = np.ones(1, bool), []
        for layer, kept, number in zip(layers, agreeing, self._numbers[1:], strict=True):
            kept &= reached[layer.source]
            reached = np.zeros(number, bool)
            reached[layer.target[kept]] = True
            edges.append(np.flatnonzero(kept))
        return edges

    def by_cost(self, costs: list[Integers], unit: int) -> Iterator[Path]:
        """All paths to the end, cheapest first, made one at a time.

        Cheap paths lie in a small part of a large graph. So they are looked for there, and only
        if they run out in a larger part, and last in the whole.

        Args:
            costs: For each layer the cost of each option.
            unit: By how much dearer the paths of the next part may be.
        """
        if not len(self._ends):
            return
        most = sum(int(cost[cost < FORBIDDEN].max(initial=0)) for cost in costs)
        spent = -1
        for bound in (*(unit * number - 1 for number in range(2, _PARTS + 2)), most):
            if spent < most:
                layers = self._within(costs, bound) if bound < most else self.layers
                for total, path in _cheapest_first(layers, costs):
                    if total > bound:
                        break
                    if total > spent:
                        yield path
                spent = bound

    def _within(self, costs: list[Integers], bound: int) -> list[Layer]:
        """The part of the graph that is reached at costs up to a bound."""
        spent, layers = np.zeros(1, np.int64), []
        for layer, cost, number in zip(self.layers, costs, self._numbers[1:], strict=True):
            edges, before = _edges_from(np.flatnonzero(spent <= bound), layer, spent)
            total = before + cost[layer.option[edges]]
            kept = np.flatnonzero(total <= bound)
            edges, total = edges[kept], total[kept]
            source, option, target = (c[edges] for c in (layer.source, layer.option, layer.target))
            first = np.searchsorted(source, np.arange(len(layer.first)))
            layers.append(Layer(layer.options, source, option, target, first))
            spent = np.full(number, bound + 1)
            np.minimum.at(spent, target, total)
        return layers


def _edges_from(nodes: Integers, layer: Layer, values: Integers) -> tuple[Integers, Integers]:
    """The edges of a layer that begin at some of its nodes, in order, with the nodes' values."""
    first = layer.first[nodes]
    lengths = layer.first[nodes + 1] - first
    before = np.cumsum(lengths) - lengths
    edges = np.repeat(first - before, lengths) + np.arange(lengths.sum())
    return edges, np.repeat(values[nodes], lengths)


def _cheapest_on(layers: list[Layer], costs: list[Integers]) -> list[Integers]:
    """Of each edge, the cost of the cheapest path to the end through it."""
    ahead, through = np.zeros(1 + int(layers[-1].target.max(initial=0)), np.int64), []
    for layer, cost in zip(reversed(layers), reversed(costs), strict=True):
        total = np.take(cost, layer.option, mode="clip")  # Faster than with a check of places.
        total += np.take(ahead, layer.target, mode="clip")
        through.append(total)
        # A part of a graph has nodes without edges.
        leading = np.flatnonzero(layer.first[1:] > layer.first[:-1])
        ahead = np.full(len(layer.first) - 1, FORBIDDEN)
        if len(leading):
            ahead[leading] = np.minimum.reduceat(total, layer.first[leading])
    return through[::-1]


def _cheapest_first(layers: list[Layer], costs: list[Integers]) -> Iterator[tuple[int, Path]]:
    """All paths of a graph to its end with their costs (lazy best-first search)."""
    through = _cheapest_on(layers, costs)
    # An entry stands for the cheapest path through one edge, given the way before it.
    ties = count()
    heap: list[tuple[int, int, int, Integers, int, int, Path]] = []

    def push(depth: int, edges: Integers, rank: int, spent: int, path: Path) -> None:
        if rank < len(edges):
            total = spent + int(through[depth][edges[rank]])
            if total < FORBIDDEN:
                entry = (total, next(ties), depth, edges, rank, spent, path)
                heapq.heappush(heap, entry)

    def descend(depth: int, node: int, spent: int, path: Path) -> None:
        edges = slice(layers[depth].first[node], layers[depth].first[node + 1])
        order = np.argsort(through[depth][edges], kind="stable")
        push(depth, order + edges.start, 0, spent, path)

    descend(0, 0, 0, ())
    while heap:
        total, _, depth, edges, rank, spent, path = heapq.heappop(heap)
        push(depth, edges, rank + 1, spent, path)
        edge = edges[rank]
        option = int(layers[depth].option[edge])
        if depth + 1 == len(layers):
            yield total, (*path, option)
        else:
            node = int(layers[depth].target[edge])
            descend(depth + 1, node, spent + int(costs[depth][option]), (*path, option))


def _reduce(operation: np.ufunc, values: Any, layer: Layer) -> Any:
    """Reduce over the edges of each node; in a pruned graph every node has some."""
    return operation.reduceat(values, layer.first[:-1]) if len(values) else values


def random_below(limit: int, rng: np.random.Generator) -> int:
    """Uniform integer from 0 to `limit - 1`, of any length."""
    bits = limit.bit_length()
    while True:
        value = int.from_bytes(rng.bytes((bits + 7) // 8), "little") >> (-bits % 8)
        if value < limit:
            return value
