"""Decisions of a trained network as data: what each choice changes, and all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from rfsearch.retrofit._windows import Sides, Window

if TYPE_CHECKING:
    from rfsearch.retrofit.changes import Changes

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Option(NamedTuple):
    """What one choice changes.

    Attributes:
        changes: What is set, by layer.
        dilated: By what dilations are multiplied along each axis, by layer.
    """

    changes: Changes = _NOTHING
    dilated: Mapping[str, Sides] = _NOTHING


@dataclass(frozen=True)
class Decisions:
    """All decisions of a network.

    Attributes:
        options: For each decision what its values change; the first is the network as given.
        windows: The windows of the network's layers, in the order in which they run.
        fixed: Why, by layer, for what cannot be changed.
    """

    options: dict[str, dict[Any, Option]] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)

    def changes(self, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """What the values of all decisions change, by layer, in the order in which they run."""
        chosen = [options[params[name]] for name, options in self.options.items()]
        found: dict[str, dict[str, Any]] = {}
        factors: dict[str, Sides] = {}
        for option in chosen:
            for name, values in option.changes.items():
                found.setdefault(name, {}).update(values)
            for name, by in option.dilated.items():
                factors[name] = _times(factors.get(name, (1,) * len(by)), by)
        for name, by in factors.items():
            if max(by) > 1:
                found.setdefault(name, {}).update(_dilated(self.windows[name], by))
        skipped = {name for name, values in found.items() if values.get("skip")}
        order = {name: place for place, name in enumerate(self.windows)}
        return {
            name: {"skip": True} if name in skipped else found[name]
            for name in sorted(found, key=lambda name: order.get(name, len(order)))
            if not any(name.startswith(f"{outer}.") for outer in skipped)
        }


def _dilated(window: Window, by: Sides) -> dict[str, Any]:
    changes = {"dilation": plain(_times(window.dilation, by))}
    if window.padding is not None and max(window.padding):
        changes["padding"] = plain(_times(window.padding, by))
    return changes


def _times(one: Sides, other: Sides) -> Sides:
    return tuple(a * b for a, b in zip(one, other, strict=True))


def plain(sides: Sides) -> Any:
    """For JSON: a number where all axes are alike, else a list."""
    return sides[0] if len(set(sides)) == 1 else list(sides)
