"""The maps of a network by level, whether it has one or a pyramid of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from rfsearch.network.model import SearchedNetwork
    from rfsearch.training.traced_network import TracedNetwork

    #: What tasks put their heads on.
    Backbone: TypeAlias = SearchedNetwork | TracedNetwork


def level_maps(network: Backbone, images: Tensor) -> dict[str, Tensor]:
    """The network's maps, finest first, each `(batch, num_features, height, width)`.

    Args:
        network: Its `forward_features` returns one map, or a dictionary of them.
        images: `(batch, channels, height, width)`.
    """
    features = network.forward_features(images)
    if isinstance(features, torch.Tensor):
        return dict.fromkeys(network.receptive_fields(network.axes[0]), features)
    return features
