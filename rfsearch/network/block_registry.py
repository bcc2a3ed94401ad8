"""Kinds of block by name: built in, registered in this process, or offered by packages.

A package offers blocks as entry points of the group `rfsearch.blocks`: the name is that of the
block, the value a module that registers it (`rfsearch.register_block`).
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from rfsearch.network.blocks import KINDS, Kind

#: Group of entry points.
GROUP = "rfsearch.blocks"
#: Option of a block, with its value.
Option = tuple[str, Any]

_registered: dict[str, Kind] = {}


def register_kind(name: str, kind: Kind) -> None:
    """Make a kind of block known in this process.

    Raises:
        ValueError: If the name is no identifier, or taken.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"The name of a block must be an identifier, but got {name!r}.")
    if name in KINDS or name in _registered:
        taken = "a built-in block" if name in KINDS else "a block that was registered before"
        raise ValueError(f"The name of a block must be new, but {name!r} is that of {taken}.")
    _registered[name] = kind


def kind_of(name: str) -> Kind:
    """A kind of block by its name; what a package offers is loaded on its first use.

    Raises:
        ValueError: If no such block is known here, or its package does not register it.
    """
    if name not in KINDS and name not in _registered:
        _load(name)
    return KINDS[name] if name in KINDS else _registered[name]


def check_block(name: str) -> str:
    """Refuse the name of a block that is not known, as `kind_of`."""
    kind_of(name)
    return name


def _load(name: str) -> None:
    offers = [point for point in entry_points(group=GROUP) if point.name == name]
    if not offers:
        raise ValueError(_unknown(name))
    if len(offers) > 1:
        packages = " and ".join(_package(point) for point in offers)
        raise ValueError(f"block {name!r} is offered by several packages: {packages}.")
    (point,) = offers
    place = f"the entry point `{point.name} = {point.value}` of {_package(point)}"
    try:
        point.load()
    except Exception as error:  # Whatever a package raises.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300].removesuffix(".")
        raise ValueError(f"block {name!r} cannot be loaded from {place}: {reason}.") from error
    if name not in _registered:
        raise ValueError(
            f"block {name!r} must be registered by {place}, but that does not call "
            f"`rfsearch.register_block({name!r}, ...)`."
        )


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "a package"


def _unknown(name: str) -> str:
    offered = (point.name for point in entry_points(group=GROUP))
    return (
        f"block {name!r} is not registered here: it must be built in ({_listed(KINDS)}), "
        f"registered in each process by `rfsearch.register_block` ({_listed(_registered)}), or an "
        f"entry point `{GROUP}` of an installed package ({_listed(offered)}), but got {name!r}."
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "none"


def check_options(block: str, options: Iterable[Option]) -> None:
    """Refuse options that are not those of a block, each with a value on offer.

    Raises:
        ValueError: If one is unknown, missing, or has another value.
    """
    offered, given = kind_of(block).options, dict(options)
    for name in given:
        if name not in offered:
            raise ValueError(
                f"`options` of {block} blocks must be {_listed(offered)}, but got {name!r}."
            )
    for name, values in offered.items():
        if name not in given:
            raise ValueError(f"`options` of {block} blocks must have {name!r}, but it is missing.")
        check_offered(block, name, given[name], values)


def check_offered(block: str, name: str, value: Any, offered: tuple[Any, ...]) -> None:
    """Refuse a value of an option that is not on offer.

    Raises:
        ValueError: If it is not.
    """
    # True is no 1 here, nor 1.0.
    if not any(value == one and type(value) is type(one) for one in offered):
        values = ", ".join(map(repr, offered))
        raise ValueError(
            f"option {name!r} of {block} blocks must be one of {values}, but got {value!r}."
        )
