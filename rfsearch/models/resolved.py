"""One model at the door: whatever it was given as, it is resolved once into one value.

A model is given as a module, by its name in timm, as an architecture, or as a folder or a file
that holds one. Tracing and measuring take a `ResolvedModel` instead, and hand it on.

An architecture's fields have closed forms, so torch and timm are loaded where a module is asked
for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rfsearch.basics.limits import MAX_CHANNELS, check_memory
from rfsearch.basics.validation import checked_size
from rfsearch.network.architecture import Architecture
from rfsearch.network.architecture_file import read_architecture

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.models._first_layer import Forward

#: In px, of a model that does not say what it is made for.
DEFAULT_SIZE = 224
#: Sides in px at which models that do not take every size are tried.
_USUAL_SIZES = (224, 256, 384, 512)
#: Axes of the inputs that tracing and measuring know.
_NUM_AXES = 2
_KINDS = {1: "sequences (Conv1d)", 3: "volumes (Conv3d)"}


@dataclass(frozen=True, eq=False)
class ResolvedModel:
    """A model, and what must be known of it to run it.

    Attributes:
        name: As it was given, or the class of a module.
        input_size: `(height, width)` of the input in px.
        in_chans: Channels of the input.
        num_axes: Axes of the input beside the batch and the channels.
        weights: Which weights it has, in words.
        architecture: What it is built from, if it was given as one: closed forms know its fields.
    """

    name: str
    input_size: tuple[int, int]
    in_chans: int
    num_axes: int
    weights: str
    architecture: Architecture | None
    _make: Callable[[], nn.Module]
    _make_skeleton: Callable[[], nn.Module]

    @property
    def module(self) -> nn.Module:
        """The module itself with its weights, as it was given; made when it is first asked for.

        Raises:
            ValueError: If the memory does not hold it.
        """
        _check_weights(self._make_skeleton(), self.name)
        return self._make()

    def copy(self) -> nn.Module:
        """A copy of the module with its weights, in evaluation mode, without wrappers.

        Raises:
            ValueError: If it cannot be copied, or the memory does not hold it twice.
        """
        from rfsearch.models.copies import copied

        _check_weights(self._make_skeleton(), self.name, " and of its copy", times=2)
        return copied(self.module)

    def twin(self) -> nn.Module:
        """A copy without data, in evaluation mode, without wrappers.

        Raises:
            ValueError: If it cannot be copied.
        """
        from rfsearch.models.copies import without_data

        return without_data(self._make_skeleton())

    def images_without_data(self, twin: nn.Module) -> Tensor:
        """One image `(1, in_chans, height, width)` on the meta device, for a copy without data."""
        from rfsearch.models._first_layer import images_without_data

        return images_without_data(twin, self.in_chans, self.input_size)

    def at(self, input_size: tuple[int, int]) -> ResolvedModel:
        """The same model with images of another size, `(height, width)` in px."""
        return replace(self, input_size=input_size)

    def over(self, module: nn.Module) -> ResolvedModel:
        """The same with a module in the place of its own, such as a changed copy of it."""
        return replace(self, _make=lambda: module, _make_skeleton=lambda: module)

    def check_runs(self) -> None:
        """Run the model, with its weights, on an image of zeros.

        Raises:
            ValueError: If it does not run.
        """
        import torch

        module = self.copy()
        like = next(module.parameters(), torch.empty(0))
        image = torch.zeros(1, self.in_chans, *self.input_size)
        try:
            with torch.no_grad():
                module(image.to(like))
        except Exception as error:  # Whatever a model raises.
            raise self.failure(error) from error

    def failure(self, error: Exception, layer: str = "") -> ValueError:
        """What to say of a model that does not run: the size that it takes, or what went wrong.

        Args:
            error: What it raised.
            layer: Name of the layer that was running.
        """
        must = f"{self.name} must run at an input of {_px(self.input_size)}"
        size = self._size_that_runs()
        if size is not None:
            return ValueError(f"{must}, but it does not; it does at {_px(size)}.")
        place = f" in layer `{layer}`" if layer else ""
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        channels = f"{self.in_chans} channel{'s' if self.in_chans > 1 else ''}"
        return ValueError(f"{must} and {channels}, but it fails{place}: {reason}")

    def _size_that_runs(self) -> tuple[int, int] | None:
        """A size that the model takes, where it is the size that it does not take."""
        if self.runs_at(self.input_size):
            return None
        stated = _stated_size(self._make_skeleton())
        usual = ((side, side) for side in _USUAL_SIZES)
        sizes = (*([stated] if stated else []), *usual)
        return next((size for size in sizes if self.runs_at(size)), None)

    def runs_at(self, size: tuple[int, int]) -> bool:
        """Whether the model takes images of `(height, width)` px."""
        import torch

        try:
            twin = self.twin()
            with torch.no_grad():
                twin(self.at(size).images_without_data(twin))
        except Exception:  # Whatever a model raises.
            return False
        return True


#: What tracing and measuring take as a model: a timm name, a module, an architecture, or the path
#: of an exported network's folder or of an architecture's file.
Model: TypeAlias = "nn.Module | str | Architecture | Path | ResolvedModel"


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
    size = size or _stated_size(module) or (DEFAULT_SIZE, DEFAULT_SIZE)
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
    size = size or _stated_size(skeleton) or (DEFAULT_SIZE, DEFAULT_SIZE)
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


def _check_weights(module: nn.Module, name: str, others: str = "", times: int = 1) -> None:
    """Refuse weights that the memory of this machine does not hold, where they will lie there."""
    from torch.nn.parameter import is_lazy

    weights = (*module.parameters(), *module.buffers())
    here = [one for one in weights if one.device.type in ("cpu", "meta") and not is_lazy(one)]
    check_memory(times * sum(one.nbytes for one in here), f"The weights of {name}{others}")


def _stated_size(module: nn.Module) -> tuple[int, int] | None:
    """The size that a timm model says that it is made for."""
    stated: dict[str, Any] = getattr(module, "pretrained_cfg", None) or {}
    height, width = stated.get("input_size", (0, 0, 0))[-2:]
    return (height, width) if height else None


def _random(seed: int) -> str:
    return f"random initialisation, seed {seed}"


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} px"
