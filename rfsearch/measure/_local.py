"""Gradients of the local field alone, in a network with parts that mix the whole image."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

#: Classes of timm whose gate makes factors of what the whole map holds.
_GATED = ("SEModule", "SqueezeExcite", "EffectiveSEModule", "GlobalContext")
#: Those, and one of torchvision, whose output is made of all positions alike.
_ATTENDING = ("Attention2d", "ASPPPooling")


def keep_local(module: nn.Module) -> None:
    """Take what is pooled over or attended to in the whole map as constant, in place.

    A gate still scales the gradient of each channel, but nothing flows through the statistics
    that its factors are made of, nor through what attention gathers: a unit's gradient stays
    inside its theoretical receptive field, along the paths of the closed form.

    Args:
        module: Whose squeeze-and-excite, global context and attention are timm's.
    """
    for child in module.modules():
        kind = type(child).__name__
        if kind in _GATED:
            gate = child.get_submodule("gate")
            gate.register_forward_pre_hook(_detached_input)
        elif kind in _ATTENDING:
            child.register_forward_hook(_detached_output)


def _detached_input(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.detach() if isinstance(each, Tensor) else each for each in inputs)


def _detached_output(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.detach()
