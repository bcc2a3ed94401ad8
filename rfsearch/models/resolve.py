"""One model at the door: whatever it was given as, it is resolved once into one value.

A model is given as a module, by its name in timm, as an architecture, or as a folder or a file
that holds one. Tracing and measuring take a `ResolvedModel` instead, and hand it on.

An architecture's fields have closed forms, so torch and timm are loaded where a module is asked
for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rfsearch.basics.limits import MAX_CHANNELS
from rfsearch.basics.validation import checked_size
from rfsearch.models.resolved import ResolvedModel, stated_size
from rfsearch.network.architecture import Architecture
from rfsearch.network.architecture_file import read_architecture

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.models._first_layer import Forward

#: In px, of a model that does not say what it is made for.
DEFAULT_SIZE = 224
#: Axes of the inputs that tracing and measuring know.
_NUM_AXES = 2
_KINDS = {1: "sequences (Conv1d)", 3: "volumes (Conv3d)"}
#: What a search space may propose: a module, a timm name or an architecture.
Built: TypeAlias = "nn.Module | str | Architecture"
#: What tracing and measuring take as a model: one of these, or the path of an exported network's
#: folder or of an architecture's file.
Model: TypeAlias = "Built | Path | ResolvedModel"


def resolve_model(
    model: Model,
    input_size: int | tuple[int, int] | None = None,
    *,
    in_chans: int | None = None,
    num_classes: int = 0,
    pretrained: bool = False,
    seed: int = 0,
    forward: Forward | None = None,
) -> ResolvedModel:
    """Find out all that must be known of a model to trace it or to measure on it.

    Args:
        model: A module, the name of a timm model, an architecture, the path of a folder that
            `rfsearch export` or `rfsearch train` wrote or of an architecture's JSON file; or what
            this function gave, which is given back at `input_size`.
        input_size: Side or `(height, width)` of the input in px. `None` means the one that the
            model states, or 224.
        in_chans: Channels of the input; timm makes a model that is named for so many. `None`
            means those that the first layer with weights turns out to take.
        num_classes: Outputs of the head of an architecture.
        pretrained: Whether a timm model that is named has its published weights.
        seed: Of the weights of a model that is named or an architecture, where they are random.
        forward: Runs a module on images; `None` means to call it.

    Raises:
        ValueError: If there is no such model, the size or the channels are impossible, or it
            takes no images but sequences or volumes.
    """
    size = None if input_size is None else checked_size(input_size)
    if in_chans is not None and not 1 <= in_chans <= MAX_CHANNELS:
        raise ValueError(f"`1 <= in_chans <= {MAX_CHANNELS:,}` must hold, but got {in_chans}.")
    if pretrained and not isinstance(model, str):
        raise ValueError(
            "`pretrained` must go with the name of a timm model, "
            f"but got a module ({type(model).__name__}), which has its own weights."
        )
    if isinstance(model, ResolvedModel):
        return _again(model, size, in_chans)
    if isinstance(model, Path):
        if model.is_dir():
            return _of_folder(model, size, in_chans)
        architecture = read_architecture(model)
        return _of_architecture(architecture, str(model), size, in_chans, num_classes, seed)
    if isinstance(model, Architecture):
        return _of_architecture(model, "architecture", size, in_chans, num_classes, seed)
    if isinstance(model, str):
        found = _of_timm(model, size, in_chans, pretrained, seed, forward)
    else:
        found = _of_module(model, size, in_chans, forward)
    if found.num_axes != _NUM_AXES:
        raise ValueError(
            f"The model must take images, but {found.name} takes {_KINDS[found.num_axes]}, which "
            "cannot be traced or measured yet."
        )
    return found


def _again(
    model: ResolvedModel, size: tuple[int, int] | None, in_chans: int | None
) -> ResolvedModel:
    if in_chans not in (None, model.in_chans):
        raise ValueError(
            f"{model.name} must have the {model.in_chans} channels that it was resolved with, "
            f"but got {in_chans}."
        )
    return model if size in (None, model.input_size) else model.at(size)


def _of_module(
    model: nn.Module, size: tuple[int, int] | None, in_chans: int | None, forward: Forward | None
) -> ResolvedModel:
    from rfsearch.models._first_layer import TakenIn, taken_in
    from rfsearch.models.copies import unwrapped, without_data

    module = unwrapped(model)
    size = size or stated_size(module) or (DEFAULT_SIZE, DEFAULT_SIZE)
    try:
        found = taken_in(without_data(module), size, forward, in_chans)
    except ValueError:  # One that cannot be copied is refused where that is needed.
        found = TakenIn(in_chans or 3, _NUM_AXES)
    return ResolvedModel(
        type(module).__name__,
        size,
        *found,
        "the module's own",
        None,
        lambda: model,
        lambda: module,
    )


def _of_timm(
    name: str,
    size: tuple[int, int] | None,
    in_chans: int | None,
    pretrained: bool,
    seed: int,
    forward: Forward | None,
) -> ResolvedModel:
    from rfsearch.models._first_layer import taken_in
    from rfsearch.models.copies import without_data
    from rfsearch.models.timm_models import create_model, seeded

    options: dict[str, Any] = {} if in_chans is None else {"in_chans": in_chans}
    skeleton = _without_weights(lambda: create_model(name, **options))
    size = size or stated_size(skeleton) or (DEFAULT_SIZE, DEFAULT_SIZE)
    found = taken_in(without_data(skeleton), size, forward, in_chans)
    return ResolvedModel(
        name,
        size,
        *found,
        "pretrained" if pretrained else _random(seed),
        None,
        cache(lambda: seeded(lambda: create_model(name, pretrained=pretrained, **options), seed)),
        lambda: skeleton,
    )


def _of_architecture(
    architecture: Architecture,
    name: str,
    size: tuple[int, int] | None,
    in_chans: int | None,
    num_classes: int,
    seed: int,
) -> ResolvedModel:
    size, channels = size or (DEFAULT_SIZE, DEFAULT_SIZE), in_chans or 3
    architecture.cost(size, channels)  # Refuses an image that is too small for the network.

    def build() -> nn.Module:
        from rfsearch.network.model import build_model

        return build_model(architecture, channels, num_classes)

    def build_with_weights() -> nn.Module:
        from rfsearch.models.timm_models import seeded

        return seeded(build, seed)

    return ResolvedModel(
        name,
        size,
        channels,
        _NUM_AXES,
        _random(seed),
        architecture,
        cache(build_with_weights),
        cache(lambda: _without_weights(build)),
    )


def _of_folder(folder: Path, size: tuple[int, int] | None, in_chans: int | None) -> ResolvedModel:
    from rfsearch.network.network_folder import load_network

    network, form = load_network(folder)
    if in_chans not in (None, form.in_chans):
        raise ValueError(
            f"{folder}: its network has an input of {form.in_chans} channels, but got {in_chans}."
        )
    return ResolvedModel(
        str(folder),
        size or form.input_size,
        form.in_chans,
        _NUM_AXES,
        f"from {folder}",
        None,
        lambda: network,
        lambda: network,
    )


def _without_weights(make: Callable[[], nn.Module]) -> nn.Module:
    import torch

    with torch.device("meta"):
        return make()


def _random(seed: int) -> str:
    return f"random initialisation, seed {seed}"
