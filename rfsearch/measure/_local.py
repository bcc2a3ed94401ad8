"""Gradients of the local field alone, in a network with parts that mix the whole image."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

#: Classes of timm that make factors of what the whole map holds, and the part of each whose input
#: comes from there alone.
_GATED = {
    "SEModule": "gate",
    "SqueezeExcite": "gate",
    "EffectiveSEModule": "gate",
    "GlobalContext": "gate",
    "SplitAttn": "fc1",
    "SelectiveKernelAttn": "fc_reduce",
}
#: Those, and one of torchvision, whose output is made of all positions alike.
_ATTENDING = ("Attention2d", "ASPPPooling")


def keep_local(module: nn.Module) -> None:
    """Take what is pooled over or attended to in the whole map as constant, in place.

    A gate still scales the gradient of each channel, but nothing flows through the statistics
    that its factors are made of, nor through what attention gathers: a unit's gradient stays
    inside its theoretical receptive field, along the paths of the closed form. Group normalisation
    keeps its statistics as constants, too.

    Args:
        module: Whose squeeze-and-excite, global context and attention (to channels, branches or
            positions) are timm's.
    """
    for child in module.modules():
        kind = type(child).__name__
        if kind in _GATED:
            gate = child.get_submodule(_GATED[kind])
            gate.register_forward_pre_hook(_detached_input)
        elif isinstance(child, nn.GroupNorm):
            child.register_forward_hook(_with_constant_statistics)
        elif kind in _ATTENDING:
            child.register_forward_hook(_detached_output)


def _detached_input(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.detach() if isinstance(each, Tensor) else each for each in inputs)


def _detached_output(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.detach()


def _with_constant_statistics(norm: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """The same output, through whose statistics over the map no gradient flows."""
    assert isinstance(norm, nn.GroupNorm)
    (x,) = inputs
    with torch.no_grad():
        grouped = x.reshape(len(x), norm.num_groups, -1)
        mean = grouped.mean(dim=-1, keepdim=True)
        variance = grouped.var(dim=-1, keepdim=True, correction=0)
    normalised = ((x.reshape(grouped.shape) - mean) * (variance + norm.eps).rsqrt()).reshape(
        x.shape
    )
    if norm.weight is not None and norm.bias is not None:
        ones = [1] * (x.ndim - 2)
        normalised = normalised * norm.weight.view(-1, *ones) + norm.bias.view(-1, *ones)
    # timm's has an activation behind it.
    for name in ("drop", "act"):
        part = getattr(norm, name, None)
        normalised = normalised if part is None else part(normalised)
    return cast("Tensor", normalised)
