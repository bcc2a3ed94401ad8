"""The layers of a traced module, as the rules of diagnosis and the tables want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rfsearch.diagnosis.layer_field import Extent, LayerField, Reach
from rfsearch.field.windows import per_axis
from rfsearch.trace.traced_map import TracedMap

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.trace.result import TracedModel


def traced_layers(traced: TracedModel, model: nn.Module | None = None) -> tuple[LayerField, ...]:
    """One `LayerField` for each row of `traced.layers`.

    Args:
        traced: A trace.
        model: The traced module. Without, no layer knows what the units of its input see.
    """
    table = traced.layers
    first_axis = traced.axes[0]
    if first_axis not in table:
        return ()
    modules = dict(model.named_modules()) if model is not None else {}
    rows = table[table[first_axis].notna()].to_dict("records")
    first = {row["name"]: number for number, row in reversed(list(enumerate(rows)))}
    return tuple(
        replace(
            _layer(row, traced.axes, modules.get(str(row["name"]))),
            # What is expected is that of the first run of a layer that runs more than once.
            expected=partial(traced.expected_erf, layer=str(row["name"]))
            if first[row["name"]] == number
            else None,
        )
        for number, row in enumerate(rows)
    )


def traced_outputs(traced: TracedModel) -> tuple[LayerField, ...]:
    """One `LayerField` for each output: before a global pooling, that of the pooled units."""
    return tuple(
        LayerField(
            name,
            "output",
            output_reach(output),
            output.is_global,
            expected=partial(traced.expected_erf, name),
        )
        for name, output in traced.outputs.items()
    )


def output_reach(output: TracedMap) -> Reach:
    """What the units of an output see; after up-sampling, those that see most."""
    seen = output.axes.values()
    size, stride = (Extent(*(getattr(one, name) for one in seen)) for name in ("size", "stride"))
    return Reach(size, Extent(*output.smallest), stride)


def _layer(row: dict[Any, Any], axes: Sequence[str], module: nn.Module | None) -> LayerField:
    reach = Reach(
        Extent(*(int(row[axis]) for axis in axes)),
        Extent(*(int(row[f"{axis}_smallest"]) for axis in axes)),
        Extent(*(row[f"{axis}_stride"] for axis in axes)),
    )
    name = row["name"] or "(model)"
    return LayerField(name, row["type"], reach, bool(row["is_global"]), _before(module, reach))


def _before(module: nn.Module | None, reach: Reach) -> Reach | None:
    """What the units of a window's input see, from what those of its output see.

    A window of k taps, d apart, on units of stride j adds d (k - 1) j px to every path.
    """
    window = None if module is None else _window(module, len(reach.size))
    if window is None:
        return None
    kernels, strides, dilations = window
    jumps = Extent(*(jump / step for jump, step in zip(reach.stride, strides, strict=True)))
    added = [d * (k - 1) * j for k, d, j in zip(kernels, dilations, jumps, strict=True)]
    size = Extent(*(pixels - more for pixels, more in zip(reach.size, added, strict=True)))
    smallest = Extent(*(pixels - more for pixels, more in zip(reach.smallest, added, strict=True)))
    return Reach(size, smallest, jumps)


def _window(module: nn.Module, num_axes: int) -> tuple[list[int], ...] | None:
    """Kernel size, stride and dilation along each axis of a convolution or pooling."""
    from torch import nn

    kinds = {
        1: (nn.Conv1d, nn.MaxPool1d, nn.AvgPool1d),
        2: (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d),
        3: (nn.Conv3d, nn.MaxPool3d, nn.AvgPool3d),
    }
    if not isinstance(module, kinds[num_axes]):
        return None
    found = (module.kernel_size, module.stride, getattr(module, "dilation", 1))
    along = tuple(per_axis(value, num_axes) for value in found)
    return along if all(len(values) == num_axes for values in along) else None
