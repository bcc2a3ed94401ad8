"""One model at the door: whatever it was given as, it is resolved once into one value.

A model is given as a module, by its name in timm, as an architecture, or as a folder or a file
that holds one. Tracing and measuring take a `ResolvedModel` instead, and hand it on.

An architecture's fields have closed forms, so torch and timm are loaded where a module is asked
for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from rfsearch.basics.axes import AXIS_NAMES, InputSize, by_x, checked_sides
from rfsearch.basics.limits import MAX_CHANNELS
from rfsearch.models.resolved import ResolvedModel, stated_size
from rfsearch.models.several import Shapes, several_inputs
from rfsearch.network.architecture import Architecture
from rfsearch.network.architecture_file import read_architecture

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.models._first_layer import Forward, TakenIn

#: Sides in px of an input of a model that does not say what it is made for, by how many axes it
#: has.
DEFAULT_SIDES = {1: 4096, 2: 224, 3: 64}
#: What a search space may propose: a module, a timm name or an architecture.
Built: TypeAlias = "nn.Module | str | Architecture"
#: What tracing and measuring take as a model: one of these, or the path of an exported network's
#: folder or of an architecture's file.
Model: TypeAlias = "Built | Path | ResolvedModel"


def resolve_model(
    model: Model,
    input_size: InputSize | Shapes | None = None,
    *,
    follow: str | int | None = None,
    in_chans: int | None = None,
    num_classes: int = 0,
    pretrained: bool = False,
    checkpoint: Path | None = None,
    seed: int = 0,
    forward: Forward | None = None,
) -> ResolvedModel:
    """Find out all that must be known of a model to trace it or to measure on it.

    Args:
        model: A module, the name of a timm model, an architecture, the path of a folder that
            `rfsearch export` or `rfsearch train` wrote or of an architecture's JSON file; or what
            this function gave, which is given back at `input_size`.
        input_size: Sides of the input in px, as `(16000,)`, `(height, width)` or `(depth, height,
            width)`; an integer is the side along each axis that the model turns out to have, by
            its first convolution. `None` means the size that the model states, or 224 (4,096 of a
            sequence, 64 of a volume). Of several inputs their shapes `(channels, *sides)`, in a
            tuple or by name.
        follow: Which of several inputs is followed; the others are noise.
        in_chans: Channels of the input; timm makes a model that is named for so many. `None`
            means those that the first layer with weights turns out to take.
        num_classes: Outputs of the head of an architecture.
        pretrained: Whether a timm model that is named has its published weights.
        checkpoint: File of weights for it, as `rfsearch.models.weights.read_weights` takes it; the
            classifier then has as many outputs as there. A module that is given stays as it is.
        seed: Of the weights of a model that is named or an architecture, where they are random.
        forward: Runs a module on images, or on all of several inputs; `None` means to call it.

    Raises:
        ValueError: If there is no such model, the size or the channels are impossible, or it
            takes inputs of another number of axes.
    """
    if checkpoint is not None:
        return _with_weights(
            checkpoint,
            model,
            pretrained=pretrained,
            input_size=input_size,
            follow=follow,
            in_chans=in_chans,
            seed=seed,
            forward=forward,
        )
    several = several_inputs(input_size, follow)
    if several is not None:
        found = resolve_model(
            model,
            several.size,
            in_chans=several.in_chans,
            num_classes=num_classes,
            pretrained=pretrained,
            seed=seed,
            forward=several.run(forward),
        )
        return replace(found, run=several.run(forward))
    assert not isinstance(input_size, Mapping)
    sides = None if input_size is None else checked_sides(input_size)  # type: ignore[arg-type]
    is_side = isinstance(input_size, int)
    if in_chans is not None and not 1 <= in_chans <= MAX_CHANNELS:
        raise ValueError(f"`1 <= in_chans <= {MAX_CHANNELS:,}` must hold, but got {in_chans}.")
    if pretrained and not isinstance(model, str):
        raise ValueError(
            "`pretrained` must go with the name of a timm model, "
            f"but got a module ({type(model).__name__}), which has its own weights."
        )
    size = _Size(sides, is_side)
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
        return _of_timm(model, size, in_chans, pretrained, seed, forward)
    return _of_module(model, size, in_chans, forward)


def _with_weights(
    checkpoint: Path, model: Model, *, pretrained: bool, **options: Any
) -> ResolvedModel:
    """A model with the weights of a file."""
    from rfsearch.models.weights import classes_of, give_weights, read_weights

    if pretrained:
        raise ValueError("Only one of `checkpoint` and `pretrained` can be given.")
    weights = read_weights(checkpoint)
    found = resolve_model(model, **options, num_classes=1)  # There is a classifier to replace.
    module: Any = found.copy()
    classes = classes_of(module, weights)
    if classes is not None:
        module.reset_classifier(classes)
    give_weights(module, weights, checkpoint)
    return found.over(module, f"from {checkpoint}")


class _Size(NamedTuple):
    """The size of an input as it was given.

    Attributes:
        sides: In px; None if none was given.
        is_side: Whether it is one for all axes.
    """

    sides: tuple[int, ...] | None
    is_side: bool

    def among(self, num_axes: int, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """The sides of an input of so many axes, where another number was not given."""
        if self.sides is None:
            return default or (DEFAULT_SIDES[num_axes],) * num_axes
        return self.sides * num_axes if self.is_side else self.sides

    def of(
        self, what: str, num_axes: int, default: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        """The sides of an input of something whose number of axes is known.

        Raises:
            ValueError: If sides of another number of axes were given.
        """
        sides = self.among(num_axes, default)
        if len(sides) != num_axes:
            raise _disagreement(what, num_axes, sides)
        return sides

    def taken_in(
        self,
        what: str,
        skeleton: nn.Module,
        forward: Forward | None,
        in_chans: int | None,
    ) -> TakenIn:
        """The channels and sides of a module's input.

        Raises:
            ValueError: If sides of another number of axes than its own were given.
        """
        from rfsearch.models._first_layer import TakenIn, convolved_axes, taken_in
        from rfsearch.models.copies import without_data

        stated, convolved = stated_size(skeleton), convolved_axes(skeleton)
        # An input may have fewer or more axes than what is convolved: spectra, or planes.
        numbers = (len(stated),) if stated else dict.fromkeys((*convolved, 2, 1, 3))
        sizes = list(dict.fromkeys(self.among(number, stated) for number in numbers))
        try:
            twin = without_data(skeleton)
        except ValueError:  # One that cannot be copied is refused where that is needed.
            return TakenIn(in_chans or 3, sizes[0])
        found = taken_in(twin, sizes, forward, in_chans)
        if found is None and len(sizes[0]) == convolved[0]:
            axes = ", ".join(AXIS_NAMES[convolved[0]])
            raise ValueError(
                f"{what} must take inputs (batch, channels, {axes}), but its first layer gets "
                "others: say with `forward` how to run it on such inputs."
            )
        if found is None:
            raise _disagreement(what, convolved[0], sizes[0])
        return found


def _disagreement(what: str, num_axes: int, sides: tuple[int, ...]) -> ValueError:
    names = ", ".join(AXIS_NAMES[num_axes])
    number = "one side" if num_axes == 1 else f"{num_axes} sides"
    return ValueError(
        f"`input_size` must have {number} ({names}) for {what}, but got {by_x(sides)}."
    )


def _again(model: ResolvedModel, size: _Size, in_chans: int | None) -> ResolvedModel:
    if in_chans not in (None, model.in_chans):
        raise ValueError(
            f"{model.name} must have the {model.in_chans} channels that it was resolved with, "
            f"but got {in_chans}."
        )
    sides = size.of(model.name, model.num_axes, model.input_size)
    return model if sides == model.input_size else model.at(sides)


def _of_module(
    model: nn.Module, size: _Size, in_chans: int | None, forward: Forward | None
) -> ResolvedModel:
    from rfsearch.models.copies import unwrapped

    module, name = unwrapped(model), type(unwrapped(model)).__name__
    channels, sides = size.taken_in(name, module, forward, in_chans)
    return ResolvedModel(
        name, sides, channels, "the module's own", None, lambda: model, lambda: module
    )


def _of_timm(
    name: str,
    size: _Size,
    in_chans: int | None,
    pretrained: bool,
    seed: int,
    forward: Forward | None,
) -> ResolvedModel:
    from rfsearch.models.timm_models import create_model, seeded

    options: dict[str, Any] = {} if in_chans is None else {"in_chans": in_chans}
    skeleton = _without_weights(lambda: create_model(name, **options))
    channels, sides = size.taken_in(name, skeleton, forward, in_chans)
    return ResolvedModel(
        name,
        sides,
        channels,
        "pretrained" if pretrained else _random(seed),
        None,
        cache(lambda: seeded(lambda: create_model(name, pretrained=pretrained, **options), seed)),
        lambda: skeleton,
    )


def _of_architecture(
    architecture: Architecture,
    name: str,
    size: _Size,
    in_chans: int | None,
    num_classes: int,
    seed: int,
) -> ResolvedModel:
    sides, channels = size.of(name, len(architecture.axes)), in_chans or 3
    architecture.cost(sides, channels)  # Refuses an image that is too small for the network.

    def build() -> nn.Module:
        from rfsearch.network.model import build_model

        return build_model(architecture, channels, num_classes)

    def build_with_weights() -> nn.Module:
        from rfsearch.models.timm_models import seeded

        return seeded(build, seed)

    return ResolvedModel(
        name,
        sides,
        channels,
        _random(seed),
        architecture,
        cache(build_with_weights),
        cache(lambda: _without_weights(build)),
    )


def _of_folder(folder: Path, size: _Size, in_chans: int | None) -> ResolvedModel:
    from rfsearch.network.network_folder import load_network

    network, form = load_network(folder)
    if in_chans not in (None, form.in_chans):
        raise ValueError(
            f"{folder}: its network has an input of {form.in_chans} channels, but got {in_chans}."
        )
    return ResolvedModel(
        str(folder),
        size.of(str(folder), len(form.input_size), form.input_size),
        form.in_chans,
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
