"""The layers of a traced module, as the rules of diagnosis and the tables want them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rfsearch.diagnosis.layer_field import LayerField, Plane, Reach

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.trace.result import TracedModel
from rfsearch.trace.traced_map import TracedMap


def traced_layers(traced: TracedModel, model: nn.Module | None = None) -> tuple[LayerField, ...]:
    """One `LayerField` for each row of `traced.layers`.

    Args:
        traced: A trace.
        model: The traced module. Without, no layer knows what the units of its input see.
    """
    table = traced.layers
    if "height" not in table:
        return ()
    modules = dict(model.named_modules()) if model is not None else {}
    rows = table[table["height"].notna()].to_dict("records")
    first = {row["name"]: number for number, row in reversed(list(enumerate(rows)))}
    return tuple(
        replace(
            _layer(row, modules.get(str(row["name"]))),
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
    height, width = output.height, output.width
    stride = Plane(height.stride, width.stride)
    return Reach(Plane(height.size, width.size), Plane(*output.smallest), stride)


def _layer(row: dict[Any, Any], module: nn.Module | None) -> LayerField:
    reach = Reach(
        Plane(int(row["height"]), int(row["width"])),
        Plane(int(row["height_smallest"]), int(row["width_smallest"])),
        Plane(row["height_stride"], row["width_stride"]),
    )
    name = row["name"] or "(model)"
    return LayerField(name, row["type"], reach, bool(row["is_global"]), _before(module, reach))


def _before(module: nn.Module | None, reach: Reach) -> Reach | None:
    """What the units of a window's input see, from what those of its output see.

    A window of k taps, d apart, on units of stride j adds d (k - 1) j px to every path.
    """
    window = None if module is None else _window(module)
    if window is None:
        return None
    kernels, strides, dilations = window
    jumps = Plane(*(jump / step for jump, step in zip(reach.stride, strides, strict=True)))
    added = [d * (k - 1) * j for k, d, j in zip(kernels, dilations, jumps, strict=True)]
    size = Plane(*(pixels - more for pixels, more in zip(reach.size, added, strict=True)))
    smallest = Plane(*(pixels - more for pixels, more in zip(reach.smallest, added, strict=True)))
    return Reach(size, smallest, jumps)


def _window(module: nn.Module) -> tuple[tuple[int, ...], ...] | None:
    """Kernel size, stride and dilation along both axes of a convolution or pooling."""
    from torch import nn

    if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return None
    found = (module.kernel_size, module.stride, getattr(module, "dilation", 1))
    pairs = tuple((value, value) if isinstance(value, int) else tuple(value) for value in found)
    return pairs if all(len(pair) == 2 for pair in pairs) else None
