"""A network with ImageNet weights, whole or up to a stage, and all changes of each."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

import rfsearch as rfs
from rfsearch.models.weights import save_weights
from rfsearch.retrofit.pretrained import PretrainedConfig, PretrainedSpace

sys.path.append(str(Path(__file__).parent.parent / "trained_weights"))
from lite0 import learned_lite0  # from the folder beside

NAME = "tf_efficientnet_lite0"
#: Stages that are kept; with all of them, the last convolution too.
STAGES = (3, 4, 5, 7)
WHOLE = STAGES[-1]


class Cuts(rfs.ModuleSpace):
    """All changes of a network of which the first stages are kept, or all.

    Args:
        network: With timm's names of the layers, and learned weights.
        input_size: Sides in px of the images.
    """

    def __init__(self, network: Any, input_size: tuple[int, ...]) -> None:
        self.parts = {kept: PretrainedSpace(cut(network, kept), input_size) for kept in STAGES}
        choices: dict[str, Any] = {"stages": STAGES[::-1]}
        for part in reversed(self.parts.values()):
            own = part.choices().items()  # `stages` says what is left out.
            choices |= {name: values for name, values in own if not name.endswith(".skip")}
        super().__init__(self._build, choices, input_size)

    def part(self, params: Mapping[str, Any]) -> tuple[rfs.RetrofitSpace, dict[str, Any]]:
        """The space of the stages that are kept, and the decisions that it has."""
        part = self.parts[params["stages"]]
        return part, {name: params.get(name, value) for name, value in part.given.items()}

    def _build(self, **params: Any) -> nn.Module:
        part, own = self.part(params)
        return part.build(**own)

    def candidate(self, params: Mapping[str, Any]) -> Any:
        """The trace of the changed network."""
        part, own = self.part(params)
        return part.candidate(own)

    def changes(self, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """What parameters change, by layer, beside the stages that are left out."""
        part, own = self.part(params)
        return part.changes(own)

    def given(self, stages: int = WHOLE, scale: float = 1.0) -> dict[str, Any]:
        """Parameters that change nothing but what is asked for."""
        params = {name: values[0] for name, values in self.choices().items()}
        return params | {"stages": stages, "conv_stem.scale": scale}


def name_of(stages: int, scale: float) -> str:
    """What is told of the network when a part of it is kept and the image is enlarged."""
    words = [f"{stages} stages"] if stages < WHOLE else []
    words += [f"x{scale:g}"] if scale > 1 else []
    return ", ".join(words) or "as given"


def cut(network: Any, stages: int) -> nn.Module:
    """A network's first stages; all of it, without the classifier, if these are all."""
    layers = {name: getattr(network, name) for name in ("conv_stem", "bn1")}
    layers["blocks"] = network.blocks[:stages]
    if stages == WHOLE:
        layers |= {name: getattr(network, name) for name in ("conv_head", "bn2")}
    return nn.Sequential(OrderedDict(layers))


def learned_network(packages: Path, input_size: tuple[int, ...], in_chans: int) -> PretrainedSpace:
    """The network with its weights, for images of a size and so many channels."""
    weights = learned_lite0(packages, NAME).state_dict()
    with TemporaryDirectory() as folder:
        save_weights(weights, Path(folder) / "weights.safetensors")
        config = PretrainedConfig(retrofit=NAME, checkpoint="weights.safetensors")
        return config.load(Path(folder), input_size, in_chans)
