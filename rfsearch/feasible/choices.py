"""Parameters with finitely many values, as Optuna's distributions describe them."""

from __future__ import annotations

from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.distributions import BaseDistribution

Params = dict[str, Any]

#: Values that one parameter may have at most.
MAX_OPTIONS = 100_000
#: Options that a message lists.
_LISTED = 12
#: By how much of a step a number may miss an option, as in Optuna.
_ROUNDING = 1e-8


class NotOfferedError(ValueError):
    """A parameter has a value that is not one of its choices."""


def choices_of(distributions: Mapping[str, BaseDistribution]) -> dict[str, tuple[Any, ...]]:
    """The values of each parameter, in order.

    Raises:
        ValueError: If there are no parameters, or one has infinitely many values, more than
            100,000, or values that cannot be told apart.
    """
    if not distributions:
        raise ValueError("`distributions` must name at least one parameter, but is empty.")
    return {name: _options(name, given) for name, given in distributions.items()}


def _options(name: str, given: BaseDistribution) -> tuple[Any, ...]:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(given, CategoricalDistribution):
        return _distinct(name, given.choices)
    if isinstance(given, IntDistribution):
        steps = range(given.low, given.high + 1, given.step)
        _check_length(name, len(steps))
        return tuple(steps)
    if isinstance(given, FloatDistribution) and given.step is not None:
        # In decimal numbers: three steps of 0.1 are 0.3.
        low, step = Decimal(str(given.low)), Decimal(str(given.step))
        length = int((Decimal(str(given.high)) - low) / step) + 1
        _check_length(name, length)
        return tuple(float(low + number * step) for number in range(length))
    raise ValueError(
        f"`{name}` must be discrete (a CategoricalDistribution, an IntDistribution, or a "
        f"FloatDistribution with a step), but got {given!r}."
    )


def _check_length(name: str, length: int) -> None:
    if length > MAX_OPTIONS:
        raise ValueError(f"`{name}` may have {MAX_OPTIONS:,} values at most, but has {length:,}.")


def _distinct(name: str, options: tuple[Any, ...]) -> tuple[Any, ...]:
    _check_length(name, len(options))
    for option in options:
        try:
            hash(option)
        except TypeError:
            raise ValueError(
                f"Choices of `{name}` must be hashable, but got {option!r}."
            ) from None
    # Not a number is no choice that can be found again.
    if len(set(options)) < len(options) or any(option != option for option in options):
        raise ValueError(f"Choices of `{name}` must differ from each other, but got {options}.")
    return options


def offered(name: str, options: tuple[Any, ...], value: Any) -> Any:
    """The option that a value of a parameter stands for.

    Raises:
        NotOfferedError: If it is not one of them.
    """
    try:
        if value in options:
            return options[options.index(value)]
    except ValueError:  # Arrays have no truth value.
        pass
    else:
        if isinstance(value, Real) and isinstance(options[0], float) and len(options) > 1:
            near = min(options, key=lambda option: abs(option - value))
            if abs(near - value) <= _ROUNDING * (options[1] - options[0]):
                return near
    raise NotOfferedError(f"`{name}` must be one of {listed(options)}, but got {value!r}.")


def listed(options: tuple[Any, ...]) -> str:
    """Options in words, not too many of them."""
    if len(options) <= _LISTED:
        return ", ".join(map(str, options))
    return f"{options[0]}, {options[1]}, ..., {options[-1]}"
