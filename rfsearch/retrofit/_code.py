"""The lines of torch that make changes in the user's own code, without rfsearch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import nn

from rfsearch.field.windows import per_axis
from rfsearch.retrofit._windows import CONVOLUTIONS, axes_of
from rfsearch.retrofit.changes import DERIVED, MODES, changed

if TYPE_CHECKING:
    from rfsearch.retrofit.changes import Changes


def lines_of(module: nn.Module, changes: Changes) -> list[str]:
    """Lines that change a network that is called `model`, which keeps its `state_dict`.

    Args:
        module: The network as it is given.
        changes: Of it.
    """
    with changed(module, changes):
        return [line for name, values in changes.items() for line in _lines(module, name, values)]


def _lines(module: nn.Module, name: str, values: Any) -> Iterator[str]:
    layer, place = module.get_submodule(name), _place(module, name)
    for key, value in values.items():
        if key == "scale":
            mode = MODES[axes_of(layer) or 2]
            yield (
                f"{place}.register_forward_pre_hook(lambda layer, given: torch.nn.functional."
                f"interpolate(given[0], scale_factor={value:g}, mode={mode!r}))"
            )
        elif key != "skip":
            yield f"{place}.{key} = {tuple(per_axis(value, axes_of(layer) or 1))}"
        elif value and layer.state_dict():
            yield f"{place}.forward = torch.nn.Identity().forward  # Its weights stay."
        elif value and place.endswith(")"):
            yield f"model.set_submodule({name!r}, torch.nn.Identity())"
        elif value:
            yield f"{place} = torch.nn.Identity()"
    if isinstance(layer, CONVOLUTIONS) and layer.padding_mode != "zeros":
        yield f"{place}.{DERIVED} = {list(getattr(layer, DERIVED))}"


def _place(module: nn.Module, name: str) -> str:
    """How Python names a layer."""
    place, here = "model", module
    for part in name.split("."):
        holder, here = here, here.get_submodule(part)
        if isinstance(holder, nn.Sequential | nn.ModuleList) and part.isdecimal():
            place += f"[{part}]"
        elif part.isidentifier():
            place += f".{part}"
        else:
            return f"model.get_submodule({name!r})"
    return place
