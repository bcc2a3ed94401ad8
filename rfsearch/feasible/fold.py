"""Folds: how a quantity grows decision by decision, and the graph of all ways that it can go."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rfsearch.feasible._user_functions import ask, call, check_hashable
from rfsearch.feasible.layered_graph import Graph, Layer, pruned

#: States behind one decision, and edges of the graph, at most: some hundred megabytes.
MAX_STATES, MAX_EDGES = 1_000_000, 10_000_000


def _accept_all(state: Any) -> bool:
    return True


@dataclass(frozen=True)
class Fold:
    """How a quantity grows decision by decision, and where it may end.

    States that are equal merge, so that sums, maxima, products and budgets have small graphs
    however many candidates there are: ten decisions among ten numbers have 10^10 outcomes, but 91
    sums. All functions must give the same answer whenever they are asked.

    A parameter that others make irrelevant is a `step` that returns the same state for all of
    its values.

    >>> weights = {"apple": 2, "melon": 5}
    >>> knapsack = Fold(
    ...     start=6,  # what it can still hold
    ...     step=lambda left, name, number: (
    ...         left - weights[name] * number if left >= weights[name] * number else None
    ...     ),
    ... )

    Attributes:
        start: The state before the first decision; hashable, such as a number or a tuple.
        step: `step(state, name, value)` is the state behind the decision that the parameter
            `name` has this value, or None where that is impossible.
        accept: Whether a candidate that ends in a state fits; by default all do.
    """

    start: Hashable
    step: Callable[[Any, str, Any], Hashable | None]
    accept: Callable[[Any], bool] = _accept_all


def _forget(state: Any, name: str, value: Any) -> tuple[Any, ...]:
    return ()


#: Everything fits.
EVERYTHING = Fold((), _forget)


def fold_graph(choices: Mapping[str, tuple[Any, ...]], fold: Fold) -> Graph:
    """The graph whose paths are the candidates that a fold accepts.

    Args:
        choices: The values of each parameter, in the order of the decisions.
        fold: What fits.

    Raises:
        ValueError: If the fold fails, a state cannot be hashed, or there are too many states; it
            names the parameter.
    """
    states: list[Hashable] = [fold.start]
    check_hashable(fold.start, lambda: "`start` of a fold")
    layers, num_edges, name = [], 0, ""  # A set has at least one parameter.
    for name, options in choices.items():
        layer, states = _layer(fold, name, options, states, num_edges)
        layers.append(layer)
        num_edges += len(layer.source)
    last = layers[-1]
    # An example of how each state was reached, for messages.
    option = np.zeros(len(states), np.int64)
    option[last.target] = last.option
    values = [last.options[number][name] for number in option]
    answers = [_accepts(fold, state, name, one) for state, one in zip(states, values, strict=True)]
    kept = np.array(answers, bool)[last.target]
    source = last.source[kept]
    # All that is accepted ends in one node.
    layers[-1] = Layer(
        last.options,
        source,
        last.option[kept],
        np.zeros(len(source), np.int64),
        np.searchsorted(source, np.arange(len(last.first))),
    )
    return pruned(layers, np.zeros(min(1, len(source)), np.int64))


def _layer(
    fold: Fold, name: str, options: tuple[Any, ...], states: list[Hashable], num_edges: int
) -> tuple[Layer, list[Hashable]]:
    """The edges of one decision, and the states behind it."""
    numbers: dict[Hashable, int] = {}
    source, option, target = array("q"), array("q"), array("q")
    for number, state in enumerate(states):
        for place, value in enumerate(options):
            after = _step(fold, state, name, value)
            if after is not None:
                source.append(number)
                option.append(place)
                target.append(numbers.setdefault(after, len(numbers)))
        if len(numbers) > MAX_STATES or num_edges + len(source) > MAX_EDGES:
            raise ValueError(
                f"The states of the fold do not merge: `{name}`, with {len(options):,} values, "
                f"makes more than {MAX_STATES:,} states or {MAX_EDGES:,} transitions of the "
                f"{len(states):,} states before it. Keep less in a state, or round it."
            )
    edges = [np.array(column, np.int64) for column in (source, option, target)]
    first = np.searchsorted(edges[0], np.arange(len(states) + 1))
    named = [{name: value} for value in options]
    return Layer(named, edges[0], edges[1], edges[2], first), list(numbers)


def _step(fold: Fold, state: Hashable, name: str, value: Any) -> Hashable | None:
    def what() -> str:
        return f"`step` for `{name}` = {value!r} in the state {state!r}"

    after: Hashable | None = call(fold.step, (state, name, value), what)
    check_hashable(after, lambda: f"The state given by {what()}")
    return after


def _accepts(fold: Fold, state: Hashable, name: str, value: Any) -> bool:
    def what() -> str:
        return f"`accept` for the state {state!r} behind `{name}` = {value!r}"

    return ask(fold.accept, (state,), what)
