"""What an untrained network needs before its effective receptive field means something.

Two traps: blocks whose last scale starts at zero or nearly so (timm's `zero_init_last`, layer
scale) have no branch until they are trained, and batch statistics are unset until some data has
passed. Nothing here touches a network that has been trained.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

#: A scale that is constant and at most this large was never trained: it switches its branch off.
_SWITCHED_OFF = 1e-4
#: Names of parameters that scale a residual branch: timm's, torchvision's and others' layer scale,
#: and the gains of normaliser-free networks.
_LAYER_SCALE = re.compile(r"gamma(_?\d)?|layer_?scale(_?\d)?|skipinit_gain")


class _Scale(NamedTuple):
    name: str
    values: nn.Parameter

    @property
    def is_constant(self) -> bool:
        return bool((self.values == self.values.flatten()[0]).all())

    @property
    def is_off(self) -> bool:
        return self.is_constant and bool(self.values.flatten()[0].abs() <= _SWITCHED_OFF)


def switch_branches_on(module: nn.Module) -> tuple[str, ...]:
    """Set switched-off scales of an untrained network to one, in place, and say which.

    All initialisations give the channels of a scale one value, and the first update gives them
    different ones. So a network with a scale that differs between its channels was trained, and
    is left as it is, pruned branches included.
    """
    scales = list(_scales(module))
    if not all(scale.is_constant for scale in scales):
        return ()
    off = [scale for scale in scales if scale.is_off]
    for scale in off:
        nn.init.ones_(scale.values)
    return tuple(scale.name for scale in off)


def _scales(module: nn.Module) -> Iterator[_Scale]:
    for name, child in module.named_modules():
        is_norm = "norm" in type(child).__name__.lower()
        for kind, values in child.named_parameters(recurse=False):
            if _LAYER_SCALE.fullmatch(kind) or (is_norm and kind == "weight"):
                yield _Scale(f"{name}.{kind}" if name else kind, values)


def calibrate(
    module: nn.Module, batches: Iterable[Tensor], run: Callable[[nn.Module, Tensor], object]
) -> bool:
    """Fill unset batch statistics, in place; True if there were any.

    Args:
        module: In evaluation mode, in which it is left.
        batches: Images `(batch, channels, height, width)`, where the module is.
        run: Runs the module on a batch.
    """
    unset = [
        child
        for child in module.modules()
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and _is_unset(child)
    ]
    for norm in unset:
        norm.train()
        norm.momentum = None  # The plain average over batches.
    if unset:
        with torch.no_grad():
            for batch in batches:
                run(module, batch)
    module.eval()
    return bool(unset)


def _is_unset(norm: nn.modules.batchnorm._BatchNorm) -> bool:
    """Whether the statistics are still those of the initialisation.

    Weights that were converted from elsewhere may have statistics and count no batches.
    """
    counted, mean, variance = norm.num_batches_tracked, norm.running_mean, norm.running_var
    if counted is None or mean is None or variance is None or int(counted) > 0:
        return False
    return bool((mean == 0).all()) and bool((variance == 1).all())
