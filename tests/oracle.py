"""An independent oracle of receptive fields: which output units turn NaN with input columns.

It shares no code with the tracer. What mixes the whole image (squeeze-and-excite, normalisation
over space, ...) would turn everything NaN, so its statistics are replaced by constants: the local
field remains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rfsearch.field.receptive_field import ReceptiveField

#: Extent of the strip across the probed axis, in px: two units of stride 32.
STRIP = 64
SPATIAL = ({2, 3}, {1, 2}, {2}, {3}, {-2, -1})
STATISTICS = ("mean", "amax", "var", "std", "norm")
#: Classes of timm that attend over all positions; what is left of them is pointwise.
ATTENTION = ("GlobalContext", "CrossCovarianceAttn", "Attention2d")


class WithoutGlobalStatistics(TorchFunctionMode):
    """Statistics over whole rows, columns or maps become constants."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (F.group_norm, torch.group_norm, torch.instance_norm, F.instance_norm):
            return args[0]
        if func in (F.conv2d, torch.conv2d) and _is_depthwise(args, kwargs):
            with torch.backends.mkldnn.flags(enabled=True):
                return func(*args, **kwargs)
        if func in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d):
            size = args[1]
            assert size in (1, (1, 1)), "only pooling to a single unit is global"
            return args[0].new_ones(*args[0].shape[:2], 1, 1)
        if getattr(func, "__name__", "") in STATISTICS and _is_spatial(args, kwargs):
            with torch._C.DisableTorchFunction():
                return torch.ones_like(func(*args, **kwargs))
        return func(*args, **kwargs)


def _is_spatial(args: Any, kwargs: Any) -> bool:
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    dims = set(dim) if isinstance(dim, tuple | list) else {dim}
    grouped = args[0].ndim == 5 and {3, 4} <= dims
    return grouped or (args[0].ndim == 4 and dims in SPATIAL)


def _is_depthwise(args: Any, kwargs: Any) -> bool:
    """Whether oneDNN computes a convolution tap by tap, far faster than torch's loop of groups."""
    groups = kwargs.get("groups", args[6] if len(args) > 6 else 1)
    return bool(groups > 1 and groups == args[0].shape[1])


def without_attention(model: nn.Module) -> nn.Module:
    """Replace modules in place that let all positions attend to each other."""
    for name, module in list(model.named_modules()):
        if type(module).__name__ in ATTENTION:
            model.set_submodule(name, _Unchanged())
    return model


class _Unchanged(nn.Module):
    """The identity, whatever else it is called with."""

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        return x


class Verdict(NamedTuple):
    """Output units that the oracle contradicts."""

    checked: int
    wrong: list[str]


def check_axis(
    run: Callable[[Tensor], Tensor],
    in_chans: int,
    interval: Callable[[int], tuple[int, int]],
    field: ReceptiveField,
    strip: int = STRIP,
    multiple: int = 64,
    others: int = 1,
) -> Verdict:
    """Check the intervals that are claimed for the units of a strip.

    For the unit in the middle, both ends: NaN up to the last pixel before its interval and from
    the first behind it must leave it alone, one more on either side must not. In the same runs,
    all other units whose interval lies in the strip must agree with their claims.

    Args:
        run: The model, from `(batch, channels, *strips, length)` to a map.
        in_chans: Channels of the input.
        interval: The claimed interval of a unit, `(start, stop)` in px.
        field: The claimed field: how long a strip is needed.
        strip: Extent of the strip across the axis, in px.
        multiple: Length of the strip is a multiple of this, in px.
        others: Number of the other axes.
    """
    strips = (strip,) * others
    length = field.size + 6 * max(field.stride, 8)
    length = max(multiple * 3, -(-length // multiple) * multiple)
    with torch.inference_mode():
        with torch.backends.mkldnn.flags(enabled=True):  # Nothing is NaN yet.
            units = run(torch.zeros(1, in_chans, *strips, length)).shape[-1]
        middle = min(range(units), key=lambda u: abs(sum(interval(u)) - length))
        first, stop = interval(middle)
        images = torch.zeros(3, in_chans, *strips, length)
        # Where what is no NaN begins and ends.
        bounds = [(first, stop), (first + 1, length), (0, stop - 1)]
        for image, (left, right) in zip(images, bounds, strict=True):
            image[..., :left] = image[..., right:] = float("nan")
        reached = run(images).isnan().movedim(-1, 1).flatten(2).any(2)
    assert 0 <= first < stop <= length, "the strip is too short"
    wrong, checked = [], 0
    for unit in range(units):
        begin, end = interval(unit)
        if begin < 0 or end > length:
            continue
        checked += 1
        for row, (left, right) in zip(reached, bounds, strict=True):
            # A unit between the taps of a transposed convolution sees nothing.
            expected = begin < end and (begin < left or end > right)
            if bool(row[unit]) != expected:
                wrong.append(f"unit {unit} [{begin}, {end}) with numbers in [{left}, {right})")
    return Verdict(checked, wrong)


def check_map(
    model: nn.Module,
    in_chans: int,
    traced: Any,
    forward: Callable[[nn.Module, Tensor], Tensor] | None = None,
    axes: Sequence[str] = (),
    **options: Any,
) -> list[Verdict]:
    """Check a traced output of a model along each axis, or those that are named.

    oneDNN is off: its Winograd kernels compute neighbours together and spread the NaN. It is on
    for convolutions of each channel alone, for which it has none.
    """
    call = forward or (lambda module, images: module(images))
    verdicts = []
    with torch.backends.mkldnn.flags(enabled=False), WithoutGlobalStatistics():
        for number, (name, field) in enumerate(traced.axes.items()):
            if name not in (axes or traced.axes):
                continue

            def run(x: Tensor, dim: int = 2 + number) -> Tensor:
                return call(model, x.movedim(-1, dim)).movedim(dim, -1)

            def interval(unit: int, number: int = number) -> tuple[int, int]:
                return tuple(traced.interval((unit,) * len(traced.axes))[number])

            others = len(traced.axes) - 1
            verdicts.append(check_axis(run, in_chans, interval, field, others=others, **options))
    return verdicts


def seen_columns(
    run: Callable[[Tensor], Tensor], in_chans: int, length: int, strip: int = STRIP
) -> list[tuple[int, int] | None]:
    """The columns of a strip that each unit of a row sees, from its first to behind its last.

    Found with a NaN in one column of each image of a batch: slower than `check_axis`, but it
    needs no claim.

    Args:
        run: The model, from `(batch, channels, strip, length)` to a map.
        in_chans: Channels of the input.
        length: Length of the strip, in px.
        strip: Extent of the strip across the axis, in px.
    """
    images = torch.zeros(length, in_chans, strip, length)
    images[range(length), :, :, range(length)] = float("nan")
    # NNPACK, which larger batches are given to, spreads the NaN too.
    with (
        torch.inference_mode(),
        torch.backends.mkldnn.flags(enabled=False),
        torch.backends.nnpack.flags(enabled=False),
    ):
        reached = run(images).isnan().any(dim=1).any(dim=1)
    columns = [unit.nonzero().flatten().tolist() for unit in reached.T]
    return [(seen[0], seen[-1] + 1) if seen else None for seen in columns]


def wrong_units(model: nn.Module, traced: Any, in_chans: int) -> list[str]:
    """Units along both axes of a traced map whose claimed intervals are not what they see.

    Intervals are compared where they lie in the input, of its traced size.
    """
    wrong = []
    for axis, length in zip(("height", "width"), traced.input_size, strict=True):
        runs = {"height": lambda x: model(x.mT).mT, "width": model}
        across = traced.input_size[axis == "height"]
        seen = seen_columns(runs[axis], in_chans, length, across)
        claims = [getattr(traced.interval((unit, unit)), axis) for unit in range(len(seen))]
        inside = [0 <= start < stop <= length for start, stop in claims]
        assert any(inside), "no unit lies in the image"
        wrong += [
            f"{axis} {unit}: [{claim[0]}, {claim[1]}), but it sees {found}"
            for unit, (claim, found) in enumerate(zip(claims, seen, strict=True))
            if inside[unit] and claim != found
        ]
    return wrong
