"""Changes of a network that keep all of its weights, as data, and copies that have them.

A change is made where torch reads it in every forward pass: the stride, dilation and padding of a
convolution or pooling, which have no weights; a layer that passes on what it is given; a layer
that is given an enlarged map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch.nn.functional as F
from torch import nn

from rfsearch.basics.axes import by_x
from rfsearch.field.windows import per_axis
from rfsearch.models.copies import copied, unwrapped
from rfsearch.models.resolve import resolve_model
from rfsearch.models.timm_models import nearest
from rfsearch.retrofit._windows import CONVOLUTIONS, axes_of, keys_of, reversed_padding
from rfsearch.trace.costs import DatalessRun

if TYPE_CHECKING:
    from rfsearch.basics.axes import InputSize
    from rfsearch.models.resolved import ResolvedModel

#: What is changed of each layer, by its name: `{"layer3.0.conv2": {"stride": 1}}`.
Changes: TypeAlias = Mapping[str, Mapping[str, Any]]
#: Undoes a change.
Undo = Callable[[], object]

#: The smallest value of what windows have, by name.
_LEAST = {"stride": 1, "dilation": 1, "padding": 0}
#: What the shapes of weights depend on.
_SHAPING = (
    "kernel_size", "in_channels", "out_channels", "groups", "bias", "in_features", "out_features",
)  # fmt: skip
#: How maps are enlarged, by how many axes they have.
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
#: What torch computes of the padding and dilation of a convolution when it is made.
DERIVED = "_reversed_padding_repeated_twice"
_MAX_SCALE = 16


def retrofit(model: nn.Module, changes: Changes, input_size: InputSize | None = None) -> nn.Module:
    """A changed copy of a network, whose `state_dict` is that of the network bit for bit.

    Args:
        model: Any module, which is left as it is.
        changes: For each layer, by its name in `named_modules()`, what is changed of it. `stride`,
            `dilation` and `padding` of a convolution or pooling: a whole number, or one for each
            axis. `skip`: true for a layer that is to pass on what it is given. `scale`: how many
            times what the layer is given is enlarged, bilinearly.
        input_size: Sides in px of the images at which the copy must run, if the network does.
            `None` means the size that the network states, or 224 (4,096 of a sequence, 64 of a
            volume).

    Raises:
        ValueError: If there is no such layer, a change is none of these or would change the shape
            of a weight, or the layers do not fit each other any more. It names layer and value.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"`model` must be a torch module, but got {type(model).__name__}.")
    copy = copied(model)
    check_changes(copy, changes)
    check_runs(resolve_model(copy, input_size), changes)
    apply(copy, changes)
    for name, module in unwrapped(model).named_modules():
        copy.get_submodule(name).training = module.training
    return copy


# -- checks --------------------------------------------------------------------------------


def check_changes(module: nn.Module, changes: Changes) -> None:
    """Refuse what cannot be changed of a network, whatever it is given.

    Raises:
        ValueError: As for `retrofit`.
    """
    if not isinstance(changes, Mapping):
        raise ValueError(
            f"Changes must be a dictionary by layer name, but are a {type(changes).__name__}."
        )
    layers = dict(module.named_modules())
    for name, values in changes.items():
        if not name or name not in layers:
            raise ValueError(
                f"Changes must be of layers, but {name!r} is none{nearest(str(name), layers)}."
            )
        if not isinstance(values, Mapping):
            raise ValueError(f"The changes of `{name}` must be a dictionary, but are {values!r}.")
        for key, value in values.items():
            _check(name, layers[name], key, value)


def _check(name: str, layer: nn.Module, key: str, value: Any) -> None:
    keys, kind = (*keys_of(layer), "skip", "scale"), type(layer).__name__
    if key not in keys:
        shapes = ", ".join(f"{n} {tuple(one.shape)}" for n, one in layer.named_parameters())
        why = f" would not fit its weights ({shapes})" if key in _SHAPING and shapes else ""
        raise ValueError(
            f"`{name}` ({kind}) with {key} {value!r}{why or ' is no change that can be made'}: "
            f"what can be changed of it is {', '.join(keys)}."
        )
    if key == "skip":
        must = None if isinstance(value, bool) else "true or false"
    elif key == "scale":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        must = (
            None
            if is_number and 1 / _MAX_SCALE <= value <= _MAX_SCALE
            else f"a number from 1/{_MAX_SCALE} to {_MAX_SCALE}"
        )
    else:
        axes, least = axes_of(layer), _LEAST[key]
        given = value if isinstance(value, Sequence) else [value]
        are_numbers = all(type(one) is int and one >= least for one in given)
        must = (
            None
            if are_numbers and len(given) in (1, axes)
            else f"a whole number of at least {least}, or one for each of its {axes} axes"
        )
    if must is not None:
        raise ValueError(f"The {key} of `{name}` must be {must}, but got {value!r}.")


def check_runs(model: ResolvedModel, changes: Changes) -> None:
    """Refuse changes after which the layers of a network that runs do not fit each other.

    Raises:
        ValueError: If so; it names the first layer whose own changes are to blame.
    """
    twin = model.twin()
    reason = why_not(model, twin, changes)
    if reason is None or why_not(model, twin, {}) is not None:
        return
    alone = {name: why_not(model, twin, {name: one}) for name, one in changes.items()}
    name = next((name for name, why in alone.items() if why is not None), next(iter(changes)))
    values = ", ".join(f"{key} {value}" for key, value in changes[name].items())
    raise ValueError(
        f"`{name}` with {values} does not fit the other layers, at an input of "
        f"{by_x(model.input_size)} px: {alone[name] or reason}"
    )


def why_not(model: ResolvedModel, twin: nn.Module, changes: Changes) -> str | None:
    """Why a network does not run with some changes; None if it does.

    Args:
        model: How it is run.
        twin: A copy of it without data.
        changes: Of the network.
    """
    try:
        with changed(twin, changes):
            _ = DatalessRun(twin, model.images_without_data(twin), model.run).counted
    except Exception as error:  # Whatever a model raises.
        return " ".join(str(error).split())[:200] or type(error).__name__
    return None


# -- changing ------------------------------------------------------------------------------


@contextmanager
def changed(module: nn.Module, changes: Changes) -> Iterator[None]:
    """Change a network for a while."""
    with ExitStack() as stack:
        for undo in apply(module, changes):
            stack.callback(undo)
        yield


def apply(module: nn.Module, changes: Changes) -> list[Undo]:
    """Change a network itself, and give what undoes that."""
    return [
        _CHANGES.get(key, _set)(module.get_submodule(name), key, value)
        for name, values in changes.items()
        for key, value in values.items()
    ]


def _set(layer: Any, key: str, value: Any) -> Undo:
    before = {name: vars(layer)[name] for name in (key, DERIVED) if name in vars(layer)}
    setattr(layer, key, tuple(per_axis(value, axes_of(layer) or 1)))
    if isinstance(layer, CONVOLUTIONS):
        setattr(layer, DERIVED, reversed_padding(layer))
    return partial(vars(layer).update, before)


def _skip(layer: Any, key: str, value: bool) -> Undo:
    if value:
        layer.forward = nn.Identity().forward
    return partial(vars(layer).pop, "forward", None)


def _scale(layer: nn.Module, key: str, value: float) -> Undo:
    return layer.register_forward_pre_hook(Enlarged(value)).remove


#: What does not only set an attribute.
_CHANGES: Mapping[str, Callable[[Any, str, Any], Undo]] = {"skip": _skip, "scale": _scale}


class Enlarged:
    """A hook that enlarges the map that a layer is given."""

    def __init__(self, scale: float) -> None:
        self.scale = float(scale)

    def __call__(self, layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the layer gets instead."""
        images, *others = given
        mode = MODES[images.ndim - 2]
        return (F.interpolate(images, scale_factor=self.scale, mode=mode), *others)
