"""Candidates of a search that all begin with the weights of one trained network."""

from __future__ import annotations

import hashlib
import json
import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator
from torch import nn

from rfsearch.basics.validation import FrozenData
from rfsearch.models.timm_models import create_model, is_known
from rfsearch.models.weights import load_weights, save_weights
from rfsearch.retrofit.space import RetrofitSpace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from rfsearch.feasible.choices import Params
    from rfsearch.retrofit.changes import Changes

#: Attribute of parameters whose values were learned before.
_LEARNED = "_rfsearch_learned"
#: The network as it is given, and what people ask of timm instead.
AS_GIVEN = "as given"
_OUTPUT_STRIDES = (16, 8)
#: Channels that published weights are for.
_COLOURS = 3
_README = """# A trained network whose strides, dilations or scale were changed

{origin}

- `model.pt2`: the network with its head, by `torch.export.load("model.pt2").module()`.
- `changes.json`: what was changed, by layer, for `rfsearch.retrofit(model, changes)`.
- `weights.safetensors`: the weights of the network under its own names, without its classifier.
- `head.safetensors`: those of the head that was trained on top.
"""


class PretrainedConfig(FrozenData):
    """A `[space]` of changes to a trained network.

    Attributes:
        retrofit: Name of a timm model, or a folder of `rfsearch export`, as a path from the
            experiment's.
        checkpoint: File with the weights of the timm model, as a path from the experiment's.
        pretrained: Whether the timm model has its published weights.
        granularity: What shares a dilation: `"stage"` or `"layer"`.
    """

    retrofit: str
    checkpoint: str | None = None
    pretrained: bool = False
    granularity: Literal["stage", "layer"] = "stage"

    @model_validator(mode="after")
    def _has_weights_from_one_place(self) -> Self:
        if self.checkpoint is not None and self.pretrained:
            raise ValueError("Only one of `checkpoint` and `pretrained` can be given.")
        return self

    def load(self, folder: Path, input_size: tuple[int, ...], in_chans: int) -> PretrainedSpace:
        """The space of the network with its weights.

        Args:
            folder: The experiment's.
            input_size: Of its images in px.
            in_chans: Channels of its images.

        Raises:
            ValueError: If there is no such network, it has no weights or those of another one, or
                nothing of it can be changed.
        """
        exported = folder / self.retrofit
        if is_known(self.retrofit):
            network = self._timm_model(folder, in_chans)
        elif exported.is_dir():
            network = _exported(exported, in_chans)
        else:
            raise ValueError(
                "`retrofit` must be a timm model's name or a folder of `rfsearch export`, but got "
                f"{self.retrofit!r}."
            )
        return PretrainedSpace(network, input_size, self.granularity)

    def _timm_model(self, folder: Path, in_chans: int) -> nn.Module:
        if self.pretrained:
            return create_model(self.retrofit, pretrained=True, in_chans=in_chans)
        if self.checkpoint is None:
            raise ValueError(
                f"`checkpoint` or `pretrained = true` must say which weights {self.retrofit} has."
            )
        network = create_model(self.retrofit)
        load_weights(network, folder / self.checkpoint)
        return (
            network if in_chans == _COLOURS else _with_channels(network, self.retrofit, in_chans)
        )


class PretrainedSpace(RetrofitSpace):
    """Changes of a trained network that give maps, with the weights that are to be trained on.

    Args:
        network: The trained network; its classifier is left out.
        input_size: Sides in px of the images.
        granularity: As for `RetrofitSpace`.
    """

    def __init__(
        self,
        network: nn.Module,
        input_size: tuple[int, ...],
        granularity: Literal["stage", "layer"] = "stage",
    ) -> None:
        super().__init__(_features_of(network), input_size, granularity)

    def _build(self, **params: Any) -> nn.Module:
        module = super()._build(**params)
        for parameter in module.parameters():
            setattr(parameter, _LEARNED, True)
        return Features(module)

    @property
    def digest(self) -> str:
        """What tells the network and its weights from others."""
        found = hashlib.sha256()
        for name, value in self.model.module.state_dict().items():
            found.update(name.encode() + value.cpu().numpy().tobytes())
        return found.hexdigest()

    @cached_property
    def presets(self) -> Mapping[str, Params]:
        """The network as it is given, and with the output strides that people ask timm for."""
        found = {AS_GIVEN: self.given}
        strides = {
            name: next(value for value in reversed(values) if value != "off")
            for name, values in self.choices().items()
            if name.endswith(".stride")
        }
        params = dict(self.given)
        wanted = [stride for stride in _OUTPUT_STRIDES if stride < self._stride(params)]
        for name in reversed(strides):
            params[name] = strides[name]
            if wanted and self._stride(params) == wanted[0]:
                found[f"output_stride {wanted.pop(0)}"] = dict(params)
        return found

    def _stride(self, params: Params) -> float:
        traced = self.candidate(params)
        return math.nan if traced is None else traced.receptive_field(axis=traced.axes[0]).stride


class Features(nn.Sequential):
    """A changed network without a classifier, which would be for other maps."""


def save_retrofit(model: nn.Module, changes: Changes, origin: str, folder: Path) -> None:
    """Write a network that was changed and trained on, for use without rfsearch.

    Args:
        model: The network with a task's head.
        changes: What was changed, by layer.
        origin: Where the weights come from, in a sentence.
        folder: An existing folder.
    """
    place, features = next(
        (name, one) for name, one in model.named_modules() if isinstance(one, Features)
    )
    inner = f"{place}.0.".lstrip(".")
    rest = {name: v for name, v in model.state_dict().items() if not name.startswith(inner)}
    save_weights(features[0].state_dict(), folder / "weights.safetensors")
    save_weights(rest, folder / "head.safetensors")
    (folder / "changes.json").write_text(json.dumps(changes, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_README.format(origin=origin), encoding="utf-8")


def learned(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a network whose values were learned before."""
    return [one for one in module.parameters() if hasattr(one, _LEARNED)]


def _features_of(network: Any) -> nn.Module:
    """A network whose call gives its maps."""
    if hasattr(network, "reset_classifier"):
        network.reset_classifier(0)
    if hasattr(network, "forward_features"):
        network.forward = network.forward_features
    module: nn.Module = network
    return module


def _with_channels(network: nn.Module, name: str, in_chans: int) -> nn.Module:
    """The same for images of other channels, over which the first weights are spread."""
    from timm.models import adapt_input_conv

    other = create_model(name, in_chans=in_chans)
    weights: dict[str, Tensor] = network.state_dict()
    own = other.state_dict()
    for key, value in weights.items():
        if own[key].shape != value.shape:
            weights[key] = adapt_input_conv(in_chans, value)
    other.load_state_dict(weights)
    return other


def _exported(folder: Path, in_chans: int) -> nn.Module:
    from rfsearch.network.network_folder import load_network

    network, form = load_network(folder)
    if form.in_chans != in_chans:
        raise ValueError(
            f"{folder}: its network has an input of {form.in_chans} channels, but the images have "
            f"{in_chans}."
        )
    return network
